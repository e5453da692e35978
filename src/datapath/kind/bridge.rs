//! Networks with a bridge, created by Pontoon or by the user, and their veth pairs. `crate::datapath::tunnel`
//! describes the tunnel of an overlay network.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::{Kind, Refusal, access, forwarding, limits, links, service, vlan};
use crate::datapath::{
    ALIAS, BRIDGE_PORTS, Bridge, Datapath, FastPath, ForwardRule, LinkMatch, LinkProperty, Policy, Sharer, Veth,
    fastpath,
};
use crate::model::access::StoredLists;
use crate::model::options;
use crate::model::{
    Attachment, Endpoint, EndpointSpec, Family, GatewayMode, IfName, LinkRole, Mac, Network, NetworkKind, Protocol,
    Published,
};

/// See the module documentation.
pub struct Bridges;

impl Kind for Bridges {
    fn network(&self, network: &Network) -> Datapath {
        network.kind.bridge().map_or_else(Datapath::empty, |bridge| self::network(network, bridge))
    }

    fn endpoint(&self, network: &Network, endpoint: &Endpoint) -> Datapath {
        match (network.kind.bridge(), &endpoint.attachment) {
            (Some(bridge), Attachment::Veth { host, peer }) => self::endpoint(network, bridge, (host, peer), endpoint),
            _ => Datapath::empty(),
        }
    }

    fn attach(&self, name: &mut dyn FnMut(LinkRole) -> IfName) -> Attachment {
        Attachment::Veth { host: name(LinkRole::Host), peer: name(LinkRole::Peer) }
    }

    fn capacity(&self, _: &Network) -> usize {
        BRIDGE_PORTS
    }

    fn check_endpoint(&self, network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
        vlan::check_endpoint(network, endpoint)?;
        access::check(network, endpoint, &StoredLists::default())?;
        limits::check(network, endpoint)?;
        if network.kind.owns_bridge() || endpoint.options.allow.is_none() {
            return Ok(());
        }
        let bridge = network.kind.link();
        Err(Refusal(format!(
            "{} has no effect on {bridge}, a bridge that Pontoon did not make: remove it, or let Pontoon make the bridge",
            options::ALLOW
        )))
    }

    /// The bridge itself: what the host sends there reaches every port. It does not reach the ports of a VLAN, unless the
    /// user made the bridge itself a member.
    fn lan<'a>(&self, network: &'a Network) -> Option<&'a IfName> {
        match &network.kind {
            NetworkKind::UserBridge { bridge, .. } => Some(bridge).filter(|_| network.spec.options.vlan.is_none()),
            _ => None,
        }
    }

    fn check_published(&self, _: &Network) -> Result<(), Refusal> {
        Ok(())
    }
}

fn network(network: &Network, name: &IfName) -> Datapath {
    let spec = &network.spec;
    let addresses = host_addresses(network);
    let bridge = Bridge {
        owned: network.kind.owns_bridge(),
        mac: network.kind.owns_bridge().then(|| Mac::of_bridge(spec.id.as_str())),
        mtu: network.mtu,
        alias: if network.kind.owns_bridge() { format!("{ALIAS} network {}", spec.id.as_str()) } else { String::new() },
        addresses,
        ipv6: spec.v6.is_some(),
        localnet: network.kind.owns_bridge() && spec.subnets().next().is_some() && !spec.internal,
        hardened: true,
        filters_vlans: false,
        up: true,
    };
    let service = service::of(network).map(|(port, pair)| (port, pair.into()));
    Datapath {
        objects: [(name.clone(), bridge.into())].into_iter().chain(service).collect(),
        forwarding: forwarding(spec),
        policy: Some(policy(network, name)),
        forward4: Some(forward_rules(name)),
        forward6: Some(forward_rules(name)),
        fastpath: Some(fastpath::of_bridge(network)),
        contestable: fastpath::contestable(network),
        ..Datapath::default()
    }
}

/// The addresses of the host on the bridge of a network, with their prefix lengths.
pub(super) fn host_addresses(network: &Network) -> BTreeSet<IpNetwork> {
    let spec = &network.spec;
    if !network.kind.owns_bridge() {
        return BTreeSet::new();
    }
    let v4 = spec.v4.iter().filter(|_| !spec.options.inhibit_ipv4 && spec.options.mode4 != GatewayMode::Isolated);
    let v6 = spec.v6.iter().filter(|_| spec.options.mode6 != GatewayMode::Isolated);
    v4.chain(v6).filter_map(|subnet| subnet.gateway_net()).collect()
}

