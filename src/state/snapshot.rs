//! The meaning of a sequence of records: which facts are live after the last of them.
//!
//! Pure. Used when the ledger is read: at start and for compaction.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::peers::PeerRecord;
use super::record::{AddressRecord, Holder, PoolRecord, ReachRecord, Record};
use super::vnis::VniRecord;
use crate::model::{Endpoint, EndpointId, LeaseKey, LeaseRecord, Network, NetworkId, Vni};

/// The live facts.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    ula: Option<IpNetwork>,
    pools: BTreeMap<String, PoolRecord>,
    /// By pool and address: the holder, and the number of puts before its last one.
    addresses: BTreeMap<String, BTreeMap<IpAddr, (u64, Holder)>>,
    networks: BTreeMap<NetworkId, Box<Network>>,
    endpoints: BTreeMap<NetworkId, BTreeMap<EndpointId, Box<Endpoint>>>,
    peers: BTreeMap<IpAddr, PeerRecord>,
    own_address: Option<IpAddr>,
    reach: Option<ReachRecord>,
    vnis: BTreeMap<Vni, VniRecord>,
    leases: BTreeMap<LeaseKey, Box<LeaseRecord>>,
    puts: u64,
    /// Addresses whose conntrack entries are to be removed.
    flows: BTreeSet<IpAddr>,
    /// Addresses of endpoints that ended since the last compaction. The removal of their conntrack entries is
    /// not recorded: that would add one line for each container.
    ended: BTreeSet<IpAddr>,
    /// Networks and endpoints that were replaced or deleted, in their last state, in order. They prove that
    /// their remains in the kernel are orphans.
    former: Vec<Record>,
}

impl Snapshot {
    /// Applies the next record. A tombstone also removes what belongs to its object.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Network(network) => {
                let before = self.networks.insert(network.spec.id.clone(), network);
                self.former.extend(before.map(Record::Network));
            }
            Record::NoNetwork { id } => {
                let network = self.networks.remove(&id);
                let of = self.endpoints.remove(&id).unwrap_or_default();
                self.ended.extend(of.values().flat_map(|endpoint| endpoint.spec.addresses()));
                self.former.extend(network.map(Record::Network));
                self.former.extend(of.into_values().map(Record::Endpoint));
            }
            Record::Endpoint(endpoint) => {
                let of = self.endpoints.entry(endpoint.spec.network.clone()).or_default();
                let (published, stored) = (endpoint.published.clone(), endpoint.stored.clone());
                let before = of.insert(endpoint.spec.id.clone(), endpoint);
                self.former.extend(
                    before
                        .filter(|before| before.published != published || before.stored != stored)
                        .map(Record::Endpoint),
                );
            }
            Record::NoEndpoint { network, id } => {
                let ended = self.endpoints.get_mut(&network).and_then(|of| of.remove(&id));
                self.ended.extend(ended.iter().flat_map(|endpoint| endpoint.spec.addresses()));
                self.former.extend(ended.map(Record::Endpoint));
            }
            Record::Pool(pool) => {
                self.pools.insert(pool.id.clone(), pool);
            }
            Record::NoPool { id } => {
                self.pools.remove(&id);
                self.addresses.remove(&id);
            }
            Record::Address(AddressRecord { pool, address, holder }) => {
                self.addresses.entry(pool).or_default().insert(address, (self.puts, holder));
                self.puts += 1;
            }
            Record::NoAddress { pool, address } => {
                if let Some(of) = self.addresses.get_mut(&pool) {
                    of.remove(&address);
                }
            }
            Record::Ula { prefix } => self.ula = Some(prefix),
            Record::Peer(peer) => {
                self.peers.insert(peer.address, peer);
            }
            Record::NoPeer { address } => {
                self.peers.remove(&address);
            }
            Record::OwnAddress { address } => self.own_address = Some(address),
            Record::Reach(reach) => self.reach = Some(reach),
            Record::Vni(vni) => {
                self.vnis.insert(vni.vni, vni);
            }
            Record::NoVni { vni } => {
                self.vnis.remove(&vni);
            }
            Record::Lease(lease) => {
                self.leases.insert(lease.key.clone(), lease);
            }
            Record::NoLease { key } => {
                self.leases.remove(&key);
            }
            Record::Flows { addresses } => self.flows.extend(addresses),
            Record::NoFlows { addresses } => self.flows.retain(|address| !addresses.contains(address)),
        }
    }

    /// Drops what a reboot of the host ended: endpoints and their addresses. An address that was allocated and
    /// never claimed may be in use by another program, so it stays, as [`Holder::Stale`].
    pub fn reboot(&mut self) {
        self.endpoints.clear();
        self.former.clear();
        self.ended.clear();
        self.flows.clear();
        self.leases.values_mut().for_each(|lease| lease.reboot());
        for of in self.addresses.values_mut() {
            of.retain(|_, (_, holder)| !matches!(holder, Holder::Endpoint { .. }));
            for (_, holder) in of.values_mut() {
                if matches!(holder, Holder::Unclaimed { .. }) {
                    *holder = Holder::Stale;
                }
            }
        }
    }

    /// Takes the networks and endpoints that were replaced or deleted.
    pub fn take_former(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.former)
    }

    /// Prepares compaction, which drops the tombstones: the conntrack entries of recently freed addresses become
    /// facts of their own, unless another endpoint has the address by now. Returns these addresses.
    pub fn carry_over(&mut self) -> Vec<IpAddr> {
        let mut ended = std::mem::take(&mut self.ended);
        for endpoint in self.endpoints.values().flat_map(BTreeMap::values) {
            for address in endpoint.spec.addresses() {
                ended.remove(&address);
            }
        }
        self.flows.extend(&ended);
        ended.into_iter().collect()
    }

    /// One put for each fact, in an order that depends on the facts alone: the ULA prefix, pools, addresses by
    /// their last put (the allocator derives its position from it), facts about other hosts, networks,
    /// endpoints, leases, and pending removals of conntrack entries.
    pub fn into_records(self) -> Vec<Record> {
        let mut addresses: Vec<(u64, AddressRecord)> = Vec::new();
        for (pool, of) in self.addresses {
            for (address, (put, holder)) in of {
                addresses.push((put, AddressRecord { pool: pool.clone(), address, holder }));
            }
        }
        addresses.sort_by_key(|(put, _)| *put);
        let ula = self.ula.map(|prefix| Record::Ula { prefix });
        let flows = Some(self.flows.into_iter().collect::<Vec<_>>()).filter(|flows| !flows.is_empty());
        ula.into_iter()
            .chain(self.pools.into_values().map(Record::Pool))
            .chain(addresses.into_iter().map(|(_, address)| Record::Address(address)))
            .chain(self.own_address.map(|address| Record::OwnAddress { address }))
            .chain(self.reach.map(Record::Reach))
            .chain(self.peers.into_values().map(Record::Peer))
            .chain(self.vnis.into_values().map(Record::Vni))
            .chain(self.networks.into_values().map(Record::Network))
            .chain(self.endpoints.into_values().flat_map(BTreeMap::into_values).map(Record::Endpoint))
            .chain(self.leases.into_values().map(Record::Lease))
            .chain(flows.map(|addresses| Record::Flows { addresses }))
            .collect()
    }
}
