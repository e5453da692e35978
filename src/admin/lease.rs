//! Leases from DHCP servers and routers as the daemon reports them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::driver::{Driver, LeaseSlot, LeaseState};
use crate::model::{EndpointId, Held, IfName, LeaseSource, Mac, NetworkId, Vid};

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
    /// `4` if it is from a DHCP server, `slaac` if it is formed with the prefix of a router.
    #[serde(default = "dhcp4")]
    pub source: String,
    /// The container, as far as it is known.
    pub identity: String,
    /// The client identifier (option 61) in hexadecimal digits; empty without a DHCP server.
    pub client_id: String,
    /// The hardware address that the server knows.
    pub mac: Mac,
    /// `pending`, `bound`, `lost`, `expired`, `parked` or `remembered`.
    pub state: String,
    /// The address that was granted last.
    pub address: Option<IpAddr>,
    /// The address that the endpoint uses.
    pub used: Option<IpAddr>,
    /// The server, or the router that announced the prefix last.
    pub server: Option<IpAddr>,
    /// Since when it is granted.
    pub age: Option<u64>,
    /// When it ends; `None` if never or if there is none.
    pub expires: Option<u64>,
    /// How long new connections use an address of a router's prefix; `None` if for ever, or of a DHCP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<u64>,
    /// The router.
    pub gateway: Option<IpAddr>,
    /// The MTU in bytes that the server asks for.
    pub mtu: Option<u16>,
    /// Name servers, which no driver can pass to an engine.
    pub dns: Vec<IpAddr>,
    /// The domain name, likewise.
    pub domain: Option<String>,
    /// Time servers, likewise.
    pub ntp: Vec<IpAddr>,
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

fn dhcp4() -> String {
    LeaseSource::Dhcp4.word().to_owned()
}

fn line(slot: &LeaseSlot, now: u64) -> LeaseStatus {
    let record = &slot.record;
    let status = LeaseStatus {
        network: record.network.clone(),
        endpoint: record.endpoint.clone(),
        link: record.key.link.clone(),
        vlan: record.key.vlan,
        source: record.key.source.word().to_owned(),
        identity: record.key.owner.to_string(),
        client_id: match record.key.source {
            LeaseSource::Dhcp4 => record.client_id().iter().map(|byte| format!("{byte:02x}")).collect(),
            LeaseSource::Slaac => String::new(),
        },
        mac: record.mac,
        state: word(slot.state(now)).to_owned(),
        address: slot.client.address().or(record.address),
        used: record.used,
        server: None,
        age: None,
        expires: None,
        preferred: None,
        gateway: None,
        mtu: None,
        dns: Vec::new(),
        domain: None,
        ntp: Vec::new(),
    };
    let age = |granted: u64| Some(now.saturating_sub(granted) / 1000);
    let left = |end: u64| (end != u64::MAX).then(|| end.saturating_sub(now) / 1000);
    match slot.client.held() {
        None => status,
        Some(Held::Dhcp4(held)) => {
            let (granted, expires, lease) = (held.granted, held.expires(), held.lease);
            LeaseStatus {
                server: Some(lease.server.into()),
                age: age(granted),
                expires: left(expires),
                gateway: lease.gateway.map(IpAddr::V4),
                mtu: lease.mtu,
                dns: lease.dns.into_iter().map(IpAddr::V4).collect(),
                domain: lease.domain,
                ntp: lease.ntp.into_iter().map(IpAddr::V4).collect(),
                ..status
            }
        }
        Some(Held::Slaac(held)) => LeaseStatus {
            server: Some(held.router.into()),
            age: age(held.granted),
            expires: left(held.expires),
            preferred: left(held.deprecates),
            mtu: held.mtu,
            dns: held.dns.into_iter().map(IpAddr::V6).collect(),
            ..status
        },
    }
}
