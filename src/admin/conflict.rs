//! Address conflicts as the daemon reports them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::driver::Driver;
use crate::model::{EndpointId, IfName, Mac, NetworkId};

/// An address that a container and another host have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressConflict {
    /// The network of the container.
    pub network: NetworkId,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// The link on whose network the other host is.
    pub link: IfName,
    /// The address.
    pub address: IpAddr,
    /// The container's hardware address; `None` if it has that of the link.
    pub mac: Option<Mac>,
    /// The hardware address of the other host.
    pub other: Mac,
}

/// What is known about conflicts on the networks of this host's links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictStatus {
    /// Whether they can be found: whether the daemon was started with CAP_NET_RAW.
    pub found: bool,
    /// Whether the process that opens packet sockets, `pontoon-packets`, has ended: no further link is listened to.
    #[serde(default)]
    pub deaf: bool,
    /// Those of the last ten minutes.
    pub present: Vec<AddressConflict>,
}

/// The status of the daemon; `None` if no network has other hosts.
pub fn of_daemon(driver: &Driver) -> Option<ConflictStatus> {
    let found = driver.finds_conflicts()?;
    let line = |conflict: crate::driver::Conflict| {
        let (of, link, address, other) = (conflict.of, conflict.link, conflict.address, conflict.other);
        AddressConflict { network: of.network, endpoint: of.endpoint, link, address, mac: of.mac, other }
    };
    let deaf = found && !driver.opens_sockets();
    Some(ConflictStatus { found, deaf, present: driver.conflicts().into_iter().map(line).collect() })
}
