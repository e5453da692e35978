//! `pontoon inspect NAME`.

use std::fmt::Write as _;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::{Facts, Shown, bytes, endpoint_json, join, mode, phase};
use crate::admin::events::EventLine;
use crate::admin::status::{EndpointStatus, NetworkStatus};
use crate::explain::Known;
use crate::explain::party::{Member, Party, PartyError, find};
use crate::names::{nearest, short};

/// Events of an endpoint that are shown.
const HISTORY: usize = 10;

/// Why nothing is shown.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InspectError {
    /// The name is wrong or ambiguous.
    #[error(transparent)]
    Party(#[from] PartyError),
    /// It is the host, or an address outside.
    #[error("{0} is on no network of Pontoon")]
    Elsewhere(String),
}

/// Whether a program in a container listens on a port: of the sandbox's file, protocol number, address and port.
pub type Listening<'a> = &'a dyn Fn(&str, u8, std::net::IpAddr, u16) -> Option<bool>;

/// A container, an endpoint or a network.
///
/// # Errors
/// The name is wrong or ambiguous.
pub fn inspect(facts: &Facts<'_>, name: &str, listening: Listening<'_>) -> Result<Shown, InspectError> {
    let party = match meant(facts, name)? {
        Meant::Network(network) => return Ok(of_network(facts, network)),
        Meant::Party(party) => party,
    };
    let mut text = String::new();
    let mut all = Vec::new();
    for member in party.members() {
        of_member(facts, party.name(), *member, listening, &mut text);
        let mut value = endpoint_json(facts, member.network, member.endpoint);
        for (port, forward) in member.endpoint.detail.forwards.iter().enumerate() {
            let here = listens(member.endpoint, listening, forward.host.protocol.number(), forward);
            value["detail"]["forwards"][port]["listening"] = here.map_or(Value::Null, Value::Bool);
        }
        value["history"] = json!(of_endpoint(facts, member.endpoint).collect::<Vec<_>>());
        all.push(value);
    }
    Ok(Shown::new(text, json!({ "endpoints": all })))
}

/// What a name means.
pub(super) enum Meant<'a> {
    Network(&'a NetworkStatus),
    /// A container.
    Party(Party<'a>),
}

pub(super) fn meant<'a>(facts: &Facts<'a>, name: &str) -> Result<Meant<'a>, InspectError> {
    let networks: Vec<&NetworkStatus> = by_network(facts, name);
    let known = Known { status: facts.status, names: facts.names };
    Ok(match (networks.as_slice(), find(&known, name)) {
        (_, Ok(party @ Party::Container(..))) => Meant::Party(party),
        ([network], _) => Meant::Network(network),
        ([_, _, ..], _) => {
            let all = networks.iter().map(|network| format!("network {}", short(network.id.as_str()))).collect();
            return Err(PartyError::Ambiguous { text: name.to_owned(), all }.into());
        }
        (_, Ok(party)) => return Err(InspectError::Elsewhere(party.name().to_owned())),
        (_, Err(PartyError::Unknown { text, nearest: found })) => {
            let names = facts.names.networks.values().map(String::as_str);
            let more = if found.is_empty() { nearest(name, names) } else { found };
            return Err(PartyError::Unknown { text, nearest: more }.into());
        }
        (_, Err(error)) => return Err(error.into()),
    })
}

fn by_network<'a>(facts: &Facts<'a>, name: &str) -> Vec<&'a NetworkStatus> {
    let called = |network: &NetworkStatus| facts.names.networks.get(network.id.as_str()).is_some_and(|own| own == name);
    let networks = facts.status.networks.iter();
    let by_name: Vec<_> = networks.clone().filter(|network| called(network)).collect();
    if !by_name.is_empty() || name.is_empty() {
        return by_name;
    }
    networks.filter(|network| network.id.as_str().starts_with(name) || network.link.as_str() == name).collect()
}

fn listens(
    endpoint: &EndpointStatus,
    listening: Listening<'_>,
    protocol: u8,
    forward: &crate::model::Published,
) -> Option<bool> {
    let sandbox = Some(endpoint.detail.sandbox.as_str()).filter(|sandbox| !sandbox.is_empty())?;
    listening(sandbox, protocol, forward.container, forward.container_port)
}

