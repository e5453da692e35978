//! Tracks the other hosts (peers) and the state of each.
//!
//! ```text
//!                DiscoverDelete            silent for GRACE            silent for MEMORY
//!    Present --------------------> Doubted -----------------> Former -------------------> (forgotten)
//!       ^                          |    ^                      |   |
//!       +------- DiscoverNew ------+    +------- heard --------+   |
//!       +------------------------- DiscoverNew --------------------+
//! ```
//! The engine's report that a node left is only a hint: for a node that came back quickly the engine sends it
//! *after* it announced the return (protocol.md 5.6), and a tunnel removed on such a report would stay removed.
//! So a doubted peer still receives floods as long as packets arrive from it; only silence makes it a former
//! peer, which means that no forwarding entry learned from it has been in use since. A former peer receives no
//! floods, but its packets are still accepted, and the first one that updates a forwarding entry makes it
//! doubted again, so that it receives floods. Every host announces its endpoints twice a minute, so a live peer
//! with endpoints is never silent; a live peer without endpoints does not need floods.
//!
//! Peers that the operator configured are always present. Peers are in the ledger, because the engine does not
//! repeat the others to a restarted plugin. Pure; called by the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::model::overlay::FDB_AGEING;

/// How long a doubted peer may be silent before floods exclude it, in seconds. One more packet for each flood
/// costs little, a missing tunnel much. As long as forwarding entries learned from the peer last.
pub const GRACE: u64 = FDB_AGEING.as_secs();

/// How long packets of a former peer are still accepted, in seconds.
pub const MEMORY: u64 = 24 * 3600;

/// The state of a peer; times are seconds of the host's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Standing {
    /// The peer is a member.
    Present,
    /// The engine reported that it left.
    Doubted {
        /// When the engine reported it.
        since: u64,
    },
    /// It has been silent since.
    Former {
        /// When it became a former peer.
        since: u64,
    },
}

/// A peer and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// Its address in the underlay.
    pub address: IpAddr,
    /// Its state.
    pub standing: Standing,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Peers {
    known: BTreeMap<IpAddr, Standing>,
    named: BTreeSet<IpAddr>,
    /// When each was last heard, as far as this process knows.
    heard: BTreeMap<IpAddr, u64>,
    /// When this process started: silence is counted from here, because earlier packets are unknown.
    began: u64,
}

impl Peers {
    /// Starts with the peers that the operator configured.
    pub fn new(named: BTreeSet<IpAddr>, now: u64) -> Self {
        Self { named, began: now, ..Self::default() }
    }

