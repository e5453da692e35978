//! Watches for changes by other programs: links, addresses and firewall, filtering out the echo of Pontoon's
//! own changes as far as possible.
//!
//! Only reports; observing the kernel shows what an event means for the datapath. Started by
//! `LinuxKernel::watch` for the app.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::addr::parse_address;
use super::echo_filter::{ECHO, EchoFilter};
use super::frame::{Frame, Frames};
use super::link::{self, LinkRecord, parse_link, parse_port};
use super::netlink::{Failure, OwnPorts, Protocol, Socket, open_fd, receive};
use super::port_vlans;
use super::rule_events;
use super::shaper;
use super::sysctl::FORWARDED_BY_PONTOON;
use super::tlv::{Attributes, native32};
use crate::model::IfName;

/// `RTNLGRP_LINK`, `RTNLGRP_TC`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`, `RTNLGRP_IPV4_NETCONF`,
/// `RTNLGRP_IPV6_NETCONF`, `RTNLGRP_BRVLAN`.
const ROUTE_GROUPS: [u32; 7] = [1, 4, 5, 9, 24, 25, 33];
/// `RTM_NEWNETCONF` (include/uapi/linux/rtnetlink.h).
const NEWNETCONF: u16 = 80;
/// `NETCONFA_IFINDEX`, `NETCONFA_FORWARDING` (include/uapi/linux/netconf.h).
const NETCONF_LINK: u16 = 1;
const NETCONF_FORWARDING: u16 = 2;
/// `NETCONFA_IFINDEX_ALL`, as sent by the kernel.
const NETCONF_ALL: u32 = u32::MAX;
/// Bytes of `struct netconfmsg`, aligned.
const NETCONF_HEADER: usize = 4;
/// `NFNLGRP_NFTABLES`.
const NFT_GROUPS: [u32; 1] = [7];

/// How long further notifications are collected after the first, in milliseconds.
const GATHER: u16 = 10;

/// A change that Pontoon did not cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link of Pontoon, or any bridge, was deleted or renamed.
    LinkGone(IfName),
    /// A link of Pontoon went down, left its bridge, lost its limit, or has another MTU or group, or a port of Pontoon
    /// has other flags.
    LinkChanged(IfName),
    /// A bridge appeared.
    LinkNew(IfName),
    /// A link of another program that is no bridge appeared, or got this name.
    LinkAppeared(IfName),
    /// A link of Pontoon lost an address.
    AddressGone(IfName),
    /// An address of a link that is not Pontoon's was added or removed.
    HostAddress,
    /// Forwarding of a family was turned on or off for the host.
    Forwarding,
    /// Another table, chain, rule or set changed.
    Rules,
    /// Table `inet pontoon`, `bridge pontoon` or `netdev pontoon`, or the engine's `FORWARD` chain changed.
    Firewall,
    /// Notifications were lost; anything may have changed.
    Overrun,
}

