//! The verb gw_alloc_check.

use crate::model::{GatewayMode, NetworkOptions};

/// The families for which a network needs no gateway address: its bridge has none. IPv4 first.
pub fn without_gateway(options: &NetworkOptions, internal: bool) -> (bool, bool) {
    let bridge = options.kind.has_bridge();
    // The router is that of the DHCP server, or the one that announces the prefix.
    let v4 = !bridge || options.dhcp.v4 || internal && (options.inhibit_ipv4 || options.mode4 == GatewayMode::Isolated);
    let v6 = !bridge || options.dhcp.slaac || internal && options.mode6 == GatewayMode::Isolated;
    (v4, v6)
}
