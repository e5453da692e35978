//! Which bridges have a fast path, of those where rules of other programs could decide about its frames.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use ipnetwork::IpNetwork;

use super::{Datapath, FastPath, Kernel, Reconciler, fastpath};
use crate::model::IfName;
use crate::state::table::lock;

/// What was found when the rules were last read. A bridge that was not looked at has no fast path.
#[derive(Debug, Default)]
pub(super) struct Opposition {
    open: BTreeSet<IfName>,
    /// The rule that could decide, by bridge.
    opposed: BTreeMap<IfName, String>,
    unannounced: Vec<String>,
}

impl Opposition {
    /// Reads the rules, if there is such a bridge. Rules that cannot be read count as rules that decide.
    pub fn find(kernel: &dyn Kernel, bridges: &BTreeMap<IfName, Vec<IpNetwork>>) -> Self {
        if bridges.is_empty() {
            return Self::default();
        }
        // First: a change in between is found the next time.
        let unannounced = kernel.unannounced();
        let opposed = kernel.opposition(bridges).unwrap_or_else(|error| {
            let text = error.to_string();
            bridges.keys().map(|bridge| (bridge.clone(), text.clone())).collect()
        });
        let open = bridges.keys().filter(|bridge| !opposed.contains_key(*bridge)).cloned().collect();
        Self { open, opposed, unannounced }
    }

    /// The bridges with a fast path.
    pub fn open(&self) -> &BTreeSet<IfName> {
        &self.open
    }

    /// What keeps a bridge from having one.
    pub fn of(&self, bridge: &IfName) -> Option<String> {
        let unseen = || (!self.open.contains(bridge)).then(|| "rules that were not read yet".to_owned());
        self.opposed.get(bridge).cloned().or_else(unseen)
    }

    /// Whether it is not about exactly these bridges, or something changed that the kernel does not announce.
    pub fn is_stale(&self, kernel: &dyn Kernel, bridges: &BTreeSet<IfName>) -> bool {
        let known = |bridge: &IfName| self.open.contains(bridge) || self.opposed.contains_key(bridge);
        !bridges.iter().all(known) || kernel.unannounced() != self.unannounced
    }
}

impl Reconciler {
    /// Reads again which rules of other programs could decide about frames on the fast path. Whether that changes any
    /// fast path: then a comparison is due.
    pub fn find_opposition(&self) -> bool {
        let bridges = lock(&self.desired).contestable.clone();
        let next = Opposition::find(self.kernel(), &bridges);
        // A verb that is under way ends first, so that the comparison sees what it did.
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut opposition = lock(&self.opposition);
        let changed = next.open() != opposition.open();
        *opposition = next;
        changed
    }

    /// Whether what other programs could decide about frames on the fast path has to be read again: it changed without a
    /// notification, or there is a bridge that was not looked at.
    pub fn is_opposition_stale(&self) -> bool {
        let bridges: BTreeSet<_> = lock(&self.desired).contestable.keys().cloned().collect();
        !bridges.is_empty() && lock(&self.opposition).is_stale(self.kernel(), &bridges)
    }

    /// Whether a fast path depends on the rules of other programs.
    pub fn is_contestable(&self) -> bool {
        !lock(&self.desired).contestable.is_empty()
    }

    /// What keeps frames of a bridge off the fast path; `None` if nothing does.
    pub fn opposes(&self, bridge: &IfName) -> Option<String> {
        lock(&self.desired).contestable.contains_key(bridge).then(|| lock(&self.opposition).of(bridge)).flatten()
    }

    /// The entries without those that rules of other programs forbid.
    pub(super) fn open(&self, entries: BTreeSet<FastPath>) -> BTreeSet<FastPath> {
        fastpath::without(entries, &self.contested([]))
    }

    /// The same for parts of the desired state.
    pub(super) fn uncontested<'a, const N: usize>(&self, parts: [&'a Datapath; N]) -> [Cow<'a, Datapath>; N] {
        let closed = self.contested(parts);
        parts.map(|part| match &part.fastpath {
            Some(entries) if !closed.is_empty() => {
                let fastpath = Some(fastpath::without(entries.clone(), &closed));
                Cow::Owned(Datapath { fastpath, ..part.clone() })
            }
            _ => Cow::Borrowed(part),
        })
    }

    /// The bridges without a fast path because of rules of other programs.
    fn contested<const N: usize>(&self, more: [&Datapath; N]) -> BTreeSet<IfName> {
        let mut bridges: BTreeSet<_> = lock(&self.desired).contestable.keys().cloned().collect();
        bridges.extend(more.into_iter().flat_map(|datapath| datapath.contestable.keys().cloned()));
        let opposition = lock(&self.opposition);
        bridges.retain(|bridge| !opposition.open().contains(bridge));
        bridges
    }
}
