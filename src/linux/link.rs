//! Links through rtnetlink (`struct ifinfomsg` and `IFLA_*`, include/uapi/linux/if_link.h): reads one or all,
//! changes one, deletes one or a group.
//!
//! Does not know the purpose or the desired form of a link: `bridge`, `veth` and `reaper` do. Called by
//! those, by `observe` and by `watch`.

use rtnetlink::packet_core::Emitable;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::netlink::{Failure, Request, Socket};
use super::object::{self, Identity};
use super::shaper;
use super::tlv::{Attributes, Writer, native32, text};

use crate::datapath::host::HostTunnel;
use crate::datapath::{GROUP_DEAD, GROUP_LIVE, LinkInfo};
use crate::model::{IfName, Mac};

/// Bytes of `struct ifinfomsg`.
pub(super) const HEADER: usize = 16;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_MASTER: u16 = 10;
const IFLA_QDISC: u16 = 6;
const IFLA_PROTINFO: u16 = 12;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_AF_SPEC: u16 = 26;
pub(super) const IFLA_GROUP: u16 = 27;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

/// `IFLA_INET_CONF` with `IPV4_DEVCONF_FORWARDING` first, and `IFLA_INET6_CONF` with
/// `DEVCONF_FORCE_FORWARDING` (Linux 6.17), which is a byte offset here.
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_CONF: u16 = 2;
const FORCE_FORWARDING: usize = 59 * 4;

/// `RTEXT_FILTER_SKIP_STATS`: counters are most of a reply, and nothing here uses them.
const SKIP_STATS: u32 = 1 << 3;

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkRecord {
    /// Index of the link in its namespace.
    pub index: u32,
    /// Name; not necessarily valid as [`IfName`].
    pub name: String,
    /// Kind, or empty.
    pub kind: String,
    /// Administratively up.
    pub up: bool,
    /// Whether it has exactly one remote end, as a tunnel has (`IFF_POINTOPOINT`).
    pub point_to_point: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Interface group.
    pub group: u32,
    /// Hardware address, if it has six bytes.
    pub mac: Option<Mac>,
    /// Index of the link it is a port of.
    pub master: Option<u32>,
    /// Index of its peer, when that is in the same namespace.
    pub peer: Option<u32>,
    /// Whether its peer is in another namespace.
    pub away: bool,
    /// Alias, or empty.
    pub alias: String,
    /// Whether it is an isolated port of a bridge.
    pub isolated: bool,
    /// Whether it is a port of a bridge that sends frames back where they came from.
    pub hairpin: bool,
    /// Whether it is a bridge with its own setting to call iptables, independent of the global one.
    pub calls_iptables: bool,
    /// Whether what it sends passes a token bucket queue.
    pub shaped: bool,
    /// Whether ARP is on.
    pub arp: bool,
    /// Whether it is a bridge with the settings that [`object::is_hardened`] looks for.
    pub hardened: bool,
    /// Whether it is a bridge that filters VLANs.
    pub filters_vlans: bool,
    /// Data of its kind (`IFLA_INFO_DATA`) where [`object::reads_data`]; otherwise empty.
    pub data: Vec<u8>,
    /// The immutable settings of a VXLAN link.
    pub vxlan: Option<Identity>,
    /// Where any VXLAN link listens.
    pub tunnel: Option<HostTunnel>,
    /// Whether IPv4 packets from it are forwarded: its own setting, independent of the global one.
    pub forwards4: u32,
    /// Whether IPv6 packets from it are forwarded although those from other links are not.
    pub forwards6: u32,
}

impl LinkRecord {
    /// The name, if it is valid for Pontoon.
    pub fn ifname(&self) -> Option<IfName> {
        IfName::parse(&self.name).ok()
    }

    /// Created by Pontoon and still needed.
    pub fn live(&self) -> bool {
        self.group == GROUP_LIVE
    }

    /// Waiting for its deletion.
    pub fn dead(&self) -> bool {
        self.group == GROUP_DEAD
    }

