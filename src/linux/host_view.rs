//! The host as `pontoon explain` asks about it: routes, links, sockets and the ruleset.
//!
//! Reads only. Also enters the network namespaces of containers, which needs CAP_SYS_ADMIN. Used by the app.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::firewall::counters;
use super::link::LinkRecord;
use super::netlink::{Explain as _, Failure, OwnPorts, Protocol, Socket};
use super::ruleset::Ruleset;
use super::sysctl::Sysctls;
use super::{addr, link, route, sandbox};
use crate::datapath::KernelError;
use crate::datapath::host::Dropped;
use crate::datapath::passage::{Hook, ListenerSeen, Packet, PacketLink, Passage, RouteSeen};
use crate::model::Family;

/// `RTN_LOCAL`.
const LOCAL: u8 = 2;
/// States in `/proc/net/tcp` and `/proc/net/udp` of sockets without a peer: `TCP_LISTEN` and `TCP_CLOSE`.
const LISTENING: &str = "0A";
const UNCONNECTED: &str = "07";

/// Sockets and what was read when it was opened.
#[derive(Debug)]
pub struct HostView {
    route: RefCell<Socket>,
    ruleset: Ruleset,
    links: BTreeMap<u32, LinkRecord>,
    sysctls: Sysctls,
    root: PathBuf,
}

impl HostView {
    /// Reads links, addresses and the ruleset of this thread's network namespace.
    ///
    /// # Errors
    /// Errors of a socket or a dump; without CAP_NET_ADMIN the ruleset cannot be read.
    pub fn read(root: PathBuf) -> Result<Self, KernelError> {
        let open = |protocol| {
            Socket::open(protocol, Arc::new(OwnPorts::default())).map_err(|f| f.of("open the kernel's", "sockets"))
        };
        let (mut routes, nft) = (open(Protocol::Route)?, open(Protocol::Netfilter)?);
        let links = link::list(&mut routes).map_err(|f| f.of("list", "links"))?;
        let own = addr::own(&mut routes).map_err(|f| f.of("list", "addresses"))?;
        let ruleset = Ruleset::read(nft, own).map_err(|f| f.of("list", "the rules of the firewall"))?;
        let links = links.into_iter().map(|link| (link.index, link)).collect();
        Ok(Self { route: RefCell::new(routes), ruleset, links, sysctls: Sysctls::new(root.clone()), root })
    }

    /// Whether Pontoon's tables exist.
    pub fn has_tables(&self) -> bool {
        self.ruleset.has_ours()
    }

    /// The route to an address, of the host or in a sandbox.
    ///
    /// # Errors
    /// Why it cannot be looked up.
    pub fn route(&self, sandbox: Option<&str>, to: IpAddr) -> Result<Option<RouteSeen>, String> {
        match sandbox {
            None => seen(&mut self.route.borrow_mut(), to, |index| self.by_index(index)).map_err(words),
            Some(file) => within(file, || {
                let mut socket = Socket::open(Protocol::Route, Arc::new(OwnPorts::default()))?;
                seen(&mut socket, to, |index| PacketLink { index, ..PacketLink::default() })
            }),
        }
    }

    fn by_index(&self, index: u32) -> PacketLink {
        let link = self.links.get(&index);
        link.map_or_else(PacketLink::default, |link| PacketLink {
            name: link.name.clone(),
            index,
            kind: link.kind.clone(),
        })
    }

    /// The passages through the chains of a hook.
    pub fn pass(&self, hook: Hook, packet: &mut Packet) -> Vec<Passage> {
        self.ruleset.pass(hook, packet)
    }

    /// A link by its name.
    pub fn link(&self, name: &str) -> Option<PacketLink> {
        self.links.values().find(|link| link.name == name).map(|link| self.by_index(link.index))
    }

    /// Whether it is an isolated port of a bridge.
    pub fn is_isolated(&self, port: &str) -> bool {
        self.links.values().any(|link| link.name == port && link.isolated)
    }