fn endpoint(network: &Network, bridge: &IfName, (host, peer): (&IfName, &IfName), endpoint: &Endpoint) -> Datapath {
    let vlans = vlan::of_port(network, &endpoint.spec.options);
    let sharer = || Sharer::Endpoint(network.spec.id.clone(), endpoint.spec.id.clone());
    let sharer = vlans.is_some().then(sharer);
    let mtu = match network.kind {
        NetworkKind::UserBridge { bridge_mtu: Some(mtu), .. } => mtu,
        _ => network.mtu,
    };
    let veth = Veth {
        peer: peer.clone(),
        host_mac: Mac::derive_port(endpoint.spec.id.as_str()),
        peer_mac: Some(endpoint.mac),
        mtu,
        peer_mtu: endpoint.mtu(network.mtu),
        bridge: Some(bridge.clone()),
        isolated: !network.spec.options.icc,
        hairpin: !endpoint.published.is_empty(),
        vlans,
        shape: limits::inward(network, &endpoint.spec, mtu),
        arp: false,
        up: true,
    };
    let mut policy = reach(network, endpoint);
    let checks = checks(network, host, endpoint);
    if !network.kind.owns_bridge() && (!network.spec.internal || !network.spec.options.icc) {
        policy.extend(endpoint.spec.addresses().filter(|ip| !ip.is_unspecified()).map(Policy::UserBridgeContainer));
    }
    let outward = limits::outward(network, &endpoint.spec, host, mtu);
    // Frames that bypass the bridge would bypass its rules, and those on the fast path the limit.
    let mut fastpath = match access::is_restricted(network, endpoint) || outward.is_some() {
        true => BTreeSet::new(),
        false => fastpath::of_port(network, host, endpoint, !checks.is_empty()),
    };
    if takes_neighbours(network, endpoint) {
        fastpath.extend(fastpath::of_neighbour(network, host, endpoint));
    }
    if !network.kind.owns_bridge() && !checks.is_empty() {
        fastpath.insert(FastPath::Guard { port: host.clone() });
    }
    policy.extend(checks);
    policy.extend(access::statements(network, host, endpoint));
    policy.extend(limits::statements(network, &endpoint.spec));
    fastpath.extend(limits::packets(network, &endpoint.spec, host));
    policy.extend(
        network.spec.options.refuses_ra.then(|| Policy::Link(LinkProperty::NoRouterAdvertisements, host.clone())),
    );
    let mut links = links(endpoint, [(host.clone(), veth.into())]);
    if let Some((name, ifb, rule)) = outward {
        // It stays on the host, and can be created again.
        links.objects.insert(name, ifb.into());
        fastpath.insert(rule);
    }
    Datapath { sharer, policy: Some(policy), fastpath: Some(fastpath), ..links }
}

/// Whether frames between the endpoint and its neighbours may bypass a bridge that only this host has: no rule there
/// and no limit of connections decides about them, and their sources are validated.
fn takes_neighbours(network: &Network, endpoint: &Endpoint) -> bool {
    let limits = limits::of(network, &endpoint.spec);
    is_checked(network, endpoint)
        && !access::is_restricted(network, endpoint)
        && limits.rate_out.is_none()
        && limits.of_connections().is_none()
}

/// Elements that decide which traffic from outside its network may reach the endpoint.
pub(super) fn reach(network: &Network, endpoint: &Endpoint) -> BTreeSet<Policy> {
    let options = &network.spec.options;
    let mut set: BTreeSet<Policy> = endpoint.published.iter().copied().map(Policy::Published).collect();
    let all_of_v4 = |p: &&Published| p.host.protocol == Protocol::Udp && p.host.address == Ipv4Addr::UNSPECIFIED;
    set.extend(endpoint.published.iter().filter(all_of_v4).map(|p| Policy::BroadcastPort(p.host.port)));
    for (net, mode) in [(endpoint.spec.v4, options.mode4), (endpoint.spec.v6, options.mode6)] {
        let Some(address) = net.map(|net| net.ip()) else { continue };
        if network.spec.internal || endpoint.bindings.is_empty() {
            continue;
        }
        // Translated ports stay closed while another network carries the container's default route.
        let published = || endpoint.published.iter().any(|port| port.container == address);
        if mode == GatewayMode::Routed || (!options.trusted.is_empty() && published()) {
            set.extend(endpoint.bindings.iter().map(|b| Policy::OpenPort(b.protocol, address, b.container_port)));
        }
        let allow = endpoint.spec.options.allow.as_ref().unwrap_or(&options.allow);
        if !allow.is_empty() {
            set.insert(Policy::SourceFiltered(address));
            let sources = allow.iter().filter(|source| source.is_ipv4() == address.is_ipv4());
            set.extend(sources.map(|source| Policy::AllowedSource(address, *source)));
        }
    }
    set
}