/// A running watcher; dropping it ends its thread.
#[derive(Debug)]
pub struct Watch {
    /// The thread ends when this end is closed.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(
        ports: Arc<OwnPorts>,
        echoes: Arc<EchoFilter>,
        deliver: Box<dyn Fn(Event) + Send>,
    ) -> Result<Self, Failure> {
        let os = |error: std::io::Error| Failure::refused(error.raw_os_error().unwrap_or(libc::EAGAIN), "");
        let (stop, theirs) = UnixStream::pair().map_err(os)?;
        let route = open_fd(Protocol::Route, &ROUTE_GROUPS)?;
        let nft = open_fd(Protocol::Netfilter, &NFT_GROUPS)?;
        for fd in [&route, &nft] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        // Subscribe first, list second: a change in between is seen twice instead of never.
        let mut lookup = Socket::open(Protocol::Route, ports.clone())?;
        let mut known = Known::new(ports, echoes);
        known.replace(link::list(&mut lookup)?);
        let watcher = Watcher { stop: theirs, route, nft, lookup, known, deliver };
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || watcher.run());
        Ok(Self { stop: Some(stop), thread: Some(thread.map_err(os)?) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        // When its own callback drops it, the thread cannot wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

struct Watcher {
    stop: UnixStream,
    route: OwnedFd,
    nft: OwnedFd,
    lookup: Socket,
    known: Known,
    deliver: Box<dyn Fn(Event) + Send>,
}

impl Watcher {
    fn run(mut self) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let fds = [self.stop.as_fd(), self.route.as_fd(), self.nft.as_fd()];
            let [stop, route, nft] = match ready(fds, self.known.patience()) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => return tracing::error!(%errno, "stopped watching for kernel changes"),
            };
            // One change causes many notifications; if each woke this thread, it would take time from the
            // verb that causes them.
            if stop || ready([self.stop.as_fd()], GATHER.into()).is_ok_and(|[stop]| stop) {
                return;
            }
            let mut events = Vec::new();
            let mut lost = false;
            if route {
                lost |= read(&self.route, &mut buffer, |bytes| events.extend(self.known.route_events(bytes)));
            }
            if nft {
                lost |= read(&self.nft, &mut buffer, |bytes| events.extend(self.known.firewall_event(bytes)));
            }
            if lost {
                // If the listing fails now, it is repeated at the next loss; the event is delivered anyway.
                if let Ok(links) = link::list(&mut self.lookup) {
                    self.known.replace(links);
                }
                events.push(Event::Overrun);
            }
            events.extend(self.known.overdue());
            events.into_iter().for_each(&self.deliver);
        }
    }
}

