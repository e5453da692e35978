//! Parser of allow lists. Its errors are phrased as what was expected where.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use super::{AllowList, GroupName, LONGEST, MOST_PARTS, MOST_RULES, Peer, Ports, Rule, SubnetPeer, Traffic};
use crate::model::{Protocol, prefix};

/// What was expected instead of a part of a list, with an example.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expected} at character {position} ({found:?})")]
pub struct ListError {
    /// Counted from 1.
    pub position: usize,
    /// The part, shortened.
    pub found: String,
    /// The form that it should have had.
    pub expected: &'static str,
}

const RULE: &str = "a rule such as tcp:443@10.0.0.0/8, group:db or dns";
const NEEDS_PEER: &str = "'@' and a peer behind the protocol, as in tcp:443@any,";
const PROTOCOL: &str = "one of the protocols tcp, udp, sctp, icmp and any, as in tcp:443@any,";
const NO_PORTS: &str = "no ports: only tcp, udp and sctp have them,";
const PORTS: &str = "ports from 1 to 65535, as in tcp:80/443/8000-8080@any,";
const TOO_MANY_PORTS: &str = "at most 32 ranges of ports; use several rules,";
const PEER: &str = "a peer: any, host, net, world, group:NAME, a subnet such as 10.0.0.0/8, or a DNS name,";
const GROUP: &str = "a name of a group: up to 63 letters, digits, '-', '_' and '.',";
const HOST_BITS: &str = "a subnet without host bits, as in 10.1.0.0/16,";
const EXCEPTION: &str = "an exception within the subnet, as in 10.0.0.0/8!10.1.0.0/16,";
const TOO_MANY_EXCEPTIONS: &str = "at most 32 exceptions,";
const TOO_LONG: &str = "at most 8192 bytes,";
const TOO_MANY: &str = "at most 128 rules,";

/// A part of the text and where it is, in bytes.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Part<'a> {
    fn error(self, whole: &str, expected: &'static str) -> ListError {
        let before = whole.get(..self.at).unwrap_or(whole);
        let mut found: String = self.text.chars().take(40).collect();
        if found.len() < self.text.len() {
            found.push_str("...");
        }
        ListError { position: before.chars().count() + 1, found, expected }
    }

    /// Splits at the first separator.
    fn split(self, separator: char) -> (Self, Option<Self>) {
        match self.text.split_once(separator) {
            Some((head, tail)) => {
                let at = self.at + head.len() + separator.len_utf8();
                (Part { text: head, at: self.at }, Some(Part { text: tail, at }))
            }
            None => (self, None),
        }
    }

    /// All parts between separators.
    fn split_all(self, separators: &'static [char]) -> impl Iterator<Item = Part<'a>> {
        let (text, start) = (self.text, self.at);
        text.split(separators).scan(start, |at, piece| {
            let part = Part { text: piece, at: *at };
            *at += piece.len() + 1;
            Some(part)
        })
    }

    fn trimmed(self) -> Self {
        let text = self.text.trim_start();
        Part { at: self.at + self.text.len() - text.len(), text: text.trim_end() }
    }
}

impl FromStr for AllowList {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let whole = Part { text, at: 0 };
        if text.len() > LONGEST {
            return Err(whole.error(text, TOO_LONG));
        }
        let mut rules = BTreeSet::new();
        if text.trim().is_empty() {
            return Ok(Self(rules));
        }
        for (number, part) in whole.split_all(&['+', ';', ',']).enumerate() {
            let part = part.trimmed();
            if number >= MOST_RULES {
                return Err(part.error(text, TOO_MANY));
            }
            rules.insert(rule(text, part)?);
        }
        Ok(Self(rules))
    }
}

