//! Blocks forwarding between links that are not Pontoon's when Pontoon turned forwarding on: the kernel has
//! one switch for all links, but only Pontoon's networks need it.
//!
//! Pure. Which program turned forwarding on is read from the kernel ([`Datapath::turned_on`]), not
//! remembered: when another program turns it on as well, that program takes it over and nothing is blocked
//! any more.

use std::collections::BTreeSet;

use crate::model::Family;

use super::{Datapath, Policy, Step};

/// The elements that match forwarding as it is, or as it will be once it is turned on.
pub fn policy(have: &Datapath, want: &Datapath) -> BTreeSet<Policy> {
    let will = |is: bool, wanted: bool, by_pontoon: bool| by_pontoon || (wanted && !is);
    let families = [
        (Family::V4, will(have.forwarding.v4, want.forwarding.v4, have.turned_on.v4)),
        (Family::V6, will(have.forwarding.v6, want.forwarding.v6, have.turned_on.v6)),
    ];
    let mut elements = BTreeSet::new();
    for (family, _) in families.into_iter().filter(|(_, closed)| *closed) {
        elements.insert(Policy::LimitedForwarding(family));
        let forwarding_links = have.forwarding_links.iter().filter(|(_, of)| *of == family);
        elements.extend(forwarding_links.map(|(link, family)| Policy::ForwardingLink(link.clone(), *family)));
    }
    elements
}

/// Whether a step turns forwarding on.
pub(super) fn turns_on(step: &Step) -> bool {
    matches!(step, Step::Forward { .. })
}
