//! Refuses networks that cannot work although each setting parses: subnets that no link can have, unusable
//! gateways, options that contradict each other. Each error is one line with the remedy.
//!
//! Pure. Applied to new networks only; networks that an earlier release accepted continue to work.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::model::{GatewayMode, IfName, Network, NetworkOptions, NetworkSpec, Subnet, ifname, options, overlap};

/// Why a network could never work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SanityError {
    /// The subnet has addresses that the kernel assigns to no link.
    #[error("subnet {pool} has addresses of {of}: choose another --subnet, for instance {instead}")]
    Subnet {
        /// The given subnet.
        pool: IpNetwork,
        /// The reserved block that it overlaps, and its purpose.
        of: &'static str,
        /// A usable subnet.
        instead: &'static str,
    },
    /// The network or broadcast address of the subnet.
    #[error("{what} {address} is the {which} address of subnet {pool}: choose another")]
    Common {
        /// The role of the address.
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// `network` or `broadcast`.
        which: &'static str,
        /// The subnet.
        pool: IpNetwork,
    },
    /// The endpoint asks for the address of the bridge.
    #[error("address {address} is the gateway of the network, its bridge has it: choose another")]
    Gateway {
        /// The address.
        address: IpAddr,
    },
    /// A gateway mode that opens a network, together with `--internal`, which closes it.
    #[error(
        "gateway mode {mode} opens the network, which contradicts --internal: omit one of them, or use mode isolated"
    )]
    ModeOfInternal {
        /// The mode.
        mode: &'static str,
    },
    /// Mode `isolated` on a network that is not internal.
    #[error("gateway mode isolated is for internal networks: add --internal, or choose another mode")]
    IsolatedNotInternal,
    /// IPv6 needs 1280 bytes (RFC 8200, 5).
    #[error("an MTU of {mtu} is too small for IPv6: choose at least 1280 or leave IPv6 off")]
    MtuForIpv6 {
        /// The given MTU, in bytes.
        mtu: u32,
    },
    /// The bridge belongs to the engine.
    #[error(
        "{name} is a bridge of Docker's own networks: choose another com.docker.network.bridge.name, or leave it out"
    )]
    EngineBridge {
        /// The name.
        name: IfName,
    },
    /// The kernel or iptables would apply the name to several links.
    #[error("{name} stands for several links: choose another com.docker.network.bridge.name, or leave it out")]
    NoOneLink {
        /// The name.
        name: IfName,
    },
    /// Several names in one value.
    #[error("{} has {given:?}, which is no link name: join the names by ':'", options::TRUSTED)]
    Joined {
        /// The given value.
        given: IfName,
    },
    /// The address cannot be the source of packets or bound by sockets.
    #[error("option {option}: {address} is no address that a host can have there: give one of this host's own")]
    Address {
        /// The option.
        option: &'static str,
        /// The given address.
        address: IpAddr,
    },
}

