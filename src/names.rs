//! Names of containers and networks, as the engine knows them. Only operator commands ask, at most for a second:
//! without an answer they show ids.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::output::visible;

/// How long the engine may take for each of two answers.
const PATIENCE: Duration = Duration::from_millis(500);

/// Characters of an id that are shown.
const SHORT: usize = 12;

/// A running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, [`visible`].
    pub name: String,
    /// Ids of its endpoints.
    pub endpoints: BTreeSet<String>,
    /// Its addresses, on networks of any driver.
    pub addresses: BTreeSet<IpAddr>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Running containers.
    pub containers: Vec<Container>,
    /// Names of networks by id, [`visible`].
    pub networks: BTreeMap<String, String>,
    /// Why there are none, if the engine did not answer.
    pub missing: Option<String>,
}

impl Names {
    /// Asks the engine.
    pub fn ask(socket: &Path) -> Self {
        Self::try_ask(socket)
            .unwrap_or_else(|error| Self { missing: Some(format!("names are missing: {error}")), ..Self::default() })
    }

    fn try_ask(socket: &Path) -> Result<Self, ClientError> {
        let client = Client::new(socket, "docker")?.within(PATIENCE);
        let mut names = Self::default();
        for container in client.get::<Vec<Value>>("/containers/json")? {
            names.containers.push(read(&container, &mut names.networks));
        }
        // Networks without a running container have names, too.
        for network in client.get::<Vec<Value>>("/networks")? {
            if let (Some(id), Some(name)) = (network["Id"].as_str(), network["Name"].as_str()) {
                names.networks.insert(id.to_owned(), visible(name).into_owned());
            }
        }
        names.networks.remove("");
        Ok(names)
    }

    /// The container of an endpoint.
    pub fn container_of(&self, endpoint: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.endpoints.contains(endpoint))
    }

    /// Whether a running container has an endpoint whose id begins with this.
    pub fn knows(&self, beginning: &str) -> bool {
        self.containers.iter().any(|container| container.endpoints.iter().any(|id| id.starts_with(beginning)))
    }

    /// Name of an endpoint's container, else the beginning of the endpoint's id.
    pub fn endpoint(&self, id: &str) -> String {
        self.container_of(id).map_or_else(|| short(id), |container| container.name.clone())
    }

    /// Name of a network, else the beginning of its id.
    pub fn network(&self, id: &str) -> String {
        self.networks.get(id).cloned().unwrap_or_else(|| short(id))
    }
}

fn read(container: &Value, networks: &mut BTreeMap<String, String>) -> Container {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = container["Names"][0].as_str().unwrap_or_default();
    let mut read = Container {
        id: text(&container["Id"]),
        name: visible(name.trim_start_matches('/')).into_owned(),
        ..Container::default()
    };
    for (name, attached) in container["NetworkSettings"]["Networks"].as_object().into_iter().flatten() {
        read.endpoints.insert(text(&attached["EndpointID"]));
        networks.insert(text(&attached["NetworkID"]), visible(name).into_owned());
        let addresses = ["IPAddress", "GlobalIPv6Address"].iter().filter_map(|key| attached[*key].as_str());
        read.addresses.extend(addresses.filter_map(|address| address.parse::<IpAddr>().ok()));
    }
    read.endpoints.remove("");
    read
}

/// The beginning of an id.
pub fn short(id: &str) -> String {
    id.chars().take(SHORT).collect()
}

/// Names that resemble one that is not there: the most similar ones, and those that contain it, at most three.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let near = |name: &&'a str| {
        let lower = name.to_lowercase();
        let contained = wanted.len() > 2 && lower.contains(&wanted);
        let distance = if contained { 0 } else { distance(&wanted, &lower) };
        (distance <= 1 + wanted.len() / 3).then_some((distance, *name))
    };
    let mut found: Vec<_> = names.into_iter().collect::<BTreeSet<_>>().iter().filter_map(near).collect();
    found.sort_unstable();
    let least = found.first().map_or(0, |(distance, _)| *distance);
    found.into_iter().filter(|(distance, _)| *distance == least).map(|(_, name)| name.to_owned()).take(3).collect()
}

/// Number of single characters to insert, remove or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, one) in a.chars().enumerate() {
        let mut above = std::mem::replace(&mut row[0], at + 1);
        for (index, other) in b.iter().enumerate() {
            let replaced = above + usize::from(one != *other);
            above = row[index + 1];
            row[index + 1] = replaced.min(above + 1).min(row[index] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_resemble_a_wrong_one_are_found() {
        let names = ["web", "web-2", "database", "cache"];
        assert_eq!(nearest("wbe", names), ["web"]);
        assert_eq!(nearest("datbase", names), ["database"]);
        assert_eq!(nearest("base", names), ["database"]);
        assert_eq!(nearest("web-3", names), ["web-2"]);
        assert_eq!(nearest("zzz", names), [""; 0]);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting")), (3, 3));
    }

    #[test]
    fn a_container_is_read_with_what_identifies_it() {
        let json = serde_json::json!({"Id": "c1", "Names": ["/web"], "NetworkSettings": {"Networks": {
            "blue": {"EndpointID": "e1", "NetworkID": "n1", "IPAddress": "10.0.0.2", "GlobalIPv6Address": ""}}}});
        let mut names = Names::default();
        names.containers.push(read(&json, &mut names.networks));
        assert_eq!((names.endpoint("e1"), names.network("n1")), ("web".to_owned(), "blue".to_owned()));
        assert_eq!(names.endpoint("0123456789abcdef"), "0123456789ab");
        assert_eq!(names.containers[0].addresses, [IpAddr::from([10, 0, 0, 2])].into());
    }
}
