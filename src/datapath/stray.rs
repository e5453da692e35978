//! Owns the recognition of strays: links of ours that somebody gave another name.
//!
//! Pure. A link is known by the hardware address that derives from the id of its object: the kernel
//! keeps it through any renaming, it needs no message of its own when a link is made, and a later
//! life of the process knows it too. Called by `plan`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Datapath, Step};
use crate::model::{IfName, Mac};

/// The steps that give strays their names back, and what would be there if those were done: a
/// renamed link counts as all that it should be, until somebody looks again.
pub(super) fn called_back<'a>(have: &'a Datapath, want: &Datapath) -> (Vec<Step>, Cow<'a, Datapath>) {
    let mut found = strays(&have.bridges, &want.bridges, |bridge| bridge.mac.filter(|_| bridge.owned));
    let veths = strays(&have.veths, &want.veths, |veth| Some(veth.host_mac));
    let vxlans = strays(&have.vxlans, &want.vxlans, |vxlan| Some(vxlan.mac));
    if found.is_empty() && veths.is_empty() && vxlans.is_empty() {
        return (Vec::new(), Cow::Borrowed(have));
    }
    let mut back = have.clone();
    for (to, from) in &found {
        put_back(&mut back.bridges, &want.bridges, from, to);
        back.bridge_renamed(from, to);
    }
    veths.iter().for_each(|(to, from)| put_back(&mut back.veths, &want.veths, from, to));
    vxlans.iter().for_each(|(to, from)| put_back(&mut back.vxlans, &want.vxlans, from, to));
    found.extend(vxlans.into_iter().chain(veths));
    let steps = found.into_iter().map(|(to, from)| Step::Rename { from, to }).collect();
    (steps, Cow::Owned(back))
}

/// What is wanted and not there, each with the name that something unwanted of the same hardware
/// address has.
fn strays<T>(
    have: &BTreeMap<IfName, T>,
    want: &BTreeMap<IfName, T>,
    mac: impl Fn(&T) -> Option<Mac>,
) -> Vec<(IfName, IfName)> {
    let missing = want.iter().filter(|(name, _)| !have.contains_key(*name));
    let named = |mac_wanted: Mac| {
        let found = have.iter().find(|(name, link)| !want.contains_key(*name) && mac(link) == Some(mac_wanted));
        found.map(|(name, _)| name.clone())
    };
    missing.filter_map(|(name, link)| Some((name.clone(), named(mac(link)?)?))).collect()
}

fn put_back<T: Clone>(have: &mut BTreeMap<IfName, T>, want: &BTreeMap<IfName, T>, from: &IfName, to: &IfName) {
    have.remove(from);
    have.extend(want.get(to).map(|wanted| (to.clone(), wanted.clone())));
}