/// Address blocks that no network can use, each with an example of a usable subnet.
fn reserved() -> [(IpNetwork, &'static str); 8] {
    let v4 = |a, b, c, d, prefix| Ipv4Network::new(Ipv4Addr::new(a, b, c, d), prefix).map(IpNetwork::V4);
    let v6 = |first: u16, sixth, prefix| {
        Ipv6Network::new([first, 0, 0, 0, 0, sixth, 0, 0].into(), prefix).map(IpNetwork::V6)
    };
    let fallback = IpNetwork::V4(Ipv4Network::from(Ipv4Addr::LOCALHOST));
    [
        (v4(0, 0, 0, 0, 8), "0.0.0.0/8, which means \"this network\""),
        (v4(127, 0, 0, 0, 8), "127.0.0.0/8, which every host keeps to itself"),
        (v4(224, 0, 0, 0, 4), "224.0.0.0/4, which are multicast groups"),
        (v4(255, 255, 255, 255, 32), "255.255.255.255, the broadcast to all"),
        (v6(0, 0, 96), "::/96, which has the unspecified and the loopback address"),
        (v6(0, 0xffff, 96), "::ffff:0:0/96, which stand for IPv4"),
        (v6(0xfe80, 0, 10), "fe80::/10, which are never routed"),
        (v6(0xff00, 0, 8), "ff00::/8, which are multicast groups"),
    ]
    .map(|(net, what)| (net.unwrap_or(fallback), what))
}

/// Checks that a link can have addresses of this subnet.
pub fn subnet(pool: &IpNetwork) -> Result<(), SanityError> {
    let instead = if pool.is_ipv4() { "10.96.0.0/24" } else { "fd12:3456:789a:1::/64" };
    match reserved().iter().find(|(block, _)| overlap(block, pool)) {
        Some((_, of)) => Err(SanityError::Subnet { pool: *pool, of, instead }),
        None => Ok(()),
    }
}

/// Checks that one member of an IPv4 subnet can have the address. IPv6 has no broadcast, and a router may have
/// the first address like any other.
fn of_one(what: &'static str, address: IpAddr, pool: IpNetwork) -> Result<(), SanityError> {
    let which = match pool {
        IpNetwork::V4(net) if net.prefix() < 31 && address == net.network() => "network",
        IpNetwork::V4(net) if net.prefix() < 31 && address == net.broadcast() => "broadcast",
        _ => return Ok(()),
    };
    Err(SanityError::Common { what, address, which, pool })
}

/// Checks that the MTU that the options choose is possible, with IPv6 or without.
pub fn mtu(options: &NetworkOptions, has_v6: bool) -> Result<(), SanityError> {
    match options.mtu {
        Some(mtu @ 0..1280) if has_v6 => Err(SanityError::MtuForIpv6 { mtu }),
        _ => Ok(()),
    }
}

/// Checks that a new network can work.
pub fn network(spec: &NetworkSpec) -> Result<(), SanityError> {
    for Subnet { pool, gateway, default_gateway, .. } in spec.subnets() {
        subnet(pool)?;
        for (what, address) in [("gateway", gateway), ("default gateway", default_gateway)] {
            address.map_or(Ok(()), |address| of_one(what, address, *pool))?;
        }
    }
    let options = &spec.options;
    mtu(options, spec.v6.is_some())?;
    if !spec.internal && [options.mode4, options.mode6].contains(&GatewayMode::Isolated) {
        return Err(SanityError::IsolatedNotInternal);
    }
    for mode in [options.mode4, options.mode6].into_iter().filter(|_| spec.internal) {
        match mode {
            GatewayMode::Routed => return Err(SanityError::ModeOfInternal { mode: "routed" }),
            GatewayMode::NatUnprotected => return Err(SanityError::ModeOfInternal { mode: "nat-unprotected" }),
            GatewayMode::Nat | GatewayMode::Isolated => {}
        }
    }
    if let Some(name) = &options.bridge_name {
        if ifname::is_engine_bridge(name.as_str()) {
            return Err(SanityError::EngineBridge { name: name.clone() });
        }
        if matches!(name.as_str(), "all" | "default") || name.as_str().ends_with(['+', '*']) {
            return Err(SanityError::NoOneLink { name: name.clone() });
        }
    }
    if let Some(given) = options.trusted.iter().find(|name| name.as_str().contains([',', ';'])) {
        return Err(SanityError::Joined { given: given.clone() });
    }
    let addresses = [
        (options::HOST_BINDING, options.host_binding.filter(|ip| !ip.is_unspecified() && !ip.is_loopback())),
        (options::HOST_IPV4, options.host_ipv4.map(IpAddr::V4)),
        (options::HOST_IPV6, options.host_ipv6.map(IpAddr::V6)),
    ];
    for (option, address) in addresses {
        let Some(address) = address else { continue };
        let nobodys = match address {
            IpAddr::V4(ip) => ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
        };
        if nobodys || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
            return Err(SanityError::Address { option, address });
        }
    }
    Ok(())
}

