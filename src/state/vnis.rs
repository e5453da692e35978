//! Owns the numbers of overlay networks: which are taken, by whom, and which must rest.
//!
//! Two sources: what this host granted as a Swarm manager ([`VniRecord`], in the ledger, because
//! the engine keeps no list), and the networks that it carries. A number that was given back
//! rests for [`QUARANTINE`] seconds: the engine says FreeNetwork before the last node has taken
//! its tunnel down (protocol.md 5.3). Pure; called by the driver.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::model::{NetworkId, Vni};

/// How long a number rests after FreeNetwork, in seconds.
pub const QUARANTINE: u64 = 600;

/// A number that was granted to a network of the Swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VniRecord {
    /// The number.
    pub vni: Vni,
    /// Whose it is, or was.
    pub network: NetworkId,
    /// When it was given back, in seconds of the host's monotonic clock; `None` while it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed: Option<u64>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Vnis {
    granted: BTreeMap<Vni, VniRecord>,
    carried: BTreeMap<Vni, NetworkId>,
}

impl Vnis {
    /// Makes a record true; those of other kinds change nothing here.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Vni(new) => {
                self.granted.insert(new.vni, new.clone());
            }
            Record::NoVni { vni } => {
                self.granted.remove(vni);
            }
            Record::Network(network) => {
                self.carried.retain(|_, of| *of != network.spec.id);
                if let Some(overlay) = network.kind.overlay() {
                    self.carried.insert(overlay.vni, network.spec.id.clone());
                }
            }
            Record::NoNetwork { id } => self.carried.retain(|_, of| of != id),
            _ => {}
        }
    }

    /// Notes that this host carries a network with this number, ahead of its record.
    pub fn carry(&mut self, vni: Vni, network: &NetworkId) {
        self.carried.insert(vni, network.clone());
    }

    /// Whose a number is, when it is not this network's to take. A network that this manager freed
    /// has no claim any more, although its tunnel may still be here: its successor takes its place.
    pub fn other_owner(&self, vni: Vni, network: &NetworkId) -> Option<&NetworkId> {
        let record = self.granted.get(&vni);
        let granted = record.filter(|record| record.freed.is_none()).map(|record| &record.network);
        let freed = record.filter(|record| record.freed.is_some()).map(|record| &record.network);
        let carrier = self.carried.get(&vni).filter(|carrier| Some(*carrier) != freed);
        granted.into_iter().chain(carrier).find(|owner| *owner != network)
    }

    /// Which network of this host's has a tunnel with this number, other than this one.
    pub fn other_carrier(&self, vni: Vni, network: &NetworkId) -> Option<&NetworkId> {
        self.carried.get(&vni).filter(|owner| *owner != network)
    }

    /// The number for a network that has none yet: the one it was granted before, else the one
    /// that derives from its id, else the next that nobody has and that does not rest.
    pub fn choose(&self, network: &NetworkId) -> Vni {
        if let Some((vni, _)) = self.carried.iter().find(|(_, of)| *of == network) {
            return *vni;
        }
        if let Some(record) = self.granted.values().find(|record| record.network == *network) {
            return record.vni;
        }
        let mut vni = Vni::derive(network.as_str());
        let taken = |vni: &Vni| self.granted.contains_key(vni) || self.carried.contains_key(vni);
        // As many as are taken, at most, can be in the way.
        for _ in 0..=self.granted.len() + self.carried.len() {
            if !taken(&vni) {
                break;
            }
            vni = vni.next_chosen();
        }
        vni
    }

    /// The record that grants a number; none when it is granted already.
    pub fn grant(&self, vni: Vni, network: &NetworkId) -> Option<Record> {
        let wanted = VniRecord { vni, network: network.clone(), freed: None };
        (self.granted.get(&vni) != Some(&wanted)).then_some(Record::Vni(wanted))
    }

    /// The records that let a network's numbers rest, but for `except`.
    pub fn free(&self, network: &NetworkId, except: Option<Vni>, now: u64) -> Vec<Record> {
        let of = self.granted.values().filter(|record| record.network == *network && record.freed.is_none());
        let freed = of.filter(|record| Some(record.vni) != except);
        freed.map(|record| Record::Vni(VniRecord { freed: Some(now), ..record.clone() })).collect()
    }

    /// The records that forget numbers which have rested.
    pub fn rested(&self, now: u64) -> Vec<Record> {
        let over = |record: &&VniRecord| record.freed.is_some_and(|freed| now.saturating_sub(freed) >= QUARANTINE);
        self.granted.values().filter(over).map(|record| Record::NoVni { vni: record.vni }).collect()
    }

    /// The numbers of the networks that this host carries.
    pub fn carried(&self) -> BTreeSet<Vni> {
        self.carried.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NetworkId {
        NetworkId::parse(text).unwrap()
    }

    fn grant(vnis: &mut Vnis, network: &str) -> Vni {
        let vni = vnis.choose(&id(network));
        if let Some(record) = vnis.grant(vni, &id(network)) {
            vnis.apply(&record);
        }
        vni
    }

    #[test]
    fn the_choice_is_the_same_whoever_makes_it() {
        let (mut a, mut b) = (Vnis::default(), Vnis::default());
        assert_eq!(grant(&mut a, "n1"), grant(&mut b, "n1"));
        assert_eq!(grant(&mut a, "n1"), Vni::derive("n1"), "and stays");
        assert!(a.grant(Vni::derive("n1"), &id("n1")).is_none());
    }

    #[test]
    fn a_taken_number_is_stepped_over_and_a_freed_one_rests() {
        let mut vnis = Vnis::default();
        let derived = Vni::derive("n1");
        vnis.apply(&vnis.grant(derived, &id("other")).unwrap());
        assert_eq!(vnis.other_owner(derived, &id("n1")), Some(&id("other")));
        assert_eq!(vnis.choose(&id("n1")), derived.next_chosen());
        for record in vnis.free(&id("other"), None, 1000) {
            vnis.apply(&record);
        }
        assert!(vnis.free(&id("other"), None, 2000).is_empty(), "twice is nothing new");
        assert_eq!(vnis.other_owner(derived, &id("n1")), None, "whoever names it may have it");
        assert_eq!(vnis.choose(&id("n1")), derived.next_chosen());
        assert!(vnis.rested(1000 + QUARANTINE - 1).is_empty());
        for record in vnis.rested(1000 + QUARANTINE) {
            vnis.apply(&record);
        }
        assert_eq!(vnis.choose(&id("n1")), derived);
    }

    #[test]
    fn a_stale_tunnel_of_a_freed_network_claims_nothing() {
        let mut vnis = Vnis::default();
        let vni = grant(&mut vnis, "old");
        vnis.carry(vni, &id("old"));
        assert_eq!(vnis.other_owner(vni, &id("new")), Some(&id("old")));
        for record in vnis.free(&id("old"), None, 1000) {
            vnis.apply(&record);
        }
        assert_eq!(vnis.other_owner(vni, &id("new")), None);
        vnis.carry(vni, &id("local"));
        assert_eq!(vnis.other_owner(vni, &id("new")), Some(&id("local")), "one that was never freed");
    }
}
