//! Allocates VNIs of overlay networks: tracks which are in use, by which network, and which are in quarantine.
//!
//! Two sources: the VNIs that this host allocated as a Swarm manager ([`VniRecord`], in the ledger, because the
//! engine keeps no list), and the networks on this host. A released VNI is quarantined for [`QUARANTINE`]
//! seconds: the engine sends FreeNetwork before the last node has removed its tunnel (protocol.md 5.3). Pure;
//! called by the driver.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::model::{NetworkId, Vni};

/// How long a VNI is quarantined after FreeNetwork, in seconds.
pub const QUARANTINE: u64 = 600;

/// A VNI that was allocated to a network of the Swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VniRecord {
    /// The VNI.
    pub vni: Vni,
    /// The network that has it, or had it.
    pub network: NetworkId,
    /// When it was released, in seconds of the host's monotonic clock; `None` while it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed: Option<u64>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Vnis {
    granted: BTreeMap<Vni, VniRecord>,
    carried: BTreeMap<Vni, NetworkId>,
}

impl Vnis {
    /// Applies a record; records of other kinds have no effect.
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

    /// Registers that a network of this host has this VNI, before its record is written.
    pub fn carry(&mut self, vni: Vni, network: &NetworkId) {
        self.carried.insert(vni, network.clone());
    }

    /// The owner of a VNI that prevents this network from taking it. A network that this manager freed has no
    /// claim any more, although its tunnel may still exist here: its successor replaces it.
    pub fn other_owner(&self, vni: Vni, network: &NetworkId) -> Option<&NetworkId> {
        let record = self.granted.get(&vni);
        let granted = record.filter(|record| record.freed.is_none()).map(|record| &record.network);
        let freed = record.filter(|record| record.freed.is_some()).map(|record| &record.network);
        let carrier = self.carried.get(&vni).filter(|carrier| Some(*carrier) != freed);
        granted.into_iter().chain(carrier).find(|owner| *owner != network)
    }

    /// Another network of this host that has a tunnel with this VNI.
    pub fn other_carrier(&self, vni: Vni, network: &NetworkId) -> Option<&NetworkId> {
        self.carried.get(&vni).filter(|owner| *owner != network)
    }

    /// The VNI for a network that has none yet: the one allocated to it before, else the one derived from its
    /// id, else the next that is neither in use nor in quarantine.
    pub fn choose(&self, network: &NetworkId) -> Vni {
        if let Some((vni, _)) = self.carried.iter().find(|(_, of)| *of == network) {
            return *vni;
        }
        if let Some(record) = self.granted.values().find(|record| record.network == *network) {
            return record.vni;
        }
        let mut vni = Vni::derive(network.as_str());
        let taken = |vni: &Vni| self.granted.contains_key(vni) || self.carried.contains_key(vni);
        // At most as many candidates are occupied as there are VNIs in use.
        for _ in 0..=self.granted.len() + self.carried.len() {
            if !taken(&vni) {
                break;
            }
            vni = vni.next_chosen();
        }
        vni
    }

    /// The record that allocates a VNI; `None` if it is already allocated.
    pub fn grant(&self, vni: Vni, network: &NetworkId) -> Option<Record> {
        let wanted = VniRecord { vni, network: network.clone(), freed: None };
        (self.granted.get(&vni) != Some(&wanted)).then_some(Record::Vni(wanted))
    }

    /// The records that put the VNIs of a network into quarantine, except `except`.
    pub fn free(&self, network: &NetworkId, except: Option<Vni>, now: u64) -> Vec<Record> {
        let of = self.granted.values().filter(|record| record.network == *network && record.freed.is_none());
        let freed = of.filter(|record| Some(record.vni) != except);
        freed.map(|record| Record::Vni(VniRecord { freed: Some(now), ..record.clone() })).collect()
    }

    /// The records that end quarantines that have expired.
    pub fn rested(&self, now: u64) -> Vec<Record> {
        let over = |record: &&VniRecord| record.freed.is_some_and(|freed| now.saturating_sub(freed) >= QUARANTINE);
        self.granted.values().filter(over).map(|record| Record::NoVni { vni: record.vni }).collect()
    }

    /// The VNIs of the networks on this host.
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
        assert_eq!(vnis.other_owner(derived, &id("n1")), None, "a network that names the VNI may have it");
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