    /// Whether packets that come in by the link are forwarded.
    pub fn forwards(&self, link: &str, family: Family) -> bool {
        if family.is_v6() {
            return self.sysctls.forwarding(Family::V6)
                || self.links.values().any(|one| one.name == link && one.forwards6 != 0);
        }
        let own = std::fs::read_to_string(self.root.join("ipv4/conf").join(link).join("forwarding"));
        own.map_or_else(|_| self.sysctls.forwarding(Family::V4), |text| text.trim() != "0")
    }

    /// Whether frames within the bridge pass the chains of routed packets.
    pub fn calls_iptables(&self, bridge: &str, family: Family) -> bool {
        let file = family.choose("bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables");
        let all = std::fs::read_to_string(self.root.join(file)).is_ok_and(|text| text.trim() != "0");
        all || self.links.values().any(|link| link.name == bridge && link.calls_iptables)
    }
}

/// Listening TCP sockets, or unconnected UDP sockets, of the host or in a sandbox.
///
/// # Errors
/// Why they cannot be read.
pub fn sockets(sandbox: Option<&str>, protocol: u8) -> Result<Vec<ListenerSeen>, String> {
    let (files, state) = match i32::from(protocol) {
        libc::IPPROTO_TCP => (["tcp", "tcp6"], LISTENING),
        libc::IPPROTO_UDP => (["udp", "udp6"], UNCONNECTED),
        _ => return Err("the kernel lists sockets of TCP and UDP only".to_owned()),
    };
    let read = || {
        let text = files.map(|file| std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file)));
        let lines: Vec<String> = text.into_iter().flatten().collect();
        lines.iter().flat_map(|text| text.lines()).filter_map(|line| listener(line, state)).collect()
    };
    match sandbox {
        None => Ok(read()),
        Some(file) => sandbox::within(Path::new(file), read).map_err(|error| format!("{file}: {error}")),
    }
}

/// Every rule of Pontoon that dropped packets, with its count.
///
/// # Errors
/// The rules cannot be listed, for example without CAP_NET_ADMIN.
pub fn dropped() -> Result<Vec<Dropped>, KernelError> {
    let failed = |failure: Failure| failure.of("list", "what was dropped");
    let mut socket = Socket::open(Protocol::Netfilter, Arc::new(OwnPorts::default())).map_err(failed)?;
    counters::dropped(&mut socket).map_err(failed)
}

fn words(failure: Failure) -> String {
    failure.of("look up", "a route").to_string()
}

fn within(
    file: &str,
    work: impl FnOnce() -> Result<Option<RouteSeen>, Failure> + Send,
) -> Result<Option<RouteSeen>, String> {
    let result = sandbox::within(Path::new(file), work).map_err(|error| format!("{file}: {error}"))?;
    result.map_err(words)
}

fn seen(socket: &mut Socket, to: IpAddr, named: impl Fn(u32) -> PacketLink) -> Result<Option<RouteSeen>, Failure> {
    let Some((route, _)) = route::way(socket, to)? else { return Ok(None) };
    let link = route.link.map(named).unwrap_or_default();
    let local = route.kind == LOCAL;
    Ok(Some(RouteSeen { local, link, gateway: route.gateway, source: route.source }))
}

/// Address and port of a line of `/proc/net/tcp` or `/proc/net/udp` with this state.
fn listener(line: &str, state: &str) -> Option<ListenerSeen> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    if words.nth(1)? != state {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each group of four bytes is a number in host byte order.
    let group = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(group(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&group(at)?);
            }
            let v6 = Ipv6Addr::from(bytes);
            v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
        }
        _ => return None,
    };
    Some(ListenerSeen { address, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_read() {
        let of = |line: &str| listener(line, LISTENING).map(|at| (at.address.to_string(), at.port));
        let tcp = "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0";
        assert_eq!(of(tcp), Some(("127.0.0.1".to_owned(), 8080)));
        assert_eq!(of(&tcp.replace(" 0A ", " 01 ")), None);
        let six = "  0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0";
        assert_eq!(of(six), Some(("::1".to_owned(), 80)));
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt";
        assert_eq!(of(head), None);
    }
}
