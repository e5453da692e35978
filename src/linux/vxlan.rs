//! Owns the making of VXLAN links (`IFLA_VXLAN_*`, include/uapi/linux/if_link.h): one message
//! creates one as it should be, and an existing one is brought to the wanted form.
//!
//! Never touches a link that is not in our group. Called by `LinuxKernel`.

use std::net::IpAddr;

use super::link::{
    self, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU,
    LinkRecord, PortFlag,
};
use super::neighbour;
use super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::tlv::{Attributes, Writer, native32};
use crate::datapath::host::HostTunnel;
use crate::datapath::{GROUP_LIVE, Vxlan};
use crate::model::{IfName, Vni};

const IFLA_VXLAN_ID: u16 = 1;
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

/// Seconds after which an address that was not heard from is flooded to again; the kernel's own
/// default (`FDB_AGE_DEFAULT`, drivers/net/vxlan), written down because peers are judged by it.
const AGEING: u32 = 300;

/// Source ports of what tunnels send: a process needs CAP_NET_BIND_SERVICE for one below 1024. The
/// translation of source ports keeps to the same range (`nf_nat_l4proto_unique_tuple`,
/// net/netfilter/nf_nat_core.c). Lower ones are those of services that are filtered on the way, as they are
/// misused for amplification.
pub const LOW_PORTS: std::ops::Range<u16> = 768..1024;

/// Most addresses that a tunnel learns; frames for others are flooded.
pub const MOST_LEARNED: u32 = 65_536;

/// What is fixed when a link is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The network's number.
    pub vni: Vni,
    /// UDP port.
    pub port: u16,
    /// This host's address.
    pub local: IpAddr,
    /// Whether its packets leave from [`LOW_PORTS`].
    pub low_ports: bool,
}

/// Reads `IFLA_INFO_DATA` of a link of this kind; `None` for one that Pontoon never makes.
pub fn identity(data: &[u8]) -> Option<Identity> {
    let data = Attributes::new(data);
    let v4 = data.find(IFLA_VXLAN_LOCAL).and_then(|b| super::addr::ip(libc::AF_INET, b));
    let v6 = data.find(IFLA_VXLAN_LOCAL6).and_then(|b| super::addr::ip(libc::AF_INET6, b));
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

/// Number and port of any link of this kind; the number is 0 for one that takes all.
pub fn listens(data: &[u8]) -> Option<HostTunnel> {
    let data = Attributes::new(data);
    let port = data.find(IFLA_VXLAN_PORT)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))?;
    let collects = data.find(IFLA_VXLAN_COLLECT_METADATA).and_then(<[u8]>::first) == Some(&1);
    let vni = data.find(IFLA_VXLAN_ID).and_then(native32).filter(|_| !collects).unwrap_or(0);
    Some(HostTunnel { vni, port })
}

/// Creates a link: name, address, MTU, group, identity, up and a port of `master`. Then its
/// floods. What a failed try has made is gone again.
///
/// # Errors
/// `EEXIST` when a link has the name, or one has the number at this port.
pub fn create(socket: &mut Socket, name: &IfName, vxlan: &Vxlan, master: Option<u32>) -> Result<(), Failure> {
    socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &creation(name, vxlan, master))?;
    let made = link::find(socket, name.as_str())?.ok_or_else(|| Failure::refused(libc::ENODEV, "gone again"))?;
    let result = complete(socket, &made, name, vxlan, master);
    if result.is_err()
        && let Err(failure) = link::delete(socket, made.index)
    {
        tracing::warn!(link = %name, ?failure, "half made and could not be removed, it will be tried again");
    }
    result
}

/// Brings an existing link of this identity to the wanted form. Adds floods and removes none.
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

/// IPv4 packets go without a UDP checksum, as RFC 7348 says: what is inside has its own. Over
/// IPv6 there is one, because receivers drop packets without.
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
            data.bytes(IFLA_VXLAN_LEARNING, &[1]).native(IFLA_VXLAN_AGEING, AGEING);
            data.native(IFLA_VXLAN_LIMIT, MOST_LEARNED);
            if vxlan.low_ports {
                data.bytes(IFLA_VXLAN_PORT_RANGE, &source_ports());
            }
            // Else a frame for an address of this host would come back past the firewall. Kernels before
            // 6.5 do not know it, and pass over it.
            data.bytes(IFLA_VXLAN_LOCALBYPASS, &[0]);
        });
    });
    body.finish()
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