    /// Applies a record; records of other kinds have no effect.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Peer(peer) => {
                self.known.insert(peer.address, peer.standing);
            }
            Record::NoPeer { address } => {
                self.known.remove(address);
                self.heard.remove(address);
            }
            _ => {}
        }
    }

    /// The engine announced a node.
    pub fn announced(&self, address: IpAddr) -> Option<Record> {
        self.changed(address, Standing::Present)
    }

    /// The engine reported that a node left. Only a present peer becomes doubted: otherwise repeated reports
    /// would restart the silence timer.
    pub fn doubted(&self, address: IpAddr, now: u64) -> Option<Record> {
        let present = self.known.get(&address) == Some(&Standing::Present);
        present.then(|| self.changed(address, Standing::Doubted { since: now })).flatten()
    }

    /// Changes the state of peers by silence and activity: `ages` contains the time since the last activity of
    /// each address.
    pub fn look(&mut self, ages: &BTreeMap<IpAddr, Duration>, now: u64) -> Vec<Record> {
        for address in self.known.keys() {
            if let Some(age) = ages.get(address) {
                let last = self.heard.entry(*address).or_default();
                *last = (*last).max(now.saturating_sub(age.as_secs()));
            }
        }
        let judged = |(address, standing): (&IpAddr, &Standing)| {
            let last = self.heard.get(address).copied().unwrap_or(0);
            let silent = |since: u64| now.saturating_sub(since.max(last).max(self.began));
            match *standing {
                Standing::Doubted { since } if silent(since) >= GRACE => {
                    self.changed(*address, Standing::Former { since: now })
                }
                Standing::Former { since } if last > since => self.changed(*address, Standing::Doubted { since: last }),
                Standing::Former { since } if silent(since) >= MEMORY => Some(Record::NoPeer { address: *address }),
                _ => None,
            }
        };
        self.known.iter().filter_map(judged).collect()
    }

    /// All peers with their states.
    pub fn all(&self) -> impl Iterator<Item = (IpAddr, Standing)> {
        let named = self.named.iter().map(|address| (*address, Standing::Present));
        let known = self.known.iter().map(|(address, standing)| (*address, *standing));
        known.filter(|(address, _)| !self.named.contains(address)).chain(named)
    }

    /// The peers that receive floods.
    pub fn flooded(&self) -> BTreeSet<IpAddr> {
        let there = self.known.iter().filter(|(_, standing)| !matches!(standing, Standing::Former { .. }));
        there.map(|(address, _)| *address).chain(self.named.iter().copied()).collect()
    }

    /// The peers whose packets are accepted.
    pub fn accepted(&self) -> BTreeSet<IpAddr> {
        self.known.keys().chain(&self.named).copied().collect()
    }

    /// Whether the state of a peer may change without a request.
    pub fn unsettled(&self) -> bool {
        self.known.values().any(|standing| *standing != Standing::Present)
    }

    fn changed(&self, address: IpAddr, standing: Standing) -> Option<Record> {
        (self.known.get(&address) != Some(&standing)).then_some(Record::Peer(PeerRecord { address, standing }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn take(peers: &mut Peers, records: impl IntoIterator<Item = Record>) -> usize {
        records.into_iter().map(|record| peers.apply(&record)).count()
    }

    fn silent() -> BTreeMap<IpAddr, Duration> {
        BTreeMap::new()
    }

    fn heard(seconds_ago: u64) -> BTreeMap<IpAddr, Duration> {
        [(PEER, Duration::from_secs(seconds_ago))].into()
    }

    fn doubted_at_1000() -> Peers {
        let mut peers = Peers::default();
        let announced = peers.announced(PEER);
        take(&mut peers, announced);
        let doubted = peers.doubted(PEER, 1000);
        take(&mut peers, doubted);
        peers
    }

    #[test]
    fn the_word_that_a_node_left_cuts_nothing() {
        let mut peers = doubted_at_1000();
        assert!(peers.flooded().contains(&PEER) && peers.unsettled());
        assert!(peers.doubted(PEER, 1200).is_none(), "the doubt keeps its time");
        let announced = peers.announced(PEER);
        take(&mut peers, announced);
        assert!(!peers.unsettled() && peers.look(&silent(), 1000 + 10 * GRACE).is_empty());
    }

    #[test]
    fn the_last_packets_of_one_that_really_left_do_not_keep_it() {
        let mut peers = doubted_at_1000();
        assert!(peers.look(&heard(0), 1002).is_empty());
        assert!(peers.look(&silent(), 1002 + GRACE - 1).is_empty());
        assert_eq!(peers.look(&silent(), 1002 + GRACE).len(), 1);
    }

    #[test]
    fn a_new_life_listens_before_it_judges() {
        let mut peers = Peers::new(BTreeSet::new(), 9000);
        peers.apply(&Record::Peer(PeerRecord { address: PEER, standing: Standing::Doubted { since: 1000 } }));
        assert!(peers.look(&silent(), 9000 + GRACE - 1).is_empty());
        assert_eq!(peers.look(&silent(), 9000 + GRACE).len(), 1);
    }

    #[test]
    fn silence_ends_it_and_a_sign_of_life_brings_it_back() {
        let mut peers = doubted_at_1000();
        assert!(peers.look(&silent(), 1000 + GRACE - 1).is_empty());
        let gone = peers.look(&heard(GRACE + 60), 1000 + GRACE);
        assert_eq!(take(&mut peers, gone), 1);
        assert!(peers.flooded().is_empty() && peers.accepted().contains(&PEER));
        let back = peers.look(&heard(1), 1000 + GRACE + 30);
        assert_eq!(take(&mut peers, back), 1);
        assert!(peers.flooded().contains(&PEER));
    }

    #[test]
    fn a_return_that_is_announced_before_the_departure_is_found_out() {
        // Announced again at 1000; the departure of the earlier session is reported two seconds later.
        let mut peers = doubted_at_1000();
        for now in (1030..5000).step_by(30) {
            // It announces its endpoints twice a minute.
            let records = peers.look(&heard(now % 30), now);
            take(&mut peers, records);
            assert!(peers.flooded().contains(&PEER), "{now}");
        }
    }

    #[test]
    fn what_was_silent_for_long_is_forgotten_unless_the_operator_names_it() {
        let mut peers = doubted_at_1000();
        peers.named.insert("192.0.2.9".parse().unwrap());
        let former = peers.look(&silent(), 1000 + GRACE);
        take(&mut peers, former);
        let forgotten = peers.look(&silent(), 1000 + GRACE + MEMORY);
        assert_eq!(forgotten, [Record::NoPeer { address: PEER }]);
        take(&mut peers, forgotten);
        assert_eq!(peers.accepted(), ["192.0.2.9".parse().unwrap()].into());
    }
}