    /// The summary that the rest of Pontoon uses.
    pub fn info(self) -> LinkInfo {
        let Self { kind, mtu, group, mac, away, filters_vlans, .. } = self;
        LinkInfo { kind, mtu, group, mac, away, filters_vlans }
    }
}

/// Parses the payload of an `RTM_NEWLINK` or `RTM_DELLINK`; `None` when it is invalid (too short, without
/// name, or a bridge's own message about a port, which has a family of its own).
pub fn parse_link(payload: &[u8]) -> Option<LinkRecord> {
    if *payload.first()? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let index = payload.get(4..).and_then(native32)?;
    let flags = payload.get(8..).and_then(native32)?;
    let is = |flag: libc::c_int| flags & flag as u32 != 0;
    let (up, arp, point_to_point) = (is(libc::IFF_UP), !is(libc::IFF_NOARP), is(libc::IFF_POINTOPOINT));
    let mut link = LinkRecord { index, up, arp, point_to_point, ..LinkRecord::default() };
    for (kind, value) in Attributes::after(payload, HEADER) {
        match kind {
            IFLA_IFNAME => link.name = text(value)?.to_owned(),
            IFLA_MTU => link.mtu = native32(value)?,
            IFLA_GROUP => link.group = native32(value)?,
            IFLA_MASTER => link.master = native32(value).filter(|index| *index != 0),
            IFLA_LINK => link.peer = native32(value).filter(|index| *index != 0),
            IFLA_QDISC => link.shaped = text(value) == Some(shaper::KIND),
            IFLA_LINK_NETNSID => link.away = true,
            IFLA_IFALIAS => link.alias = text(value).unwrap_or_default().to_owned(),
            IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(Mac::from_bytes),
            IFLA_AF_SPEC => {
                let families = Attributes::new(value);
                let conf = |family: i32, kind| Attributes::new(families.find(family as u16)?).find(kind);
                link.forwards4 = conf(libc::AF_INET, IFLA_INET_CONF).and_then(native32).unwrap_or_default();
                let forced = conf(libc::AF_INET6, IFLA_INET6_CONF).and_then(|conf| conf.get(FORCE_FORWARDING..));
                link.forwards6 = forced.and_then(native32).unwrap_or_default();
            }
            IFLA_LINKINFO => {
                let info = Attributes::new(value);
                link.kind = info.find(IFLA_INFO_KIND).and_then(text).unwrap_or_default().to_owned();
                if object::reads_data(&link.kind) {
                    link.data = info.find(IFLA_INFO_DATA).unwrap_or_default().to_vec();
                }
                if link.kind == "vxlan" {
                    let data = info.find(IFLA_INFO_DATA);
                    (link.vxlan, link.tunnel) = (data.and_then(object::identity), data.and_then(object::listens));
                }
                if link.kind == "bridge" {
                    let data = Attributes::new(info.find(IFLA_INFO_DATA).unwrap_or_default());
                    link.calls_iptables = data.find(IFLA_BR_NF_CALL_IPTABLES).and_then(<[u8]>::first) == Some(&1);
                    link.hardened = object::is_hardened(&data);
                    link.filters_vlans = data.find(IFLA_BR_VLAN_FILTERING).and_then(<[u8]>::first) == Some(&1);
                }
                if info.find(IFLA_INFO_SLAVE_KIND).and_then(text) == Some("bridge") {
                    let port = Attributes::new(info.find(IFLA_INFO_SLAVE_DATA).unwrap_or_default());
                    let flag = |kind| port.find(kind).and_then(<[u8]>::first) == Some(&1);
                    (link.isolated, link.hairpin) = (flag(IFLA_BRPORT_ISOLATED), flag(IFLA_BRPORT_MODE));
                }
            }
            _ => {}
        }
    }
    if link.away {
        link.peer = None;
    }
    (!link.name.is_empty()).then_some(link)
}

