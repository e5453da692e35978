//! The command `pontoon ports`: asks the running daemon for its published ports and shows them, with container
//! names when the operator gives the engine's socket.
//!
//! An unknown network or endpoint in a filter is an error: an empty list would say that it publishes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::admin::ports::PortStatus;
use crate::admin::status::Status;
use crate::cli::Ports;
use crate::client::{Client, ClientError};
use crate::installation::{LocateError, Roots};
use crate::output;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// The daemon or the engine did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon cannot be determined.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The object that the flag names does not exist.
    #[error("--{flag} {given}: no {flag} has an id that starts with this{}", hint(*.named))]
    Unknown {
        /// The flag.
        flag: &'static str,
        /// The given value.
        given: String,
        /// Whether names were compared, too.
        named: bool,
    },
}

fn hint(named: bool) -> &'static str {
    if named { ", and Docker has none with this name here" } else { "; names work with --docker" }
}

/// Prints the table, or JSON.
pub fn run(options: &Ports) -> Result<(), PortsError> {
    let socket = Roots::of_host().socket(&options.socket, options.plugin.as_deref())?;
    let client = Client::new(&socket, "socket")?;
    let mut lines: Vec<PortStatus> = client.get("/ports")?;
    let names = match &options.docker {
        Some(socket) => names(socket)?,
        None => BTreeMap::new(),
    };
    let wanted = |given: &Option<String>, id: &str| given.as_ref().is_none_or(|given| is_meant(given, id, &names));
    lines.retain(|line| wanted(&options.network, &line.network) && wanted(&options.endpoint, &line.endpoint));
    if lines.is_empty() && (options.network.is_some() || options.endpoint.is_some()) {
        let status: Status = client.get("/status")?;
        let endpoints = status.networks.iter().flat_map(|network| &network.endpoints);
        let networks: Vec<&str> = status.networks.iter().map(|network| network.id.as_str()).collect();
        let endpoints: Vec<&str> = endpoints.map(|endpoint| endpoint.id.as_str()).collect();
        for (flag, given, ids) in [("network", &options.network, networks), ("endpoint", &options.endpoint, endpoints)]
        {
            if let Some(given) = given
                && !ids.iter().any(|id| is_meant(given, id, &names))
            {
                return Err(PortsError::Unknown { flag, given: given.clone(), named: options.docker.is_some() });
            }
        }
    }
    if options.json {
        output::line(&json(&lines, &names));
    } else {
        output::print(&table(&lines, &names));
    }
    Ok(())
}

/// Whether a text is the beginning of the id, or the engine's name for it.
fn is_meant(given: &str, id: &str, names: &BTreeMap<String, String>) -> bool {
    !given.is_empty() && (id.starts_with(given) || names.get(id).is_some_and(|name| name == given))
}

/// Maps endpoint ids to container names, and network ids to network names, as the engine knows them.
fn names(socket: &Path) -> Result<BTreeMap<String, String>, ClientError> {
    let client = Client::new(socket, "docker")?;
    let containers: Vec<Value> = client.get("/containers/json")?;
    let mut names = BTreeMap::new();
    for container in &containers {
        let name = container["Names"][0].as_str().unwrap_or_default().trim_start_matches('/');
        let networks = container["NetworkSettings"]["Networks"].as_object();
        for (network, attached) in networks.into_iter().flatten() {
            let id = |key: &str| attached[key].as_str().unwrap_or_default().to_owned();
            names.insert(id("EndpointID"), name.to_owned());
            names.insert(id("NetworkID"), network.clone());
        }
    }
    // Networks without a running container have names, too.
    for network in client.get::<Vec<Value>>("/networks")? {
        if let (Some(id), Some(name)) = (network["Id"].as_str(), network["Name"].as_str()) {
            names.insert(id.to_owned(), name.to_owned());
        }
    }
    names.remove("");
    Ok(names)
}

fn shown<'a>(names: &'a BTreeMap<String, String>, id: &'a str) -> &'a str {
    names.get(id).map_or(&id[..id.len().min(12)], String::as_str)
}

fn json(lines: &[PortStatus], names: &BTreeMap<String, String>) -> Value {
    let line = |line: &PortStatus| {
        let mut value = serde_json::to_value(line).unwrap_or_default();
        if let Some(name) = names.get(&line.endpoint) {
            value["container_name"] = name.clone().into();
        }
        if let Some(name) = names.get(&line.network) {
            value["network_name"] = name.clone().into();
        }
        value
    };
    lines.iter().map(line).collect()
}

fn table(lines: &[PortStatus], names: &BTreeMap<String, String>) -> String {
    let mut rows = vec![["NETWORK", "ENDPOINT", "REACHED AT", "CONTAINER", ""].map(str::to_owned)];
    for line in lines {
        let container = match line.container {
            std::net::IpAddr::V4(ip) => format!("{ip}:{}", line.container_port),
            std::net::IpAddr::V6(ip) => format!("[{ip}]:{}", line.container_port),
        };
        let chosen = if line.ephemeral { "chosen" } else { "" };
        let (network, endpoint) = (shown(names, &line.network), shown(names, &line.endpoint));
        rows.push([network.to_owned(), endpoint.to_owned(), line.at.to_string(), container, chosen.to_owned()]);
    }
    output::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HostPort, Protocol};

    fn line(endpoint: &str, port: u16, ephemeral: bool) -> PortStatus {
        PortStatus {
            network: "0123456789abcdef".into(),
            endpoint: endpoint.into(),
            at: HostPort { protocol: Protocol::Tcp, address: "0.0.0.0".parse().unwrap(), port },
            container: "10.0.0.2".parse().unwrap(),
            container_port: 80,
            ephemeral,
        }
    }

    #[test]
    fn a_network_is_meant_by_the_beginning_of_its_id_or_by_its_name() {
        let names = BTreeMap::from([("0123abcd".to_owned(), "blue".to_owned())]);
        for (given, meant) in [("0123", true), ("blue", true), ("blu", false), ("123", false), ("", false)] {
            assert_eq!(is_meant(given, "0123abcd", &names), meant, "{given}");
        }
        let error = PortsError::Unknown { flag: "network", given: "blue".into(), named: false };
        let text = "--network blue: no network has an id that starts with this; names work with --docker";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn the_table_lines_up_and_uses_names_where_it_has_them() {
        let names = BTreeMap::from([("e1".to_owned(), "web".to_owned())]);
        let text = table(&[line("e1", 8080, false), line("e2-without-a-name", 32768, true)], &names);
        assert_eq!(
            text,
            "NETWORK       ENDPOINT      REACHED AT         CONTAINER\n\
             0123456789ab  web           0.0.0.0:8080/tcp   10.0.0.2:80\n\
             0123456789ab  e2-without-a  0.0.0.0:32768/tcp  10.0.0.2:80  chosen\n"
        );
        let json = json(&[line("e1", 8080, false)], &names);
        assert_eq!(json[0]["container_name"], "web");
        assert_eq!(json[0]["at"]["port"], 8080);
    }
}
