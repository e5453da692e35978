//! Ipvlan links in the kernel (`IFLA_IPVLAN_*`, include/uapi/linux/if_link.h): creates and reads them, and prints the
//! same as shell commands.
//!
//! Never changes a link that is not in Pontoon's group.

use super::super::link::{
    self, HEADER, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MTU,
    LinkRecord,
};
use super::super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::super::shell::{is_there, word};
use super::super::tlv::{Attributes, Writer, native16};
use super::Around;
use super::child::Child;
use crate::datapath::GROUP_LIVE;
use crate::datapath::object::Ipvlan;
use crate::model::IfName;
use crate::model::kind::{IpvlanFlag, IpvlanMode};

const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;

/// `IPVLAN_MODE_*`.
const MODES: [(IpvlanMode, u16); 3] = [(IpvlanMode::L2, 0), (IpvlanMode::L3, 1), (IpvlanMode::L3s, 2)];

/// `IPVLAN_F_*`.
const FLAGS: [(IpvlanFlag, u16); 3] = [(IpvlanFlag::Bridge, 0), (IpvlanFlag::Private, 1), (IpvlanFlag::Vepa, 2)];

fn value<T: Copy>(link: &LinkRecord, kind: u16, of: &[(T, u16)]) -> Option<T> {
    let number = Attributes::new(&link.data).find(kind).and_then(native16)?;
    of.iter().find(|(_, other)| *other == number).map(|(value, _)| *value)
}

fn number<T: PartialEq>(value: T, of: &[(T, u16)]) -> u16 {
    of.iter().find(|(other, _)| *other == value).map_or(0, |(_, number)| *number)
}

/// Reads the mode of an ipvlan link.
pub(super) fn mode(link: &LinkRecord) -> Option<IpvlanMode> {
    value(link, IFLA_IPVLAN_MODE, &MODES)
}

/// Reads an ipvlan link of Pontoon; `None` for one of a form that Pontoon never creates.
pub(super) fn observe(around: &Around<'_>, link: &LinkRecord) -> Option<Ipvlan> {
    let parent = around.name_of(link.peer)?;
    let (mode, flag) = (value(link, IFLA_IPVLAN_MODE, &MODES)?, value(link, IFLA_IPVLAN_FLAGS, &FLAGS)?);
    link.live().then_some(Ipvlan { parent, mode, flag, mtu: link.mtu })
}

/// An ipvlan link with the MTU of its parent.
pub(super) struct Unsized {
    pub parent: IfName,
    pub mode: IpvlanMode,
    pub flag: IpvlanFlag,
}

impl Child for Unsized {
    const KIND: &str = Ipvlan::KIND;

    fn parent(&self) -> &IfName {
        &self.parent
    }

    fn create(&self, socket: &mut Socket, name: &IfName, parent: u32) -> Result<(), Failure> {
        create(socket, name, parent, (self.mode, self.flag), None)
    }

    fn matches(&self, found: &LinkRecord) -> bool {
        matches(found, self.mode, self.flag)
    }

    fn reset(&self, _: &mut Socket, _: &IfName) -> Result<(), Failure> {
        Ok(())
    }

    fn explained(&self, failure: Failure) -> Failure {
        explained(&self.parent, failure)
    }
}

impl Child for Ipvlan {
    const KIND: &str = "ipvlan";

    fn parent(&self) -> &IfName {
        &self.parent
    }

    /// The link stays down: the engine brings it up in the sandbox.
    fn create(&self, socket: &mut Socket, name: &IfName, parent: u32) -> Result<(), Failure> {
        create(socket, name, parent, (self.mode, self.flag), Some(self.mtu))
    }

    fn matches(&self, found: &LinkRecord) -> bool {
        matches(found, self.mode, self.flag)
    }

    fn reset(&self, socket: &mut Socket, name: &IfName) -> Result<(), Failure> {
        link::change(socket, link::named(name).mtu(self.mtu))
    }

    fn explained(&self, failure: Failure) -> Failure {
        explained(&self.parent, failure)
    }
}

fn create(
    socket: &mut Socket,
    name: &IfName,
    parent: u32,
    (mode, flag): (IpvlanMode, IpvlanFlag),
    mtu: Option<u32>,
) -> Result<(), Failure> {
    let mut body = Writer::with_header(&[0; HEADER]);
    body.text(IFLA_IFNAME, name.as_str()).native(IFLA_LINK, parent).native(IFLA_GROUP, GROUP_LIVE);
    if let Some(mtu) = mtu {
        body.native(IFLA_MTU, mtu);
    }
    body.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, Ipvlan::KIND).nest(IFLA_INFO_DATA, |data| {
            data.bytes(IFLA_IPVLAN_MODE, &number(mode, &MODES).to_ne_bytes());
            data.bytes(IFLA_IPVLAN_FLAGS, &number(flag, &FLAGS).to_ne_bytes());
        });
    });
    socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &body.finish())
}

fn matches(found: &LinkRecord, mode: IpvlanMode, flag: IpvlanFlag) -> bool {
    (value(found, IFLA_IPVLAN_MODE, &MODES), value(found, IFLA_IPVLAN_FLAGS, &FLAGS)) == (Some(mode), Some(flag))
}

/// The kernel does not explain why a link accepts no children (`ipvlan_link_new`,
/// drivers/net/ipvlan/ipvlan_main.c).
fn explained(parent: &IfName, failure: Failure) -> Failure {
    let why = match failure.errno() {
        Some(libc::EBUSY) => "is a bridge port, or has macvlan children",
        Some(libc::EINVAL) => "is not an Ethernet link",
        _ => return failure,
    };
    Failure::refused(failure.errno().unwrap_or_default(), &format!("{parent} {why}"))
}

/// The commands that create an ipvlan link.
pub(super) fn commands(name: &IfName, wanted: &Ipvlan) -> Vec<String> {
    vec![format!(
        "{} || ip link add link {} name {} mtu {} group {GROUP_LIVE} type ipvlan mode {} {}",
        is_there(name),
        word(&wanted.parent),
        word(name),
        wanted.mtu,
        wanted.mode,
        wanted.flag
    )]
}
