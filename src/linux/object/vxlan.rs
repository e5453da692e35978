//! VXLAN links in the kernel (`IFLA_VXLAN_*`, include/uapi/linux/if_link.h): creates, completes and reads
//! them, and prints the same as shell commands.
//!
//! Never changes a link that is not in Pontoon's group.

use std::net::IpAddr;

use super::super::apply::{CREATE_ATTEMPTS, DELETION_TIMEOUT, foreign, with_master};
use super::super::link::{
    self, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU,
    LinkRecord, PortFlag,
};
use super::super::neighbour;
use super::super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::super::shell::{is_there, quoted, word};
use super::super::tlv::{Attributes, Writer, native32};
use super::super::{LinuxKernel, addr};
use super::Around;
use super::change::{flood, port_flag};
use crate::datapath::host::HostTunnel;
use crate::datapath::{GROUP_LIVE, Vxlan};
use crate::model::overlay::FDB_AGEING;
use crate::model::{IfName, Vni};

pub(in crate::linux) const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_AGEING: u16 = 8;
const IFLA_VXLAN_LIMIT: u16 = 9;
const IFLA_VXLAN_PORT_RANGE: u16 = 10;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_UDP_CSUM: u16 = 18;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
const IFLA_VXLAN_LOCALBYPASS: u16 = 31;

/// Source ports of tunnel packets: a process needs CAP_NET_BIND_SERVICE for a port below 1024. Translation of
/// source ports stays within the same range (`nf_nat_l4proto_unique_tuple`, net/netfilter/nf_nat_core.c).
/// Lower ports belong to services that are filtered on the way, because they are misused for amplification.
pub const LOW_PORTS: std::ops::Range<u16> = 768..1024;

/// Maximum number of addresses that a tunnel learns; frames to others are flooded.
pub const MOST_LEARNED: u32 = 65_536;

/// The settings that are fixed at creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// VNI of the network.
    pub vni: Vni,
    /// UDP port.
    pub port: u16,
    /// This host's address.
    pub local: IpAddr,
    /// Whether its packets leave from [`LOW_PORTS`].
    pub low_ports: bool,
}

/// Parses `IFLA_INFO_DATA` of a VXLAN link; `None` for a form that Pontoon never creates.
pub fn identity(data: &[u8]) -> Option<Identity> {
    let data = Attributes::new(data);
    let v4 = data.find(IFLA_VXLAN_LOCAL).and_then(|b| addr::ip(libc::AF_INET, b));
    let v6 = data.find(IFLA_VXLAN_LOCAL6).and_then(|b| addr::ip(libc::AF_INET6, b));
    Some(Identity {
        vni: data.find(IFLA_VXLAN_ID).and_then(native32).and_then(|id| Vni::new(id).ok())?,
        port: data.find(IFLA_VXLAN_PORT)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))?,
        local: v4.or(v6)?,
        low_ports: data.find(IFLA_VXLAN_PORT_RANGE) == Some(&source_ports()),
    })
}

fn source_ports() -> [u8; 4] {
    let ([a, b], [c, d]) = (LOW_PORTS.start.to_be_bytes(), LOW_PORTS.end.to_be_bytes());
    [a, b, c, d]
}

/// VNI and port of any VXLAN link; the VNI is 0 for a link that accepts every VNI.
pub fn listens(data: &[u8]) -> Option<HostTunnel> {
    let data = Attributes::new(data);
    let port = data.find(IFLA_VXLAN_PORT)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))?;
    let collects = data.find(IFLA_VXLAN_COLLECT_METADATA).and_then(<[u8]>::first) == Some(&1);
    let vni = data.find(IFLA_VXLAN_ID).and_then(native32).filter(|_| !collects).unwrap_or(0);
    Some(HostTunnel { vni, port })
}

/// Creates a link: name, address, MTU, group, identity, up and a port of `master`; then adds its flood list.
/// On failure everything created is removed again.
///
/// # Errors
/// `EEXIST` when a link has the name, or another link has the VNI at this port.
pub fn create(socket: &mut Socket, name: &IfName, vxlan: &Vxlan, master: Option<u32>) -> Result<(), Failure> {
    socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &creation(name, vxlan, master))?;
    let made = link::find(socket, name.as_str())?.ok_or_else(|| Failure::refused(libc::ENODEV, "gone again"))?;
    let result = complete(socket, &made, name, vxlan, master);
    if result.is_err()
        && let Err(failure) = link::delete(socket, made.index)
    {
        tracing::warn!(link = %name, ?failure, "cannot remove incomplete link; retrying");
    }
    result
}

