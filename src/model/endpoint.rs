//! Owns what an endpoint is and the phases of its life.
//!
//! ```text
//!            create_endpoint          join              leave
//!  (nothing) ----------------> Ready ------> Joined ----------> Left
//!                                |              |  <-- join ---   |
//!                                +--------------+-----------------+-- delete_endpoint --> (nothing)
//! ```
//! Every arrow may be repeated, and `leave` or `delete_endpoint` may come in any phase or never
//! (protocol.md 3.3, 3.5): what stays Ready or Left beyond a grace period, and what is Joined
//! while its links are gone, is removed by the driver's upkeep. The deferred deletion of the
//! links is the datapath's business: an endpoint is gone from the state when `delete_endpoint`
//! answers.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{Attachment, Binding, EndpointId, EndpointOptions, Mac, NetworkId, Published};

/// What CreateEndpoint asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// The network it belongs to.
    pub network: NetworkId,
    /// The engine's id.
    pub id: EndpointId,
    /// IPv4 address with the pool's prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<IpNetwork>,
    /// IPv6 address with the pool's prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<IpNetwork>,
    /// A MAC that the user or the IPAM driver chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// What the user said about it.
    #[serde(default)]
    pub options: EndpointOptions,
}

impl EndpointSpec {
    /// The addresses that it has, IPv4 first; none with the `null` IPAM driver.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [self.v4, self.v6].into_iter().flatten().map(|net| net.ip())
    }
}

/// Where in its life an endpoint is; see the module's drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The pair exists, its container end is in the host's namespace.
    Ready,
    /// The engine moved (or is about to move) the container end into a sandbox.
    Joined,
    /// The engine takes the container end out again, or the sandbox died with it.
    Left,
}

/// An endpoint as Pontoon holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// What was asked for.
    pub spec: EndpointSpec,
    /// Its links.
    pub attachment: Attachment,
    /// The MAC of the link in the sandbox: the one asked for, or the derived one.
    pub mac: Mac,
    /// Where in its life it is.
    pub phase: Phase,
    /// When it came there, in seconds of the host's monotonic clock; 0 when that is not known.
    #[serde(default)]
    pub since: u64,
    /// The sandbox it joined, as the engine names it: endpoints of one container have the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The ports that it was last told to publish, while it is the sandbox's way out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
    /// Whether another endpoint of the container is its way out for IPv6, and publishes there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v4_only: bool,
    /// What they turned into on host addresses (modes `nat` and `nat-unprotected`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
}
