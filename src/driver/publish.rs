//! Turns bindings into published ports: chooses addresses and ports, and reserves them on the host. All or
//! nothing: after a failure nothing is reserved.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Driver, Error};
use crate::api::network::key;
use crate::api::options::Options;
use crate::datapath::ReserveError;
use crate::model::{Binding, Endpoint, GatewayMode, HostPort, Network, Protocol, Published};
use crate::state::ports::{PortOwner, Ports};
use crate::state::table::lock;

/// How many ephemeral ports are tried before giving up; each costs two system calls.
const ATTEMPTS: usize = 1024;

/// Bindings that share one host port: they differ in the host address only.
struct Group {
    binding: Binding,
    /// Host addresses, each with the container address of its family.
    ways: Vec<(IpAddr, IpAddr)>,
}

impl Group {
    fn port(&self, address: IpAddr, port: u16) -> HostPort {
        HostPort { protocol: self.binding.protocol, address, port }
    }

    fn publish(&self, ways: &[(IpAddr, IpAddr)], port: u16) -> Vec<Published> {
        let one = |(host, container): &(IpAddr, IpAddr)| Published {
            host: self.port(*host, port),
            container: *container,
            container_port: self.binding.container_port,
        };
        ways.iter().map(one).collect()
    }

    /// A host without IPv6 still publishes over IPv4, unless the user asked for IPv6.
    fn does_without(&self, error: &ReserveError) -> bool {
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

/// Parses the port map of a request. An unreadable list is refused: publishing half of it would be worse than
/// publishing none.
pub(super) fn bindings(options: &Options) -> Result<Vec<Binding>, Error> {
    let unreadable = |what: String| Error::PortMap { what };
    let list = options.ports(key::PORT_MAP).map_err(unreadable)?;
    let mut bindings = Vec::with_capacity(list.len());
    for given in list {
        let protocol = Protocol::from_number(given.proto)
            .ok_or_else(|| unreadable(format!("protocol {}: only TCP, UDP and SCTP have ports", given.proto)))?;
        let address = match given.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| unreadable(format!("{text:?} is not a host address")))?),
        };
        let last = given.host_port_end.max(given.host_port);
        let host_ports = (given.host_port != 0).then_some((given.host_port, last));
        if given.port == 0 {
            return Err(unreadable("container port 0".to_owned()));
        }
        bindings.push(Binding { protocol, container_port: given.port, address, host_ports });
    }
    // The order is not stable from one request to the next (protocol.md 2.5).
    bindings.sort();
    bindings.dedup();
    Ok(bindings)
}

impl Driver {
    /// Reserves host ports for `bindings`. Ports that the endpoint already has are kept: a repeated request gets
    /// the same ephemeral ports.
    ///
    /// `v6` is false when another endpoint of the container is its gateway for IPv6.
    pub(super) fn take_ports(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        bindings: &[Binding],
        v6: bool,
    ) -> Result<Vec<Published>, Error> {
        let mut published = Vec::new();
        // Two bindings of one request must not share a port either.
        let mut used = Ports::default();
        let (groups, held) = (groups(network, endpoint, bindings, v6)?, Before::of(endpoint));
        let asked = groups.iter().map(|group| group.ways.len()).sum();
        for group in groups {
            match self.take_group(endpoint, &group, &held, &mut used) {
                Ok(ports) => published.extend(ports),
                Err(error) => {
                    let kept: BTreeSet<_> = endpoint.published.iter().collect();
                    let new: Vec<_> = published.iter().filter(|p| !kept.contains(p)).copied().collect();
                    self.give_ports_back(&new);
                    return Err(match error {
                        Error::Port { source: ReserveError::NoDescriptor { limit, .. } } => {
                            Error::Descriptors { asked, limit }
                        }
                        error => error,
                    });
                }
            }
        }
        Ok(published)
    }

    /// Releases host ports, in the kernel and in the register.
    pub(super) fn give_ports_back(&self, published: &[Published]) {
        if published.is_empty() {
            return;
        }
        let ports: Vec<HostPort> = published.iter().map(|p| p.host).collect();
        let mut register = lock(&self.ports);
        self.kernel().release(&ports);
        for port in &ports {
            register.give_back(port);
        }
    }

