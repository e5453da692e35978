//! The rows of options for addresses from DHCP servers and routers.

use super::table::{OptionRow, Support, row};

/// Key of the option that gives endpoints addresses from a DHCP server.
pub const DHCP: &str = "pontoon.dhcp";
/// Key of the option for the time that a start waits for a lease.
pub const DHCP_TIMEOUT: &str = "pontoon.dhcp.timeout";
/// Key of the option for the time that an unused lease is kept.
pub const DHCP_PARK: &str = "pontoon.dhcp.park";
/// Key of the option for the servers that are listened to.
pub const DHCP_SERVER: &str = "pontoon.dhcp.server";
/// Key of the option that names an endpoint for its lease.
pub const DHCP_ID: &str = "pontoon.dhcp.id";
/// Key of the option for the host name that the server is told.
pub const DHCP_HOSTNAME: &str = "pontoon.dhcp.hostname";
/// Key of the option for the address to ask for.
pub const DHCP_REQUEST: &str = "pontoon.dhcp.request";

pub(super) const ROW: OptionRow = row(
    DHCP,
    "4, slaac, or both joined by ','",
    "",
    Support::Pontoon,
    "Containers get their addresses from the local network, on a bridge of the user, macvlan or ipvlan l2, together with `--ipam-driver null`: IPv4 addresses from a DHCP server (`4`), IPv6 addresses with the prefix that a router announces (`slaac`).",
);

pub(super) const TIMEOUT_ROW: OptionRow = row(
    DHCP_TIMEOUT,
    "1 to 9, seconds",
    "8",
    Support::Pontoon,
    "How long a start waits for a lease. Pontoon goes on asking for half a minute, so that the next start finds it.",
);

pub(super) const PARK_ROW: OptionRow = row(
    DHCP_PARK,
    "0 to 86400, seconds",
    "600",
    Support::Pontoon,
    "How long Pontoon keeps the lease of a stopped container; then it gives the lease back, and remembers the address.",
);

pub(super) const SERVER_ROW: OptionRow = row(
    DHCP_SERVER,
    "IPv4 addresses joined by ','",
    "every server",
    Support::Pontoon,
    "The only DHCP servers whose answers count.",
);

pub(super) const ID_ROW: OptionRow = row(
    DHCP_ID,
    "up to 63 letters, digits, '-', '_' and '.'",
    "derived from the published ports, options and name servers of the container",
    Support::Pontoon,
    "The name by which this container gets the same address again, and by which the server can reserve one (option 61). On one link no two running containers can have the same.",
);

pub(super) const HOSTNAME_ROW: OptionRow = row(
    DHCP_HOSTNAME,
    "up to 63 letters, digits, '-', '_' and '.'",
    "that of pontoon.dhcp.id",
    Support::Pontoon,
    "The host name that the DHCP server is told (option 12).",
);

pub(super) const REQUEST_ROW: OptionRow = row(
    DHCP_REQUEST,
    "IPv4 address",
    "the one it had before",
    Support::Pontoon,
    "The address that this container would like to have (option 50); the DHCP server decides.",
);
