//! Owns the making of bridges: in which order a bridge of ours gets what it needs, and how an
//! existing one is brought to the wanted form.
//!
//! Never touches a link that is not in our group. Called by `LinuxKernel`.

use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{LinkBridge, LinkMessageBuilder};

use super::addr;
use super::link::{self, HEADER, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, LinkRecord};
use super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::sysctl::Sysctls;
use super::tlv::{Attributes, Writer, native32};
use crate::datapath::{Bridge, GROUP_LIVE};
use crate::model::IfName;

/// Attributes of a bridge (include/uapi/linux/if_link.h).
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BR_MULTI_BOOLOPT: u16 = 46;
const IFLA_BR_FDB_MAX_LEARNED: u16 = 49;

/// `BR_BOOLOPT_NO_LL_LEARN`, as a bit.
const NO_LINK_LOCAL_LEARNING: u32 = 1;

/// How many hardware addresses a bridge of ours learns: more than containers and other hosts have, and
/// less than a container that is not checked could make up. Kernels before 6.8 know no such bound.
const MOST_LEARNED: u32 = 65_536;

/// Reads `IFLA_INFO_DATA` of a bridge. What the kernel does not know it does not show, and then it
/// is as good as it can be. The bound comes with the rest and is not looked at: not every tool can set it.
pub fn is_hardened(data: &Attributes<'_>) -> bool {
    let switches = data.find(IFLA_BR_MULTI_BOOLOPT).and_then(native32);
    let snooping = data.find(IFLA_BR_MCAST_SNOOPING).and_then(<[u8]>::first);
    switches.is_none_or(|switches| switches & NO_LINK_LOCAL_LEARNING != 0) && snooping.is_none_or(|on| *on == 0)
}

/// Frames to 01:80:c2:00:00:0x pass no check and are no traffic of a network: nothing is learned from
/// them. Multicasts go to every port, as they do on any bridge that hears no multicast querier: with
/// snooping a single forged query keeps them, and IPv6 with them, from whoever did not report. A bridge
/// forgets nothing else by this.
pub fn harden(socket: &mut Socket, name: &IfName) -> Result<(), Failure> {
    let mut body = Writer::with_header(&[0; HEADER]);
    body.text(IFLA_IFNAME, name.as_str()).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, |data| {
            let switches = [NO_LINK_LOCAL_LEARNING.to_ne_bytes(), NO_LINK_LOCAL_LEARNING.to_ne_bytes()].concat();
            data.bytes(IFLA_BR_MULTI_BOOLOPT, &switches).bytes(IFLA_BR_MCAST_SNOOPING, &[0]);
            data.native(IFLA_BR_FDB_MAX_LEARNED, MOST_LEARNED);
        });
    });
    socket.execute(libc::RTM_NEWLINK, 0, &body.finish())
}

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
    if bridge.hardened && !found.hardened {
        harden(socket, name)?;
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
