//! Lookups of DNS names for containers whose egress list has names, as the daemon reports them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::driver::Driver;

/// See the module documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesStatus {
    /// The number of such containers.
    pub endpoints: usize,
    /// How many of them use the host's name servers.
    pub by_host: usize,
    /// The host's name servers.
    pub servers: Vec<IpAddr>,
    /// Why their queries are not answered.
    pub failure: Option<String>,
}

/// The status of the daemon; `None` without such a container.
pub fn of_daemon(driver: &Driver) -> Option<NamesStatus> {
    let (endpoints, by_host) = driver.named_endpoints();
    let (servers, failure) = (driver.host_name_servers(), driver.names_failure());
    (endpoints > 0).then_some(NamesStatus { endpoints, by_host, servers, failure })
}
