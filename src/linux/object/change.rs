//! Changes of objects: the kernel request for each, its name in errors, and the same as shell commands.

use std::net::IpAddr;

use super::super::apply::with_master;
use super::super::link::{self, PortFlag};
use super::super::netlink::Failure;
use super::super::shell::{quoted, setting, word};
use super::super::{LinuxKernel, addr, neighbour, port_vlans, shaper};
use super::{bridge, host_link, veth};
use crate::datapath::Change;
use crate::model::IfName;

impl LinuxKernel {
    pub(in crate::linux) fn change(&self, name: &IfName, change: &Change) -> Result<(), Failure> {
        let named = || link::named(name);
        let gone = || Failure::refused(libc::ENODEV, "");
        match change {
            Change::Mtu(mtu) => link::change(&mut self.route().socket, named().mtu(*mtu)),
            Change::Mac(mac) => link::change(&mut self.route().socket, named().address(mac.bytes().to_vec())),
            Change::Up => link::change(&mut self.route().socket, named().up()),
            Change::Harden => bridge::harden(&mut self.route().socket, name),
            Change::ArpOff => link::change(&mut self.route().socket, named().arp(false)),
            Change::EnableIpv6 => self.sysctls.enable_ipv6(name),
            Change::AddAddress(address) => {
                let socket = &mut self.route().socket;
                let index = link::find(socket, name.as_str())?.ok_or_else(gone)?.index;
                addr::add(socket, index, *address)
            }
            Change::RemoveAddress(address) => {
                let socket = &mut self.route().socket;
                let found = link::find(socket, name.as_str())?;
                found.map_or(Ok(()), |link| addr::remove(socket, link.index, *address))
            }
            Change::Flood { add, remove } => {
                let socket = &mut self.route().socket;
                let index = link::find(socket, name.as_str())?.ok_or_else(gone)?.index;
                neighbour::flood(socket, index, add.iter().copied())?;
                remove.iter().try_for_each(|peer| neighbour::stop_flood(socket, index, *peer))
            }
            Change::Master(bridge) => with_master(&mut self.route(), Some(bridge), |route, index| {
                link::change(&mut route.socket, named().controller(index.unwrap_or(0)))
            }),
            Change::JoinVlans { bridge, vlans } => veth::join(&mut self.route(), name, bridge, vlans),
            Change::Vlans(vlans) => {
                let socket = &mut self.route().socket;
                let index = link::find(socket, name.as_str())?.ok_or_else(gone)?.index;
                port_vlans::set(socket, index, vlans)
            }
            Change::Isolate(on) => link::set_port(&mut self.route().socket, name, &[PortFlag::Isolated(*on)]),
            Change::Hairpin => link::set_port(&mut self.route().socket, name, &[PortFlag::Hairpin(true)]),
            Change::Shape(shape) => self.shape(name, *shape),
            Change::Quiet => self.sysctls.quiet(name),
            Change::CopyAddresses => self.copy_addresses(name),
            Change::RouteLocalnet => {
                link::find(&mut self.route().socket, name.as_str())?.ok_or_else(gone)?;
                self.sysctls.route_localnet(name)
            }
        }
    }
}

/// Name of a change in errors, and its object.
pub(in crate::linux) fn describe(name: &IfName, change: &Change) -> (&'static str, String) {
    match change {
        Change::Mtu(mtu) => ("set MTU of", format!("{name} to {mtu}")),
        Change::Mac(mac) => ("set hardware address of", format!("{name} to {mac}")),
        Change::Up => ("bring up", name.to_string()),
        Change::Harden => ("harden bridge", name.to_string()),
        Change::ArpOff => ("turn off ARP of", name.to_string()),
        Change::EnableIpv6 => ("turn on IPv6 of", name.to_string()),
        Change::AddAddress(address) => ("add address", format!("{address} to {name}")),
        Change::RemoveAddress(address) => ("remove address", format!("{address} from {name}")),
        Change::Flood { .. } => ("change floods of", name.to_string()),
        Change::Master(bridge) => ("make a port", format!("{name} of {bridge}")),
        Change::JoinVlans { bridge, vlans } => ("make a port", format!("{name} of {bridge} in VLAN {}", vlans.all())),
        Change::Vlans(vlans) => ("set VLANs of", format!("{name} to {}", vlans.all())),
        Change::Isolate(_) => ("set isolation of", name.to_string()),
        Change::Hairpin => ("turn on hairpin of", name.to_string()),
        Change::Shape(Some(shape)) => ("limit", format!("{name} to {} bit/s", u64::from(shape.rate) * 8)),
        Change::Shape(None) => ("remove the limit of", name.to_string()),
        Change::Quiet => ("make quiet", name.to_string()),
        Change::CopyAddresses => ("copy addresses of the parent to", name.to_string()),
        Change::RouteLocalnet => ("route loopback addresses on", name.to_string()),
    }
}

