//! Owns the making of bridges: in which order a bridge of ours gets what it needs, and how an
//! existing one is brought to the wanted form.
//!
//! Never touches a link that is not in our group. Called by `LinuxKernel`.

use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{LinkBridge, LinkMessageBuilder};

use super::addr;
use super::link::{self, LinkRecord};
use super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::sysctl::Sysctls;
use crate::datapath::{Bridge, GROUP_LIVE};
use crate::model::IfName;

/// Creates a bridge in its wanted form and returns its index. What a failed try has made is gone
/// again.
///
/// # Errors
/// `EEXIST` when a link has the name; the caller looks whose it is.
pub fn create(socket: &mut Socket, sysctls: &Sysctls, name: &IfName, bridge: &Bridge) -> Result<u32, Failure> {
    socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link::encode(&creation(name, bridge)))?;
    let made = link::find(socket, name.as_str())?.ok_or_else(|| Failure::refused(libc::ENODEV, "gone again"))?;
    let result = complete(socket, sysctls, &made, name, bridge);
    if result.is_err()
        && let Err(failure) = link::delete(socket, made.index)
    {
        tracing::warn!(bridge = %name, ?failure, "half made and could not be removed, it will be tried again");
    }
    result.map(|()| made.index)
}

/// Brings an existing bridge of ours to the wanted form. Adds addresses and removes none.
pub fn complete(
    socket: &mut Socket,
    sysctls: &Sysctls,
    found: &LinkRecord,
    name: &IfName,
    bridge: &Bridge,
) -> Result<(), Failure> {
    // IPv6 is settled while the bridge is down: one that is not to have it never gets an address.
    if bridge.ipv6 {
        sysctls.enable_ipv6(name)?;
    } else {
        sysctls.disable_ipv6(name);
    }
    let mut change = link::named(name).mtu(bridge.mtu).alias(bridge.alias.as_str());
    if let Some(mac) = bridge.mac.filter(|mac| Some(*mac) != found.mac) {
        change = change.address(mac.bytes().to_vec());
    }
    if bridge.up {
        change = change.up();
    }
    link::change(socket, change)?;
    if bridge.localnet {
        sysctls.route_localnet(name)?;
    }
    bridge.addresses.iter().try_for_each(|address| addr::add(socket, found.index, *address))
}

fn creation(name: &IfName, bridge: &Bridge) -> LinkMessage {
    // Not the wanted MTU but its neighbour: only a later *change* marks the MTU as set by the
    // user (br_change_mtu, net/bridge/br_device.c), and without that mark every port that comes
    // or goes resets it. Setting the value it already has is no change.
    let mut message = LinkMessageBuilder::<LinkBridge>::new(name.as_str()).mtu(bridge.mtu ^ 1).link_group(GROUP_LIVE);
    if let Some(mac) = bridge.mac {
        message = message.address(mac.bytes().to_vec());
    }
    message.build()
}
