//! Why an endpoint gets no lease.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use dhcp::{client, slaac};

use super::lessee::Seen;
use crate::model::{EndpointId, IfName, LeaseOwner, LeaseSource, NetworkId, options};

/// See the module documentation. Each message is one line with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// No server granted an address in time.
    #[error("network {network}: no {} on {place} within {} s: {outcome}", wanted(*.of), .patience.as_secs())]
    None {
        /// The network.
        network: NetworkId,
        /// The link, and the VLAN.
        place: String,
        /// Where the address was to come from.
        of: LeaseSource,
        /// How long it was waited for.
        patience: Duration,
        /// What was seen on the network instead.
        outcome: Box<Outcome>,
    },
    /// There are too many identities.
    #[error("network {network}: too many containers have addresses from local networks: remove some")]
    Full {
        /// The network.
        network: NetworkId,
    },
    /// Another endpoint has the identity.
    #[error(
        "network {network}: endpoint {other} already has the lease of {owner} on {place}: give this container another {}, or remove the other one",
        options::DHCP_ID
    )]
    InUse {
        /// The network.
        network: NetworkId,
        /// The link, and the VLAN.
        place: String,
        /// The identity.
        owner: LeaseOwner,
        /// The endpoint that has it.
        other: EndpointId,
    },
    /// An option of an endpoint that has a meaning only with DHCP.
    #[error("network {network}: {option} has an effect only on a network with -o {}={needs}: remove it", options::DHCP)]
    NoEffect {
        /// The network.
        network: NetworkId,
        /// The option.
        option: &'static str,
        /// The value that gives it one.
        needs: &'static str,
    },
    /// The network cannot use DHCP.
    #[error("network {network}: {}={words} {why}", options::DHCP)]
    Impossible {
        /// The network.
        network: NetworkId,
        /// The value of the option.
        words: String,
        /// Why, and the remedy.
        why: String,
    },
}

/// What was seen on the network of a client that got no lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The link, and the VLAN.
    pub place: String,
    /// The link.
    pub link: IfName,
    /// What the client saw.
    pub seen: Seen,
    /// Why nothing could be sent.
    pub failure: Option<String>,
}

fn wanted(source: LeaseSource) -> &'static str {
    match source {
        LeaseSource::Dhcp4 => "DHCP lease",
        LeaseSource::Slaac => "IPv6 address with the prefix of a router",
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(failure) = &self.failure {
            return write!(f, "{failure}; check `ip link show {}`", self.link);
        }
        match &self.seen {
            Seen::Dhcp4(seen) => of_servers(seen, &self.place, f),
            Seen::Slaac(seen) => of_routers(seen, &self.place, f),
        }
    }
}

fn list<T: ToString>(addresses: &BTreeSet<T>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

fn of_routers(seen: &slaac::Seen, place: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(address) = seen.declined {
        return write!(f, "another host has the address {address}: remove it from that host");
    }
    if seen.routers.is_empty() {
        return write!(
            f,
            "{} solicitations were sent and no router answered: check that a router on {place} sends advertisements, and that IPv6 is on for the link",
            seen.sent
        );
    }
    let routers = list(&seen.routers);
    let why = if seen.managed {
        "tells hosts to use DHCPv6, which this release does not do"
    } else {
        "announces no preferred prefix of 64 bits"
    };
    write!(f, "router {routers} {why}: set the flag A (autonomous) of a prefix of 64 bits there")
}

fn of_servers(seen: &client::Seen, place: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(address) = seen.declined {
        return write!(
            f,
            "another host has the offered address {address}: remove it from that host or from the server's range"
        );
    }
    if let Some((server, text)) = &seen.refusal {
        let text = text.as_ref().map(|text| format!(" ({text:?})")).unwrap_or_default();
        return write!(
            f,
            "server {server} refused the address{text} and offered no other: check the server's range and log"
        );
    }
    if !seen.offers.is_empty() {
        let servers = list(&seen.offers);
        return write!(f, "server {servers} offered an address and did not confirm it: check the server's log");
    }
    if !seen.ignored.is_empty() {
        let servers = list(&seen.ignored);
        return write!(f, "only server {servers} answered, which {} excludes: add it there", options::DHCP_SERVER);
    }
    if seen.sent == 0 {
        return write!(f, "other new containers on {place} were asked for first: start it again");
    }
    write!(
        f,
        "{} requests were sent and no server answered: check that a DHCP server serves {place} and has free addresses; a slow one may need a larger {}",
        seen.sent,
        options::DHCP_TIMEOUT
    )
}
