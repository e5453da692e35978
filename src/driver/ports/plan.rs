//! Which ports an endpoint asks for: bindings that share a port are one group, with the addresses of each. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::datapath::ReserveError;
use crate::driver::Error;
use crate::model::{Binding, Endpoint, GatewayMode, HostPort, Network, Protocol, Published};

/// Bindings that share one host port: they differ in the host address only.
pub(super) struct Group {
    pub binding: Binding,
    /// Host addresses, each with the container address of its family.
    pub addresses: Vec<(IpAddr, IpAddr)>,
}

impl Group {
    pub fn port(&self, address: IpAddr, port: u16) -> HostPort {
        HostPort { protocol: self.binding.protocol, address, port }
    }

    pub fn publish(&self, addresses: &[(IpAddr, IpAddr)], port: u16) -> Vec<Published> {
        let one = |(host, container): &(IpAddr, IpAddr)| Published {
            host: self.port(*host, port),
            container: *container,
            container_port: self.binding.container_port,
        };
        addresses.iter().map(one).collect()
    }

    /// A host without IPv6 still publishes over IPv4, unless the user asked for IPv6.
    pub fn does_without(&self, error: &ReserveError) -> bool {
        let (ReserveError::NoAddress { port } | ReserveError::Refused { port, .. }) = error else { return false };
        port.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && self.binding.address.is_none()
    }

    /// Sort key: named ports are reserved before ranges, and ranges before ephemeral ports.
    fn freedom(&self) -> u8 {
        match self.binding.host_ports {
            Some((first, last)) if first == last => 0,
            Some(_) => 1,
            None => 2,
        }
    }
}

/// What an endpoint publishes now, by protocol and container port.
pub(super) struct Current {
    published: HashMap<(Protocol, u16), Vec<HostPort>>,
    /// First host ports that the user named, each with the last port of its range or of an earlier one.
    named: BTreeMap<(Protocol, u16), u16>,
}

impl Current {
    pub fn of(endpoint: &Endpoint) -> Self {
        let mut published: HashMap<_, Vec<_>> = HashMap::new();
        for one in &endpoint.published {
            published.entry((one.host.protocol, one.container_port)).or_default().push(one.host);
        }
        let mut named = BTreeMap::new();
        for binding in &endpoint.bindings {
            if let Some((first, last)) = binding.host_ports {
                let held = named.entry((binding.protocol, first)).or_insert(last);
                *held = last.max(*held);
            }
        }
        let mut furthest = (None, 0);
        for ((protocol, _), last) in &mut named {
            let before = if furthest.0 == Some(*protocol) { furthest.1 } else { 0 };
            *last = before.max(*last);
            furthest = (Some(*protocol), *last);
        }
        Self { published, named }
    }

    /// The port that this group already has on at least one of its addresses. A named port is not mistaken for
    /// an ephemeral one.
    pub fn port(&self, group: &Group) -> Option<u16> {
        let binding = &group.binding;
        let own = self.published.get(&(binding.protocol, binding.container_port))?;
        let fits = |port: &&HostPort| {
            binding.host_ports.map_or_else(|| !self.is_named(port), |(first, last)| (first..=last).contains(&port.port))
                && group.addresses.iter().any(|(host, _)| *host == port.address)
        };
        own.iter().find(fits).map(|port| port.port)
    }

    fn is_named(&self, port: &HostPort) -> bool {
        let mut before = self.named.range((port.protocol, 0)..=(port.protocol, port.port));
        before.next_back().is_some_and(|(_, last)| *last >= port.port)
    }
}

/// Whether the network's default host address is of a family that the container does not have, so that a
/// container which could publish ports publishes none.
fn publishes_nothing(network: &Network, endpoint: &Endpoint, host: IpAddr) -> bool {
    let options = &network.spec.options;
    let (other, mode) =
        if host.is_ipv4() { (endpoint.spec.v6, options.mode6) } else { (endpoint.spec.v4, options.mode4) };
    let translated = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
    translated && !network.spec.internal && other.is_some()
}

/// Groups bindings that share a port, and determines the addresses of each. Families without translation
/// (`routed`, `isolated`, internal networks) have none.
pub(super) fn groups(
    network: &Network,
    endpoint: &Endpoint,
    bindings: &[Binding],
    v6: bool,
) -> Result<Vec<Group>, Error> {
    let options = &network.spec.options;
    let translated = |mode| matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected) && !network.spec.internal;
    let four = endpoint.spec.v4.map(|net| net.ip()).filter(|_| translated(options.mode4));
    let six = endpoint.spec.v6.map(|net| net.ip()).filter(|_| translated(options.mode6) && v6);
    let (mut groups, mut indices) = (Vec::<Group>::new(), HashMap::new());
    for binding in bindings {
        let default = binding.address.is_none();
        let addresses: Vec<(IpAddr, IpAddr)> = match binding.address.or(options.host_binding) {
            None => [(IpAddr::V4(Ipv4Addr::UNSPECIFIED), four), (IpAddr::V6(Ipv6Addr::UNSPECIFIED), six)]
                .into_iter()
                .filter_map(|(host, container)| Some((host, container?)))
                .collect(),
            Some(host) => {
                let (container, address) =
                    if host.is_ipv4() { (four, endpoint.spec.v4) } else { (six, endpoint.spec.v6) };
                if address.is_none() && (!default || publishes_nothing(network, endpoint, host)) {
                    return Err(Error::NoFamily { address: host, network: network.spec.id.clone() });
                }
                container.map(|container| (host, container)).into_iter().collect()
            }
        };
        if addresses.is_empty() {
            continue;
        }
        let new = groups.len();
        let at = *indices.entry((binding.protocol, binding.container_port, binding.host_ports)).or_insert(new);
        match groups.get_mut(at) {
            Some(group) => {
                for pair in addresses {
                    if !group.addresses.contains(&pair) {
                        group.addresses.push(pair);
                    }
                }
            }
            None => groups.push(Group { binding: binding.clone(), addresses }),
        }
    }
    groups.sort_by_key(Group::freedom);
    Ok(groups)
}
