//! VLAN links in the kernel (`IFLA_VLAN_*`, include/uapi/linux/if_link.h): creates and reads them, and prints the same
//! as shell commands.
//!
//! Never changes a link that is not in Pontoon's group.

use super::super::link::{
    self, HEADER, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, LinkRecord,
};
use super::super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::super::shell::{is_there, word};
use super::super::tlv::{Attributes, Writer, native16};
use super::Around;
use super::child::Child;
use crate::datapath::object::Vlan;
use crate::datapath::{ALIAS, GROUP_LIVE};
use crate::model::IfName;

/// `IFLA_VLAN_ID`.
pub(in crate::linux) const IFLA_VLAN_ID: u16 = 1;

/// Reads the VLAN id of a link.
fn vid(link: &LinkRecord) -> Option<u16> {
    Attributes::new(&link.data).find(IFLA_VLAN_ID).and_then(native16)
}

/// Reads a VLAN link of Pontoon.
pub(super) fn observe(around: &Around<'_>, link: &LinkRecord) -> Option<Vlan> {
    let below = around.name_of(link.peer)?;
    link.live().then_some(Vlan { below, vid: vid(link)?, up: link.up })
}

impl Child for Vlan {
    const KIND: &str = "vlan";

    fn parent(&self) -> &IfName {
        &self.below
    }

    /// The link gets the MTU and the hardware address of the one below.
    fn create(&self, socket: &mut Socket, name: &IfName, below: u32) -> Result<(), Failure> {
        let mut body = Writer::with_header(&[0; HEADER]);
        body.text(IFLA_IFNAME, name.as_str()).native(IFLA_LINK, below).native(IFLA_GROUP, GROUP_LIVE);
        body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, Self::KIND).nest(IFLA_INFO_DATA, |data| {
                data.bytes(IFLA_VLAN_ID, &self.vid.to_ne_bytes());
            });
        });
        socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &body.finish())?;
        self.reset(socket, name)
    }

    fn matches(&self, found: &LinkRecord) -> bool {
        vid(found) == Some(self.vid)
    }

    /// The alias marks the link as Pontoon's: its name is the user's choice.
    fn reset(&self, socket: &mut Socket, name: &IfName) -> Result<(), Failure> {
        let change = link::named(name).alias(format!("{ALIAS} parent"));
        link::change(socket, if self.up { change.up() } else { change })
    }

    fn explained(&self, failure: Failure) -> Failure {
        failure
    }

    /// A link of another name has this VLAN (`vlan_check_real_dev`, net/8021q/vlan.c).
    fn exists_elsewhere(&self) -> Option<Failure> {
        let text = format!("VLAN {} of {} is another link already", self.vid, self.below);
        Some(Failure::refused(libc::EEXIST, &text))
    }
}

/// The commands that create a VLAN link.
pub(super) fn commands(name: &IfName, wanted: &Vlan) -> Vec<String> {
    let (link, below) = (word(name), word(&wanted.below));
    let mut lines = vec![format!(
        "{} || ip link add link {below} name {link} group {GROUP_LIVE} type vlan id {}",
        is_there(name),
        wanted.vid
    )];
    lines.push(format!("ip link set dev {link} alias '{ALIAS} parent'"));
    lines.extend(wanted.up.then(|| format!("ip link set dev {link} up")));
    lines
}
