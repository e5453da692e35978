//! Owns the making of veth pairs: the one message that creates both ends as they should be, and
//! how an existing pair is brought to the wanted form.
//!
//! Never touches a link that is not in our group. Called by `LinuxKernel`.

use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::link::{self, LinkRecord, PortFlag};
use super::netlink::{CREATE, EXCLUSIVE, Failure, Request, Socket};
use crate::datapath::{GROUP_LIVE, Veth};
use crate::model::IfName;

/// Creates a pair: both names, addresses and MTUs, the host end up, in our group and a port of
/// `master`. One message; a second one in the same datagram when the port has flags, because
/// the kernel ignores attributes of a port in the message that creates it.
///
/// # Errors
/// `EEXIST` when either name is taken; the caller looks by whom. `EXFULL` when the bridge has no
/// port left. In every case no link is left behind.
pub fn create(socket: &mut Socket, name: &IfName, veth: &Veth, master: Option<u32>) -> Result<(), Failure> {
    let body = link::encode(&creation(name, veth, master));
    let mut requests = vec![Request { kind: libc::RTM_NEWLINK, flags: CREATE | EXCLUSIVE, body }];
    if (veth.isolated || veth.hairpin) && master.is_some() {
        // If the name turns out to be taken this reaches a port of somebody else's only if that
        // has a name of ours and is a port: then it is cut off, not opened.
        let flags = [(veth.isolated, PortFlag::Isolated(true)), (veth.hairpin, PortFlag::Hairpin(true))];
        let flags: Vec<_> = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
        requests.push(link::port_flags(name, &flags));
    }
    let Err((index, failure)) = socket.execute_all(&requests) else { return Ok(()) };
    if index > 0
        && let Some(made) = link::find(socket, name.as_str())?
    {
        // The pair was made and only its flags refused: it must not stay without.
        link::delete(socket, made.index)?;
    }
    Err(failure)
}

/// Brings an existing pair of ours to the wanted form; the end for the sandbox only as far as it
/// is in sight.
pub fn complete(
    socket: &mut Socket,
    found: &LinkRecord,
    name: &IfName,
    veth: &Veth,
    master: Option<u32>,
) -> Result<(), Failure> {
    let mut change = link::named(name);
    let mut changed = false;
    if found.mac != Some(veth.host_mac) {
        (change, changed) = (change.address(veth.host_mac.bytes().to_vec()), true);
    }
    if found.mtu != veth.mtu {
        (change, changed) = (change.mtu(veth.mtu), true);
    }
    if found.master != master {
        (change, changed) = (change.controller(master.unwrap_or(0)), true);
    }
    if found.arp && !veth.arp {
        (change, changed) = (change.arp(false), true);
    }
    if veth.up && !found.up {
        (change, changed) = (change.up(), true);
    }
    if changed {
        link::change(socket, change)?;
    }
    let differs = found.isolated != veth.isolated || found.hairpin != veth.hairpin;
    if master.is_some() && (differs || found.master != master) {
        link::set_port(socket, name, &[PortFlag::Isolated(veth.isolated), PortFlag::Hairpin(veth.hairpin)])?;
    }
    complete_peer(socket, found, veth)
}

fn complete_peer(socket: &mut Socket, found: &LinkRecord, veth: &Veth) -> Result<(), Failure> {
    let Some(index) = found.peer else { return Ok(()) };
    let Some(peer) = link::find_index(socket, index)? else { return Ok(()) };
    let mut change = LinkUnspec::new_with_index(index);
    let mut changed = false;
    if let Some(mac) = veth.peer_mac.filter(|mac| peer.mac != Some(*mac)) {
        (change, changed) = (change.address(mac.bytes().to_vec()), true);
    }
    if peer.mtu != veth.mtu {
        (change, changed) = (change.mtu(veth.mtu), true);
    }
    if peer.name != veth.peer.as_str() {
        (change, changed) = (change.name(veth.peer.as_str()), true);
    }
    if changed { link::change(socket, change) } else { Ok(()) }
}

fn creation(name: &IfName, veth: &Veth, master: Option<u32>) -> LinkMessage {
    // The peer stays down: the kernel would open it before it is paired (ENOTCONN).
    let mut peer = queues(LinkUnspec::new_with_name(veth.peer.as_str()).mtu(veth.mtu));
    if let Some(mac) = veth.peer_mac {
        peer = peer.address(mac.bytes().to_vec());
    }
    let mut host = queues(LinkMessageBuilder::<LinkVeth>::new(name.as_str(), veth.peer.as_str()))
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
        .mtu(veth.mtu)
        .address(veth.host_mac.bytes().to_vec())
        .link_group(GROUP_LIVE)
        .arp(veth.arp);
    if let Some(master) = master {
        host = host.controller(master);
    }
    if veth.up {
        host = host.up();
    }
    host.build()
}

/// One queue a side: the kernel would otherwise make one for every possible CPU and take all but
/// one away again, which is half the time of the creation.
fn queues<T>(link: LinkMessageBuilder<T>) -> LinkMessageBuilder<T> {
    link.append_extra_attribute(LinkAttribute::NumTxQueues(1)).append_extra_attribute(LinkAttribute::NumRxQueues(1))
}
