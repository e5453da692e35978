use std::collections::BTreeMap;

use super::*;
use crate::datapath::Policy;
use crate::model::{IfName, NetworkKind, NetworkOptions, NetworkSpec, Overlay, Subnet, Vni, options};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn network(n: u8, peers: &str) -> Network {
    let id = NetworkId::parse(&format!("net{n}")).unwrap();
    let pool = format!("10.{n}.0.0/24").parse().unwrap();
    let v4 = Some(Subnet { pool, gateway: None, default_gateway: None, aux: Vec::new() });
    let mut given = BTreeMap::from([(options::VNI.to_owned(), format!("70{n}"))]);
    if !peers.is_empty() {
        given.insert("pontoon.peers".to_owned(), peers.to_owned());
    }
    let options = NetworkOptions::parse(&given).unwrap();
    let overlay = Overlay { vni: Vni::new(700 + u32::from(n)).unwrap(), link: link(n) };
    let bridge = IfName::parse(&format!("bridge{n}")).unwrap();
    let spec = NetworkSpec { id, v4, v6: None, internal: false, options };
    Network { spec, kind: NetworkKind::Overlay { bridge, overlay }, mtu: 1450, stored: Default::default() }
}

fn link(n: u8) -> IfName {
    IfName::parse(&format!("tunnel{n}")).unwrap()
}

fn record(network: &Network) -> Record {
    Record::Network(Box::new(network.clone()))
}

/// A host at 192.0.2.1 with a configured peer.
fn state() -> OverlayState {
    let settings = OverlaySettings { peers: vec![ip("192.0.2.2"), ip("192.0.2.9")], ..OverlaySettings::default() };
    let mut state = OverlayState::new(&settings);
    state.set_underlay(Some(Underlay { address: ip("192.0.2.1"), mtu: 1500 }));
    state.set_local([ip("192.0.2.1"), ip("192.0.2.9")].into());
    state
}

fn peers_of(datapath: &Datapath) -> BTreeSet<IpAddr> {
    let accepted = datapath.policy.iter().flatten();
    accepted.filter_map(|policy| if let Policy::Peer(peer) = policy { Some(*peer) } else { None }).collect()
}

#[test]
fn a_change_of_one_network_leaves_the_tunnels_of_the_others_alone() {
    let mut state = state();
    let (one, two) = (network(1, ""), network(2, ""));
    let (before, after) = state.change(Some(&one), |state| state.apply(&record(&one)));
    assert!(peers_of(&before).contains(&ip("192.0.2.2")), "a host with a peer has a guard without networks");
    assert_eq!(after.objects.keys().collect::<Vec<_>>(), [&link(1)]);
    let (before, after) = state.change(Some(&two), |state| state.apply(&record(&two)));
    assert!(before.objects.is_empty());
    assert_eq!(after.objects.keys().collect::<Vec<_>>(), [&link(2)]);
    assert!(peers_of(&after).is_empty(), "the guard does not change with the second network");
    let (before, after) = state.change(None, |state| state.peers.apply(&Record::NoPeer { address: ip("192.0.2.7") }));
    assert_eq!(before, after);
    assert_eq!(before.objects.keys().collect::<Vec<_>>(), [&link(1), &link(2)]);
}

#[test]
fn peers_that_only_a_network_names_are_accepted_with_it() {
    let mut state = state();
    let (one, two) = (network(1, ""), network(2, "192.0.2.5"));
    state.apply(&record(&one));
    let (before, after) = state.change(Some(&two), |state| state.apply(&record(&two)));
    assert!(!peers_of(&before).contains(&ip("192.0.2.5")) && peers_of(&after).contains(&ip("192.0.2.5")));
    let gone = Record::NoNetwork { id: two.spec.id.clone() };
    let (_, after) = state.change(Some(&two), |state| state.apply(&gone));
    assert!(!peers_of(&after).contains(&ip("192.0.2.5")));
}

#[test]
fn an_address_of_this_host_is_no_peer() {
    let mut state = state();
    state.apply(&record(&network(1, "")));
    let desired = state.desired();
    assert_eq!(peers_of(&desired), [ip("192.0.2.2")].into());
    let Some(Object::Vxlan(vxlan)) = desired.objects.get(&link(1)) else { panic!("{desired:?}") };
    assert_eq!(vxlan.peers, [ip("192.0.2.2")].into());
    state.set_local([ip("192.0.2.1")].into());
    assert_eq!(peers_of(&state.desired()), [ip("192.0.2.2"), ip("192.0.2.9")].into());
}

#[test]
fn without_a_local_address_there_is_no_tunnel() {
    let mut state = state();
    state.apply(&record(&network(1, "")));
    state.set_underlay(None);
    assert!(state.desired().objects.is_empty());
}
