//! Bridges in the kernel: creates, completes, hardens, reads and retires them, and prints the same as shell
//! commands.
//!
//! Never changes a link that is not in Pontoon's group.

use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::super::apply::{CREATE_ATTEMPTS, foreign};
use super::super::link::{self, HEADER, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, LinkRecord};
use super::super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::super::shell::{is_there, quoted, setting, word};
use super::super::sysctl::Sysctls;
use super::super::tlv::{Attributes, Writer, native32};
use super::super::{LinuxKernel, Master, addr};
use super::Around;
use super::change::{add_address, enable_ipv6};
use crate::datapath::{Bridge, GROUP_DEAD, GROUP_LIVE};
use crate::model::IfName;

/// Attributes of a bridge (include/uapi/linux/if_link.h).
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BR_MULTI_BOOLOPT: u16 = 46;
const IFLA_BR_FDB_MAX_LEARNED: u16 = 49;

/// `BR_BOOLOPT_NO_LL_LEARN`, as a bit.
const NO_LINK_LOCAL_LEARNING: u32 = 1;

/// Maximum number of hardware addresses that a bridge of Pontoon learns: more than all containers and hosts
/// have, and less than a container without source address validation could forge. Kernels before 6.8 have no
/// such limit.
const MOST_LEARNED: u32 = 65_536;

/// Parses `IFLA_INFO_DATA` of a bridge. The kernel omits settings that it does not support; those count as
/// hardened. The limit of learned addresses is set together with the rest and not checked, because not every
/// tool can set it.
pub fn is_hardened(data: &Attributes<'_>) -> bool {
    let switches = data.find(IFLA_BR_MULTI_BOOLOPT).and_then(native32);
    let snooping = data.find(IFLA_BR_MCAST_SNOOPING).and_then(<[u8]>::first);
    switches.is_none_or(|switches| switches & NO_LINK_LOCAL_LEARNING != 0) && snooping.is_none_or(|on| *on == 0)
}

/// Frames to 01:80:c2:00:00:0x are not subject to any check and are no traffic of a network: the bridge
/// learns nothing from them. Multicasts are flooded to every port, as on any bridge that hears no multicast
/// querier: with snooping, a single forged query would cut off multicasts, and with them IPv6, from ports
/// without reports. Hardening does not flush anything that the bridge has learned otherwise.
pub fn harden(socket: &mut Socket, name: &IfName) -> Result<(), Failure> {
    let mut body = Writer::with_header(&[0; HEADER]);
    body.text(IFLA_IFNAME, name.as_str()).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, |data| {
            let switches = [NO_LINK_LOCAL_LEARNING.to_ne_bytes(), NO_LINK_LOCAL_LEARNING.to_ne_bytes()].concat();
            data.bytes(IFLA_BR_MULTI_BOOLOPT, &switches).bytes(IFLA_BR_MCAST_SNOOPING, &[0]);
            data.native(IFLA_BR_FDB_MAX_LEARNED, MOST_LEARNED);
        });
    });
    socket.execute(libc::RTM_NEWLINK, 0, &body.finish())
}

/// Creates the desired bridge and returns its index. On failure everything created is removed again.
///
/// # Errors
/// `EEXIST` when a link has the name; the caller checks whose it is.
pub fn create(socket: &mut Socket, sysctls: &Sysctls, name: &IfName, bridge: &Bridge) -> Result<u32, Failure> {
    socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link::encode(&creation(name, bridge)))?;
    let made = link::find(socket, name.as_str())?.ok_or_else(|| Failure::refused(libc::ENODEV, "gone again"))?;
    let result = complete(socket, sysctls, &made, name, bridge);
    if result.is_err()
        && let Err(failure) = link::delete(socket, made.index)
    {
        tracing::warn!(bridge = %name, ?failure, "cannot remove incomplete link; retrying");
    }
    result.map(|()| made.index)
}

/// Completes an existing bridge of Pontoon. Adds addresses and removes none.
pub fn complete(
    socket: &mut Socket,
    sysctls: &Sysctls,
    found: &LinkRecord,
    name: &IfName,
    bridge: &Bridge,
) -> Result<(), Failure> {
    // IPv6 is configured while the bridge is down: a bridge without IPv6 then never gets an address.
    if bridge.ipv6 {
        sysctls.enable_ipv6(name)?;
    } else {
        sysctls.disable_ipv6(name);
    }
    if bridge.hardened && !found.hardened {
        harden(socket, name)?;
    }
    let mut change = link::named(name).mtu(bridge.mtu).alias(bridge.alias.as_str());
    if let Some(mac) = bridge.mac.filter(|mac| Some(*mac) != found.mac) {
        change = change.address(mac.bytes().to_vec());
    }
    if bridge.up {
        change = change.up();
    }
    link::change(socket, change)?;
    if bridge.localnet {
        sysctls.route_localnet(name)?;
    }
    bridge.addresses.iter().try_for_each(|address| addr::add(socket, found.index, *address))
}