/// Options of a network that have no effect on it, each with the reason. They contradict nothing, and an
/// engine's `default-network-opts` sets them on every network: so they are logged and not refused.
pub fn without_effect(spec: &NetworkSpec) -> Vec<String> {
    let options = &spec.options;
    let has = |mode, here: bool| here && !spec.internal && options.masquerade && mode != GatewayMode::Routed;
    let internal = "the network is internal";
    let given = [
        (options.mode6 != GatewayMode::Nat && spec.v6.is_none(), options::GATEWAY_MODE_6, "the network has no IPv6"),
        (options.mode4 != GatewayMode::Nat && spec.v4.is_none(), options::GATEWAY_MODE_4, "the network has no IPv4"),
        (
            options.host_ipv4.is_some() && !has(options.mode4, spec.v4.is_some()),
            options::HOST_IPV4,
            "no IPv4 leaves with another address",
        ),
        (
            options.host_ipv6.is_some() && !has(options.mode6, spec.v6.is_some()),
            options::HOST_IPV6,
            "no IPv6 leaves with another address",
        ),
        (spec.internal && options.host_binding.is_some(), options::HOST_BINDING, internal),
        (spec.internal && !options.trusted.is_empty(), options::TRUSTED, internal),
        (spec.internal && !options.allow.is_empty(), options::ALLOW, internal),
    ];
    given.iter().filter(|(given, ..)| *given).map(|(_, key, why)| format!("{key}: {why}")).collect()
}

/// Checks that an endpoint of this network can have the address: it is not the network, broadcast or gateway
/// address.
pub fn endpoint(network: &Network, address: IpAddr, subnet: &Subnet) -> Result<(), SanityError> {
    of_one("address", address, subnet.pool)?;
    let options = &network.spec.options;
    let mode = if address.is_ipv4() { options.mode4 } else { options.mode6 };
    let on_bridge = mode != GatewayMode::Isolated && !(address.is_ipv4() && options.inhibit_ipv4);
    // Pontoon does not check whether a bridge of the user has it.
    if network.kind.owns_bridge() && on_bridge && subnet.gateway == Some(address) {
        return Err(SanityError::Gateway { address });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_that_no_link_can_have_are_refused_and_odd_ones_are_not() {
        for pool in [
            "0.1.0.0/16",
            "127.0.0.0/24",
            "127.255.0.0/16",
            "224.0.0.0/24",
            "239.1.2.0/24",
            "255.255.255.0/24",
            "255.255.255.255/32",
            "0.0.0.0/1",
            "::/64",
            "::1/128",
            "::10.0.0.0/120",
            "::ffff:10.0.0.0/120",
            "fe80::/64",
            "febf::/64",
            "ff02::/64",
            "8000::/1",
        ] {
            let text = subnet(&net(pool)).unwrap_err().to_string();
            assert!(text.contains(&net(pool).to_string()) && text.contains("--subnet"), "{text}");
        }
        // IPv4 link-local addresses serve cloud metadata services; 240.0.0.0/4 works on Linux.
        for pool in [
            "10.0.0.0/8",
            "169.254.170.0/24",
            "100.64.0.0/10",
            "240.0.0.0/24",
            "255.255.254.0/24",
            "198.18.0.0/15",
            "192.0.2.0/31",
            "192.0.2.7/32",
            "fd00::/64",
            "2001:db8::/32",
            "fec0::/64",
            "64:ff9b::/96",
            "::1:0:0:0/80",
        ] {
            assert_eq!(subnet(&net(pool)), Ok(()), "{pool}");
        }
        assert_eq!(reserved().iter().filter(|(block, _)| block.ip().is_loopback()).count(), 1, "all blocks parse");
    }

    #[test]
    fn an_mtu_below_1280_is_refused_with_ipv6_only() {
        let options = |mtu| NetworkOptions { mtu, ..NetworkOptions::default() };
        assert_eq!(mtu(&options(Some(1279)), true), Err(SanityError::MtuForIpv6 { mtu: 1279 }));
        for (given, has_v6) in [(Some(1280), true), (None, true), (Some(68), false)] {
            assert_eq!(mtu(&options(given), has_v6), Ok(()), "{given:?}");
        }
    }
}
