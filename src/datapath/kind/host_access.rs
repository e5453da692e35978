//! The link by which the host and the containers on a parent reach each other (`pontoon.host`): where it is possible, and
//! what it needs of the kernel.
//!
//! A macvlan host link has the addresses of the parent. An ipvlan host link cannot have them, because the kernel gives all
//! packets for an address of a child to that child, so that the parent would lose them. In mode l2 it therefore needs an
//! address of its own; in l3 and l3s the containers' packets to the host's addresses are routed to the host.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Refusal;
use crate::datapath::object::{self, HostChild};
use crate::datapath::{Datapath, LinkProperty, Policy, Station};
use crate::model::host_access::{HostAccess, HostAddresses, HostLink, IpvlanHostLink};
use crate::model::kind::{IpvlanFlag, IpvlanMode, MacvlanMode};
use crate::model::{Endpoint, EndpointSpec, IfName, LinkRole, Mac, Network, NetworkKind, NetworkSpec, options};

/// The host link of a macvlan network, if it has one. Its hardware address differs from those that other hosts derive for
/// a parent of this name, and stays the same when the link is created again.
pub(super) fn of_macvlan(
    spec: &NetworkSpec,
    mode: MacvlanMode,
    parent: &IfName,
    mac: Option<Mac>,
) -> Result<Option<HostLink>, Refusal> {
    let access = spec.options.kind.host;
    match (access, mode) {
        (HostAccess::No, _) => Ok(None),
        (HostAccess::Auto | HostAccess::Yes, MacvlanMode::Bridge) => {
            let id = format!("{parent} {}", mac.map(|mac| mac.to_string()).unwrap_or_default());
            // Not by the readable name: those of eth0.40 and eth04.0 are equal.
            let link = IfName::derive(LinkRole::HostLink, parent.as_str(), 1);
            Ok(Some(HostLink { link, mac: Mac::derive("host_link", &id) }))
        }
        (HostAccess::Auto, _) => Ok(None),
        (HostAccess::At(_), MacvlanMode::Bridge) => Err(refusal(
            spec,
            format!(
                "{}={access} spends an address that macvlan does not need: use {}=true",
                options::HOST,
                options::HOST
            ),
        )),
        (HostAccess::Yes | HostAccess::At(_), _) => Err(refusal(
            spec,
            format!(
                "{}={access} is not possible with macvlan_mode={mode}, in which containers reach no other child of \
                 {parent}: remove it, or use macvlan_mode=bridge",
                options::HOST
            ),
        )),
    }
}

/// The host link of an ipvlan network, if it has one.
pub(super) fn of_ipvlan(
    spec: &NetworkSpec,
    mode: IpvlanMode,
    flag: IpvlanFlag,
) -> Result<Option<IpvlanHostLink>, Refusal> {
    let access = spec.options.kind.host;
    // All hosts derive the same name; a digest, so that it never equals that of a parent's host link.
    let link = || IfName::derive(LinkRole::HostLink, spec.id.as_str(), 1);
    match (access, mode, flag) {
        (HostAccess::No, _, _) => Ok(None),
        (HostAccess::Auto, IpvlanMode::L2, _) => Ok(None),
        (HostAccess::Auto, _, IpvlanFlag::Private | IpvlanFlag::Vepa) => Ok(None),
        (_, _, IpvlanFlag::Private | IpvlanFlag::Vepa) => Err(refusal(
            spec,
            format!(
                "{}={access} is not possible with ipvlan_flag={flag}, with which containers reach no other child of \
                 their parent: remove it, or use ipvlan_flag=bridge",
                options::HOST
            ),
        )),
        (HostAccess::Yes, IpvlanMode::L2, _) => Err(refusal(
            spec,
            format!(
                "{}=true is not possible with ipvlan_mode=l2, where the host needs an address of its own on the \
                 network: use {}=ADDRESS with a free address of the subnet, or macvlan_mode=bridge",
                options::HOST,
                options::HOST
            ),
        )),
        (HostAccess::At(addresses), _, _) => {
            check_addresses(spec, &addresses)?;
            Ok(Some(IpvlanHostLink { link: link(), addresses: Some(addresses) }))
        }
        (HostAccess::Auto | HostAccess::Yes, IpvlanMode::L3 | IpvlanMode::L3s, _) => {
            Ok(Some(IpvlanHostLink { link: link(), addresses: None }))
        }
    }
}