    /// Reserves the first port that is free on all addresses of the group, and records it in `used`.
    fn take_group(
        &self,
        endpoint: &Endpoint,
        group: &Group,
        held: &Before,
        used: &mut Ports,
    ) -> Result<Vec<Published>, Error> {
        let owner = owner(endpoint);
        let mut register = lock(&self.ports);
        let mut ways = group.ways.clone();
        // The endpoint keeps a port that it has, also when a family is added or removed.
        let own = held.port(group);
        let others: Box<dyn Iterator<Item = u16>> = match group.binding.host_ports {
            Some((first, last)) => Box::new(first..=last),
            None => {
                let kernel = |source| Error::Kernel { object: format!("endpoint {}", endpoint.spec.id), source };
                let (range, reserved) = self.kernel().ephemeral_ports().map_err(kernel)?;
                Box::new(register.candidates(range, reserved).take(ATTEMPTS))
            }
        };
        let mut first_error = None;
        for port in own.into_iter().chain(others) {
            // Another endpoint of the same container already publishes this address.
            ways.retain(|(host, _)| {
                let holder = register.holder(&group.port(*host, port));
                !holder.is_some_and(|h| {
                    !owner.sandbox.is_empty() && h.sandbox == owner.sandbox && h.endpoint != owner.endpoint
                })
            });
            let error = loop {
                let ports: Vec<HostPort> = ways.iter().map(|(host, _)| group.port(*host, port)).collect();
                let foreign = |p: &HostPort| register.holder(p).filter(|h| h.endpoint != owner.endpoint);
                let holder = |p: &HostPort| Some((*p, used.holder(p).or_else(|| foreign(p))?.clone()));
                if let Some((port, holder)) = ports.iter().find_map(holder) {
                    break Error::PortHeld { port, network: holder.network, endpoint: holder.endpoint };
                }
                match self.kernel().reserve(&ports) {
                    Ok(()) => {
                        for port in &ports {
                            register.take(port, &owner);
                            used.take(port, &owner);
                        }
                        if group.binding.host_ports.is_none() {
                            register.gave(port);
                        }
                        return Ok(group.publish(&ways, port));
                    }
                    Err(source @ ReserveError::Taken { .. }) => break Error::Port { source },
                    Err(source) if group.does_without(&source) && ways.iter().any(|(host, _)| host.is_ipv4()) => {
                        ways.retain(|(host, _)| host.is_ipv4());
                    }
                    Err(source) => return Err(Error::Port { source }),
                }
            };
            first_error.get_or_insert(error);
        }
        Err(match (group.binding.host_ports, first_error) {
            (Some((first, last)), Some(_)) if first != last => {
                Error::RangeFull { first, last, protocol: group.binding.protocol }
            }
            (_, Some(error)) => error,
            (_, None) => Error::RangeFull { first: 0, last: 0, protocol: group.binding.protocol },
        })
    }

    /// After a restart, reserves again the ports that the ledger lists as published. A port that another process
    /// took meanwhile stays published: its rules are active and containers rely on it.
    pub(super) fn retake_ports(&self) {
        let (mut without, mut most) = (0_usize, 0);
        for id in self.table.ids() {
            let Some(slot) = self.table.find(&id) else { continue };
            let place = lock(&slot);
            let Some(held) = place.as_ref() else { continue };
            for endpoint in held.endpoints.values().filter(|e| !e.published.is_empty()) {
                let mut register = lock(&self.ports);
                for published in &endpoint.published {
                    match self.kernel().reserve(&[published.host]) {
                        Ok(()) => {}
                        Err(ReserveError::NoDescriptor { limit, .. }) => {
                            (without, most) = (without + 1, limit);
                        }
                        Err(error) => {
                            tracing::error!(%error, endpoint = %endpoint.spec.id, "a published port could not be reserved again");
                        }
                    }
                    register.take(&published.host, &owner(endpoint));
                }
            }
        }
        if without > 0 {
            tracing::error!(
                ports = without,
                limit = most,
                "these published ports work, but are not reserved on the host: the limit of open files is too low"
            );
        }
    }
}

fn owner(endpoint: &Endpoint) -> PortOwner {
    PortOwner {
        network: endpoint.spec.network.clone(),
        endpoint: endpoint.spec.id.clone(),
        sandbox: endpoint.sandbox.clone(),
    }
}

/// What an endpoint publishes now, by protocol and container port.
struct Before {
    published: HashMap<(Protocol, u16), Vec<HostPort>>,
    /// First host ports that the user named, each with the last port of its range or of an earlier one.
    named: BTreeMap<(Protocol, u16), u16>,
}

impl Before {
    fn of(endpoint: &Endpoint) -> Self {
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
    fn port(&self, group: &Group) -> Option<u16> {
        let binding = &group.binding;
        let own = self.published.get(&(binding.protocol, binding.container_port))?;
        let fits = |port: &&HostPort| {
            binding.host_ports.map_or_else(|| !self.is_named(port), |(first, last)| (first..=last).contains(&port.port))
                && group.ways.iter().any(|(host, _)| *host == port.address)
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
fn groups(network: &Network, endpoint: &Endpoint, bindings: &[Binding], v6: bool) -> Result<Vec<Group>, Error> {
    let options = &network.spec.options;
    let translated = |mode| matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected) && !network.spec.internal;
    let four = endpoint.spec.v4.map(|net| net.ip()).filter(|_| translated(options.mode4));
    let six = endpoint.spec.v6.map(|net| net.ip()).filter(|_| translated(options.mode6) && v6);
    let (mut groups, mut places) = (Vec::<Group>::new(), HashMap::new());
    for binding in bindings {
        let default = binding.address.is_none();
        let ways: Vec<(IpAddr, IpAddr)> = match binding.address.or(options.host_binding) {
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
        if ways.is_empty() {
            continue;
        }
        let new = groups.len();
        let at = *places.entry((binding.protocol, binding.container_port, binding.host_ports)).or_insert(new);
        match groups.get_mut(at) {
            Some(group) => {
                for way in ways {
                    if !group.ways.contains(&way) {
                        group.ways.push(way);
                    }
                }
            }
            None => groups.push(Group { binding: binding.clone(), ways }),
        }
    }
    groups.sort_by_key(Group::freedom);
    Ok(groups)
}
