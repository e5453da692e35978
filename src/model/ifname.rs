//! Names of links: which texts the kernel accepts, and how Pontoon derives names from ids.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::digest;

/// Prefix of every link that Pontoon creates under a name of its own; one firewall rule with a wildcard
/// therefore covers any number of them.
pub const PREFIX: &str = "pnt";

/// Prefix of the links by which the host reaches containers on a parent. A link has no other mark that rules of the
/// firewall could match.
pub const HOST_LINK: &str = "pnts";

/// Maximum length of a link name, in bytes (`IFNAMSIZ - 1`, include/uapi/linux/if.h).
pub const MAX_IFNAME: usize = 15;

/// Why a text cannot be the name of a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IfNameError {
    /// Empty, or more than [`MAX_IFNAME`] bytes.
    #[error("{name:?} is {len} bytes long, a link name has 1 to {MAX_IFNAME}")]
    Length {
        /// The text.
        name: String,
        /// Its length in bytes.
        len: usize,
    },
    /// A character that the kernel rejects (`dev_valid_name`, net/core/dev.c) or expands (`%`).
    #[error("{name:?} has the character {found:?}, which a link name cannot have")]
    Character {
        /// The text.
        name: String,
        /// The first offending character.
        found: char,
    },
    /// `.` or `..`.
    #[error("{name:?} is not a link name")]
    Reserved {
        /// The text.
        name: String,
    },
}

/// A name that the kernel accepts for a link.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

/// Role of a link of Pontoon; determines the letter after [`PREFIX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRole {
    /// The bridge of a network.
    Bridge,
    /// The end of a veth pair that stays on the host, a port of the bridge.
    Host,
    /// The end of a veth pair that the engine moves into the sandbox.
    Peer,
    /// The tunnel of an overlay network, a port of its bridge.
    Vxlan,
    /// The link by which the host reaches containers on a parent, see [`HOST_LINK`].
    HostLink,
    /// The ifb link that what a container sends passes.
    Ifb,
}

impl LinkRole {
    fn letter(self) -> char {
        match self {
            LinkRole::Bridge => 'b',
            LinkRole::Host => 'h',
            LinkRole::Peer => 'c',
            LinkRole::Vxlan => 'x',
            LinkRole::HostLink => 's',
            LinkRole::Ifb => 'q',
        }
    }
}

impl IfName {
    /// Checks the rules of `dev_valid_name` (net/core/dev.c), and rejects `%` (a kernel template) and
    /// everything outside printable ASCII (legal, but hard to type).
    pub fn parse(text: &str) -> Result<Self, IfNameError> {
        let name = || text.to_owned();
        if text.is_empty() || text.len() > MAX_IFNAME {
            return Err(IfNameError::Length { name: name(), len: text.len() });
        }
        if text == "." || text == ".." {
            return Err(IfNameError::Reserved { name: name() });
        }
        if let Some(found) = text.chars().find(|c| !c.is_ascii_graphic() || "/:%\"\\".contains(*c)) {
            return Err(IfNameError::Character { name: name(), found });
        }
        Ok(Self(name()))
    }

    /// The name of `id`'s link. Attempt 0 shows the start of the id, so that the output of `ip link` and
    /// `docker network ls` can be matched by eye; later attempts, for ids with the same first eleven
    /// characters, use a digest. Upper case in ids is treated as lower case.
    pub fn derive(role: LinkRole, id: &str, attempt: u32) -> Self {
        let room = MAX_IFNAME - PREFIX.len() - 1;
        let shown: String =
            id.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).take(room).collect();
        let tail = if attempt == 0 && !shown.is_empty() {
            shown
        } else {
            base36(digest(["ifname", id, &attempt.to_string()]), room)
        };
        Self(format!("{PREFIX}{}{tail}", role.letter()))
    }

    /// The name of another link of the owner of this host end. It differs in one letter, because [`IfName::derive`]
    /// derives both from the same id; a name of another form is returned unchanged.
    pub fn beside_host_end(&self, role: LinkRole) -> Self {
        let tail = self.0.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(LinkRole::Host.letter()));
        tail.map_or_else(|| self.clone(), |tail| Self(format!("{PREFIX}{}{tail}", role.letter())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for a name that starts with [`PREFIX`].
    pub fn has_prefix(&self) -> bool {
        self.0.starts_with(PREFIX)
    }
}

/// Whether the engine's built-in driver gives its bridges such a name: `docker0`, `docker_gwbridge`, `br-`
/// and twelve hexadecimal digits.
pub fn is_engine_bridge(name: &str) -> bool {
    let derived = |id: &str| id.len() == 12 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    matches!(name, "docker0" | "docker_gwbridge") || name.strip_prefix("br-").is_some_and(derived)
}

fn base36(mut value: u64, width: usize) -> String {
    let mut text = String::with_capacity(width);
    for _ in 0..width {
        text.push(char::from_digit((value % 36) as u32, 36).unwrap_or('0'));
        value /= 36;
    }
    text
}

impl TryFrom<String> for IfName {
    type Error = IfNameError;
    fn try_from(text: String) -> Result<Self, IfNameError> {
        Self::parse(&text)
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> String {
        name.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_end_peer(host: &str) -> String {
        IfName::parse(host).unwrap().beside_host_end(LinkRole::Peer).into()
    }

    #[test]
    fn follows_the_kernel() {
        for good in ["eth0", "a", "br-0123456789ab", "foo.100", "pnt*"] {
            assert!(IfName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "eth%d", "0123456789abcdef", "é", "a\0"] {
            assert!(IfName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn derives_readable_names_and_falls_back_to_a_digest() {
        let id = "adec5e726bb8aecb5e82e07e3f97960b";
        assert_eq!(IfName::derive(LinkRole::Bridge, id, 0).as_str(), "pntbadec5e726bb");
        assert_eq!(IfName::derive(LinkRole::Host, id, 0).as_str(), "pnthadec5e726bb");
        let second = IfName::derive(LinkRole::Host, id, 1);
        assert_eq!(second.as_str(), "pnthkxmcyez9fmk");
        assert_eq!(second.as_str().len(), MAX_IFNAME);
        assert_ne!(second, IfName::derive(LinkRole::Host, &format!("{id}0"), 1));
        assert!(IfName::parse(second.as_str()).is_ok() && second.has_prefix());
        assert!(IfName::parse(IfName::derive(LinkRole::Peer, "...", 0).as_str()).is_ok());
        for attempt in 0..2 {
            let host = IfName::derive(LinkRole::Host, id, attempt);
            let other = host.beside_host_end(LinkRole::Ifb);
            assert_eq!(other.as_str(), host.as_str().replacen('h', "q", 1));
        }
        assert_eq!(host_end_peer("pnthadec5e726bb"), "pntcadec5e726bb");
        assert_eq!(host_end_peer("eth0"), "eth0");
    }
}
