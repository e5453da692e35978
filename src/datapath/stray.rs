//! Owns the recognition of strays: links of ours that somebody gave another name.
//!
//! Pure. A link is known by the hardware address that derives from the id of its object: the kernel
//! keeps it through any renaming, it needs no message of its own when a link is made, and a later
//! life of the process knows it too. Called by `plan`.

use std::borrow::Cow;

use super::{Datapath, Object, ObjectKind, Step};
use crate::model::{IfName, Mac};

/// The steps that give strays their names back, and what would be there if those were done: a
/// renamed link counts as all that it should be, until somebody looks again.
pub(super) fn called_back<'a>(have: &'a Datapath, want: &Datapath) -> (Vec<Step>, Cow<'a, Datapath>) {
    // Bridges first: their ports go with them.
    let mut found = Vec::new();
    for kind in ObjectKind::ALL {
        found.extend(strays(kind, have, want));
    }
    if found.is_empty() {
        return (Vec::new(), Cow::Borrowed(have));
    }
    let mut back = have.clone();
    for (to, from) in &found {
        back.objects.remove(from);
        back.objects.extend(want.objects.get(to).map(|wanted| (to.clone(), wanted.clone())));
        back.bridge_renamed(from, to);
    }
    let steps = found.into_iter().map(|(to, from)| Step::Rename { from, to }).collect();
    (steps, Cow::Owned(back))
}

/// Objects that are wanted and not there, each with the name that an unwanted one of the same hardware
/// address has.
fn strays(kind: ObjectKind, have: &Datapath, want: &Datapath) -> Vec<(IfName, IfName)> {
    let missing =
        want.objects.iter().filter(|(name, object)| object.kind() == kind && have.object(name, kind).is_none());
    let named = |identity: Mac| {
        let stray = |(name, object): &(&IfName, &Object)| {
            object.kind() == kind && object.identity() == Some(identity) && want.object(name, kind).is_none()
        };
        have.objects.iter().find(stray).map(|(name, _)| name.clone())
    };
    missing.filter_map(|(name, object)| Some((name.clone(), named(object.identity()?)?))).collect()
}
