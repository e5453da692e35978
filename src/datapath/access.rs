//! Statements of the firewall's policy about who may talk to whom: which endpoints are restricted, and what they may
//! exchange with whom.
//!
//! What a network allows is stated once for its subnet, however many endpoints it has; what an endpoint allows in
//! addition, for its address. Source address validation proves the address. Routed packets pass table `inet pontoon`,
//! frames within a bridge table `bridge pontoon`, so most is stated for both ([`Place`]).

use std::net::IpAddr;
use std::time::Duration;

use crate::model::IfName;
use crate::model::access::Transport;

/// A direction, seen from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// What it sends.
    Egress,
    /// What is sent to it.
    Ingress,
}

impl Way {
    /// Both.
    pub const ALL: [Way; 2] = [Way::Egress, Way::Ingress];

    /// Chooses by direction.
    pub fn choose<T>(self, egress: T, ingress: T) -> T {
        match self {
            Way::Egress => egress,
            Way::Ingress => ingress,
        }
    }
}

/// Where a statement applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// To packets that the host routes.
    Routed,
    /// To frames within a bridge.
    Bridged,
}

impl Place {
    /// Both.
    pub const ALL: [Place; 2] = [Place::Routed, Place::Bridged];
}

/// First and last address of a range of one family.
pub type Range = (IpAddr, IpAddr);

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// The endpoint with this address is restricted in this direction.
    Restricted(Way, IpAddr),
    /// The endpoint at this port is restricted in this direction.
    RestrictedPort(Way, IfName),
    /// The endpoint with this address has a list in this direction, but what it does not allow is recorded and passes. Adding
    /// or removing it removes the records. It is not restricted at the same time.
    Audited(Way, IpAddr),
    /// The same for the endpoint at this port.
    AuditedPort(Way, IfName),
    /// Flows of this port within its bridge are tracked.
    TrackedPort(IfName),
    /// Endpoints in the first range may exchange this with peers in the second. Statements about one direction and
    /// place do not overlap.
    Allowed(Place, Way, Range, Transport, Range),
    /// Endpoints in the range may exchange this with the host.
    AllowedHost(Way, Range, Transport),
    /// DNS queries that come in by this bridge, the endpoint's, from this address of the endpoint are answered by Pontoon
    /// at this address of the host. Adding or removing it removes what names allowed the endpoint.
    Redirected(IfName, IpAddr, IpAddr),
}

/// Port of the host at which Pontoon answers DNS queries, by TCP and UDP: the same on all hosts, because rules name it.
pub const NAMES_PORT: u16 = 20_053;

/// What an audited endpoint did although its list does not allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The direction.
    pub way: Way,
    /// The endpoint's address.
    pub own: IpAddr,
    /// What it was; `None` for packets that were not recorded, because there were too many different ones.
    pub what: Option<Recorded>,
    /// How many packets; of a flow at least the first. Before Linux 5.7, 1.
    pub packets: u64,
}

/// Traffic that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recorded {
    /// IANA number of the protocol.
    pub protocol: u8,
    /// Port of the packets' destination; 0 for ICMP, without meaning for other protocols without ports.
    pub port: u16,
    /// The peer; `None` for the host.
    pub peer: Option<IpAddr>,
}

/// An address of a name that an endpoint may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The address.
    pub peer: IpAddr,
    /// How long it must be reachable at least.
    pub needed: Duration,
    /// How long it stays reachable if it was not, or not long enough.
    pub lifetime: Duration,
}

impl Access {
    /// Whether packets are evaluated because of it.
    pub fn restricts(&self) -> bool {
        matches!(self, Access::Restricted(..) | Access::RestrictedPort(..)) || self.audits()
    }

    /// Whether packets are recorded because of it.
    pub fn audits(&self) -> bool {
        matches!(self, Access::Audited(..) | Access::AuditedPort(..))
    }
}