fn rule(whole: &str, part: Part<'_>) -> Result<Rule, ListError> {
    let lower = part.text.to_ascii_lowercase();
    let part = Part { text: &lower, at: part.at };
    match part.text {
        "" => return Err(part.error(whole, RULE)),
        "dns" => return Ok(Rule::Dns),
        _ => {}
    }
    match part.split('@') {
        (head, Some(tail)) => Ok(Rule::Allow(traffic(whole, head)?, peer(whole, tail)?)),
        (alone, None) => {
            let word = alone.split(':').0.text;
            if matches!(word, "tcp" | "udp" | "sctp" | "icmp") {
                return Err(part.error(whole, NEEDS_PEER));
            }
            Ok(Rule::Allow(Traffic::Any, peer(whole, alone)?))
        }
    }
}

fn traffic(whole: &str, part: Part<'_>) -> Result<Traffic, ListError> {
    let (word, ports) = part.split(':');
    let protocol = match word.text {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        "icmp" | "any" | "" => {
            return match ports {
                Some(ports) => Err(ports.error(whole, NO_PORTS)),
                None if word.text == "icmp" => Ok(Traffic::Icmp),
                None => Ok(Traffic::Any),
            };
        }
        _ => return Err(word.error(whole, PROTOCOL)),
    };
    let Some(ports) = ports else { return Ok(Traffic::Ports(protocol, Ports::all())) };
    let mut ranges = Vec::new();
    for part in ports.split_all(&['/']) {
        if ranges.len() == MOST_PARTS {
            return Err(part.error(whole, TOO_MANY_PORTS));
        }
        ranges.push(range(part.text).ok_or_else(|| part.error(whole, PORTS))?);
    }
    Ok(Traffic::Ports(protocol, Ports::of(ranges)))
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

fn peer(whole: &str, part: Part<'_>) -> Result<Peer, ListError> {
    match part.text {
        "any" => return Ok(Peer::Any),
        "host" => return Ok(Peer::Host),
        "net" => return Ok(Peer::Net),
        "world" => return Ok(Peer::World),
        _ => {}
    }
    if let Some(name) = part.text.strip_prefix("group:") {
        let name = Part { text: name, at: part.at + "group:".len() };
        return GroupName::parse(name.text).map(Peer::Group).ok_or_else(|| name.error(whole, GROUP));
    }
    let mut parts = part.split_all(&['!']);
    let first = parts.next().unwrap_or(part);
    let Some(net) = subnet(first.text) else {
        return if is_name(part.text) { Ok(Peer::Name(part.text.to_owned())) } else { Err(part.error(whole, PEER)) };
    };
    if net.ip() != net.network() {
        return Err(first.error(whole, HOST_BITS));
    }
    let mut except: BTreeSet<IpNetwork> = BTreeSet::new();
    for (number, part) in parts.enumerate() {
        if number == MOST_PARTS {
            return Err(part.error(whole, TOO_MANY_EXCEPTIONS));
        }
        let within = |inner: &IpNetwork| {
            let ((first, last), (from, to)) = (prefix::span(&net), prefix::span(inner));
            inner.is_ipv4() == net.is_ipv4() && inner.ip() == inner.network() && first <= from && to <= last
        };
        except.insert(subnet(part.text).filter(within).ok_or_else(|| part.error(whole, EXCEPTION))?);
    }
    Ok(Peer::Subnet(SubnetPeer { net, except: except.into_iter().collect() }))
}

fn subnet(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => length.parse().ok().filter(|_| length.bytes().all(|byte| byte.is_ascii_digit()))?,
        None => bits,
    };
    IpNetwork::new(address, length).ok()
}

/// Whether it is a DNS name with at least two labels, possibly behind `*.`. A last label of digits only is that of a
/// mistyped address.
pub(super) fn is_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len()) && label.chars().all(valid) && !label.starts_with('-') && !label.ends_with('-')
    };
    let labels: Vec<&str> = name.split('.').collect();
    let wordy = labels.last().is_some_and(|last| last.chars().any(|c| c.is_ascii_alphabetic()));
    text.len() <= 253 && labels.len() >= 2 && wordy && labels.into_iter().all(label)
}
