//! The two ends of a question: who is meant by the words of the operator.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Known;
use crate::admin::status::{EndpointStatus, NetworkStatus};
use crate::model::{Family, Phase};
use crate::names::{nearest, short};

/// Why the words cannot be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PartyError {
    /// Nothing has this name.
    #[error("{text}: no running container, endpoint or network has this name, id, address or MAC address{}", hint(.nearest))]
    Unknown {
        /// What was given.
        text: String,
        /// Names that resemble it.
        nearest: Vec<String>,
    },
    /// Several objects match.
    #[error("{text} may mean {}: use a longer beginning of the id", .all.join(", "))]
    Ambiguous {
        /// What was given.
        text: String,
        /// All of them.
        all: Vec<String>,
    },
    /// The port or the protocol is none.
    #[error("{text}: {what}; write NAME, ADDRESS, NAME:PORT, NAME:PORT/udp or [IPV6]:PORT")]
    Port {
        /// What was given.
        text: String,
        /// What is wrong.
        what: &'static str,
    },
}

fn hint(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; did you mean {}?", nearest.join(" or ")) }
}

/// An endpoint with its network.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// The network.
    pub network: &'a NetworkStatus,
    /// The endpoint.
    pub endpoint: &'a EndpointStatus,
}

impl Member<'_> {
    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.endpoint.addresses.iter().map(|net| net.ip()).find(|address| Family::of(address) == family)
    }

    /// Whether it has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.endpoint.addresses.iter().any(|net| net.ip() == address)
    }

    /// The engine's file of its network namespace, if it is in one.
    pub fn sandbox(&self) -> Option<&str> {
        Some(self.endpoint.detail.sandbox.as_str()).filter(|path| !path.is_empty())
    }

    /// Whether it is in a network namespace that the daemon does not name, as earlier releases do not.
    pub fn is_hidden(&self) -> bool {
        self.endpoint.phase == Phase::Joined && self.sandbox().is_none()
    }
}

/// Why nothing is known of a container with hidden endpoints.
pub fn hidden(name: &str) -> String {
    format!("the daemon does not say where {name} is, because it is of an earlier release: restart it with this one")
}

/// Who sends or receives.
#[derive(Debug, Clone)]
pub enum Party<'a> {
    /// The host.
    Host,
    /// A container with these endpoints on networks of Pontoon.
    Container(String, Vec<Member<'a>>),
    /// Addresses that are on no network of Pontoon, with the name of a container if they are one's.
    Address(String, Vec<IpAddr>),
}

impl<'a> Party<'a> {
    /// Its name, or its address.
    pub fn name(&self) -> &str {
        match self {
            Party::Host => "host",
            Party::Container(name, _) | Party::Address(name, _) => name,
        }
    }

    /// Its address of a family, if it is no container of Pontoon's.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match self {
            Party::Address(_, addresses) => addresses.iter().copied().find(|address| Family::of(address) == family),
            _ => None,
        }
    }

    /// Its endpoints.
    pub fn members(&self) -> &[Member<'a>] {
        if let Party::Container(_, members) = self { members } else { &[] }
    }
}

/// All endpoints with their networks.
pub fn members<'a>(known: &Known<'a>) -> impl Iterator<Item = Member<'a>> {
    let networks = known.status.networks.iter();
    networks.flat_map(|network| network.endpoints.iter().map(move |endpoint| Member { network, endpoint }))
}

/// The endpoint with this address.
pub fn member_at<'a>(known: &Known<'a>, address: IpAddr) -> Option<Member<'a>> {
    members(known).find(|member| member.has(address))
}