/// Completes an existing link of this identity. Adds entries of the flood list and removes none.
pub fn complete(
    socket: &mut Socket,
    found: &LinkRecord,
    name: &IfName,
    vxlan: &Vxlan,
    master: Option<u32>,
) -> Result<(), Failure> {
    let mut change = link::named(name).alias(format!("pontoon overlay {}", vxlan.vni).as_str());
    if found.mtu != vxlan.mtu {
        change = change.mtu(vxlan.mtu);
    }
    if found.master != master {
        change = change.controller(master.unwrap_or(0));
    }
    if vxlan.up && !found.up {
        change = change.up();
    }
    link::change(socket, change)?;
    if master.is_some() && found.isolated != vxlan.isolated {
        link::set_port(socket, name, &[PortFlag::Isolated(vxlan.isolated)])?;
    }
    neighbour::flood(socket, found.index, vxlan.peers.iter().copied())
}

/// IPv4 packets have no UDP checksum, as RFC 7348 says: the payload has its own. Over IPv6 there is one,
/// because receivers drop packets without.
fn creation(name: &IfName, vxlan: &Vxlan, master: Option<u32>) -> Vec<u8> {
    let up = if vxlan.up { libc::IFF_UP as u32 } else { 0 }.to_ne_bytes();
    let mut header = [0u8; 16];
    for at in [8, 12] {
        if let Some(slot) = header.get_mut(at..at + 4) {
            slot.copy_from_slice(&up);
        }
    }
    let mut body = Writer::with_header(&header);
    body.text(IFLA_IFNAME, name.as_str()).native(IFLA_MTU, vxlan.mtu).native(IFLA_GROUP, GROUP_LIVE);
    body.bytes(IFLA_ADDRESS, &vxlan.mac.bytes());
    if let Some(master) = master {
        body.native(IFLA_MASTER, master);
    }
    body.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, |data| {
            data.native(IFLA_VXLAN_ID, vxlan.vni.get()).bytes(IFLA_VXLAN_PORT, &vxlan.port.to_be_bytes());
            match vxlan.local {
                IpAddr::V4(ip) => data.bytes(IFLA_VXLAN_LOCAL, &ip.octets()).bytes(IFLA_VXLAN_UDP_CSUM, &[0]),
                IpAddr::V6(ip) => data.bytes(IFLA_VXLAN_LOCAL6, &ip.octets()),
            };
            data.bytes(IFLA_VXLAN_LEARNING, &[1]).native(IFLA_VXLAN_AGEING, FDB_AGEING.as_secs() as u32);
            data.native(IFLA_VXLAN_LIMIT, MOST_LEARNED);
            if vxlan.low_ports {
                data.bytes(IFLA_VXLAN_PORT_RANGE, &source_ports());
            }
            // Otherwise a frame for an address of this host would come back bypassing the firewall. Kernels
            // before 6.5 do not know the attribute and ignore it.
            data.bytes(IFLA_VXLAN_LOCALBYPASS, &[0]);
        });
    });
    body.finish()
}

/// Reads a VXLAN link of Pontoon; `None` for one of a form that Pontoon never creates.
pub(super) fn observe(around: &mut Around<'_>, link: &LinkRecord) -> Result<Option<Vxlan>, Failure> {
    let (Some(identity), Some(mac), true) = (link.vxlan, link.mac, link.live()) else { return Ok(None) };
    let floods = neighbour::entries(around.socket, link.index)?.into_iter().filter(neighbour::Entry::is_flood);
    Ok(Some(Vxlan {
        vni: identity.vni,
        port: identity.port,
        local: identity.local,
        mac,
        mtu: link.mtu,
        bridge: around.name_of(link.master),
        isolated: link.isolated,
        up: link.up,
        low_ports: identity.low_ports,
        peers: floods.map(|entry| entry.peer).collect(),
    }))
}

