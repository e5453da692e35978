//! Allow lists: the peers that an endpoint may reach, or that may reach it.
//!
//! ```text
//! LIST  := "" | RULE (('+' | ';' | ',') RULE)*
//! RULE  := "dns" | [PROTO[:PORTS] '@'] PEER
//! PROTO := "any" | "icmp" | "tcp" | "udp" | "sctp"
//! PORTS := RANGE ('/' RANGE)*            RANGE := NUMBER ['-' NUMBER]
//! PEER  := "any" | "host" | "net" | "world" | "group:" NAME | SUBNET ('!' SUBNET)* | DNS name | "*." DNS name
//! ```
//! Rules only allow, and add up. An empty list allows nothing. The separator `+` needs no quotes in a shell, nor in the
//! long syntax of `docker run --network`. [`parse`] reads a list, its `Display` is the canonical text, [`expand`]
//! turns it into ranges.

pub mod expand;
pub mod learned;
pub mod names;
pub mod options;
mod parse;
mod stored;

use std::collections::BTreeSet;
use std::fmt;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Protocol;
pub use expand::{Expanded, Transport};
pub use names::NameRules;
pub use options::{AccessOptions, Denied};
pub use parse::ListError;
pub use stored::StoredLists;

/// Longest text of a list, in bytes.
pub const LONGEST: usize = 8192;

/// Maximum number of rules in a list.
pub const MOST_RULES: usize = 128;

/// Maximum number of port ranges in a rule, and of exceptions in a subnet.
pub const MOST_PARTS: usize = 32;

/// Which traffic of a peer is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// All of it.
    Any,
    /// ICMP, of IPv6 ICMPv6.
    Icmp,
    /// A transport protocol, to these ports.
    Ports(Protocol, Ports),
}

/// Ranges of ports, sorted, neither adjacent nor overlapping, at least one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Every port.
    pub fn all() -> Self {
        Self(vec![(0, u16::MAX)])
    }

    /// First and last port of each range.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Merges ranges; every port if there are none.
    fn of(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        if merged.is_empty() { Self::all() } else { Self(merged) }
    }
}

/// Name of a group of endpoints: letters, digits, `-`, `_` and `.`; lower case, because the engine's command line
/// changes it so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

impl GroupName {
    /// Parses a name; `None` if it is empty, longer than 63 characters or has other characters.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ((1..=63).contains(&text.len()) && text.chars().all(valid)).then_some(Self(text))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A subnet without some parts of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubnetPeer {
    /// The subnet, without host bits.
    pub net: IpNetwork,
    /// Subnets within it that are not meant, sorted.
    pub except: Vec<IpNetwork>,
}

/// Who is on the other end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Every address, and the host.
    Any,
    /// The host itself, at any of its addresses.
    Host,
    /// The subnets of the endpoint's network.
    Net,
    /// Public addresses: neither this network, nor private, local or multicast addresses.
    World,
    /// The endpoints of the network that are in this group.
    Group(GroupName),
    /// A subnet. It does not include the host itself.
    Subnet(SubnetPeer),
    /// A DNS name, or with `*.` all names below one.
    Name(String),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// DNS over TCP and UDP.
    Dns,
    /// This traffic with this peer.
    Allow(Traffic, Peer),
}

/// A list of rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowList(BTreeSet<Rule>);

impl AllowList {
    /// Its rules, sorted.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// Whether it allows nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The list that allows what one of the two does.
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }

    /// The first DNS name in it.
    pub fn name(&self) -> Option<&str> {
        self.0.iter().find_map(|rule| match rule {
            Rule::Allow(_, Peer::Name(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The groups in it; one may repeat.
    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.0.iter().filter_map(|rule| match rule {
            Rule::Allow(_, Peer::Group(name)) => Some(name),
            _ => None,
        })
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Traffic::Any => Ok(()),
            Traffic::Icmp => f.write_str("icmp@"),
            Traffic::Ports(protocol, ports) if *ports == Ports::all() => write!(f, "{protocol}@"),
            Traffic::Ports(protocol, ports) => {
                write!(f, "{protocol}")?;
                for (at, (first, last)) in ports.ranges().iter().enumerate() {
                    write!(f, "{}{first}", if at == 0 { ':' } else { '/' })?;
                    if first != last {
                        write!(f, "-{last}")?;
                    }
                }
                f.write_str("@")
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Any => f.write_str("any"),
            Peer::Host => f.write_str("host"),
            Peer::Net => f.write_str("net"),
            Peer::World => f.write_str("world"),
            Peer::Group(name) => write!(f, "group:{}", name.as_str()),
            Peer::Subnet(subnet) => {
                short(&subnet.net, f)?;
                for except in &subnet.except {
                    f.write_str("!")?;
                    short(except, f)?;
                }
                Ok(())
            }
            Peer::Name(name) => f.write_str(name),
        }
    }
}

/// A subnet of one address without its prefix length.
fn short(net: &IpNetwork, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match net.prefix() == super::prefix::bits(net) {
        true => write!(f, "{}", net.ip()),
        false => write!(f, "{net}"),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Dns => f.write_str("dns"),
            Rule::Allow(traffic, peer) => write!(f, "{traffic}{peer}"),
        }
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, rule) in self.0.iter().enumerate() {
            write!(f, "{}{rule}", if at > 0 { "+" } else { "" })?;
        }
        Ok(())
    }
}

impl TryFrom<String> for AllowList {
    type Error = ListError;

    fn try_from(text: String) -> Result<Self, ListError> {
        text.parse()
    }
}

impl From<AllowList> for String {
    fn from(list: AllowList) -> Self {
        list.to_string()
    }
}

impl TryFrom<String> for GroupName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not the name of a group")
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> Self {
        name.0
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
