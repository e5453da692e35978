//! Veth pairs in the kernel: creates both ends in their desired form with one message, completes an existing
//! pair, reads one, and prints the same as shell commands.
//!
//! Never changes a link that is not in Pontoon's group.

use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::super::apply::{CREATE_ATTEMPTS, foreign, with_master};
use super::super::link::{self, LinkRecord, PortFlag};
use super::super::netlink::{CREATE, EXCLUSIVE, Failure, Request, Socket};
use super::super::shell::{is_there, word};
use super::super::{LinuxKernel, Route, port_vlans, shaper};
use super::Around;
use super::change::port_flag;
use crate::datapath::{GROUP_LIVE, Veth};
use crate::model::{IfName, LinkRole, Mac, PortVlans, Vids};

/// Creates a pair: both names, addresses and MTUs, the host end up, in Pontoon's group and a port of
/// `master`. One message; a second one in the same datagram when the port has flags, because the kernel
/// ignores attributes of a port in the message that creates it. A port with VLANs of its own comes up last: the
/// kernel gives it the bridge's default VLAN first.
///
/// # Errors
/// `EEXIST` when either name is taken; the caller checks by which link. `EXFULL` when the bridge has no free
/// port. In every case no link is left behind.
pub fn create(socket: &mut Socket, name: &IfName, veth: &Veth, master: Option<u32>) -> Result<(), Failure> {
    let body = link::encode(&creation(name, veth, master));
    let mut requests = vec![Request { kind: libc::RTM_NEWLINK, flags: CREATE | EXCLUSIVE, body }];
    if (veth.isolated || veth.hairpin) && master.is_some() {
        // If the name turns out to be taken, this reaches a port of another program only if that has one of
        // Pontoon's names and is a port: then it is isolated, not opened.
        let flags = [(veth.isolated, PortFlag::Isolated(true)), (veth.hairpin, PortFlag::Hairpin(true))];
        let flags: Vec<_> = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
        requests.push(link::port_flags(name, &flags));
    }
    let (index, failure) = match socket.execute_all(&requests) {
        Ok(()) => match finish_vlans(socket, name, veth) {
            Ok(()) => return Ok(()),
            Err(failure) => (1, failure),
        },
        Err(failed) => failed,
    };
    if index > 0
        && let Some(made) = link::find(socket, name.as_str())?
    {
        // The pair was created and only its flags or VLANs were rejected: it must not stay without them.
        link::delete(socket, made.index)?;
    }
    Err(failure)
}

/// Gives a port that is down its VLANs, if it has any of its own, and brings it up.
fn finish_vlans(socket: &mut Socket, name: &IfName, veth: &Veth) -> Result<(), Failure> {
    let Some(vlans) = &veth.vlans else { return Ok(()) };
    let made = link::find(socket, name.as_str())?.ok_or_else(|| Failure::refused(libc::ENODEV, "gone again"))?;
    port_vlans::set(socket, made.index, vlans)?;
    if veth.up { link::change(socket, LinkUnspec::new_with_index(made.index).up()) } else { Ok(()) }
}

/// Makes a link a port of a bridge with exactly these VLANs. It is down until it has them, and stays down after an error.
pub(super) fn join(route: &mut Route, name: &IfName, bridge: &IfName, vlans: &PortVlans) -> Result<(), Failure> {
    let found = link::find(&mut route.socket, name.as_str())?.ok_or_else(|| Failure::refused(libc::ENODEV, ""))?;
    let index = found.index;
    link::change(&mut route.socket, LinkUnspec::new_with_index(index).down())?;
    with_master(route, Some(bridge), |route, master| {
        link::change(&mut route.socket, LinkUnspec::new_with_index(index).controller(master.unwrap_or(0)))
    })?;
    port_vlans::set(&mut route.socket, index, vlans)?;
    link::change(&mut route.socket, LinkUnspec::new_with_index(index).up())
}

/// Completes an existing pair of Pontoon; the container end only as far as it is visible.
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
    let joins = found.master != master;
    if joins {
        (change, changed) = (change.controller(master.unwrap_or(0)), true);
    }
    if found.arp && !veth.arp {
        (change, changed) = (change.arp(false), true);
    }
    if veth.vlans.is_some() {
        if joins && found.up {
            // Before anything else: the new bridge gives it a VLAN of its own choice.
            link::change(socket, link::named(name).down())?;
        }
    } else if veth.up && !found.up {
        (change, changed) = (change.up(), true);
    }
    if changed {
        link::change(socket, change)?;
    }
    finish_vlans(socket, name, veth)?;
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
    if peer.mtu != veth.peer_mtu {
        (change, changed) = (change.mtu(veth.peer_mtu), true);
    }
    if peer.name != veth.peer.as_str() {
        (change, changed) = (change.name(veth.peer.as_str()), true);
    }
    if changed { link::change(socket, change) } else { Ok(()) }
}

fn creation(name: &IfName, veth: &Veth, master: Option<u32>) -> LinkMessage {
    // The peer stays down: the kernel would open it before it is paired (ENOTCONN).
    let mut peer = queues(LinkUnspec::new_with_name(veth.peer.as_str()).mtu(veth.peer_mtu));
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
    if veth.up && veth.vlans.is_none() {
        host = host.up();
    }
    host.build()
}

/// One queue per direction: the kernel would otherwise create one for every possible CPU and remove all but
/// one again, which takes half of the time of the creation.
fn queues<T>(link: LinkMessageBuilder<T>) -> LinkMessageBuilder<T> {
    link.append_extra_attribute(LinkAttribute::NumTxQueues(1)).append_extra_attribute(LinkAttribute::NumRxQueues(1))
}

