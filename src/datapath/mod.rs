//! Owns what the kernel should hold and how to get there: the desired datapath as a value, the
//! difference to what is there, and the steps that close it.
//!
//! [`Datapath`] is both: derived from the state it is what should be, read from the kernel it is
//! what is. [`plan::diff`] subtracts one from the other and gives the [`Step`]s, the same ones in
//! the same order for a verb, for its rollback, for a restart, a reboot and a repair.
//!
//! Nothing here speaks netlink: the kernel is behind the trait [`Kernel`], with one real
//! implementation (`crate::linux`) and one stateful fake ([`fake::FakeKernel`]); both pass the
//! same contract suite. Called by the driver (verbs) and by the app (start, tick, events).

pub mod ailment;
pub mod closed;
pub mod companion;
pub mod fake;
pub mod host;
pub mod kind;
pub mod object;
pub mod plan;
pub mod reconcile;
pub mod shortcut;
pub mod step;
mod stray;
pub mod surroundings;
pub mod tunnel;
pub mod unknown;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{DataPath, HostPort, IfName, Mac};
pub use object::{Bridge, Change, Object, ObjectKind, Veth, Vxlan};
pub use plan::{Plan, diff};
pub use reconcile::{Reconciler, Repair};
pub use shortcut::Shortcut;
pub use step::{Element, ForwardRule, LinkMatch, Step};
pub use surroundings::Surroundings;
pub use tunnel::{Announcement, Underlay};
pub use unknown::{Ended, Protected};

/// Group (`IFLA_GROUP`) of every link that Pontoon made and wants. A rare constant ("pnt" and 1):
/// together with the name it is the proof of ownership, and it costs no message of its own,
/// because the kernel takes it in the creating request (`rtnl_create_link`, net/core/rtnetlink.c).
pub const GROUP_LIVE: u32 = 0x706e_7401;

/// Group of links that wait for their deletion; deleting by group waits for one RCU grace period
/// for all of them instead of one each.
pub const GROUP_DEAD: u32 = 0x706e_7402;

/// Ports that one Linux bridge takes (`BR_MAX_PORTS - 1`, net/bridge/br_private.h).
pub const BRIDGE_PORTS: usize = 1023;

/// Bridges of the engine's built-in driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineBridges {
    /// Their names.
    pub links: BTreeSet<IfName>,
    /// Whether the engine's own rules say who enters them, as from version 28 on.
    pub guarded: bool,
}

/// Which sysctls a datapath needs, read or wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forwarding {
    /// `net.ipv4.ip_forward`.
    pub v4: bool,
    /// `net.ipv6.conf.all.forwarding`.
    pub v6: bool,
}

/// Everything of Pontoon's in the kernel, as it should be or as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Datapath {
    /// Links by name: each name is one object, of whatever kind.
    pub objects: BTreeMap<IfName, Object>,
    /// Objects whose other part is in a sandbox. Such a link cannot be created again from outside: when one
    /// that stays on the host is missing, its endpoint is dead. Never read from the kernel.
    pub sandboxed: BTreeSet<IfName>,
    /// Host ends whose container end is in another network namespace. Only read, never wanted.
    pub away: BTreeSet<IfName>,
    /// Whether packets are forwarded between links.
    pub forwarding: Forwarding,
    /// Whether it was Pontoon alone that turned forwarding on. Only read from the kernel.
    pub turned_on: Forwarding,
    /// Links (true is IPv6) whose packets are forwarded by a setting of their own. Only read from
    /// the kernel, and only where that matters: while Pontoon alone has forwarding on.
    pub routers: BTreeSet<(IfName, bool)>,
    /// The elements of the sets in table `inet pontoon`; `None` when the table is missing or is
    /// not of this release's shape.
    pub elements: Option<BTreeSet<Element>>,
    /// Elements of tables that are not of this release's shape, as far as they can be read. Never wanted.
    pub former: BTreeSet<Element>,
    /// Pontoon's accepting rules at the end of `FORWARD` in `ip filter`; `None` when that chain
    /// does not exist (no dockerd with the iptables back end here).
    pub forward4: Option<BTreeSet<ForwardRule>>,
    /// The same in `ip6 filter`.
    pub forward6: Option<BTreeSet<ForwardRule>>,
    /// Ways past the bridges of overlay networks; `None` where the kernel has none to offer.
    pub shortcuts: Option<BTreeSet<Shortcut>>,
}

impl Datapath {
    /// A datapath with empty tables and no object.
    pub fn empty() -> Self {
        Self { elements: Some(BTreeSet::new()), shortcuts: Some(BTreeSet::new()), ..Self::default() }
    }

