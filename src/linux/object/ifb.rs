//! Links of kind ifb in the kernel: creates and reads them, and prints the same as shell commands.
//!
//! Never changes a link that is not in Pontoon's group.

use super::super::LinuxKernel;
use super::super::apply::{CREATE_ATTEMPTS, foreign};
use super::super::link::{
    self, HEADER, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, LinkRecord,
};
use super::super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::super::shaper;
use super::super::shell::{is_there, word};
use super::super::tlv::Writer;
use super::Around;
use crate::datapath::GROUP_LIVE;
use crate::datapath::object::Ifb;
use crate::model::{IfName, Mac};

/// Its kind as the kernel names it.
const KIND: &str = "ifb";

/// Reads an ifb link of Pontoon.
pub(super) fn observe(around: &Around<'_>, link: &LinkRecord) -> Option<Ifb> {
    let mac = link.mac.unwrap_or_else(|| Mac::from_bytes([0; 6]));
    link.live().then(|| Ifb { mac, shape: around.shapes.get(&link.index).copied(), up: link.up })
}

fn create(socket: &mut Socket, name: &IfName, wanted: &Ifb) -> Result<(), Failure> {
    let mut header = [0; HEADER];
    if wanted.up {
        let up = (libc::IFF_UP as u32).to_ne_bytes();
        // `ifi_flags` and `ifi_change`.
        header[8..12].copy_from_slice(&up);
        header[12..16].copy_from_slice(&up);
    }
    let mut body = Writer::with_header(&header);
    body.text(IFLA_IFNAME, name.as_str()).bytes(IFLA_ADDRESS, &wanted.mac.bytes()).native(IFLA_GROUP, GROUP_LIVE);
    body.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, KIND);
    });
    socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &body.finish())
}

impl LinuxKernel {
    pub(super) fn create_ifb(&self, name: &IfName, wanted: &Ifb) -> Result<(), Failure> {
        for _ in 0..CREATE_ATTEMPTS {
            self.await_gone(name)?;
            let socket = &mut self.route().socket;
            match create(socket, name, wanted) {
                Err(failure) if failure.errno() == Some(libc::EEXIST) => {}
                result => {
                    result?;
                    return self.shape_with(socket, name, wanted.shape);
                }
            }
            match link::find(socket, name.as_str())? {
                None => {}
                Some(found) if found.kind == KIND && found.live() && found.mac == Some(wanted.mac) => {
                    if wanted.up && !found.up {
                        link::change(socket, link::named(name).up())?;
                    }
                    return self.shape_with(socket, name, wanted.shape);
                }
                Some(found) if found.kind == KIND && (found.live() || found.dead()) => self.reaper.retire(name),
                Some(found) => return Err(foreign(name, &found.kind)),
            }
        }
        Err(Failure::refused(libc::EBUSY, "links of this name keep appearing and disappearing"))
    }
}

/// The commands that create an ifb link.
pub(super) fn commands(name: &IfName, wanted: &Ifb) -> Vec<String> {
    let link = word(name);
    let mut lines = vec![format!(
        "{} || ip link add name {link} address {} group {GROUP_LIVE} type {KIND}",
        is_there(name),
        wanted.mac
    )];
    lines.extend(wanted.up.then(|| format!("ip link set dev {link} up")));
    lines.extend(wanted.shape.iter().flat_map(|shape| shaper::commands(name, Some(shape))));
    lines
}