/// Parses a bridge's own message about one of its ports: the link's index, and whether the port is isolated
/// and in hairpin mode.
pub fn parse_port(payload: &[u8]) -> Option<(u32, (bool, bool))> {
    let index = payload.get(4..).and_then(native32)?;
    let port = Attributes::new(Attributes::after(payload, HEADER).find(IFLA_PROTINFO)?);
    let flag = |kind| port.find(kind).and_then(<[u8]>::first) == Some(&1);
    Some((index, (flag(IFLA_BRPORT_ISOLATED), flag(IFLA_BRPORT_MODE))))
}

/// Looks up one link by name, in constant time.
pub fn find(socket: &mut Socket, name: &str) -> Result<Option<LinkRecord>, Failure> {
    look_up(socket, 0, Some(name))
}

/// Looks up one link by index.
pub fn find_index(socket: &mut Socket, index: u32) -> Result<Option<LinkRecord>, Failure> {
    look_up(socket, index, None)
}

fn look_up(socket: &mut Socket, index: u32, name: Option<&str>) -> Result<Option<LinkRecord>, Failure> {
    let mut header = [0u8; HEADER];
    if let Some(slot) = header.get_mut(4..8) {
        slot.copy_from_slice(&index.to_ne_bytes());
    }
    let mut body = Writer::with_header(&header);
    if let Some(name) = name {
        body.text(IFLA_IFNAME, name);
    }
    body.native(IFLA_EXT_MASK, SKIP_STATS);
    match socket.get(libc::RTM_GETLINK, &body.finish()) {
        Ok(payload) => parse_link(&payload).map(Some).ok_or(Failure::Malformed("a link without name")),
        Err(failure) if failure.errno() == Some(libc::ENODEV) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Lists all links of the namespace.
pub fn list(socket: &mut Socket) -> Result<Vec<LinkRecord>, Failure> {
    socket.list(libc::RTM_GETLINK, &everything(), |_, payload| parse_link(payload))
}

/// Lists the links of one kind. The kernel filters if it can (`link_kind_filtered`, net/core/rtnetlink.c);
/// others are left out here.
pub fn list_kind(socket: &mut Socket, kind: &str) -> Result<Vec<LinkRecord>, Failure> {
    let mut body = Writer::with_header(&[0; HEADER]);
    body.native(IFLA_EXT_MASK, SKIP_STATS).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, kind);
    });
    let of_kind = |payload: &[u8]| parse_link(payload).filter(|link| link.kind == kind);
    socket.list(libc::RTM_GETLINK, &body.finish(), |_, payload| of_kind(payload))
}

/// Passes all links of the namespace to `see`, possibly some of them more than once.
///
/// # Errors
/// [`Failure::Torn`] when every dump was interrupted. Links that existed unchanged meanwhile were seen
/// nevertheless: a single dump may skip a link when another one is deleted, but hardly all of them the same
/// one.
pub fn survey(socket: &mut Socket, see: impl Fn(LinkRecord)) -> Result<(), Failure> {
    socket.list(libc::RTM_GETLINK, &everything(), |_, payload| parse_link(payload).map(&see)).map(drop)
}

fn everything() -> Vec<u8> {
    let mut body = Writer::with_header(&[0; HEADER]);
    body.native(IFLA_EXT_MASK, SKIP_STATS);
    body.finish()
}

/// Starts a change of the link with this name.
pub fn named(name: &IfName) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name.as_str())
}

/// Carries out a change that was started with [`named`] or by index.
///
/// # Errors
/// `ENODEV` when the link does not exist.
pub fn change(socket: &mut Socket, link: LinkMessageBuilder<LinkUnspec>) -> Result<(), Failure> {
    let request = changing(link);
    socket.execute(request.kind, request.flags, &request.body)
}

/// The request of a change, to send several at once.
pub fn changing(link: LinkMessageBuilder<LinkUnspec>) -> Request {
    Request { kind: libc::RTM_SETLINK, flags: 0, body: encode(&link.build()) }
}

