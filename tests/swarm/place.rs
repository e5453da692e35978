//! The locations of a network's containers according to their engines. Queries use the engines' sockets directly,
//! because they are sent many times a second.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::cluster::Cluster;

/// A running container of a network.
#[derive(Clone, Debug)]
pub struct Place {
    /// The index of the node.
    pub node: usize,
    /// The container's id.
    pub id: String,
    /// Its service, if it is a task.
    pub service: Option<String>,
    pub address: Ipv4Addr,
    pub mac: String,
    /// Its network namespace, as a path on this machine.
    pub netns: PathBuf,
    pub started: SystemTime,
}

/// Lists the containers of one network; inspects each only once.
pub struct Places<'a> {
    cluster: &'a Cluster,
    network: &'a str,
    known: BTreeMap<String, Place>,
}

impl<'a> Places<'a> {
    pub fn of(cluster: &'a Cluster, network: &'a str) -> Self {
        Self { cluster, network, known: BTreeMap::new() }
    }

    /// The running containers on all nodes whose engine answers.
    pub fn look(&mut self) -> Vec<Place> {
        let mut found = Vec::new();
        for node in 0..self.cluster.nodes().len() {
            let Some(listed) = self.ask(node, "/containers/json") else { continue };
            for container in listed.as_array().into_iter().flatten() {
                let Some(id) = container["Id"].as_str() else { continue };
                if container["NetworkSettings"]["Networks"][self.network].is_null() {
                    continue;
                }
                let held = self.known.get(id).cloned().or_else(|| self.inspect(node, id));
                if let Some(place) = held {
                    self.known.insert(id.to_owned(), place.clone());
                    found.push(place);
                }
            }
        }
        found
    }

    fn inspect(&self, node: usize, id: &str) -> Option<Place> {
        let container = self.ask(node, &format!("/containers/{id}/json"))?;
        let state = &container["State"];
        let pid = state["Pid"].as_u64().filter(|pid| *pid > 0 && state["Running"] == true)?;
        let endpoint = &container["NetworkSettings"]["Networks"][self.network];
        Some(Place {
            node,
            id: id.to_owned(),
            service: container["Config"]["Labels"]["com.docker.swarm.service.name"].as_str().map(str::to_owned),
            address: endpoint["IPAddress"].as_str()?.parse().ok()?,
            mac: endpoint["MacAddress"].as_str()?.to_owned(),
            netns: self.cluster.nodes()[node].path(&format!("/proc/{pid}/ns/net")),
            started: time(state["StartedAt"].as_str()?)?,
        })
    }

    /// HTTP 1.0: the answer ends with the connection.
    fn ask(&self, node: usize, path: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.cluster.nodes()[node].path("/run/docker.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.lines().next()?.contains(" 200 ").then(|| serde_json::from_str(body).ok()).flatten()
    }
}

/// A time in the engines' format: `2026-11-21T11:33:01.123456789Z`.
fn time(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut clock = clock.split(':').map(str::parse::<f64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    // Years start in March, so that leap days come last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = days.checked_sub(719_468)? as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

#[test]
fn an_engines_time_is_parsed() {
    let read = time("2026-11-21T11:33:01.5Z").unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(read, Duration::from_millis(1_795_260_781_500));
    assert_eq!(time("0001-01-01T00:00:00Z"), None);
}