/// Waits until one of the descriptors is readable or has an error (lost notifications, the other end closed),
/// or until the timeout, and tells which.
fn ready<const N: usize>(fds: [BorrowedFd<'_>; N], time: PollTimeout) -> Result<[bool; N], Errno> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    poll(&mut polled, time)?;
    // Flags that nix does not know are events too.
    Ok(polled.map(|fd| fd.any().unwrap_or(true)))
}

/// Reads all pending datagrams; true when some were lost.
fn read(fd: &OwnedFd, buffer: &mut Vec<u8>, mut each: impl FnMut(&[u8])) -> bool {
    let mut lost = false;
    loop {
        match receive(fd, buffer, Instant::now()) {
            Ok(bytes) => each(bytes),
            Err(Failure::Torn) => lost = true,
            // Nothing more for now.
            Err(_) => return lost,
        }
    }
}

/// The known state of the links, to detect what changed.
#[derive(Default)]
pub struct Known {
    links: HashMap<u32, LinkRecord>,
    /// Names of all other links.
    others: HashMap<u32, String>,
    ports: Arc<OwnPorts>,
    echoes: Arc<EchoFilter>,
    /// Links whose change came so soon after one by Pontoon that it may be an echo, and when to check them
    /// nevertheless: another program may have changed them in that time.
    doubtful: HashMap<IfName, Instant>,
}

impl Known {
    fn new(ports: Arc<OwnPorts>, echoes: Arc<EchoFilter>) -> Self {
        Self { links: HashMap::new(), others: HashMap::new(), ports, echoes, doubtful: HashMap::new() }
    }

    /// Returns the event immediately, or defers it if it may be an echo of Pontoon's own change.
    fn unless_echo(&mut self, name: IfName, event: fn(IfName) -> Event) -> Option<Event> {
        if self.echoes.recent(&name) {
            self.doubtful.entry(name).or_insert_with(|| Instant::now() + ECHO);
            return None;
        }
        Some(event(name))
    }

    /// Time until the next deferred check, rounded up to a millisecond.
    fn patience(&self) -> PollTimeout {
        let Some(next) = self.doubtful.values().min() else { return PollTimeout::NONE };
        let time = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)
    }

    /// The deferred checks that are due.
    fn overdue(&mut self) -> Vec<Event> {
        let now = Instant::now();
        let due: Vec<_> = self.doubtful.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        self.doubtful.retain(|_, at| *at > now);
        // The end of a link was reported, or was Pontoon's own.
        let exists = |name: &IfName| self.links.values().any(|link| link.live() && link.name == name.as_str());
        due.into_iter().filter(exists).map(Event::LinkChanged).collect()
    }

    fn replace(&mut self, links: Vec<LinkRecord>) {
        let (links, others): (Vec<_>, Vec<_>) = links.into_iter().partition(relevant);
        self.links = links.into_iter().map(|link| (link.index, link)).collect();
        self.others = others.into_iter().map(|link| (link.index, link.name)).collect();
    }

    /// The events in one datagram of link and address notifications.
    pub fn route_events(&mut self, datagram: &[u8]) -> Vec<Event> {
        Frames::new(datagram).flat_map(|frame| self.route_event(&frame)).collect()
    }

    fn route_event(&mut self, frame: &Frame<'_>) -> Vec<Event> {
        let echo = self.ports.contains(frame.port);
        match frame.kind {
            libc::RTM_NEWLINK if frame.payload.first() == Some(&(libc::AF_BRIDGE as u8)) => {
                self.port_changed(frame.payload, echo).into_iter().collect()
            }
            libc::RTM_NEWLINK => parse_link(frame.payload).map(|link| self.changed(link, echo)).unwrap_or_default(),
            libc::RTM_DELLINK => {
                let gone = parse_link(frame.payload);
                if let Some(link) = &gone {
                    self.links.remove(&link.index);
                    self.others.remove(&link.index);
                }
                // Links that wait for deletion are expected to vanish.
                let named = gone.filter(|link| !echo && reported(link)).and_then(|link| link.ifname());
                named.map(Event::LinkGone).into_iter().collect()
            }
            libc::RTM_NEWADDR => self.address_of_host(frame.payload).into_iter().collect(),
            libc::RTM_DELADDR if self.address_of_host(frame.payload).is_some() => vec![Event::HostAddress],
            libc::RTM_DELADDR => {
                let record = parse_address(frame.payload);
                let link = record.and_then(|record| {
                    let link = self.links.get(&record.index)?;
                    (link.live() && !record.automatic_for(link.mac)).then_some(link)
                });
                let name = link.and_then(LinkRecord::ifname).filter(|_| !echo);
                name.and_then(|name| self.unless_echo(name, Event::AddressGone)).into_iter().collect()
            }
            port_vlans::NEW | port_vlans::DELETED => self.vlans_changed(frame.payload).into_iter().collect(),
            libc::RTM_DELQDISC if !echo => self.limit_lost(frame.payload).into_iter().collect(),
            NEWNETCONF if !echo && is_forwarding(frame.payload) => vec![Event::Forwarding],
            _ => Vec::new(),
        }
    }

    /// The event of an address that identifies this host, on a link that is not Pontoon's.
    fn address_of_host(&self, payload: &[u8]) -> Option<Event> {
        let record = parse_address(payload).filter(|record| !is_link_local(record.address.ip()))?;
        let ours = self.links.get(&record.index).is_some_and(|link| link.live() || link.dead());
        (!ours).then_some(Event::HostAddress)
    }

    /// Changes by `bridge link set` are reported in a message of the bridge's own.
    fn port_changed(&mut self, payload: &[u8], echo: bool) -> Option<Event> {
        let (index, flags) = parse_port(payload)?;
        let known = self.links.get_mut(&index).filter(|link| link.live())?;
        let lost = lost_flag((known.isolated, known.hairpin), flags);
        (known.isolated, known.hairpin) = flags;
        let name = known.ifname().filter(|_| lost && !echo)?;
        self.unless_echo(name, Event::LinkChanged)
    }

    /// Pontoon sets the VLANs of a port while it is down; another program that takes it down causes an event by that.
    fn vlans_changed(&mut self, payload: &[u8]) -> Option<Event> {
        let known = self.links.get(&port_vlans::parse_index(payload)?).filter(|link| link.live() && link.up)?;
        // The kernel gives a new port of any bridge a VLAN, which has no effect where the bridge does not filter.
        known
            .master
            .and_then(|master| self.links.get(&master))
            .is_none_or(|bridge| bridge.filters_vlans)
            .then_some(())?;
        let name = known.ifname()?;
        self.unless_echo(name, Event::LinkChanged)
    }

    /// A queue of Pontoon was removed or replaced. Its deletion together with its link is not reported.
    fn limit_lost(&self, payload: &[u8]) -> Option<Event> {
        let link = self.links.get(&shaper::parse_index(payload)?).filter(|link| link.live())?;
        link.ifname().map(Event::LinkChanged)
    }

    fn changed(&mut self, link: LinkRecord, echo: bool) -> Vec<Event> {
        let before = self.links.remove(&link.index);
        let name = link.ifname();
        let mut events = Vec::new();
        match &before {
            Some(before) if before.name != link.name => {
                events.extend(before.ifname().filter(|_| reported(before)).map(Event::LinkGone));
                events.extend(name.filter(|_| is_foreign_bridge(&link)).map(Event::LinkNew));
            }
            Some(before) => {
                let worse = (before.up && !link.up)
                    || (before.master.is_some() && before.master != link.master)
                    || before.mtu != link.mtu
                    || before.mac != link.mac
                    || (!before.arp && link.arp)
                    || (before.hardened && !link.hardened)
                    || lost_flag((before.isolated, before.hairpin), (link.isolated, link.hairpin))
                    || before.group != link.group;
                let theirs = name.filter(|_| !link.dead() && !echo && before.live() && worse);
                events.extend(theirs.and_then(|name| self.unless_echo(name, Event::LinkChanged)));
                // What was changed while the bridge did not filter was not read.
                let filters = !before.filters_vlans && link.filters_vlans;
                events.extend(link.ifname().filter(|_| filters).map(Event::LinkChanged));
            }
            None => events.extend(name.filter(|_| !echo && is_foreign_bridge(&link)).map(Event::LinkNew)),
        }
        if relevant(&link) {
            self.others.remove(&link.index);
            self.links.insert(link.index, link);
        } else if self.others.get(&link.index) != Some(&link.name) {
            // The container's end of a pair is in no group.
            let other = link.ifname().filter(|name| !echo && !name.has_prefix());
            events.extend(other.map(Event::LinkAppeared));
            self.others.insert(link.index, link.name);
        }
        events
    }

    /// The event in one datagram of nf_tables notifications.
    pub fn firewall_event(&self, datagram: &[u8]) -> Option<Event> {
        let theirs = Frames::new(datagram).filter(|frame| !self.ports.contains(frame.port));
        rule_events::of(theirs)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Whether a port lost a flag (isolated, hairpin): only Pontoon sets them, directly after creating it.
fn lost_flag(before: (bool, bool), now: (bool, bool)) -> bool {
    (before.0 && !now.0) || (before.1 && !now.1)
}

/// Whether a notification says that another program turned a family's forwarding on or off.
fn is_forwarding(payload: &[u8]) -> bool {
    let settings = Attributes::after(payload, NETCONF_HEADER);
    let number = |kind| settings.find(kind).and_then(native32);
    let by_others = number(NETCONF_FORWARDING).is_some_and(|value| value != FORWARDED_BY_PONTOON);
    number(NETCONF_LINK) == Some(NETCONF_ALL) && by_others
}

/// Links whose state is tracked.
fn relevant(link: &LinkRecord) -> bool {
    link.live() || link.dead() || link.kind == "bridge"
}

/// Links whose deletion is reported.
fn reported(link: &LinkRecord) -> bool {
    link.live() || is_foreign_bridge(link)
}

fn is_foreign_bridge(link: &LinkRecord) -> bool {
    link.kind == "bridge" && !link.live() && !link.dead()
}
