//! Macvlan links in the kernel (`IFLA_MACVLAN_*`, include/uapi/linux/if_link.h): creates and reads them, and
//! prints the same as shell commands.
//!
//! Never changes a link that is not in Pontoon's group.

use super::super::LinuxKernel;
use super::super::apply::{CREATE_ATTEMPTS, foreign};
use super::super::link::{
    self, HEADER, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO,
    IFLA_MTU, LinkRecord,
};
use super::super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::super::shell::{is_there, word};
use super::super::tlv::{Attributes, Writer, native32};
use super::Around;
use crate::datapath::GROUP_LIVE;
use crate::datapath::object::Macvlan;
use crate::model::IfName;
use crate::model::kind::MacvlanMode;

const IFLA_MACVLAN_MODE: u16 = 1;

/// `MACVLAN_MODE_*`.
const MODES: [(MacvlanMode, u32); 4] =
    [(MacvlanMode::Private, 1), (MacvlanMode::Vepa, 2), (MacvlanMode::Bridge, 4), (MacvlanMode::Passthru, 8)];

/// Reads the mode of a macvlan link.
fn mode(link: &LinkRecord) -> Option<MacvlanMode> {
    let number = Attributes::new(&link.data).find(IFLA_MACVLAN_MODE).and_then(native32)?;
    MODES.iter().find(|(_, other)| *other == number).map(|(mode, _)| *mode)
}

/// Reads a macvlan link of Pontoon; `None` for one of a form that Pontoon never creates.
pub(super) fn observe(around: &Around<'_>, link: &LinkRecord) -> Option<Macvlan> {
    let parent = around.name_of(link.peer)?;
    link.live().then_some(Macvlan { parent, mode: mode(link)?, mac: link.mac?, mtu: link.mtu })
}

/// Creates a link that is down: the engine brings it up in the sandbox.
fn create(socket: &mut Socket, name: &IfName, wanted: &Macvlan, parent: u32) -> Result<(), Failure> {
    let number = MODES.iter().find(|(mode, _)| *mode == wanted.mode).map_or(0, |(_, number)| *number);
    let mut body = Writer::with_header(&[0; HEADER]);
    body.text(IFLA_IFNAME, name.as_str()).native(IFLA_LINK, parent).native(IFLA_MTU, wanted.mtu);
    body.native(IFLA_GROUP, GROUP_LIVE).bytes(IFLA_ADDRESS, &wanted.mac.bytes());
    body.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "macvlan").nest(IFLA_INFO_DATA, |data| {
            data.native(IFLA_MACVLAN_MODE, number);
        });
    });
    socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &body.finish())
}

impl LinuxKernel {
    pub(super) fn create_macvlan(&self, name: &IfName, wanted: &Macvlan) -> Result<(), Failure> {
        for _ in 0..CREATE_ATTEMPTS {
            self.await_gone(name)?;
            let socket = &mut self.route().socket;
            let Some(parent) = link::find(socket, wanted.parent.as_str())? else {
                return Err(Failure::refused(libc::ENODEV, &format!("there is no link {}", wanted.parent)));
            };
            match create(socket, name, wanted, parent.index) {
                Err(failure) if failure.errno() == Some(libc::EEXIST) => {}
                Err(failure) => return Err(explained(failure, &wanted.parent)),
                Ok(()) => return Ok(()),
            }
            match link::find(socket, name.as_str())? {
                None => {}
                Some(found) if found.kind == "macvlan" && found.live() => {
                    if mode(&found) == Some(wanted.mode) && found.peer == Some(parent.index) {
                        let change = link::named(name).mtu(wanted.mtu).address(wanted.mac.bytes().to_vec());
                        return link::change(socket, change);
                    }
                    self.reaper.retire(name);
                }
                Some(found) if found.kind == "macvlan" && found.dead() => self.reaper.retire(name),
                Some(found) => return Err(foreign(name, &found.kind)),
            }
        }
        Err(Failure::refused(libc::EBUSY, "links of this name keep appearing and disappearing"))
    }
}

/// Adds a reason to the error: the kernel does not explain why a link accepts no children
/// (`macvlan_common_newlink`, drivers/net/macvlan.c).
fn explained(failure: Failure, parent: &IfName) -> Failure {
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
