//! Leases from DHCP servers as the daemon reports them.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::driver::{Driver, LeaseSlot, LeaseState};
use crate::model::{EndpointId, IfName, Mac, NetworkId, Vid};

/// An identity and its lease. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The network of the endpoint that has or had it.
    pub network: NetworkId,
    /// The endpoint that has it.
    pub endpoint: Option<EndpointId>,
    /// The link of the network: its bridge, or the parent.
    pub link: IfName,
    /// The VLAN of the bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// The container, as far as it is known.
    pub identity: String,
    /// The client identifier (option 61) in hexadecimal digits.
    pub client_id: String,
    /// The hardware address that the server knows.
    pub mac: Mac,
    /// `pending`, `bound`, `lost`, `expired`, `parked` or `remembered`.
    pub state: String,
    /// The address that the server granted last.
    pub address: Option<Ipv4Addr>,
    /// The address that the endpoint uses.
    pub used: Option<Ipv4Addr>,
    /// The server.
    pub server: Option<Ipv4Addr>,
    /// Since when it is granted.
    pub age: Option<u64>,
    /// When it ends; `None` if never or if there is none.
    pub expires: Option<u64>,
    /// The router.
    pub gateway: Option<Ipv4Addr>,
    /// The MTU in bytes that the server asks for.
    pub mtu: Option<u16>,
    /// Name servers, which no driver can pass to an engine.
    pub dns: Vec<Ipv4Addr>,
    /// The domain name, likewise.
    pub domain: Option<String>,
    /// Time servers, likewise.
    pub ntp: Vec<Ipv4Addr>,
}

/// The name of a state.
pub fn word(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Pending => "pending",
        LeaseState::Bound => "bound",
        LeaseState::Lost => "lost",
        LeaseState::Expired => "expired",
        LeaseState::Parked => "parked",
        LeaseState::Remembered => "remembered",
    }
}

/// The status of the daemon.
pub fn of_daemon(driver: &Driver) -> Vec<LeaseStatus> {
    driver.read_leases(line)
}

fn line(slot: &LeaseSlot, now: u64) -> LeaseStatus {
    let (record, held) = (&slot.record, slot.client.held());
    let lease = held.map(|held| &held.lease);
    let expires = held.map(|held| held.expires()).filter(|end| *end != u64::MAX);
    LeaseStatus {
        network: record.network.clone(),
        endpoint: record.endpoint.clone(),
        link: record.key.link.clone(),
        vlan: record.key.vlan,
        identity: record.key.owner.to_string(),
        client_id: record.client_id().iter().map(|byte| format!("{byte:02x}")).collect(),
        mac: record.mac,
        state: word(slot.state(now)).to_owned(),
        address: lease.map(|lease| lease.address).or(record.address),
        used: record.used,
        server: lease.map(|lease| lease.server),
        age: held.map(|held| now.saturating_sub(held.granted) / 1000),
        expires: expires.map(|end| end.saturating_sub(now) / 1000),
        gateway: lease.and_then(|lease| lease.gateway),
        mtu: lease.and_then(|lease| lease.mtu),
        dns: lease.map(|lease| lease.dns.clone()).unwrap_or_default(),
        domain: lease.and_then(|lease| lease.domain.clone()),
        ntp: lease.map(|lease| lease.ntp.clone()).unwrap_or_default(),
    }
}
