//! What audited endpoints did although their lists do not allow it, as operators see it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::datapath::access::{Record, Way};
use crate::datapath::{KernelError, kind};
use crate::driver::Driver;
use crate::model::access::learned::Seen;
use crate::model::{EndpointId, NetworkId};

/// The answer of `GET /audit`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AuditList {
    /// All audited endpoints.
    pub audits: Vec<AuditStatus>,
}

/// What one endpoint did in the last day, since it is audited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// Its network.
    pub network: NetworkId,
    /// Its id.
    pub endpoint: EndpointId,
    /// What it sent.
    pub egress: Vec<AuditLine>,
    /// What was sent to it.
    pub ingress: Vec<AuditLine>,
    /// Names that it looked up since the daemon started, with addresses of which none is in `egress`.
    #[serde(default)]
    pub looked_up: Vec<String>,
    /// Packets that were not recorded.
    pub unrecorded: u64,
}

/// What is alike, and how many packets it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// The traffic.
    #[serde(flatten)]
    pub seen: Seen,
    /// The packets; of a flow at least the first.
    pub packets: u64,
}

/// What the audited endpoints of this daemon did.
///
/// # Errors
/// The kernel's.
pub fn of_daemon(driver: &Driver) -> Result<AuditList, KernelError> {
    let mut records: BTreeMap<IpAddr, Vec<Record>> = BTreeMap::new();
    for record in driver.reconciler().kernel().records()? {
        records.entry(record.own).or_default().push(record);
    }
    let mut audits = Vec::new();
    for held in driver.networks() {
        for endpoint in held.endpoints.values() {
            let restricted = kind::access::is_restricted(&held.network, endpoint);
            if restricted && kind::access::is_audited(&held.network, endpoint) {
                let own: Vec<IpAddr> = endpoint.spec.addresses().collect();
                let records = own.iter().filter_map(|own| records.get(own)).flatten();
                let (network, endpoint) = (held.network.spec.id.clone(), endpoint.spec.id.clone());
                audits.push(of_endpoint(driver, network, endpoint, &own, records));
            }
        }
    }
    Ok(AuditList { audits })
}

fn of_endpoint<'a>(
    driver: &Driver,
    network: NetworkId,
    endpoint: EndpointId,
    own: &[IpAddr],
    records: impl Iterator<Item = &'a Record>,
) -> AuditStatus {
    let named = own.iter().find_map(|own| driver.named(*own)).filter(|named| named.endpoint == endpoint);
    let mut learned: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for (peer, names) in named.map(|named| named.learned()).unwrap_or_default() {
        learned.insert(peer, names.iter().map(ToString::to_string).collect());
    }
    let (mut egress, mut ingress, mut unrecorded) = (Vec::new(), Vec::new(), 0);
    for record in records {
        let Some(what) = &record.what else {
            unrecorded += record.packets;
            continue;
        };
        let names = what.peer.filter(|_| record.way == Way::Egress).and_then(|peer| learned.get(&peer));
        let names = names.cloned().unwrap_or_default().into_iter().collect();
        let seen = Seen { protocol: what.protocol, port: what.port, peer: what.peer, names };
        record.way.choose(&mut egress, &mut ingress).push(AuditLine { seen, packets: record.packets });
    }
    let met = |name: &String| egress.iter().any(|line: &AuditLine| line.seen.names.contains(name));
    let mut looked_up: Vec<String> = learned.into_values().flatten().filter(|name| !met(name)).collect();
    looked_up.sort_unstable();
    looked_up.dedup();
    AuditStatus { network, endpoint, egress, ingress, looked_up, unrecorded }
}
