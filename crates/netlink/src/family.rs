//! The two families of IP.

use std::fmt;
use std::net::IpAddr;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv6() { Family::V6 } else { Family::V4 }
    }

    /// Whether it is IPv6.
    pub fn is_v6(self) -> bool {
        self == Family::V6
    }

    /// `IPv4` or `IPv6`.
    pub fn name(self) -> &'static str {
        self.choose("IPv4", "IPv6")
    }

    /// Chooses by family.
    pub fn choose<T>(self, v4: T, v6: T) -> T {
        match self {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
