//! The choice of a parent: which link of a host is the parent of the endpoints' links. Hosts of a Swarm give their links
//! different names, so a network may name several links, or a link by what it is for.

use std::fmt;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{IfName, Vid};

/// The form of a choice, for messages.
pub const PARENT_FORM: &str = "link names joined by ',', @default, or @SUBNET like @192.168.1.0/24, each with .VID if it \
                               is to be a VLAN";

/// What names the link of the default route.
const DEFAULT: &str = "@default";

/// One candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// The link of this name.
    Link(IfName),
    /// The link of the default route, or its VLAN.
    DefaultRoute(Option<Vid>),
    /// The link that has an address in this subnet, or its VLAN.
    Subnet(IpNetwork, Option<Vid>),
}

/// Candidates in order of preference, at least one: the first that a host has is the parent there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ParentChoice(Vec<Candidate>);

impl ParentChoice {
    /// The candidates, in order of preference.
    pub fn candidates(&self) -> &[Candidate] {
        &self.0
    }

    /// The link, if it is the same on every host.
    pub fn fixed(&self) -> Option<&IfName> {
        match &self.0[..] {
            [Candidate::Link(name)] => Some(name),
            _ => None,
        }
    }
}

impl FromStr for Candidate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || PARENT_FORM.to_owned();
        let Some(named) = text.strip_prefix('@') else {
            return IfName::parse(text).map(Self::Link).map_err(|error| error.to_string());
        };
        if let Some(rest) = text.strip_prefix(DEFAULT) {
            return match rest.strip_prefix('.') {
                None if rest.is_empty() => Ok(Self::DefaultRoute(None)),
                Some(vid) => vid.parse().map(|vid| Self::DefaultRoute(Some(vid))).map_err(|_| form()),
                None => Err(form()),
            };
        }
        // A subnet has a prefix length, and only what is after that can be a VLAN.
        let (address, rest) = named.split_once('/').ok_or_else(form)?;
        let (length, vid) = match rest.split_once('.') {
            Some((length, vid)) => (length, Some(vid.parse().map_err(|_| form())?)),
            None => (rest, None),
        };
        let subnet: IpNetwork = format!("{address}/{length}").parse().map_err(|_| form())?;
        match subnet.ip() == subnet.network() {
            true => Ok(Self::Subnet(subnet, vid)),
            false => Err(format!("a subnet without host bits, @{}/{}", subnet.network(), subnet.prefix())),
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vid = match self {
            Self::Link(name) => return write!(f, "{name}"),
            Self::DefaultRoute(vid) => {
                f.write_str(DEFAULT)?;
                vid
            }
            Self::Subnet(subnet, vid) => {
                write!(f, "@{subnet}")?;
                vid
            }
        };
        vid.map_or(Ok(()), |vid| write!(f, ".{vid}"))
    }
}

impl FromStr for ParentChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|one| one.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<String> for ParentChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ParentChoice> for String {
    fn from(choice: ParentChoice) -> String {
        choice.to_string()
    }
}

impl fmt::Display for ParentChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, candidate) in self.0.iter().enumerate() {
            write!(f, "{}{candidate}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_written_as_it_was_read() {
        for text in [
            "eth0",
            "eth0.40",
            "eth0,eno1.40",
            "@default",
            "@default.40",
            "@192.168.1.0/24",
            "@192.168.1.0/24.40,@2001:db8::/64,@2001:db8::/64.4094,@default,eth0",
        ] {
            assert_eq!(text.parse::<ParentChoice>().unwrap().to_string(), text);
        }
        assert_eq!(" eth0 , eno1 ".parse::<ParentChoice>().unwrap().to_string(), "eth0,eno1");
    }

    #[test]
    fn other_forms_are_refused_with_what_was_expected() {
        for (text, says) in [
            ("", "0 bytes long"),
            ("eth0,", "0 bytes long"),
            ("@", "@default"),
            ("@default.", "@default"),
            ("@default.0", "@default"),
            ("@default.4095", "@default"),
            ("@defaults", "@default"),
            ("@eth0", "@default"),
            ("@192.168.1.0", "@192.168.1.0/24"),
            ("@192.168.1.0/24.x", "@192.168.1.0/24"),
            ("@192.168.1.0/33", "@192.168.1.0/24"),
            ("@192.168.1.7/24", "@192.168.1.0/24"),
            ("a-link-name-too-long", "bytes long"),
        ] {
            let refused = text.parse::<ParentChoice>().unwrap_err();
            assert!(refused.contains(says), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_single_name_is_the_same_on_every_host() {
        let fixed = |text: &str| text.parse::<ParentChoice>().unwrap().fixed().map(IfName::to_string);
        assert_eq!(fixed("eth0.40").as_deref(), Some("eth0.40"));
        assert_eq!((fixed("eth0,eth1"), fixed("@default")), (None, None));
    }
}