/// Reads a pair of Pontoon by its host end.
pub(super) fn observe(around: &Around<'_>, link: &LinkRecord, name: &IfName) -> Option<Veth> {
    let named = |index| around.name_of(index);
    link.live().then(|| Veth {
        peer: named(link.peer).unwrap_or_else(|| name.beside_host_end(LinkRole::Peer)),
        // Every veth has an address; the kernel generates one if none was given.
        host_mac: link.mac.unwrap_or_else(|| Mac::from_bytes([0; 6])),
        peer_mac: None,
        mtu: link.mtu,
        peer_mtu: around.record(link.peer).map_or(link.mtu, |peer| peer.mtu),
        bridge: named(link.master),
        isolated: link.isolated,
        hairpin: link.hairpin,
        vlans: around.vlans.as_ref().map(|all| all.get(&link.index).cloned().unwrap_or_default()),
        shape: around.shapes.get(&link.index).copied(),
        arp: link.arp,
        up: link.up,
    })
}

impl LinuxKernel {
    /// No packet passes before its limit is in force: the container end is still down.
    pub(super) fn create_veth(&self, name: &IfName, veth: &Veth) -> Result<(), Failure> {
        self.create_pair(name, veth)?;
        if veth.shape.is_some() { self.shape(name, veth.shape) } else { Ok(()) }
    }

    fn create_pair(&self, name: &IfName, veth: &Veth) -> Result<(), Failure> {
        for _ in 0..CREATE_ATTEMPTS {
            self.await_gone(name)?;
            let mut route = self.route();
            let bridge = veth.bridge.as_ref();
            let made = with_master(&mut route, bridge, |route, master| create(&mut route.socket, name, veth, master));
            let failure = match made {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if failure.errno() != Some(libc::EEXIST) {
                return Err(failure);
            }
            match link::find(&mut route.socket, name.as_str())? {
                None => self.free_peer(&mut route, veth)?,
                Some(found) if found.kind == "veth" && found.dead() => self.reaper.retire(name),
                Some(found) if found.kind == "veth" && found.live() => {
                    self.echoes.mark(name);
                    return with_master(&mut route, bridge, |route, master| {
                        complete(&mut route.socket, &found, name, veth, master)
                    });
                }
                Some(found) => return Err(foreign(name, &found.kind)),
            }
        }
        Err(Failure::refused(libc::EBUSY, "links of this name keep appearing and disappearing"))
    }

    /// The name of the host end was free, so the other one is taken: by a pair that is about to be deleted,
    /// which is waited for, or by another program.
    fn free_peer(&self, route: &mut Route, veth: &Veth) -> Result<(), Failure> {
        let Some(peer) = link::find(&mut route.socket, veth.peer.as_str())? else { return Ok(()) };
        let host = match peer.peer {
            Some(index) => link::find_index(&mut route.socket, index)?,
            None => None,
        };
        match host.filter(link::LinkRecord::dead).and_then(|host| host.ifname()) {
            Some(host) => {
                self.reaper.retire(&host);
                self.await_gone(&host)
            }
            None => Err(foreign(&veth.peer, &peer.kind)),
        }
    }
}

/// The commands that create a pair.
pub(super) fn commands(name: &IfName, veth: &Veth) -> Vec<String> {
    let (link, mtu, peer_mtu) = (word(name), veth.mtu, veth.peer_mtu);
    let peer_mac = veth.peer_mac.map(|mac| format!(" address {mac}")).unwrap_or_default();
    let mut lines = vec![format!(
        "{} || ip link add name {link} mtu {mtu} address {} group {GROUP_LIVE} numtxqueues 1 numrxqueues 1 \
         type veth peer name {} mtu {peer_mtu}{peer_mac} numtxqueues 1 numrxqueues 1",
        is_there(name),
        veth.host_mac,
        word(&veth.peer)
    )];
    if let Some(bridge) = &veth.bridge {
        lines.push(format!("ip link set dev {link} master {}", word(bridge)));
        let flags = [("isolated", veth.isolated), ("hairpin", veth.hairpin)];
        lines.extend(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| port_flag(name, flag, true)));
    }
    lines.extend(veth.vlans.iter().flat_map(|vlans| vlan_commands(name, vlans)));
    if !veth.arp {
        lines.push(format!("ip link set dev {link} arp off"));
    }
    if veth.up {
        lines.push(format!("ip link set dev {link} up"));
    }
    lines.extend(veth.shape.iter().flat_map(|shape| shaper::commands(name, Some(shape))));
    lines
}

/// The commands that give a port exactly these VLANs.
pub(super) fn vlan_commands(name: &IfName, vlans: &PortVlans) -> Vec<String> {
    let link = word(name);
    let mut lines = vec![format!("bridge vlan del dev {link} vid 1-4094")];
    let ranges = |vids: &Vids| vids.ranges().into_iter().map(Vids::from).collect::<Vec<_>>();
    lines.extend(ranges(&vlans.untagged).iter().map(|vid| {
        let pvid = if vlans.untagged_in.map(Vids::from).as_ref() == Some(vid) { " pvid" } else { "" };
        format!("bridge vlan add dev {link} vid {vid}{pvid} untagged")
    }));
    lines.extend(ranges(&vlans.tagged).iter().map(|vids| format!("bridge vlan add dev {link} vid {vids}")));
    lines
}
