//! Recognises links of Pontoon that another program or a user renamed.
//!
//! Pure. A link is identified by the hardware address derived from the id of its object: the kernel keeps it
//! when the link is renamed, it needs no extra message when a link is created, and a restarted process can
//! derive it too. Called by `plan`.

use std::borrow::Cow;

use super::{Datapath, Object, ObjectKind, Step};
use crate::model::{IfName, Mac};

/// The steps that restore the names, and the datapath as if they were done: a renamed link counts as complete
/// until the next observation.
pub(super) fn restore_names<'a>(have: &'a Datapath, want: &Datapath) -> (Vec<Step>, Cow<'a, Datapath>) {
    // Bridges first: renaming a bridge also updates the bridge of its ports.
    let mut found = Vec::new();
    for kind in ObjectKind::ALL {
        found.extend(renamed(kind, have, want));
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

/// Desired objects that are missing, each with the name of an undesired object with the same hardware
/// address.
fn renamed(kind: ObjectKind, have: &Datapath, want: &Datapath) -> Vec<(IfName, IfName)> {
    let missing =
        want.objects.iter().filter(|(name, object)| object.kind() == kind && have.object(name, kind).is_none());
    let named = |identity: Mac| {
        let renames = |(name, object): &(&IfName, &Object)| {
            object.kind() == kind && object.identity() == Some(identity) && want.object(name, kind).is_none()
        };
        have.objects.iter().find(renames).map(|(name, _)| name.clone())
    };
    missing.filter_map(|(name, object)| Some((name.clone(), named(object.identity()?)?))).collect()
}
