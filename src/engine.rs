//! Reads from the engine which networks and endpoints it knows, for operator commands. Only when the operator
//! names the engine's socket, and never within a request of the engine.
//!
//! An answer with a missing field is an error, because removals may depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::client::{Client, ClientError};

/// The engine's socket by default.
pub const SOCKET: &str = "/var/run/docker.sock";

/// A network as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineNetwork {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its IPAM driver.
    pub ipam: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// Its subnets.
    pub subnets: Vec<IpNetwork>,
}

/// A service of the Swarm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineService {
    /// Its name.
    pub name: String,
    /// Whether its name resolves to a virtual address.
    pub vip: bool,
    /// Ids or names of its networks.
    pub networks: Vec<String>,
}

/// The state of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Engine {
    /// Networks by id.
    pub networks: BTreeMap<String, EngineNetwork>,
    /// Ids of the endpoints of containers, running or not, and of everything else attached to the requested
    /// networks.
    pub endpoints: BTreeSet<String>,
    /// `inactive` when the host is in no Swarm.
    pub swarm: String,
    /// Services, if this host is a manager.
    pub services: Option<Vec<EngineService>>,
}

/// Why the engine's answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It did not answer, or with an error.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A field is missing in its answer.
    #[error("{socket}: the engine's answer to {path} lacks {what}")]
    Partial {
        /// The socket.
        socket: String,
        /// The requested path.
        path: String,
        /// The missing field.
        what: &'static str,
    },
}

impl Engine {
    /// Queries the engine, including the attached endpoints of each network in `held` that it knows.
    ///
    /// # Errors
    /// A request failed.
    pub fn ask(socket: &Path, held: &BTreeSet<String>) -> Result<Self, EngineError> {
        let client = Client::new(socket, "docker")?;
        let partial = |path: &str, what| EngineError::Partial {
            socket: socket.display().to_string(),
            path: path.to_owned(),
            what,
        };
        let info: Value = client.get("/info")?;
        let swarm = info["Swarm"]["LocalNodeState"].as_str().ok_or_else(|| partial("/info", "Swarm.LocalNodeState"))?;
        let mut engine = Engine { swarm: swarm.to_owned(), ..Engine::default() };
        if info["Swarm"]["ControlAvailable"] == true {
            let services: Vec<Value> = client.get("/services")?;
            engine.services = Some(services.iter().filter_map(read_service).collect());
        }
        for network in client.get::<Vec<Value>>("/networks")? {
            let id = network["Id"].as_str().filter(|id| !id.is_empty());
            let id = id.ok_or_else(|| partial("/networks", "an Id"))?;
            let read = read_network(&network).ok_or_else(|| partial("/networks", "Driver, Scope or IPAM"))?;
            engine.networks.insert(id.to_owned(), read);
        }
        for container in client.get::<Vec<Value>>("/containers/json?all=1")? {
            let networks = container["NetworkSettings"]["Networks"].as_object();
            let networks = networks.ok_or_else(|| partial("/containers/json", "NetworkSettings.Networks"))?;
            engine.endpoints.extend(networks.values().filter_map(|n| n["EndpointID"].as_str()).map(str::to_owned));
        }
        let attached: Vec<String> = held.iter().filter(|id| engine.networks.contains_key(*id)).cloned().collect();
        for id in attached {
            let path = format!("/networks/{id}");
            match client.get::<Value>(&path) {
                Ok(network) => {
                    let members = network["Containers"].as_object();
                    let members = members.ok_or_else(|| partial(&path, "Containers"))?;
                    engine
                        .endpoints
                        .extend(members.values().filter_map(|m| m["EndpointID"].as_str()).map(str::to_owned));
                }
                // Removed meanwhile: the second comparison will show it.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(engine)
    }
}

/// The name resolution of a service; a service with missing fields is left out, because no removal depends on
/// it.
fn read_service(service: &Value) -> Option<EngineService> {
    let spec = &service["Spec"];
    let lists = [&spec["TaskTemplate"]["Networks"], &spec["Networks"]];
    let networks = lists.into_iter().filter_map(Value::as_array).flatten();
    Some(EngineService {
        name: spec["Name"].as_str()?.to_owned(),
        vip: spec["EndpointSpec"]["Mode"].as_str().unwrap_or("vip") == "vip",
        networks: networks.filter_map(|network| network["Target"].as_str()).map(str::to_owned).collect(),
    })
}

fn read_network(network: &Value) -> Option<EngineNetwork> {
    let text = |key: &str| network[key].as_str().map(str::to_owned);
    let ipam = network["IPAM"].as_object()?;
    let config = ipam.get("Config").and_then(Value::as_array).cloned().unwrap_or_default();
    let subnets: Option<Vec<IpNetwork>> = config
        .iter()
        .filter_map(|entry| entry["Subnet"].as_str().filter(|s| !s.is_empty()))
        .map(|s| s.parse().ok())
        .collect();
    Some(EngineNetwork {
        name: text("Name")?,
        driver: text("Driver")?,
        scope: text("Scope")?,
        ipam: ipam.get("Driver").and_then(Value::as_str).unwrap_or_default().to_owned(),
        subnets: subnets?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_without_what_is_needed_is_none() {
        let whole = serde_json::json!({"Name": "net", "Driver": "pontoon", "Scope": "local",
            "IPAM": {"Driver": "pontoon", "Config": [{"Subnet": "10.1.0.0/24"}, {}]}});
        let read = read_network(&whole).unwrap();
        assert_eq!((read.name.as_str(), read.subnets.len()), ("net", 1));
        for key in ["Name", "Driver", "Scope", "IPAM"] {
            let mut part = whole.clone();
            part[key] = Value::Null;
            assert_eq!(read_network(&part), None, "{key}");
        }
        let mut wrong = whole;
        wrong["IPAM"]["Config"][0]["Subnet"] = "10.1".into();
        assert_eq!(read_network(&wrong), None);
    }
}
