//! Lists the published ports for the operator: the engine cannot show them for a remote driver (protocol.md
//! 8.1).

use serde::{Deserialize, Serialize};

use crate::driver::Driver;
use crate::model::{Binding, GatewayMode, HostPort};
use crate::state::table::Held;

/// One published port, as `GET /ports` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// The network's id.
    pub network: String,
    /// The endpoint's id.
    pub endpoint: String,
    /// Where it is reached: a host address, or in mode `routed` that of the container.
    pub at: HostPort,
    /// The container's address.
    pub container: std::net::IpAddr,
    /// The container's port.
    pub container_port: u16,
    /// Whether Pontoon chose the port, as opposed to the user.
    pub ephemeral: bool,
}

/// All published ports, sorted by network, endpoint and port. Waits for verbs under way, one network at a
/// time.
pub fn of_daemon(driver: &Driver) -> Vec<PortStatus> {
    let mut lines: Vec<_> = driver.networks().iter().flat_map(of_network).collect();
    lines.sort_by(|a, b| (&a.network, &a.endpoint, a.at).cmp(&(&b.network, &b.endpoint, b.at)));
    lines.dedup();
    lines
}

fn of_network(held: &Held) -> Vec<PortStatus> {
    let mut lines = Vec::new();
    for endpoint in held.endpoints.values() {
        let line = |at: HostPort, container, container_port, ephemeral| PortStatus {
            network: held.network.spec.id.as_str().to_owned(),
            endpoint: endpoint.spec.id.as_str().to_owned(),
            at,
            container,
            container_port,
            ephemeral,
        };
        for p in &endpoint.published {
            let named = |b: &Binding| {
                b.protocol == p.host.protocol
                    && b.container_port == p.container_port
                    && b.host_ports.is_some_and(|(first, last)| (first..=last).contains(&p.host.port))
            };
            let ephemeral = !endpoint.bindings.iter().any(named);
            lines.push(line(p.host, p.container, p.container_port, ephemeral));
        }
        let options = &held.network.spec.options;
        for (net, mode) in [(endpoint.spec.v4, options.mode4), (endpoint.spec.v6, options.mode6)] {
            let Some(address) = net.map(|net| net.ip()).filter(|_| mode == GatewayMode::Routed) else {
                continue;
            };
            for b in &endpoint.bindings {
                let at = HostPort { protocol: b.protocol, address, port: b.container_port };
                lines.push(line(at, address, b.container_port, false));
            }
        }
    }
    lines
}
