//! Owns the translation of a network and its endpoints into what the kernel should hold.
//!
//! Pure. This is the file to change when a rule or a link's form changes; everything else
//! (creation, removal, repair) follows from the difference.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::reconcile::unite;
use super::{Bridge, Datapath, Element, EngineBridges, ForwardRule, Forwarding, LinkMatch, Shortcut, Veth, shortcut};
use crate::model::{Endpoint, GatewayMode, Mac, Network, NetworkSpec, Phase, Protocol, Published, ifname};

/// The part of the datapath that one network without endpoints needs.
pub fn network(network: &Network) -> Datapath {
    let spec = &network.spec;
    let mut addresses = BTreeSet::new();
    if network.owns_bridge {
        let v4 = spec.v4.iter().filter(|_| !spec.options.inhibit_ipv4 && spec.options.mode4 != GatewayMode::Isolated);
        let v6 = spec.v6.iter().filter(|_| spec.options.mode6 != GatewayMode::Isolated);
        addresses.extend(v4.chain(v6).filter_map(|subnet| subnet.gateway_net()));
    }
    let bridge = Bridge {
        owned: network.owns_bridge,
        mac: network.owns_bridge.then(|| Mac::derive("bridge", spec.id.as_str())),
        mtu: network.mtu,
        alias: if network.owns_bridge { format!("pontoon network {}", spec.id.as_str()) } else { String::new() },
        addresses,
        ipv6: spec.v6.is_some(),
        localnet: network.owns_bridge && spec.subnets().next().is_some() && !spec.internal,
        hardened: true,
        up: true,
    };
    Datapath {
        bridges: [(network.bridge.clone(), bridge)].into(),
        forwarding: forwarding(spec),
        elements: Some(elements(network)),
        forward4: Some(forward_rules(network)),
        forward6: Some(forward_rules(network)),
        ..Datapath::default()
    }
}

/// Which families a network needs to be forwarded.
pub fn forwarding(spec: &NetworkSpec) -> Forwarding {
    Forwarding { v4: spec.v4.is_some() && !spec.internal, v6: spec.v6.is_some() && !spec.internal }
}

/// The part of the datapath that one endpoint needs, on top of its network's.
pub fn endpoint(network: &Network, endpoint: &Endpoint) -> Datapath {
    let id = endpoint.spec.id.as_str();
    let veth = Veth {
        peer: endpoint.peer.clone(),
        host_mac: Mac::derive_port(id),
        peer_mac: Some(endpoint.mac),
        mtu: network.mtu,
        bridge: Some(network.bridge.clone()),
        isolated: !network.spec.options.icc,
        hairpin: !endpoint.published.is_empty(),
        arp: false,
        up: true,
    };
    // Once it joined, nobody can tell from outside where the container end is.
    let sandboxed = (endpoint.phase != Phase::Ready).then(|| endpoint.host.clone()).into_iter().collect();
    let mut elements = reach(network, endpoint);
    let checks = checks(network, endpoint);
    if !network.owns_bridge && (!network.spec.internal || !network.spec.options.icc) {
        elements.extend(endpoint.spec.addresses().filter(|ip| !ip.is_unspecified()).map(Element::Guest));
    }
    let mut shortcuts = shortcut::of_endpoint(network, endpoint, !checks.is_empty());
    if !network.owns_bridge && !checks.is_empty() {
        shortcuts.insert(Shortcut::Guard { port: endpoint.host.clone() });
    }
    elements.extend(checks);
    Datapath {
        veths: [(endpoint.host.clone(), veth)].into(),
        sandboxed,
        elements: Some(elements),
        shortcuts: Some(shortcuts),
        ..Datapath::default()
    }
}

/// Who may reach the endpoint from outside its network, and how.
fn reach(network: &Network, endpoint: &Endpoint) -> BTreeSet<Element> {
    let options = &network.spec.options;
    let mut set: BTreeSet<Element> = endpoint.published.iter().copied().map(Element::Port).collect();
    let all_of_v4 = |p: &&Published| p.host.protocol == Protocol::Udp && p.host.address == Ipv4Addr::UNSPECIFIED;
    set.extend(endpoint.published.iter().filter(all_of_v4).map(|p| Element::BroadcastPort(p.host.port)));
    for (net, mode) in [(endpoint.spec.v4, options.mode4), (endpoint.spec.v6, options.mode6)] {
        let Some(address) = net.map(|net| net.ip()) else { continue };
        if network.spec.internal || endpoint.bindings.is_empty() {
            continue;
        }
        // Of what is translated nothing is open while another network is the way out.
        let published = || endpoint.published.iter().any(|port| port.container == address);
        if mode == GatewayMode::Routed || (!options.trusted.is_empty() && published()) {
            set.extend(endpoint.bindings.iter().map(|b| Element::Open(b.protocol, address, b.container_port)));
        }
        let allow = endpoint.spec.options.allow.as_ref().unwrap_or(&options.allow);
        if !allow.is_empty() {
            set.insert(Element::Guarded(address));
            let sources = allow.iter().filter(|source| source.is_ipv4() == address.is_ipv4());
            set.extend(sources.map(|source| Element::Allow(address, *source)));
        }
    }
    set
}