/// The commands that do the same.
pub(in crate::linux) fn commands(name: &IfName, change: &Change) -> Vec<String> {
    let link = word(name);
    match change {
        Change::Mtu(mtu) => vec![format!("ip link set dev {link} mtu {mtu}")],
        Change::Mac(mac) => vec![format!("ip link set dev {link} address {mac}")],
        Change::Up => vec![format!("ip link set dev {link} up")],
        Change::Harden => bridge::harden_commands(name),
        Change::ArpOff => vec![format!("ip link set dev {link} arp off")],
        Change::EnableIpv6 => enable_ipv6(name),
        Change::AddAddress(address) => vec![add_address(name, &address.to_string())],
        Change::RemoveAddress(address) => {
            let there = quoted(&format!(" {address} "));
            vec![format!("! ip -o address show dev {link} | grep -qF {there} || ip address del {address} dev {link}")]
        }
        Change::Flood { add, remove } => {
            let gone = remove.iter().map(|peer| flood("del", name, *peer));
            gone.chain(add.iter().map(|peer| flood("append", name, *peer))).collect()
        }
        Change::Master(bridge) => vec![format!("ip link set dev {link} master {}", word(bridge))],
        Change::JoinVlans { bridge, vlans } => {
            let mut lines =
                vec![format!("ip link set dev {link} down"), format!("ip link set dev {link} master {}", word(bridge))];
            lines.extend(veth::vlan_commands(name, vlans));
            lines.push(format!("ip link set dev {link} up"));
            lines
        }
        Change::Vlans(vlans) => veth::vlan_commands(name, vlans),
        Change::Isolate(on) => vec![port_flag(name, "isolated", *on)],
        Change::Hairpin => vec![port_flag(name, "hairpin", true)],
        Change::Shape(shape) => shaper::commands(name, shape.as_ref()),
        Change::Quiet => host_link::quiet_commands(name),
        Change::CopyAddresses => host_link::copy_commands(name),
        Change::RouteLocalnet => vec![setting(&["ipv4", "conf", name.as_str(), "route_localnet"], "1")],
    }
}

/// `bridge` fails when it appends an existing entry, or deletes a missing one.
pub(super) fn flood(verb: &str, link: &IfName, peer: IpAddr) -> String {
    let (link, not) = (word(link), if verb == "del" { "! " } else { "" });
    let there = format!("{not}bridge fdb show dev {link} | grep -qF '00:00:00:00:00:00 dst {peer} '");
    format!("{there} || bridge fdb {verb} 00:00:00:00:00:00 dev {link} dst {peer}")
}

pub(super) fn enable_ipv6(name: &IfName) -> Vec<String> {
    let of = |key| ["ipv6", "conf", name.as_str(), key];
    vec![setting(&of("accept_ra"), "0"), setting(&of("disable_ipv6"), "0")]
}

pub(super) fn add_address(name: &IfName, address: &str) -> String {
    let nodad = if address.contains(':') { " nodad" } else { "" };
    format!("ip address replace {address} dev {}{nodad}", word(name))
}

pub(super) fn port_flag(name: &IfName, flag: &str, on: bool) -> String {
    format!("bridge link set dev {} {flag} {}", word(name), if on { "on" } else { "off" })
}