    /// The object of this name and kind.
    pub fn object(&self, name: &IfName, kind: ObjectKind) -> Option<&Object> {
        self.objects.get(name).filter(|object| object.kind() == kind)
    }

    /// A copy of all bridges.
    pub fn bridges(&self) -> BTreeMap<IfName, Bridge> {
        self.of_kind(|object| if let Object::Bridge(bridge) = object { Some(bridge) } else { None })
    }

    /// A copy of all veth pairs, by the name of their host end.
    pub fn veths(&self) -> BTreeMap<IfName, Veth> {
        self.of_kind(|object| if let Object::Veth(veth) = object { Some(veth) } else { None })
    }

    /// All veth pairs, to be changed.
    pub fn veths_mut(&mut self) -> impl Iterator<Item = (&IfName, &mut Veth)> {
        self.objects.iter_mut().filter_map(|(name, object)| match object {
            Object::Veth(veth) => Some((name, veth)),
            _ => None,
        })
    }

    /// A copy of all tunnels.
    pub fn vxlans(&self) -> BTreeMap<IfName, Vxlan> {
        self.of_kind(|object| if let Object::Vxlan(vxlan) = object { Some(vxlan) } else { None })
    }

    fn of_kind<T: Clone>(&self, one: impl Fn(&Object) -> Option<&T>) -> BTreeMap<IfName, T> {
        self.objects.iter().filter_map(|(name, object)| Some((name.clone(), one(object)?.clone()))).collect()
    }

    /// Names of links that Pontoon uses and does not own.
    pub fn foreign(&self) -> BTreeSet<IfName> {
        self.objects.iter().filter(|(name, object)| !object.is_ours(name)).map(|(name, _)| name.clone()).collect()
    }

    /// Makes the ports of bridge `from` ports of `to`: the kernel does so when a bridge is renamed.
    fn bridge_renamed(&mut self, from: &IfName, to: &IfName) {
        for bridge in self.objects.values_mut().filter_map(Object::master_mut) {
            if bridge.as_ref() == Some(from) {
                *bridge = Some(to.clone());
            }
        }
    }
}

/// One link, looked up by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Kind as the kernel names it: `bridge`, `veth`, ... ; empty for physical links.
    pub kind: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Interface group.
    pub group: u32,
    /// Hardware address, when it is an Ethernet link.
    pub mac: Option<Mac>,
    /// Whether it is one end of a pair whose other end is in another network namespace.
    pub away: bool,
}

/// Why the kernel did not do what was asked. One line each: operation, object, cause.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KernelError {
    /// The kernel answered with an error number.
    #[error("{operation} {object}: {}{}", describe(*.errno), detail(.message))]
    Refused {
        /// What was tried, in the words of [`Step`].
        operation: &'static str,
        /// The link, address, set or chain.
        object: String,
        /// The error number.
        errno: i32,
        /// The kernel's own words (extended acknowledgement), or empty.
        message: String,
    },
    /// No answer within the deadline; the request may still take effect.
    #[error("{operation} {object}: the kernel did not answer within {} s", .after.as_secs())]
    Timeout {
        /// What was tried.
        operation: &'static str,
        /// The object.
        object: String,
        /// The deadline that passed.
        after: Duration,
    },
    /// The kernel changed under a dump, several times in a row; nothing may be concluded from it.
    #[error("{operation}: the listing was interrupted by changes {tries} times")]
    Torn {
        /// What was listed.
        operation: &'static str,
        /// How often it was tried.
        tries: u32,
    },
    /// The answer was not of the form that the kernel documents.
    #[error("{operation}: malformed answer from the kernel ({what})")]
    Malformed {
        /// What was tried.
        operation: &'static str,
        /// What was wrong with it.
        what: String,
    },
}

