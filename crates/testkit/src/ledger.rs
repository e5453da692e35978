//! The ledger, parsed independently of Pontoon's code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The live objects of a ledger.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Facts {
    /// Records of networks, by id.
    pub networks: BTreeMap<String, Value>,
    /// Records of endpoints, by network and endpoint.
    pub endpoints: BTreeMap<(String, String), Value>,
    /// Records of pools, by id.
    pub pools: BTreeMap<String, Value>,
    /// Holders of addresses, by pool and address.
    pub addresses: BTreeMap<(String, String), Value>,
    /// Addresses whose tracked connections are pending removal.
    pub flows: BTreeSet<String>,
}

/// A text in a record; empty if it is missing.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The kind of the network in a record.
pub fn kind(network: &Value) -> &Value {
    kind_of(&network["kind"])
}

fn kind_of(value: &Value) -> &Value {
    value.as_object().and_then(|kind| kind.values().next()).unwrap_or(&Value::Null)
}

/// The two links of the endpoint in a record.
pub fn pair(endpoint: &Value) -> &Value {
    &endpoint["attachment"]["veth"]
}

/// The links of the endpoint in a record, of any kind.
pub fn links(endpoint: &Value) -> &Value {
    kind_of(&endpoint["attachment"])
}

/// The link of the endpoint in a record that is moved into the sandbox.
pub fn sandbox_link(endpoint: &Value) -> &str {
    let links = links(endpoint);
    if links.get("peer").is_some() { text(links, "peer") } else { text(links, "link") }
}

/// Reads a ledger without damage.
#[track_caller]
pub fn read(path: &Path) -> Facts {
    let content = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&content)
}

/// [`read`] for the content of a file.
#[track_caller]
pub fn parse(content: &[u8]) -> Facts {
    let mut facts = Facts::default();
    for (number, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = str::from_utf8(line).expect("text").strip_suffix('\n').expect("whole lines");
        let (sum, json) = line.split_at(9);
        assert_eq!(sum.trim(), format!("{:08x}", crc32fast::hash(json.as_bytes())), "line {}", number + 1);
        let Ok(records) = serde_json::from_str::<Vec<Value>>(json)
            .or_else(|_| serde_json::from_str::<Value>(json).map(|one| vec![one]))
        else {
            panic!("line {}: {json}", number + 1)
        };
        records.into_iter().for_each(|record| facts.apply(record));
    }
    facts
}

impl Facts {
    fn apply(&mut self, record: Value) {
        let id = text(&record, "id").to_owned();
        let network = text(&record, "network").to_owned();
        let of_pool = (text(&record, "pool").to_owned(), text(&record, "address").to_owned());
        match text(&record, "put") {
            "network" => drop(self.networks.insert(text(&record["spec"], "id").to_owned(), record)),
            "no_network" => {
                self.networks.remove(&id);
                self.endpoints.retain(|(of, _), _| *of != id);
            }
            "endpoint" => {
                let spec = &record["spec"];
                let key = (text(spec, "network").to_owned(), text(spec, "id").to_owned());
                self.endpoints.insert(key, record);
            }
            "no_endpoint" => drop(self.endpoints.remove(&(network, id))),
            "pool" => drop(self.pools.insert(id, record)),
            "no_pool" => {
                self.pools.remove(&id);
                self.addresses.retain(|(of, _), _| *of != id);
            }
            "address" => drop(self.addresses.insert(of_pool, record["holder"].clone())),
            "no_address" => drop(self.addresses.remove(&of_pool)),
            "flows" => self.flows.extend(addresses(&record)),
            "no_flows" => {
                let done: Vec<String> = addresses(&record).collect();
                self.flows.retain(|address| !done.contains(address));
            }
            _ => {}
        }
    }
}

fn addresses(record: &Value) -> impl Iterator<Item = String> {
    record["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}

/// Rewrites every line of a ledger.
pub fn rewrite(path: &Path, change: impl Fn(&str) -> String) {
    let content = fs::read_to_string(path).unwrap();
    let mut out = String::new();
    for line in content.lines() {
        let json = change(&line[9..]);
        out.push_str(&format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())));
    }
    fs::write(path, out).unwrap();
}

/// Changes the ledger to one of an earlier boot of the host.
pub fn reboot(path: &Path) {
    let content = fs::read(path).unwrap();
    let end = content.iter().position(|byte| *byte == b'\n').expect("a header");
    let header = str::from_utf8(&content[9..end]).unwrap();
    let mut header: Value = serde_json::from_str(header).unwrap();
    header["boot"] = "an earlier one".into();
    let json = header.to_string();
    let mut out = format!("{:08x} {json}", crc32fast::hash(json.as_bytes())).into_bytes();
    out.extend_from_slice(&content[end..]);
    fs::write(path, out).unwrap();
}

/// Makes all dates hours older, while Pontoon does not run.
pub fn age(path: &Path) {
    rewrite(path, |json| {
        let mut aged = String::new();
        let mut rest = json;
        while let Some(at) = rest.find("\"since\":") {
            let (before, after) = rest.split_at(at + "\"since\":".len());
            aged.push_str(before);
            aged.push('1');
            rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        aged + rest
    });
}