impl LinuxKernel {
    pub(super) fn create_vxlan(&self, name: &IfName, wanted: &Vxlan) -> Result<(), Failure> {
        for _ in 0..CREATE_ATTEMPTS {
            self.await_gone(name)?;
            let mut route = self.route();
            let bridge = wanted.bridge.as_ref();
            let made = with_master(&mut route, bridge, |route, at| create(&mut route.socket, name, wanted, at));
            let failure = match made {
                Err(failure) if failure.errno() == Some(libc::EEXIST) => failure,
                result => return result,
            };
            match link::find(&mut route.socket, name.as_str())? {
                // The name is free, so another link has the VNI: perhaps one of Pontoon's that is being
                // deleted.
                None => {
                    drop(route);
                    if !self.reaper.settle(DELETION_TIMEOUT) || self.is_number_taken(wanted)? {
                        return Err(Failure::refused(libc::EEXIST, failure_words(&failure)));
                    }
                }
                Some(found) if found.kind == "vxlan" && found.dead() => self.reaper.retire(name),
                Some(found) if found.kind == "vxlan" && found.live() => {
                    let same = found.vxlan.is_some_and(|is| {
                        (is.vni, is.port, is.local, is.low_ports)
                            == (wanted.vni, wanted.port, wanted.local, wanted.low_ports)
                            && found.mac == Some(wanted.mac)
                    });
                    if same {
                        return with_master(&mut route, bridge, |route, at| {
                            complete(&mut route.socket, &found, name, wanted, at)
                        });
                    }
                    // A link of Pontoon in another form that no change can fix.
                    self.reaper.retire(name);
                }
                Some(found) => return Err(foreign(name, &found.kind)),
            }
        }
        Err(Failure::refused(libc::EBUSY, "links of this name keep appearing and disappearing"))
    }

    /// Whether a link that is not being deleted has this VNI at this port.
    fn is_number_taken(&self, wanted: &Vxlan) -> Result<bool, Failure> {
        let links = link::list(&mut self.route().socket)?;
        let same =
            |link: &link::LinkRecord| link.vxlan.is_some_and(|is| (is.vni, is.port) == (wanted.vni, wanted.port));
        Ok(links.iter().any(|link| !link.dead() && same(link)))
    }
}

fn failure_words(failure: &Failure) -> &str {
    match failure {
        Failure::Refused(verdict) if !verdict.message.is_empty() => &verdict.message,
        _ => "another VXLAN link of this host has this VNI, choose another pontoon.vni",
    }
}

/// The commands that create a VXLAN link.
pub(super) fn commands(name: &IfName, vxlan: &Vxlan) -> Vec<String> {
    let link = word(name);
    let sums = if vxlan.local.is_ipv4() { " noudpcsum" } else { "" };
    let mut lines = vec![format!(
        "{} || ip link add name {link} mtu {} address {} group {GROUP_LIVE} type vxlan id {} local {} srcport {} {} dstport {}{sums} learning maxaddress {}",
        is_there(name),
        vxlan.mtu,
        vxlan.mac,
        vxlan.vni,
        vxlan.local,
        LOW_PORTS.start,
        LOW_PORTS.end,
        vxlan.port,
        MOST_LEARNED
    )];
    lines.push(format!("ip link set dev {link} alias {}", quoted(&format!("pontoon overlay {}", vxlan.vni))));
    lines.extend(vxlan.bridge.iter().map(|bridge| format!("ip link set dev {link} master {}", word(bridge))));
    if vxlan.isolated {
        lines.push(port_flag(name, "isolated", true));
    }
    lines.extend(vxlan.peers.iter().map(|peer| flood("append", name, *peer)));
    if vxlan.up {
        lines.push(format!("ip link set dev {link} up"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_identity_that_it_writes() {
        for local in ["192.0.2.1", "fd00::1"] {
            let mut data = Writer::default();
            data.native(IFLA_VXLAN_ID, 70000).bytes(IFLA_VXLAN_PORT, &4789u16.to_be_bytes());
            match local.parse().unwrap() {
                IpAddr::V4(ip) => data.bytes(IFLA_VXLAN_LOCAL, &ip.octets()),
                IpAddr::V6(ip) => data.bytes(IFLA_VXLAN_LOCAL6, &ip.octets()),
            };
            let bytes = data.finish();
            let read = identity(&bytes).unwrap();
            assert_eq!((read.vni.get(), read.port, read.local.to_string().as_str()), (70000, 4789, local));
            for end in 0..bytes.len() {
                let _ = identity(&bytes[..end]);
            }
        }
        assert_eq!(identity(&[]), None);
    }
}
