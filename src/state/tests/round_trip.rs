//! Records as the ledger writes them, read again: what a record says does not change on the way.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::model::{Vid, Vni};
use crate::state::codec;
use crate::state::record::ReachRecord;
use crate::state::vnis::VniRecord;

fn host() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn subnet() -> impl Strategy<Value = ipnetwork::IpNetwork> {
    (host(), 0..129u8).prop_map(|(address, length)| {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        ipnetwork::IpNetwork::new(address, length.min(longest)).unwrap()
    })
}

/// Ids of pools may contain whatever a user typed as the name of an address space.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

fn network_id() -> impl Strategy<Value = NetworkId> {
    any::<u64>().prop_map(|n| NetworkId::parse(&format!("{n:x}")).unwrap())
}

fn endpoint_id() -> impl Strategy<Value = EndpointId> {
    any::<u64>().prop_map(|n| EndpointId::parse(&format!("{n:x}")).unwrap())
}

fn holder() -> impl Strategy<Value = Holder> {
    prop_oneof![
        Just(Holder::Gateway),
        Just(Holder::Aux),
        Just(Holder::Stale),
        any::<u64>().prop_map(|since| Holder::Unclaimed { since }),
        (network_id(), endpoint_id()).prop_map(|(network, endpoint)| Holder::Endpoint { network, endpoint }),
    ]
}

fn vni() -> impl Strategy<Value = Vni> {
    (1..1u32 << 24).prop_map(|number| Vni::new(number).unwrap())
}

/// Every kind of record but those of networks and endpoints, which frozen ledgers cover (tests/fixtures/state).
fn record() -> impl Strategy<Value = Record> {
    let vid = (1..=4094u16).prop_map(|number| Vid::new(number).unwrap());
    let pool = (text(), text(), subnet(), option::of(subnet()), option::of(vid), any::<bool>());
    let reach = (any::<u16>(), vec(host(), 0..3));
    prop_oneof![
        network_id().prop_map(|id| Record::NoNetwork { id }),
        (network_id(), endpoint_id()).prop_map(|(network, id)| Record::NoEndpoint { network, id }),
        pool.prop_map(|(id, space, subnet, range, vlan, used)| {
            Record::Pool(PoolRecord { id, space, subnet, range, vlan, used })
        }),
        text().prop_map(|id| Record::NoPool { id }),
        (text(), host(), holder()).prop_map(|(pool, address, holder)| Record::Address(AddressRecord {
            pool,
            address,
            holder
        })),
        (text(), host()).prop_map(|(pool, address)| Record::NoAddress { pool, address }),
        subnet().prop_map(|prefix| Record::Ula { prefix }),
        host().prop_map(|address| Record::NoPeer { address }),
        host().prop_map(|address| Record::OwnAddress { address }),
        reach.prop_map(|(port, peers)| Record::Reach(ReachRecord { port, data_path: None, peers })),
        (vni(), network_id(), option::of(any::<u64>())).prop_map(|(vni, network, freed)| Record::Vni(VniRecord {
            vni,
            network,
            freed
        })),
        vni().prop_map(|vni| Record::NoVni { vni }),
        vec(host(), 0..4).prop_map(|addresses| Record::Flows { addresses }),
        vec(host(), 0..4).prop_map(|addresses| Record::NoFlows { addresses }),
    ]
}

proptest! {
    #[test]
    fn a_transaction_reads_back_as_it_was_written(records in vec(record(), 1..5)) {
        let mut line = Vec::new();
        codec::encode(&serde_json::to_string(&records).unwrap(), &mut line);
        prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "a transaction is one line");
        let json = codec::decode(&line).map_err(|flaw| TestCaseError::fail(format!("{flaw:?}")))?;
        prop_assert_eq!(serde_json::from_str::<Vec<Record>>(json).unwrap(), records);
    }
}