fn creation(name: &IfName, bridge: &Bridge) -> LinkMessage {
    // Not the desired MTU but one next to it: only a later *change* marks the MTU as set by the user
    // (br_change_mtu, net/bridge/br_device.c), and without that mark every port that is added or removed
    // resets it. Setting the present value again is no change.
    let mut message = LinkMessageBuilder::<LinkBridge>::new(name.as_str()).mtu(bridge.mtu ^ 1).link_group(GROUP_LIVE);
    if let Some(mac) = bridge.mac {
        message = message.address(mac.bytes().to_vec());
    }
    message.build()
}

/// Reads a bridge of Pontoon, or one that a network uses.
pub(super) fn observe(around: &Around<'_>, link: &LinkRecord, name: &IfName) -> Option<Bridge> {
    let Around { addresses, sysctls, foreign, .. } = around;
    if !link.live() && !foreign.contains(name) {
        return None;
    }
    let owned = link.live();
    let ours = addresses.iter().filter(|a| a.index == link.index && !a.automatic_for(link.mac));
    Some(Bridge {
        owned,
        mac: link.mac.filter(|_| owned),
        mtu: link.mtu,
        alias: link.alias.clone(),
        addresses: ours.map(|a| a.address).collect(),
        ipv6: sysctls.ipv6(name),
        localnet: sysctls.localnet(name),
        hardened: link.hardened,
        filters_vlans: link.filters_vlans,
        up: link.up,
    })
}

impl LinuxKernel {
    pub(super) fn create_bridge(&self, name: &IfName, bridge: &Bridge) -> Result<(), Failure> {
        for _ in 0..CREATE_ATTEMPTS {
            self.await_gone(name)?;
            let mut route = self.route();
            route.bridges.remove(name);
            match create(&mut route.socket, &self.sysctls, name, bridge) {
                Ok(index) => {
                    route.bridges.insert(name.clone(), Master { index, ours: true });
                    return Ok(());
                }
                Err(failure) if failure.errno() == Some(libc::EEXIST) => {}
                Err(failure) => return Err(failure),
            }
            match link::find(&mut route.socket, name.as_str())? {
                // Deleted between the two requests.
                None => {}
                Some(found) if found.kind == "bridge" && found.dead() => self.reaper.retire(name),
                Some(found) if found.kind == "bridge" && found.live() => {
                    return complete(&mut route.socket, &self.sysctls, &found, name, bridge);
                }
                Some(found) => return Err(foreign(name, &found.kind)),
            }
        }
        Err(Failure::refused(libc::EBUSY, "links of this name keep appearing and disappearing"))
    }

    pub(in crate::linux) fn retire_bridge(&self, name: &IfName) -> Result<(), Failure> {
        let mut route = self.route();
        route.bridges.remove(name);
        let Some(found) = link::find(&mut route.socket, name.as_str())? else { return Ok(()) };
        if found.kind != "bridge" || !(found.live() || found.dead()) {
            tracing::warn!(link = %name, kind = %found.kind, "link no longer belongs to Pontoon; leaving it alone");
            return Ok(());
        }
        let change = LinkUnspec::new_with_index(found.index).down().link_group(GROUP_DEAD);
        let changed = match link::change(&mut route.socket, change) {
            Err(failure) if failure.errno() == Some(libc::ENODEV) => return Ok(()),
            result => result,
        };
        // In any case: the kernel may have carried out part of it and rejected the rest (`do_setlink`,
        // net/core/rtnetlink.c). The reaper does the rest and retries.
        self.reaper.retire(name);
        changed
    }
}

/// The commands that create a bridge.
pub(super) fn commands(name: &IfName, bridge: &Bridge) -> Vec<String> {
    let link = word(name);
    let mac = bridge.mac.map(|mac| format!(" address {mac}")).unwrap_or_default();
    // An incomplete bridge is completed.
    let there = is_there(name);
    let mut lines = vec![format!("{there} || ip link add name {link}{mac} group {GROUP_LIVE} type bridge")];
    if bridge.ipv6 {
        lines.extend(enable_ipv6(name));
    } else {
        lines.push(setting(&["ipv6", "conf", name.as_str(), "disable_ipv6"], "1"));
    }
    if !bridge.alias.is_empty() {
        lines.push(format!("ip link set dev {link} alias {}", quoted(&bridge.alias)));
    }
    // Only a change of the MTU prevents ports from changing it later.
    lines.push(format!("ip link set dev {link} mtu {}", bridge.mtu ^ 1));
    lines.push(format!("ip link set dev {link} mtu {}", bridge.mtu));
    if bridge.hardened {
        lines.extend(harden_commands(name));
    }
    if bridge.up {
        lines.push(format!("ip link set dev {link} up"));
    }
    if bridge.localnet {
        lines.push(setting(&["ipv4", "conf", name.as_str(), "route_localnet"], "1"));
    }
    lines.extend(bridge.addresses.iter().map(|address| add_address(name, &address.to_string())));
    lines
}

/// Not every kernel and not every release of iproute2 supports the limit.
pub(super) fn harden_commands(name: &IfName) -> Vec<String> {
    let link = word(name);
    let settings = ["no_linklocal_learn 1", "mcast_snooping 0", "fdb_max_learned 65536 2>/dev/null || true"];
    settings.map(|setting| format!("ip link set dev {link} type bridge {setting}")).into()
}