/// Finds the party that is meant.
///
/// # Errors
/// Nothing has this name, or more than one does.
pub fn find<'a>(known: &Known<'a>, text: &str) -> Result<Party<'a>, PartyError> {
    if text == "host" {
        return Ok(Party::Host);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(match member_at(known, address) {
            Some(member) => container(known, member),
            None => Party::Address(foreign(known, address), vec![address]),
        });
    }
    let containers = known.names.containers.iter();
    let by_name = containers.clone().find(|container| container.name == text);
    let by_id = || containers.clone().filter(|container| container.id.starts_with(text)).collect::<Vec<_>>();
    let mut found = by_name.map_or_else(by_id, |container| vec![container]);
    found.dedup();
    let mut all: Vec<(String, Party<'a>)> = Vec::new();
    for one in found {
        let member = members(known).find(|member| one.endpoints.contains(member.endpoint.id.as_str()));
        let party = match member {
            Some(member) => container(known, member),
            None if one.addresses.is_empty() => continue,
            None => Party::Address(one.name.clone(), one.addresses.iter().copied().collect()),
        };
        all.push((format!("container {} ({})", one.name, short(&one.id)), party));
    }
    if all.is_empty() && !text.is_empty() {
        let lower = text.to_lowercase();
        let is_meant = |member: &Member<'_>| {
            member.endpoint.id.as_str().starts_with(text)
                || member.endpoint.detail.mac.is_some_and(|mac| mac.to_string() == lower)
        };
        let endpoints = members(known).filter(is_meant);
        all.extend(
            endpoints
                .map(|member| (format!("endpoint {}", short(member.endpoint.id.as_str())), container(known, member))),
        );
    }
    match all.len() {
        0 => {
            let names = containers.map(|container| container.name.as_str());
            let ids: Vec<String> = members(known).map(|member| short(member.endpoint.id.as_str())).collect();
            let candidates = names.chain(ids.iter().map(String::as_str)).chain(["host"]);
            Err(PartyError::Unknown { text: text.to_owned(), nearest: nearest(text, candidates) })
        }
        1 => Ok(all.remove(0).1),
        _ => {
            let all = all.into_iter().map(|(what, _)| what).collect::<BTreeSet<_>>();
            Err(PartyError::Ambiguous { text: text.to_owned(), all: all.into_iter().collect() })
        }
    }
}

/// The container of an endpoint, with all of its endpoints.
pub fn container<'a>(known: &Known<'a>, member: Member<'a>) -> Party<'a> {
    let together = |other: &Member<'_>| {
        other.endpoint.id == member.endpoint.id
            || member.sandbox().is_some_and(|sandbox| other.sandbox() == Some(sandbox))
    };
    let all = members(known).filter(together).collect();
    Party::Container(known.names.endpoint(member.endpoint.id.as_str()), all)
}

/// Name of a container of another driver with this address, else the address.
fn foreign(known: &Known<'_>, address: IpAddr) -> String {
    let container = known.names.containers.iter().find(|container| container.addresses.contains(&address));
    container.map_or_else(|| address.to_string(), |container| container.name.clone())
}

/// The second argument: who, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Who.
    pub who: String,
    /// The port; `None` for ICMP.
    pub port: Option<u16>,
    /// Number of the transport protocol; `None` for ICMP.
    pub protocol: Option<u8>,
}

impl Destination {
    /// Parses `WHO[:PORT[/PROTOCOL]]`.
    ///
    /// # Errors
    /// The port or the protocol is none.
    pub fn parse(text: &str) -> Result<Self, PartyError> {
        let wrong = |what| PartyError::Port { text: text.to_owned(), what };
        let (rest, protocol) = match text.rsplit_once('/') {
            None => (text, "tcp"),
            Some((rest, protocol)) => (rest, protocol),
        };
        let number = match protocol {
            "tcp" => libc::IPPROTO_TCP,
            "udp" => libc::IPPROTO_UDP,
            "sctp" => libc::IPPROTO_SCTP,
            "icmp" => libc::IPPROTO_ICMP,
            _ => return Err(wrong("the protocol is not tcp, udp, sctp or icmp")),
        };
        let (who, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((who, "")) => (who, None),
            Some((who, port)) => (who, Some(port.strip_prefix(':').unwrap_or(port))),
            None if rest.parse::<IpAddr>().is_ok() => (rest, None),
            None => rest.rsplit_once(':').map_or((rest, None), |(who, port)| (who, Some(port))),
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port > 0)).map(|port| port.ok_or(()));
        let port = port.transpose().map_err(|()| wrong("the port is not a number from 1 to 65535"))?;
        let icmp = number == libc::IPPROTO_ICMP;
        match (port, icmp) {
            (Some(_), true) => Err(wrong("ICMP has no ports")),
            (None, false) if text.contains('/') => Err(wrong("a protocol needs a port")),
            _ => Ok(Self { who: who.to_owned(), port, protocol: port.map(|_| number as u8) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_parsed() {
        let parse = |text: &str| Destination::parse(text).map(|to| (to.who, to.port, to.protocol));
        let is = |who: &str, port, protocol| Ok((who.to_owned(), port, protocol));
        assert_eq!(parse("web:80"), is("web", Some(80), Some(6)));
        assert_eq!(parse("web:53/udp"), is("web", Some(53), Some(17)));
        assert_eq!(parse("web"), is("web", None, None));
        assert_eq!(parse("web/icmp"), is("web", None, None));
        assert_eq!(parse("fd00::2"), is("fd00::2", None, None));
        assert_eq!(parse("[fd00::2]:80"), is("fd00::2", Some(80), Some(6)));
        assert_eq!(parse("10.0.0.2:80/tcp"), is("10.0.0.2", Some(80), Some(6)));
        for wrong in ["web:0", "web:x", "web:70000", "web:80/smtp", "web/tcp", "web:80/icmp"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
