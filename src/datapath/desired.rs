//! Owns the translation of a network and its endpoints into what the kernel should hold.
//!
//! Pure. This is the file to change when a rule or a link's form changes; everything else
//! (creation, removal, repair) follows from the difference.

use std::collections::BTreeSet;

use super::{Bridge, Datapath, Element, ForwardRule, Forwarding, LinkMatch, Veth};
use crate::model::{Endpoint, IfName, Mac, Network, Phase, ifname};

/// The part of the datapath that one network without endpoints needs.
pub fn network(network: &Network) -> Datapath {
    let spec = &network.spec;
    let mut addresses = BTreeSet::new();
    if network.owns_bridge {
        let v4 = spec.v4.iter().filter(|_| !spec.options.inhibit_ipv4);
        addresses.extend(v4.chain(&spec.v6).filter_map(|subnet| subnet.gateway_net()));
    }
    let bridge = Bridge {
        owned: network.owns_bridge,
        mac: network.owns_bridge.then(|| Mac::derive("bridge", spec.id.as_str())),
        mtu: network.mtu,
        alias: if network.owns_bridge { format!("pontoon network {}", spec.id.as_str()) } else { String::new() },
        addresses,
        ipv6: spec.v6.is_some(),
        localnet: network.owns_bridge && spec.v4.is_some() && !spec.internal,
        up: true,
    };
    Datapath {
        bridges: [(network.bridge.clone(), bridge)].into(),
        forwarding: Forwarding { v4: spec.v4.is_some() && !spec.internal, v6: spec.v6.is_some() && !spec.internal },
        elements: Some(elements(network)),
        forward4: Some(forward_rules(network)),
        forward6: Some(forward_rules(network)),
        ..Datapath::default()
    }
}

/// The part of the datapath that one endpoint needs, on top of its network's.
pub fn endpoint(network: &Network, endpoint: &Endpoint) -> Datapath {
    let id = endpoint.spec.id.as_str();
    let veth = Veth {
        peer: endpoint.peer.clone(),
        host_mac: Mac::derive("host", id),
        peer_mac: Some(endpoint.mac),
        mtu: network.mtu,
        bridge: Some(network.bridge.clone()),
        isolated: !network.spec.options.icc,
        hairpin: false,
        up: true,
    };
    // Once it joined, nobody can tell from outside where the container end is.
    let sandboxed = (endpoint.phase != Phase::Ready).then(|| endpoint.host.clone()).into_iter().collect();
    Datapath {
        veths: [(endpoint.host.clone(), veth)].into(),
        sandboxed,
        elements: Some(BTreeSet::new()),
        ..Datapath::default()
    }
}

/// What holds with no network at all: the accepting rules that cover every link with our prefix.
pub fn base() -> Datapath {
    let rules = BTreeSet::from([ForwardRule::From(prefix()), ForwardRule::To(prefix())]);
    Datapath {
        elements: Some(BTreeSet::new()),
        forward4: Some(rules.clone()),
        forward6: Some(rules),
        ..Datapath::default()
    }
}

/// Bridges of the engine's built-in driver, which containers of ours must not enter unpublished.
pub fn engine_bridges(bridges: &BTreeSet<IfName>) -> BTreeSet<Element> {
    bridges.iter().cloned().map(Element::Engine).collect()
}

fn prefix() -> LinkMatch {
    LinkMatch::Prefix(ifname::PREFIX.to_owned())
}

/// A bridge that the user brought keeps the user's own filtering: only what its containers need
/// is added (masquerading), nothing that would cut other traffic through it.
fn elements(network: &Network) -> BTreeSet<Element> {
    let spec = &network.spec;
    let bridge = || network.bridge.clone();
    let mut set = BTreeSet::new();
    if network.owns_bridge {
        set.insert(Element::Intra(bridge()));
        set.insert(Element::Bridge(bridge()));
        if spec.internal {
            set.insert(Element::Internal(bridge()));
        }
    }
    if spec.options.masquerade && !spec.internal {
        set.extend(spec.subnets().map(|subnet| Element::Masquerade(subnet.pool)));
    }
    set
}

/// Bridges with our prefix are covered by [`base`]; one with a name of the user's needs its own.
fn forward_rules(network: &Network) -> BTreeSet<ForwardRule> {
    if network.bridge.has_prefix() {
        return BTreeSet::new();
    }
    let name = || LinkMatch::Name(network.bridge.clone());
    [ForwardRule::From(name()), ForwardRule::To(name())].into()
}