/// Source address validation of an endpoint. It is not possible when Pontoon does not know the endpoint's
/// addresses (the `null` IPAM driver).
fn checks(network: &Network, host: &IfName, endpoint: &Endpoint) -> BTreeSet<Policy> {
    if !is_checked(network, endpoint) {
        return BTreeSet::new();
    }
    let host = || host.clone();
    let mut set =
        BTreeSet::from([Policy::Link(LinkProperty::SpoofChecked, host()), Policy::SourceMac(host(), endpoint.mac)]);
    // The kernel derives the link-local address from the hardware address; no IPAM driver assigns it.
    let link_local = IpAddr::V6(endpoint.mac.link_local());
    let addresses = endpoint.spec.addresses().chain([link_local]);
    set.extend(addresses.map(|address| Policy::SourceAddress(host(), address)));
    let known = endpoint.spec.addresses().filter(|address| !address.is_unspecified());
    set.extend(known.map(|address| Policy::Source(host(), endpoint.mac, address)));
    set.extend(endpoint.spec.options.trunk.iter().map(|vid| Policy::TrunkVlan(host(), vid)));
    set
}

/// Whether source address validation is on for the endpoint.
pub fn is_checked(network: &Network, endpoint: &Endpoint) -> bool {
    wants_check(network, &endpoint.spec)
}

pub(super) fn wants_check(network: &Network, endpoint: &EndpointSpec) -> bool {
    let wanted = endpoint.options.spoofcheck.unwrap_or(network.spec.options.spoofcheck);
    wanted && endpoint.addresses().next().is_some()
}

/// On a bridge that the user provides, the user's own filtering stays in charge: Pontoon adds only what its
/// containers need (masquerading, isolation), nothing that would cut other traffic through the bridge.
fn policy(network: &Network, bridge: &IfName) -> BTreeSet<Policy> {
    let spec = &network.spec;
    let bridge = || bridge.clone();
    let mut set = BTreeSet::new();
    if !spec.options.icc {
        set.insert(Policy::Isolated(bridge()));
    } else if network.kind.owns_bridge() {
        set.insert(Policy::IntraNetwork(bridge()));
    }
    // On a bridge that the user provides, the gateway may be another host: then no packet here ever has its
    // address as source.
    set.extend(spec.subnets().filter_map(|subnet| subnet.gateway).map(Policy::BridgeAddress));
    if network.kind.owns_bridge() {
        set.insert(Policy::Link(LinkProperty::ProtectedBridge, bridge()));
        set.insert(Policy::Link(LinkProperty::ContainerBridge, bridge()));
        if spec.internal {
            set.insert(Policy::Link(LinkProperty::Internal, bridge()));
        }
    }
    for subnet in spec.subnets().filter(|_| !spec.internal) {
        let family = Family::of(&subnet.pool.ip());
        let options = &spec.options;
        let mode = family.choose(options.mode4, options.mode6);
        if mode != GatewayMode::Routed && options.masquerade {
            let chosen = family.choose(options.host_ipv4.map(IpAddr::V4), options.host_ipv6.map(IpAddr::V6));
            set.insert(match chosen {
                Some(address) => Policy::SourceNat(subnet.pool, address),
                None => Policy::Masquerade(subnet.pool),
            });
        }
        if network.kind.owns_bridge() {
            match mode {
                GatewayMode::Routed => drop(set.insert(Policy::Routed(bridge(), family))),
                GatewayMode::NatUnprotected => drop(set.insert(Policy::Unprotected(bridge(), family))),
                GatewayMode::Nat | GatewayMode::Isolated => {}
            }
            set.extend(options.trusted.iter().map(|link| Policy::TrustedLink(link.clone(), bridge())));
        }
    }
    set.extend(access::statements_of_network(network));
    set
}

/// The rules of `base` cover bridges with Pontoon's prefix; a bridge with a name chosen by the user needs its
/// own.
fn forward_rules(bridge: &IfName) -> BTreeSet<ForwardRule> {
    if bridge.has_prefix() {
        return BTreeSet::new();
    }
    let name = || LinkMatch::Name(bridge.clone());
    [ForwardRule::From(name()), ForwardRule::To(name())].into()
}
