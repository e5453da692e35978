//! Host links in the kernel: macvlan links that stay on the host with the addresses of their parent, and ipvlan links with
//! addresses of their own. Creates, changes and reads them, and prints the same as shell commands.
//!
//! Invariants, each proven with packets by tests/netns_linux: a station that is not a container on the parent never
//! learns the hardware address of a host link for the host, and the host's traffic with such stations never uses a host
//! link. For that the link answers ARP only where the host's route leads back (`arp_filter`, net/ipv4/arp.c), has no
//! link-local address, no route to the parent's subnet, and the firewall drops what does not come from a container.

use std::collections::BTreeSet;

use ipnetwork::{IpNetwork, Ipv6Network};

use super::super::addr::{self, AddressRecord};
use super::super::link::{
    self, HEADER, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO,
    LinkRecord,
};
use super::super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::super::shell::{is_there, setting, word};
use super::super::sysctl::Sysctls;
use super::super::tlv::Writer;
use super::super::{LinuxKernel, route};
use super::child::Child;
use super::{Around, change, ipvlan, macvlan};
use crate::datapath::GROUP_LIVE;
use crate::datapath::object::{HostChild, HostLink};
use crate::model::ifname::HOST_LINK;
use crate::model::kind::{IpvlanFlag, MacvlanMode};
use crate::model::{Family, IfName, Mac};

/// Whether a macvlan link of this name is a host link.
pub(super) fn is_host_link(name: &IfName) -> bool {
    name.as_str().starts_with(HOST_LINK)
}

/// Reads a host link of Pontoon.
pub(super) fn observe(around: &Around<'_>, link: &LinkRecord, name: &IfName) -> Option<HostLink> {
    let parent = around.name_of(link.peer)?;
    let of = |index| around.addresses.iter().filter(move |record| Some(record.index) == index);
    let own = present(of(Some(link.index)));
    let child = if link.kind == "ipvlan" {
        HostChild::Ipvlan { mode: ipvlan::mode(link)?, addresses: own }
    } else {
        let bridges = macvlan::mode(link) == Some(MacvlanMode::Bridge);
        HostChild::Macvlan { mac: link.mac.filter(|_| bridges)?, addressed: wanted(of(link.peer)) == own }
    };
    link.live().then_some(HostLink { parent, child, quiet: around.sysctls.is_quiet(name), up: link.up })
}

/// The addresses that a host link has to have: all of its parent, except those of the link itself and those that pass.
/// With the prefix length of an IPv4 address the kernel finds the source address for a container of the subnet.
fn wanted<'a>(of_parent: impl Iterator<Item = &'a AddressRecord>) -> BTreeSet<IpNetwork> {
    let copied = |record: &AddressRecord| match record.address {
        IpNetwork::V4(net) => Some(IpNetwork::V4(net)).filter(|_| !net.ip().is_link_local()),
        IpNetwork::V6(net) => {
            let usable = !net.ip().is_unicast_link_local() && !record.passing;
            Ipv6Network::new(net.ip(), 128).ok().map(IpNetwork::V6).filter(|_| usable)
        }
    };
    of_parent.filter_map(copied).collect()
}

fn present<'a>(own: impl Iterator<Item = &'a AddressRecord>) -> BTreeSet<IpNetwork> {
    own.map(|record| record.address)
        .filter(|net| !matches!(net, IpNetwork::V6(v6) if v6.ip().is_unicast_link_local()))
        .collect()
}

/// A macvlan host link, as far as it is created at once. The rest is done by [`LinuxKernel::create_host_link`].
struct MacvlanHost {
    parent: IfName,
    mac: Mac,
}

impl Child for MacvlanHost {
    const KIND: &str = "macvlan";

    fn parent(&self) -> &IfName {
        &self.parent
    }

    fn create(&self, socket: &mut Socket, name: &IfName, parent: u32) -> Result<(), Failure> {
        let mut body = Writer::with_header(&[0; HEADER]);
        body.text(IFLA_IFNAME, name.as_str()).native(IFLA_LINK, parent);
        body.native(IFLA_GROUP, GROUP_LIVE).bytes(IFLA_ADDRESS, &self.mac.bytes());
        body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, Self::KIND).nest(IFLA_INFO_DATA, |data| {
                data.native(macvlan::IFLA_MACVLAN_MODE, macvlan::number(MacvlanMode::Bridge));
            });
        });
        socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &body.finish())
    }

    fn matches(&self, found: &LinkRecord) -> bool {
        macvlan::mode(found) == Some(MacvlanMode::Bridge)
    }

    fn reset(&self, _: &mut Socket, _: &IfName) -> Result<(), Failure> {
        Ok(())
    }

    fn explained(&self, failure: Failure) -> Failure {
        macvlan::explained(&self.parent, failure)
    }
}

impl LinuxKernel {
    pub(super) fn create_host_link(&self, name: &IfName, wanted: &HostLink) -> Result<(), Failure> {
        let parent = wanted.parent.clone();
        match &wanted.child {
            HostChild::Macvlan { mac, .. } => self.create_child(name, &MacvlanHost { parent, mac: *mac })?,
            HostChild::Ipvlan { mode, .. } => {
                self.create_child(name, &ipvlan::Unsized { parent, mode: *mode, flag: IpvlanFlag::Bridge })?;
            }
        }
        if wanted.quiet {
            self.sysctls.quiet(name)?;
        }
        if wanted.up {
            link::change(&mut self.route().socket, link::named(name).up())?;
        }
        match &wanted.child {
            HostChild::Macvlan { addressed, .. } => {
                if *addressed {
                    self.copy_addresses(name)
                } else {
                    Ok(())
                }
            }
            HostChild::Ipvlan { addresses, .. } => self.add_addresses(name, addresses),
        }
    }