/// Renames a link of Pontoon. Kernels before 6.2 accept that only for a link that is down (`dev_change_name`,
/// net/core/dev.c): there `before_down` is called, and the link is taken down briefly.
pub fn rename(socket: &mut Socket, index: u32, name: &IfName, before_down: impl FnOnce()) -> Result<(), Failure> {
    let of = || LinkUnspec::new_with_index(index);
    match change(socket, of().name(name.as_str())) {
        Err(failure) if failure.errno() == Some(libc::EBUSY) => {
            before_down();
            change(socket, of().down())?;
            change(socket, of().name(name.as_str()).up())
        }
        result => result,
    }
}

/// A flag of a bridge's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortFlag {
    /// The port reaches the bridge itself but no other isolated port.
    Isolated(bool),
    /// The port sends frames back where they came from.
    Hairpin(bool),
}

/// The request that sets flags of a port. Only `RTM_NEWLINK` supports attributes of ports by name, and only
/// for existing links (`rtnl_changelink`, net/core/rtnetlink.c).
pub fn port_flags(name: &IfName, flags: &[PortFlag]) -> Request {
    let mut body = Writer::with_header(&[0; HEADER]);
    body.text(IFLA_IFNAME, name.as_str()).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |port| {
            for flag in flags {
                match flag {
                    PortFlag::Isolated(on) => port.bytes(IFLA_BRPORT_ISOLATED, &[u8::from(*on)]),
                    PortFlag::Hairpin(on) => port.bytes(IFLA_BRPORT_MODE, &[u8::from(*on)]),
                };
            }
        });
    });
    Request { kind: libc::RTM_NEWLINK, flags: 0, body: body.finish() }
}

/// Sets flags of a port.
pub fn set_port(socket: &mut Socket, name: &IfName, flags: &[PortFlag]) -> Result<(), Failure> {
    let request = port_flags(name, flags);
    socket.execute(request.kind, request.flags, &request.body)
}

/// Deletes one link; success if it does not exist. Waits for an RCU grace period.
pub fn delete(socket: &mut Socket, index: u32) -> Result<(), Failure> {
    let message = LinkUnspec::new_with_index(index).build();
    match socket.execute(libc::RTM_DELLINK, 0, &encode(&message)) {
        Err(failure) if failure.errno() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}

/// Deletes every link of [`GROUP_DEAD`] and waits for one RCU grace period; an empty group is success. The
/// caller must have made sure that all of them are Pontoon's.
pub fn delete_dead(socket: &mut Socket) -> Result<(), Failure> {
    let mut body = Writer::with_header(&[0; HEADER]);
    body.native(IFLA_GROUP, GROUP_DEAD);
    match socket.execute(libc::RTM_DELLINK, 0, &body.finish()) {
        Err(failure) if failure.errno() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}

/// Encodes a message built from rtnetlink's types.
pub fn encode(message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_would_write() {
        let mut body = Writer::with_header(&[0, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        body.text(IFLA_IFNAME, "pnthx").native(IFLA_MTU, 1450).native(IFLA_GROUP, GROUP_LIVE);
        body.bytes(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]).native(IFLA_MASTER, 3).native(IFLA_LINK, 9);
        body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth").text(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |port| {
                port.bytes(IFLA_BRPORT_ISOLATED, &[1]).bytes(IFLA_BRPORT_MODE, &[1]);
            });
        });
        let bytes = body.finish();
        let link = parse_link(&bytes).unwrap();
        assert_eq!((link.index, link.name.as_str(), link.kind.as_str()), (7, "pnthx", "veth"));
        assert!(link.up && link.isolated && link.hairpin && link.live());
        assert_eq!((link.master, link.peer), (Some(3), Some(9)));
        for end in 0..bytes.len() {
            let _ = parse_link(&bytes[..end]);
        }
        let mut port = bytes.clone();
        port[0] = libc::AF_BRIDGE as u8;
        assert_eq!(parse_link(&port), None);
    }
}
