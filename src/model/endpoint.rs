//! An endpoint and the phases of its life.
//!
//! ```text
//!            create_endpoint          join              leave
//!  (nothing) ----------------> Ready ------> Joined ----------> Left
//!                                |              |  <-- join ---   |
//!                                +--------------+-----------------+-- delete_endpoint --> (nothing)
//! ```
//! Every arrow may be repeated, and `leave` or `delete_endpoint` may come in any phase or never
//! (protocol.md 3.3, 3.5). The driver's maintenance removes endpoints that stay Ready or Left beyond a grace period,
//! and Joined endpoints whose links are gone. `delete_endpoint` removes the endpoint from the state before it
//! answers; the datapath deletes the links later.

use std::net::IpAddr;

use dhcp::slaac;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::access::StoredLists;
use super::lease::Lease;
use super::{Attachment, Binding, EndpointId, EndpointOptions, Mac, NetworkId, Published};

/// What CreateEndpoint asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// The network that it belongs to.
    pub network: NetworkId,
    /// The engine's id.
    pub id: EndpointId,
    /// IPv4 address with the pool's prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<IpNetwork>,
    /// IPv6 address with the pool's prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<IpNetwork>,
    /// A MAC chosen by the user or the IPAM driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The user's options.
    #[serde(default)]
    pub options: EndpointOptions,
}

impl EndpointSpec {
    /// Its addresses, IPv4 first; none with the `null` IPAM driver.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [self.v4, self.v6].into_iter().flatten().map(|net| net.ip())
    }
}

/// Phase in the life of an endpoint; see the diagram in the module documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The pair exists; its container end is in the host's namespace.
    Ready,
    /// The engine moved (or is about to move) the container end into a sandbox.
    Joined,
    /// The engine moves the container end out again, or the sandbox died with it.
    Left,
}

/// An endpoint in Pontoon's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// What was asked for.
    pub spec: EndpointSpec,
    /// Its links.
    pub attachment: Attachment,
    /// The MAC of the link in the sandbox: the requested one, or the derived one.
    pub mac: Mac,
    /// Its phase.
    pub phase: Phase,
    /// When it entered the phase, in seconds of the host's monotonic clock; 0 when unknown.
    #[serde(default)]
    pub since: u64,
    /// The sandbox that it joined, as the engine names it: endpoints of one container have the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The ports that the engine last asked to publish, while this network carries the sandbox's default
    /// route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
    /// Whether another endpoint of the container carries its IPv6 default route and publishes the IPv6 ports.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v4_only: bool,
    /// The lease that its IPv4 address is from, as it was when the endpoint was created. It is not part of what was asked
    /// for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<Lease>>,
    /// What its IPv6 address was formed with, if with the prefix of a router; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slaac: Option<Box<slaac::Held>>,
    /// Lists that an operator set.
    #[serde(default, skip_serializing_if = "StoredLists::is_empty")]
    pub stored: StoredLists,
    /// The resulting published ports on host addresses (modes `nat` and `nat-unprotected`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
}

impl Endpoint {
    /// Whether this is the endpoint that a request asks for.
    pub fn answers(&self, asked: &EndpointSpec) -> bool {
        let (v4, v6) = self.leased();
        if v4.is_none() && v6.is_none() {
            return self.spec == *asked;
        }
        let EndpointSpec { v4: own_v4, v6: own_v6, .. } = self.spec;
        let spec = EndpointSpec {
            v4: own_v4.filter(|_| v4.is_none()),
            v6: own_v6.filter(|_| v6.is_none()),
            ..self.spec.clone()
        };
        spec == *asked
    }

    /// Its addresses that Pontoon obtained, IPv4 first.
    pub fn leased(&self) -> (Option<IpNetwork>, Option<IpNetwork>) {
        (self.spec.v4.filter(|_| self.lease.is_some()), self.spec.v6.filter(|_| self.slaac.is_some()))
    }

    /// MTU of its link in the sandbox, in bytes, on a network with the given one: the server or the
    /// router may ask for a smaller one.
    pub fn mtu(&self, network: u32) -> u32 {
        let leased = [self.lease.as_ref().and_then(|lease| lease.mtu), self.slaac.as_ref().and_then(|held| held.mtu)];
        leased.into_iter().flatten().fold(network, |least, mtu| least.min(u32::from(mtu)))
    }
}
