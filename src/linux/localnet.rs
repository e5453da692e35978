//! Owns what lets the host reach containers of a bridge over its loopback addresses: the setting
//! `route_localnet` for 127.0.0.0/8, and for ::1 a route of its own.
//!
//! The answer to a packet from ::1 comes back by the bridge, and the kernel takes ::1 only by a
//! link that a route of ::1 names (`rt6_need_strict`, net/ipv6/route.c). This route takes nothing
//! from `lo`, whose own goes before it, and opens nothing: a packet that has ::1 when it comes
//! off a link is dropped before any hook (`ipv6_rcv`). That same check stops the answers while
//! br_netfilter translates them on the bridge (`bridge-nf-call-ip6tables`): over ::1 published
//! ports are then out of reach. Called by `bridge`, `apply` and `observe`.

use std::net::Ipv6Addr;

use super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::sysctl::Sysctls;
use super::tlv::Writer;
use crate::model::IfName;

const RTA_DST: u16 = 1;
const RTA_IIF: u16 = 3;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;

/// Routes of ::1 need a metric each; that of `lo` has 0.
pub const METRIC: u32 = 1024;

/// Lets loopback addresses be routed to and from a link, IPv6 only where that is on.
///
/// # Errors
/// A refusal that names the setting; what the kernel says of the route.
pub fn enable(socket: &mut Socket, sysctls: &Sysctls, name: &IfName, index: u32) -> Result<(), Failure> {
    sysctls.route_localnet(name)?;
    if !sysctls.ipv6(name) {
        return Ok(());
    }
    let mut route = Writer::with_header(&header(RT_TABLE_LOCAL, RTPROT_STATIC, libc::RTN_LOCAL));
    route.bytes(RTA_DST, &Ipv6Addr::LOCALHOST.octets()).native(RTA_OIF, index);
    route.native(RTA_PRIORITY, METRIC.wrapping_add(index));
    match socket.execute(libc::RTM_NEWROUTE, CREATE | EXCLUSIVE, &route.finish()) {
        Err(failure) if failure.errno() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// Whether loopback addresses are routed to and from a link.
pub fn enabled(socket: &mut Socket, sysctls: &Sysctls, name: &IfName, index: u32) -> Result<bool, Failure> {
    if !sysctls.localnet(name) || !sysctls.ipv6(name) {
        return Ok(sysctls.localnet(name));
    }
    // Where would a packet to ::1 go that came by this link?
    let mut question = Writer::with_header(&header(0, 0, 0));
    question.bytes(RTA_DST, &Ipv6Addr::LOCALHOST.octets()).native(RTA_IIF, index);
    match socket.get(libc::RTM_GETROUTE, &question.finish()) {
        Ok(answer) => Ok(answer.get(7) == Some(&libc::RTN_LOCAL)),
        Err(Failure::Refused(_)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// `struct rtmsg` about one IPv6 address.
fn header(table: u8, protocol: u8, kind: u8) -> [u8; 12] {
    [libc::AF_INET6 as u8, 128, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0]
}