/// What the endpoint may send. An endpoint whose addresses Pontoon does not know (the `null` IPAM
/// driver) cannot be checked.
fn checks(network: &Network, endpoint: &Endpoint) -> BTreeSet<Element> {
    if !is_checked(network, endpoint) {
        return BTreeSet::new();
    }
    let host = || endpoint.host.clone();
    let mut set = BTreeSet::from([Element::Checked(host()), Element::SourceMac(host(), endpoint.mac)]);
    // Its link-local address, which nobody assigns: the kernel makes it of the hardware address.
    let link_local = IpAddr::V6(endpoint.mac.link_local());
    let addresses = endpoint.spec.addresses().chain([link_local]);
    set.extend(addresses.map(|address| Element::SourceAddress(host(), address)));
    set
}

/// Whether what the endpoint sends is checked.
pub fn is_checked(network: &Network, endpoint: &Endpoint) -> bool {
    let wanted = endpoint.spec.options.spoofcheck.unwrap_or(network.spec.options.spoofcheck);
    wanted && endpoint.spec.addresses().next().is_some()
}

/// What holds with no network at all: the accepting rules that cover every link with our prefix.
pub fn base() -> Datapath {
    let rules = BTreeSet::from([ForwardRule::From(prefix()), ForwardRule::To(prefix())]);
    Datapath {
        elements: Some(BTreeSet::new()),
        forward4: Some(rules.clone()),
        forward6: Some(rules),
        shortcuts: Some(BTreeSet::new()),
        ..Datapath::default()
    }
}

/// Adds what one object needs to what others do.
pub fn add(to: &mut Datapath, more: Datapath) {
    unite(&mut to.elements, &more.elements);
    unite(&mut to.forward4, &more.forward4);
    unite(&mut to.forward6, &more.forward6);
    unite(&mut to.shortcuts, &more.shortcuts);
    to.bridges.extend(more.bridges);
    to.veths.extend(more.veths);
    to.vxlans.extend(more.vxlans);
    to.sandboxed.extend(more.sandboxed);
    // Forwarding is never turned off: others on the host may have come to rely on it.
    to.forwarding.v4 |= more.forwarding.v4;
    to.forwarding.v6 |= more.forwarding.v6;
}

/// Bridges of the engine's built-in driver: their containers are neighbours, and where the engine
/// does not see to it itself, containers of ours must not enter them unpublished.
pub fn engine_bridges(engine: &EngineBridges) -> BTreeSet<Element> {
    let links = || engine.links.iter().cloned();
    let closed = links().filter(|_| !engine.guarded).map(Element::Engine);
    links().map(Element::Neighbour).chain(closed).collect()
}

fn prefix() -> LinkMatch {
    LinkMatch::Prefix(ifname::PREFIX.to_owned())
}

/// A bridge that the user brought keeps the user's own filtering: only what its containers need
/// is added (masquerading, keeping them apart), nothing that would cut other traffic through it.
fn elements(network: &Network) -> BTreeSet<Element> {
    let spec = &network.spec;
    let bridge = || network.bridge.clone();
    let mut set = BTreeSet::new();
    if !spec.options.icc {
        set.insert(Element::Apart(bridge()));
    } else if network.owns_bridge {
        set.insert(Element::Intra(bridge()));
    }
    // Of a bridge that the user brought, the gateway may be another host: then nothing is ever sent
    // from its address here.
    set.extend(spec.subnets().filter_map(|subnet| subnet.gateway).map(Element::OwnAddress));
    if network.owns_bridge {
        set.insert(Element::Bridge(bridge()));
        set.insert(Element::Neighbour(bridge()));
        if spec.internal {
            set.insert(Element::Internal(bridge()));
        }
    }
    for subnet in spec.subnets().filter(|_| !spec.internal) {
        let v6 = subnet.pool.is_ipv6();
        let options = &spec.options;
        let mode = if v6 { options.mode6 } else { options.mode4 };
        if mode != GatewayMode::Routed && options.masquerade {
            let chosen = if v6 { options.host_ipv6.map(IpAddr::V6) } else { options.host_ipv4.map(IpAddr::V4) };
            set.insert(match chosen {
                Some(address) => Element::SourceNat(subnet.pool, address),
                None => Element::Masquerade(subnet.pool),
            });
        }
        if network.owns_bridge {
            match mode {
                GatewayMode::Routed => drop(set.insert(Element::Routed(bridge(), v6))),
                GatewayMode::NatUnprotected => drop(set.insert(Element::Direct(bridge(), v6))),
                GatewayMode::Nat | GatewayMode::Isolated => {}
            }
            set.extend(options.trusted.iter().map(|link| Element::Trusted(link.clone(), bridge())));
        }
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