impl KernelError {
    /// The error number, when the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            KernelError::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

fn describe(errno: i32) -> String {
    match errno {
        libc::EPERM => "not permitted (CAP_NET_ADMIN is missing)".to_owned(),
        libc::EXFULL => format!("the bridge is full: a Linux bridge takes {BRIDGE_PORTS} ports"),
        _ => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

/// Why a port of the host cannot be taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReserveError {
    /// Somebody has it.
    #[error("port {port} is already taken on this host")]
    Taken {
        /// Which.
        port: HostPort,
    },
    /// The host has no such address.
    #[error("{}: this host does not have the address {}", .port, .port.address)]
    NoAddress {
        /// Which.
        port: HostPort,
    },
    /// This process may open no further file.
    #[error("port {port} is not reserved: the limit of open files, {limit}, is reached")]
    NoDescriptor {
        /// Which.
        port: HostPort,
        /// The limit.
        limit: u64,
    },
    /// The system refused for another reason.
    #[error("cannot take port {port}: {}", std::io::Error::from_raw_os_error(*.errno))]
    Refused {
        /// Which.
        port: HostPort,
        /// Why.
        errno: i32,
    },
}

/// The kernel, in Pontoon's words. Every call has a deadline of its own and may be made from any
/// thread that is allowed to block.
pub trait Kernel: Send + Sync {
    /// Reads everything of Pontoon's: links in the groups above or with a name in `foreign`, the
    /// firewall table, the accepting rules, the sysctls. Retries torn dumps; never returns one.
    fn observe(&self, foreign: &BTreeSet<IfName>) -> Result<Datapath, KernelError>;

    /// Reads only the firewall's part ([`Datapath::elements`], `forward4`, `forward6`, `shortcuts`),
    /// and forwarding, which it depends on.
    fn observe_firewall(&self) -> Result<Datapath, KernelError>;

    /// Carries out `steps` in order and stops at the first that fails. Each step is idempotent:
    /// what is already there, or already gone, is success.
    fn apply(&self, steps: &[Step]) -> Result<(), KernelError>;

    /// Looks up one link by name, in constant time.
    fn link(&self, name: &IfName) -> Result<Option<LinkInfo>, KernelError>;

    /// MTU in bytes of the link that the default route uses, IPv4 first; `None` without one.
    fn uplink_mtu(&self) -> Result<Option<u32>, KernelError>;

    /// Where the packets between hosts leave: an address of this host and the MTU of the link that
    /// has it; `None` when there is none such now.
    fn underlay(&self, path: &DataPath) -> Result<Option<Underlay>, KernelError>;

    /// How long ago a forwarding entry that was learned from another host was last in use, by the
    /// host's address; over all tunnels of Pontoon's.
    fn heard(&self) -> Result<BTreeMap<IpAddr, Duration>, KernelError>;

    /// Tells everybody on its network, here and on other hosts, where an endpoint is.
    fn announce(&self, endpoint: &Announcement) -> Result<(), KernelError>;

    /// Whether [`Kernel::announce`] has the privilege that it takes.
    fn announces(&self) -> bool {
        true
    }

    /// Which families are forwarded, and which of them by Pontoon's decision alone.
    fn forwarding(&self) -> (Forwarding, Forwarding);

    /// Routes, addresses and gateways of the host that a subnet may run into.
    fn surroundings(&self) -> Result<Surroundings, KernelError>;

    /// All addresses of the host's own, on whatever link.
    fn addresses(&self) -> Result<BTreeSet<IpAddr>, KernelError>;

    /// Bridges that the engine's built-in driver made (`docker0`, `docker_gwbridge`, `br-` and
    /// twelve hex digits).
    fn engine_bridges(&self) -> Result<EngineBridges, KernelError>;

    /// Where the host takes IPv4 broadcasts that may be for a published port, as the elements
    /// [`Element::Broadcast`]. This default is for a kernel without any.
    fn broadcasts(&self) -> Result<BTreeSet<Element>, KernelError> {
        Ok(BTreeSet::new())
    }

    /// Takes ports on the host by binding a socket to each, all of them or none, so that a conflict
    /// with any process is found by either side. They stay taken until [`Kernel::release`].
    /// Ports that this process holds already are fine.
    fn reserve(&self, ports: &[HostPort]) -> Result<(), ReserveError>;

    /// Gives reserved ports back; those that are not reserved are fine.
    fn release(&self, ports: &[HostPort]);

    /// The host's range for ports that nobody chose (`net.ipv4.ip_local_port_range`) and the
    /// ports that are never to be taken from it (`net.ipv4.ip_local_reserved_ports`).
    fn ephemeral_ports(&self) -> Result<(RangeInclusive<u16>, Vec<RangeInclusive<u16>>), KernelError>;

    /// Waits until every retired link and every flow to be forgotten is gone, at most `patience`;
    /// true when none is left.
    fn settle(&self, patience: Duration) -> bool;

    /// Calls `done` once every flow that was to be forgotten by now is gone or cannot be removed,
    /// from any thread; never, when the process ends before. This default is for a kernel that
    /// forgets at once.
    fn when_forgotten(&self, done: Box<dyn FnOnce() + Send>) {
        done();
    }

    /// What an operator would type for a step: a line a command, and a line that starts with `#`
    /// for what no command does.
    fn commands(&self, step: &Step) -> Vec<String> {
        vec![format!("# {step:?}")]
    }
}
