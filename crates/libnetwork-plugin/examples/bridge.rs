//! A network driver: one Linux bridge a network, one veth pair an endpoint.
//!
//! Run it as root, then `docker network create -d bridge-example net`, and run containers in it.
//! It runs the commands `ip` and `iptables`, because it is an example: a driver for daily use should
//! speak netlink, and have a gateway, a firewall and published ports.

use std::process::Command;
use std::sync::Arc;

use libnetwork_plugin::network::{
    CreateEndpointRequest, CreateNetworkRequest, EndpointRequest, IpamData, JoinRequest, NetworkRequest,
};
use libnetwork_plugin::{InterfaceAnswer, JoinAnswer, NetworkDriver, PluginSocket, Refusal, Server};

struct Bridge;

/// The name of a link, derived from an id: equal in every call, so nothing has to be stored.
fn link(kind: &str, id: &str) -> String {
    format!("{kind}{id:.11}")
}

fn run(command: &str) -> Result<(), Refusal> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    // Idempotent: an existing link counts as created, and a missing one as deleted.
    let is_done = ["File exists", "Cannot find device"].iter().any(|already| complaint.contains(already));
    if output.status.success() || is_done { Ok(()) } else { Err(Refusal::new(format!("{command}: {complaint}"))) }
}

/// The engine's firewall drops frames between ports of an unknown bridge: accept them.
fn accept(bridge: &str, action: &str) -> Result<(), Refusal> {
    run(&format!("iptables --wait {action} DOCKER-USER -i {bridge} -o {bridge} -j ACCEPT"))
}

impl NetworkDriver for Bridge {
    fn create_network(&self, request: CreateNetworkRequest) -> Result<(), Refusal> {
        let bridge = link("exb", &request.network_id);
        run(&format!("ip link add {bridge} type bridge"))?;
        for IpamData { gateway, .. } in request.ipv4_data.iter().filter(|data| !data.gateway.is_empty()) {
            run(&format!("ip address add {gateway} dev {bridge}"))?;
        }
        run(&format!("ip link set {bridge} up"))?;
        accept(&bridge, "--check").or_else(|_| accept(&bridge, "--insert"))
    }

    fn delete_network(&self, request: NetworkRequest) -> Result<(), Refusal> {
        let bridge = link("exb", &request.network_id);
        // Fails if it does not exist.
        let _ = accept(&bridge, "--delete");
        run(&format!("ip link delete {bridge}"))
    }

    fn create_endpoint(&self, request: CreateEndpointRequest) -> Result<InterfaceAnswer, Refusal> {
        let (host, peer) = (link("exh", &request.endpoint_id), link("exc", &request.endpoint_id));
        run(&format!("ip link add {host} type veth peer name {peer}"))?;
        run(&format!("ip link set {host} master {} up", link("exb", &request.network_id)))?;
        Ok(InterfaceAnswer::default())
    }

    fn delete_endpoint(&self, request: EndpointRequest) -> Result<(), Refusal> {
        run(&format!("ip link delete {}", link("exh", &request.endpoint_id)))
    }

    fn join(&self, request: JoinRequest) -> Result<JoinAnswer, Refusal> {
        let answer = JoinAnswer::link(&link("exc", &request.endpoint_id), "eth")?;
        // A driver that routes would store the gateway of CreateNetwork; this one only connects neighbours.
        Ok(answer.disable_gateway_service())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = PluginSocket::for_plugin("bridge-example")?;
    Ok(Server::new().network(Arc::new(Bridge)).run(socket)?)
}