    fn add_addresses(&self, name: &IfName, addresses: &BTreeSet<IpNetwork>) -> Result<(), Failure> {
        if addresses.iter().any(IpNetwork::is_ipv6) {
            self.sysctls.ensure_ipv6(name)?;
        }
        let socket = &mut self.route().socket;
        let gone = || Failure::refused(libc::ENODEV, "");
        let index = link::find(socket, name.as_str())?.ok_or_else(gone)?.index;
        addresses.iter().try_for_each(|address| addr::add(socket, index, *address))
    }

    /// Gives a host link the addresses of its parent, and removes others.
    pub(super) fn copy_addresses(&self, name: &IfName) -> Result<(), Failure> {
        let socket = &mut self.route().socket;
        let gone = || Failure::refused(libc::ENODEV, "");
        let found = link::find(socket, name.as_str())?.ok_or_else(gone)?;
        let parent = addr::of_link(socket, found.peer.ok_or_else(gone)?)?;
        let (wanted, mut own) = (wanted(parent.iter()), present(addr::of_link(socket, found.index)?.iter()));
        if !own.is_subset(&wanted) {
            for address in own.difference(&wanted) {
                addr::remove(socket, found.index, *address)?;
            }
            // With the first address of a subnet the kernel removes the others (`promote_secondaries` off).
            own = present(addr::of_link(socket, found.index)?.iter());
        }
        let missing: Vec<_> = wanted.difference(&own).collect();
        if missing.iter().any(|address| address.is_ipv6()) {
            self.sysctls.ensure_ipv6(name)?;
        }
        for address in missing {
            addr::add_without_route(socket, found.index, *address)?;
            // The kernel adds it for every address, and might use it instead of the parent's.
            if let IpNetwork::V4(net) = address
                && net.prefix() < 31
            {
                route::remove_broadcast(socket, found.index, net.broadcast())?;
            }
        }
        Ok(())
    }
}

impl Sysctls {
    /// Whether a host link answers only where it may.
    pub(super) fn is_quiet(&self, name: &IfName) -> bool {
        quieting(name).iter().all(|(setting, value)| self.is(setting, value))
    }

    /// Makes a host link answer only where it may, see the module documentation. The settings of IPv6 are ignored in a
    /// kernel without it.
    pub(super) fn quiet(&self, name: &IfName) -> Result<(), Failure> {
        quieting(name).iter().try_for_each(|(setting, value)| self.ensure_supported(setting, value))
    }
}

/// `route_localnet` is for published ports that local processes reach over 127.0.0.1, as on a bridge.
/// New links inherit the host's defaults: with `arp_ignore` containers would get no answer.
fn quieting(name: &IfName) -> [(String, &'static str); 7] {
    let of = |family: Family, key: &str| format!("{}/conf/{name}/{key}", family.choose("ipv4", "ipv6"));
    [
        (of(Family::V4, "arp_filter"), "1"),
        (of(Family::V4, "arp_ignore"), "0"),
        (of(Family::V4, "rp_filter"), "1"),
        (of(Family::V4, "send_redirects"), "0"),
        (of(Family::V4, "route_localnet"), "1"),
        (of(Family::V6, "accept_ra"), "0"),
        // `IN6_ADDR_GEN_MODE_NONE`: no link-local address.
        (of(Family::V6, "addr_gen_mode"), "1"),
    ]
}

/// The commands that make a host link quiet.
pub(super) fn quiet_commands(name: &IfName) -> Vec<String> {
    let command = |(path, value): &(String, &str)| setting(&path.split('/').collect::<Vec<_>>(), value);
    quieting(name).iter().map(command).collect()
}

/// There is no command that copies addresses.
pub(super) fn copy_commands(name: &IfName) -> Vec<String> {
    vec![format!("# pontoon repair: give {name} the addresses of its parent (no ip command)")]
}

/// The commands that create a host link.
pub(super) fn commands(name: &IfName, wanted: &HostLink) -> Vec<String> {
    let (there, parent, link) = (is_there(name), word(&wanted.parent), word(name));
    let add = format!("{there} || ip link add link {parent} name {link}");
    let mut lines = vec![match &wanted.child {
        HostChild::Macvlan { mac, .. } => format!("{add} address {mac} group {GROUP_LIVE} type macvlan mode bridge"),
        HostChild::Ipvlan { mode, .. } => format!("{add} group {GROUP_LIVE} type ipvlan mode {mode} bridge"),
    }];
    lines.extend(wanted.quiet.then(|| quiet_commands(name)).into_iter().flatten());
    lines.extend(wanted.up.then(|| format!("ip link set dev {link} up")));
    match &wanted.child {
        HostChild::Macvlan { addressed, .. } => {
            lines.extend(addressed.then(|| copy_commands(name)).into_iter().flatten())
        }
        HostChild::Ipvlan { addresses, .. } => {
            lines.extend(addresses.iter().map(|address| change::add_address(name, &address.to_string())));
        }
    }
    lines
}