fn of_member(facts: &Facts<'_>, name: &str, member: Member<'_>, listening: Listening<'_>, text: &mut String) {
    let (network, endpoint) = (member.network, member.endpoint);
    let id = facts.names.container_of(endpoint.id.as_str()).map(|container| format!("({})", short(&container.id)));
    let mac = endpoint.detail.mac.map_or_else(String::new, |mac| format!("  {mac}"));
    let gateways = join(&network.detail.gateways);
    let mut line = |title: &str, words: String| {
        let _ = writeln!(text, "{title:<10} {words}");
    };
    line("container", format!("{name} {}", id.unwrap_or_default()).trim_end().to_owned());
    line("endpoint", format!("{}  {}, for {} s", short(endpoint.id.as_str()), phase(endpoint), endpoint.age));
    line(
        "network",
        format!("{} ({})  {}", facts.names.network(network.id.as_str()), short(network.id.as_str()), mode(network)),
    );
    line("link", format!("{} on {}, MTU {}{mac}", endpoint.link(), network.link, network.mtu));
    line("address", format!("{}   gateway {gateways}", join(&endpoint.addresses)));
    for forward in &endpoint.detail.forwards {
        let here = match listens(endpoint, listening, forward.host.protocol.number(), forward) {
            Some(true) => "yes",
            Some(false) => "NO: nothing listens there on this address",
            None => "not known",
        };
        line("published", format!("{} -> {}   listening: {here}", forward.host, forward.container_port));
    }
    if !endpoint.detail.policy.is_empty() {
        super::policy::lines(&endpoint.detail.policy, text);
    }
    let mut line = |title: &str, words: String| {
        let _ = writeln!(text, "{title:<10} {words}");
    };
    // What the host's end receives, the container sends.
    let link = endpoint.attachment.host().and_then(|host| facts.traffic.get(host.as_str()));
    if let Some(link) = link {
        line("traffic", format!("received {}, sent {}", bytes(link.sent.bytes), bytes(link.received.bytes)));
    }
    for event in of_endpoint(facts, endpoint) {
        line("history", super::event(event, facts.names));
    }
}

/// Events of an endpoint, the last ones.
fn of_endpoint<'a>(facts: &Facts<'a>, endpoint: &EndpointStatus) -> impl Iterator<Item = &'a EventLine> {
    let short = short(endpoint.id.as_str());
    let all: Vec<_> = facts.events.iter().filter(|event| event.endpoint.as_ref() == Some(&short)).collect();
    let skipped = all.len().saturating_sub(HISTORY);
    all.into_iter().skip(skipped)
}

fn of_network(facts: &Facts<'_>, network: &NetworkStatus) -> Shown {
    let mut text = String::new();
    let mut line = |title: &str, words: String| {
        let _ = writeln!(text, "{title:<10} {words}");
    };
    line(
        "network",
        format!("{} ({})  {}", facts.names.network(network.id.as_str()), short(network.id.as_str()), mode(network)),
    );
    line("link", format!("{}, MTU {}", network.link, network.mtu));
    line("subnets", format!("{}   gateway {}", join(&network.subnets), join(&network.detail.gateways)));
    line("icc", if network.icc { "containers reach each other" } else { "containers are isolated" }.to_owned());
    if let Some(rule) = &network.detail.opposed_by {
        line("fast path", format!("off, because of {rule}"));
    }
    if let Some(vlan) = network.vlan {
        line("vlan", vlan.to_string());
    }
    if let Some(overlay) = &network.overlay {
        line("overlay", format!("VNI {}, tunnel {}", overlay.vni, overlay.link));
    }
    if !network.detail.policy.is_empty() {
        super::policy::lines(&network.detail.policy, &mut text);
    }
    let mut line = |title: &str, words: String| {
        let _ = writeln!(text, "{title:<10} {words}");
    };
    if let Some(link) = facts.traffic.get(network.link.as_str()) {
        line(
            "traffic",
            format!("received {}, sent {} (by the host)", bytes(link.received.bytes), bytes(link.sent.bytes)),
        );
    }
    for endpoint in &network.endpoints {
        let addresses = join(endpoint.addresses.iter().map(IpNetwork::ip));
        line("endpoint", format!("{}  {addresses}", facts.names.endpoint(endpoint.id.as_str())));
    }
    let mut value = json!(network);
    value["name"] = json!(facts.names.networks.get(network.id.as_str()));
    Shown::new(text, json!({ "networks": [value] }))
}