/// Refuses addresses that are not in the network, or that another has.
fn check_addresses(spec: &NetworkSpec, addresses: &HostAddresses) -> Result<(), Refusal> {
    let wrong = |address: IpAddr, why: String| {
        refusal(
            spec,
            format!(
                "{}={address} {why}: choose a free address of the subnet, and keep it with --aux-address host={address}",
                options::HOST
            ),
        )
    };
    for address in addresses.iter() {
        let Some(subnet) = spec.subnets().find(|subnet| subnet.pool.contains(address)) else {
            return Err(wrong(address, "is in no subnet of the network".to_owned()));
        };
        let common = match subnet.pool {
            IpNetwork::V4(net) if net.prefix() < 31 => address == net.network() || address == net.broadcast(),
            IpNetwork::V4(_) => false,
            IpNetwork::V6(net) => address == net.network(),
        };
        if common {
            return Err(wrong(address, format!("is an address of the subnet {} itself", subnet.pool)));
        }
        if [subnet.gateway, subnet.default_gateway].contains(&Some(address)) {
            return Err(wrong(address, "is the gateway of the network".to_owned()));
        }
    }
    Ok(())
}

/// The host link, if the network has one.
pub(super) fn network(network: &Network) -> Datapath {
    let child = match &network.kind {
        NetworkKind::Macvlan { host: Some(host), .. } => HostChild::Macvlan { mac: host.mac, addressed: true },
        NetworkKind::Ipvlan { host: Some(_), mode, .. } => {
            let single = |address: IpAddr| IpNetwork::from(address);
            HostChild::Ipvlan { mode: *mode, addresses: network.kind.host_addresses().map(single).collect() }
        }
        _ => return Datapath::empty(),
    };
    let (Some(link), Some(parent)) = (network.kind.host_link(), network.kind.parent()) else {
        return Datapath::empty();
    };
    let object = object::HostLink { parent: parent.clone(), child, quiet: true, up: true };
    Datapath {
        objects: [(link.clone(), object.into())].into(),
        // To the firewall it is like the bridge of a network.
        policy: Some(
            [
                Policy::Link(LinkProperty::ProtectedBridge, link.clone()),
                Policy::Link(LinkProperty::ContainerBridge, link.clone()),
            ]
            .into(),
        ),
        forwarding: super::forwarding(&network.spec),
        ..Datapath::empty()
    }
}

/// Adds to the links of an endpoint what lets the host reach it, and its published ports.
pub(super) fn endpoint(network: &Network, endpoint: &Endpoint, mut needs: Datapath) -> Datapath {
    let Some(link) = network.kind.host_link() else { return needs };
    // Ipvlan children share one hardware address, which is no secret of the host link.
    let mac = endpoint.attachment.has_mac().then_some(endpoint.mac);
    let station = |address| Station { link: link.clone(), address, mac };
    needs.stations = endpoint.spec.addresses().filter(|address| !address.is_unspecified()).map(station).collect();
    let mut policy = super::bridge::reach(network, endpoint);
    // A container sends neighbour discovery from its link-local address too. That of an ipvlan link is not known.
    let link_local = mac.map(|mac| IpAddr::V6(mac.link_local()));
    policy.extend(endpoint.spec.addresses().chain(link_local).map(Policy::Station));
    needs.policy = Some(policy);
    needs
}

/// Refuses an endpoint with an address of the host.
pub(super) fn check_endpoint(network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
    match network.kind.host_addresses().find(|own| endpoint.addresses().any(|address| address == *own)) {
        None => Ok(()),
        Some(address) => Err(Refusal(format!(
            "endpoint {}: {address} is the address of this host on network {} ({}): choose another, and create the \
             network with --aux-address host={address}, so that no container gets it",
            endpoint.id,
            network.spec.id,
            options::HOST
        ))),
    }
}

/// Refuses published ports where the host does not reach the containers, or has no address for the answers.
pub(super) fn check_published(network: &Network) -> Result<(), Refusal> {
    let remedy = match &network.kind {
        NetworkKind::Macvlan { host: Some(_), .. } => return Ok(()),
        NetworkKind::Ipvlan { host: Some(IpvlanHostLink { addresses: Some(_), .. }), .. } => return Ok(()),
        NetworkKind::Macvlan { mode: MacvlanMode::Bridge, .. } => {
            format!("create the network with -o {}=true", options::HOST)
        }
        NetworkKind::Ipvlan { flag: IpvlanFlag::Bridge, .. } => {
            format!("create the network with -o {}=ADDRESS, a free address of its subnet", options::HOST)
        }
        _ => "connect the container to a bridge network as well".to_owned(),
    };
    let word = network.kind.word();
    Err(Refusal(format!(
        "network {} is {} network {}, so it publishes no ports: its containers are reached at their own addresses on {}; \
         remove -p, or {remedy}",
        network.spec.id,
        super::parent::with_article(word),
        match network.kind.host_link() {
            Some(_) => "on which its host has no address",
            None => "that its host does not reach",
        },
        network.kind.link()
    )))
}

fn refusal(spec: &NetworkSpec, text: String) -> Refusal {
    Refusal(format!("network {}: {text}", spec.id))
}
