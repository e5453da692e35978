//! Macvlan links in the kernel (`IFLA_MACVLAN_*`, include/uapi/linux/if_link.h): creates and reads them, and
//! prints the same as shell commands.
//!
//! Never changes a link that is not in Pontoon's group.

use super::super::link::{
    self, HEADER, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO,
    IFLA_MTU, LinkRecord,
};
use super::super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::super::shell::{is_there, word};
use super::super::tlv::{Attributes, Writer, native32};
use super::Around;
use super::child::Child;
use crate::datapath::GROUP_LIVE;
use crate::datapath::object::Macvlan;
use crate::model::IfName;
use crate::model::kind::MacvlanMode;

/// `IFLA_MACVLAN_MODE`.
pub(super) const IFLA_MACVLAN_MODE: u16 = 1;

/// `MACVLAN_MODE_*`.
const MODES: [(MacvlanMode, u32); 4] =
    [(MacvlanMode::Private, 1), (MacvlanMode::Vepa, 2), (MacvlanMode::Bridge, 4), (MacvlanMode::Passthru, 8)];

/// The kernel's number of a mode.
pub(super) fn number(mode: MacvlanMode) -> u32 {
    MODES.iter().find(|(other, _)| *other == mode).map_or(0, |(_, number)| *number)
}

/// Reads the mode of a macvlan link.
pub(super) fn mode(link: &LinkRecord) -> Option<MacvlanMode> {
    let number = Attributes::new(&link.data).find(IFLA_MACVLAN_MODE).and_then(native32)?;
    MODES.iter().find(|(_, other)| *other == number).map(|(mode, _)| *mode)
}

/// Reads a macvlan link of Pontoon; `None` for one of a form that Pontoon never creates.
pub(super) fn observe(around: &Around<'_>, link: &LinkRecord) -> Option<Macvlan> {
    let parent = around.name_of(link.peer)?;
    link.live().then_some(Macvlan { parent, mode: mode(link)?, mac: link.mac?, mtu: link.mtu })
}

impl Child for Macvlan {
    const KIND: &str = "macvlan";

    fn parent(&self) -> &IfName {
        &self.parent
    }

    /// The link stays down: the engine brings it up in the sandbox.
    fn create(&self, socket: &mut Socket, name: &IfName, parent: u32) -> Result<(), Failure> {
        let mut body = Writer::with_header(&[0; HEADER]);
        body.text(IFLA_IFNAME, name.as_str()).native(IFLA_LINK, parent).native(IFLA_MTU, self.mtu);
        body.native(IFLA_GROUP, GROUP_LIVE).bytes(IFLA_ADDRESS, &self.mac.bytes());
        body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, Self::KIND).nest(IFLA_INFO_DATA, |data| {
                data.native(IFLA_MACVLAN_MODE, number(self.mode));
            });
        });
        socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &body.finish())
    }

    fn matches(&self, found: &LinkRecord) -> bool {
        mode(found) == Some(self.mode)
    }

    fn reset(&self, socket: &mut Socket, name: &IfName) -> Result<(), Failure> {
        link::change(socket, link::named(name).mtu(self.mtu).address(self.mac.bytes().to_vec()))
    }

    fn explained(&self, failure: Failure) -> Failure {
        explained(&self.parent, failure)
    }
}

/// Adds a reason to a refusal. The kernel does not explain why a link accepts no children (`macvlan_common_newlink`,
/// drivers/net/macvlan.c).
pub(super) fn explained(parent: &IfName, failure: Failure) -> Failure {
    let why = match failure.errno() {
        Some(libc::EBUSY) => "is a bridge port, or has children of another kind",
        Some(libc::EINVAL) => {
            "accepts no further child: it is not an Ethernet link, or one of its children has mode passthru"
        }
        _ => return failure,
    };
    Failure::refused(failure.errno().unwrap_or_default(), &format!("{parent} {why}"))
}

/// The commands that create a macvlan link.
pub(super) fn commands(name: &IfName, wanted: &Macvlan) -> Vec<String> {
    vec![format!(
        "{} || ip link add link {} name {} mtu {} address {} group {GROUP_LIVE} type macvlan mode {}",
        is_there(name),
        word(&wanted.parent),
        word(name),
        wanted.mtu,
        wanted.mac,
        wanted.mode
    )]
}
