//! Host ports: which endpoint has each, and their reservation in the kernel, which detects conflicts with other
//! processes. All or nothing: after a failure nothing is reserved.

mod plan;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use self::plan::{Current, Group, groups};
use super::Error;
use crate::datapath::{Kernel, Protected, ReserveError};
use crate::model::{Binding, Endpoint, EndpointId, HostPort, Network, NetworkId, Published};
use crate::state::ports::{PortOwner, Ports};
use crate::state::table::lock;

/// How many ephemeral ports are tried before giving up; each costs two system calls.
const ATTEMPTS: usize = 1024;

/// Placeholder for unknown ids in messages about ports.
const UNKNOWN: &str = "unknown";

/// See the module documentation.
pub(super) struct HostPorts {
    register: Mutex<Register>,
    kernel: Arc<dyn Kernel>,
}

#[derive(Default)]
struct Register {
    ports: Ports,
    /// Ports that containers unknown to the ledger use; reserved for them.
    unknown: Vec<HostPort>,
}

/// Published ports that could not be reserved again because of the limit of open files.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    ports: usize,
    limit: u64,
}

impl HostPorts {
    pub fn new(kernel: Arc<dyn Kernel>) -> Self {
        Self { register: Mutex::default(), kernel }
    }

    /// Reserves host ports for `bindings`. Ports that the endpoint already has are kept: a repeated request gets
    /// the same ephemeral ports.
    ///
    /// `v6` is false when another endpoint of the container is its gateway for IPv6.
    pub fn reserve(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        bindings: &[Binding],
        v6: bool,
    ) -> Result<Vec<Published>, Error> {
        let mut published = Vec::new();
        // Two bindings of one request must not share a port either.
        let mut used = Ports::default();
        let (groups, current) = (groups(network, endpoint, bindings, v6)?, Current::of(endpoint));
        let asked = groups.iter().map(|group| group.addresses.len()).sum();
        for group in groups {
            match self.reserve_group(endpoint, &group, &current, &mut used) {
                Ok(ports) => published.extend(ports),
                Err(error) => {
                    let kept: BTreeSet<_> = endpoint.published.iter().collect();
                    let new: Vec<_> = published.iter().filter(|p| !kept.contains(p)).copied().collect();
                    self.release(&new);
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
    pub fn release(&self, published: &[Published]) {
        if published.is_empty() {
            return;
        }
        let ports: Vec<HostPort> = published.iter().map(|p| p.host).collect();
        let mut register = lock(&self.register);
        self.kernel.release(&ports);
        for port in &ports {
            register.ports.give_back(port);
        }
    }

    /// Reserves the first port that is free on all addresses of the group, and records it in `used`.
    fn reserve_group(
        &self,
        endpoint: &Endpoint,
        group: &Group,
        current: &Current,
        used: &mut Ports,
    ) -> Result<Vec<Published>, Error> {
        let owner = owner(endpoint);
        let register = &mut lock(&self.register).ports;
        let mut addresses = group.addresses.clone();
        // The endpoint keeps a port that it has, also when a family is added or removed.
        let own = current.port(group);
        let others: Box<dyn Iterator<Item = u16>> = match group.binding.host_ports {
            Some((first, last)) => Box::new(first..=last),
            None => {
                let kernel = |source| Error::Kernel { object: format!("endpoint {}", endpoint.spec.id), source };
                let (range, reserved) = self.kernel.ephemeral_ports().map_err(kernel)?;
                Box::new(register.candidates(range, reserved).take(ATTEMPTS))
            }
        };
        let mut first_error = None;
        for port in own.into_iter().chain(others) {
            // Another endpoint of the same container already publishes this address.
            addresses.retain(|(host, _)| {
                let holder = register.holder(&group.port(*host, port));
                !holder.is_some_and(|h| {
                    !owner.sandbox.is_empty() && h.sandbox == owner.sandbox && h.endpoint != owner.endpoint
                })
            });
            let error = loop {
                let ports: Vec<HostPort> = addresses.iter().map(|(host, _)| group.port(*host, port)).collect();
                let foreign = |p: &HostPort| register.holder(p).filter(|h| h.endpoint != owner.endpoint);
                let holder = |p: &HostPort| Some((*p, used.holder(p).or_else(|| foreign(p))?.clone()));
                if let Some((port, holder)) = ports.iter().find_map(holder) {
                    break Error::PortHeld { port, network: holder.network, endpoint: holder.endpoint };
                }
                match self.kernel.reserve(&ports) {
                    Ok(()) => {
                        for port in &ports {
                            register.take(port, &owner);
                            used.take(port, &owner);
                        }
                        if group.binding.host_ports.is_none() {
                            register.gave(port);
                        }
                        return Ok(group.publish(&addresses, port));
                    }
                    Err(source @ ReserveError::Taken { .. }) => break Error::Port { source },
                    Err(source) if group.does_without(&source) && addresses.iter().any(|(host, _)| host.is_ipv4()) => {
                        addresses.retain(|(host, _)| host.is_ipv4());
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
    pub fn restore(&self, endpoint: &Endpoint, shortage: &mut Shortage) {
        let mut register = lock(&self.register);
        for published in &endpoint.published {
            match self.kernel.reserve(&[published.host]) {
                Ok(()) => {}
                Err(ReserveError::NoDescriptor { limit, .. }) => {
                    *shortage = Shortage { ports: shortage.ports + 1, limit };
                }
                Err(error) => {
                    tracing::error!(%error, endpoint = %endpoint.spec.id, "cannot reserve a published port again");
                }
            }
            register.ports.take(&published.host, &owner(endpoint));
        }
    }

    /// Reserves the ports of containers that the ledger does not know.
    pub fn reserve_unknown(&self, kept: &Protected) {
        let (Ok(network), Ok(endpoint)) = (NetworkId::parse(UNKNOWN), EndpointId::parse(UNKNOWN)) else { return };
        let owner = PortOwner { network, endpoint, sandbox: String::new() };
        let Register { ports, unknown } = &mut *lock(&self.register);
        for port in kept.ports() {
            if ports.holder(&port).is_some() {
                continue;
            }
            if let Err(error) = self.kernel.reserve(&[port]) {
                tracing::warn!(%error, "cannot reserve the port of a container that the ledger does not know");
            }
            ports.take(&port, &owner);
            unknown.push(port);
        }
    }

    /// Whether ports are reserved for containers that the ledger does not know.
    pub fn has_unknown(&self) -> bool {
        !lock(&self.register).unknown.is_empty()
    }

    /// Releases the ports of containers that the ledger does not know, once those are gone.
    pub fn release_unknown(&self, kept: &Protected) {
        let Register { ports, unknown } = &mut *lock(&self.register);
        let is_kept = |port: &HostPort| kept.ports().any(|other| other == *port);
        let (stay, gone): (Vec<_>, Vec<_>) = unknown.drain(..).partition(is_kept);
        *unknown = stay;
        self.kernel.release(&gone);
        gone.iter().for_each(|port| ports.give_back(port));
    }

    /// Of these ports, those that cannot be reserved, each with the reason. Ports that this process holds count as
    /// reserved.
    pub fn unreserved(&self, ports: impl Iterator<Item = HostPort>) -> Vec<(HostPort, String)> {
        ports.filter_map(|port| Some((port, self.kernel.reserve(&[port]).err()?.to_string()))).collect()
    }
}

impl Shortage {
    pub fn log(self) {
        let Self { ports, limit } = self;
        if ports > 0 {
            tracing::error!(
                ports,
                limit,
                "published ports are not reserved on the host, but work: the limit of open files is too low"
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
