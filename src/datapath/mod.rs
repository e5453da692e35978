//! The desired state of the kernel as a value, its difference to the observed state, and the steps that close
//! the difference.
//!
//! A [`Datapath`] is desired state when it is derived from the state, and observed state when it is read from
//! the kernel. [`plan::diff`] compares two of them and returns the [`Step`]s, the same ones in the same order
//! for a verb, for its rollback, for a restart, a reboot and a repair.
//!
//! Nothing here speaks netlink: the kernel is behind the trait [`Kernel`], with one real implementation
//! (`crate::linux`) and one stateful fake ([`fake::FakeKernel`]); both pass the same contract suite. Called
//! by the driver (verbs) and by the app (start, tick, events).

pub mod access;
pub mod backoff;
pub mod companion;
mod error;
pub mod fake;
pub mod fastpath;
pub mod groups;
pub mod host;
pub mod kind;
pub mod limited_forwarding;
mod link;
pub mod object;
mod opposition;
pub mod passage;
pub mod plan;
pub mod policy;
pub mod reconcile;
mod renames;
pub mod repair;
mod shape;
mod sharing;
pub mod station;
pub mod step;
pub mod surroundings;
pub mod tunnel;
pub mod unknown;
pub mod verdicts;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::model::access::Transport;
use crate::model::{DataPath, Family, HostPort, IfName};
pub use access::{Access, Admission, Record};
pub use error::{KernelError, ReserveError};
pub use fastpath::FastPath;
pub use link::{BridgePort, LinkInfo};
pub use object::{Bridge, Change, Object, ObjectKind, Veth, Vxlan};
pub use plan::{Plan, diff};
pub use policy::{LinkProperty, Policy};
pub use reconcile::Reconciler;
pub use repair::Repair;
pub use shape::{FRAME, Shape};
pub use sharing::Sharer;
pub use station::Station;
pub use step::{ForwardRule, LinkMatch, Step};
pub use surroundings::Surroundings;
pub use tunnel::Underlay;
pub use unknown::{Ended, Protected};
pub use verdicts::Verdicts;
pub use wire::{Announcement, DhcpWatcher, Sighting, Wire};

/// Group (`IFLA_GROUP`) of every link that Pontoon created and still needs. The unusual constant ("pnt", 1)
/// together with the name proves ownership. It costs no message of its own, because the kernel accepts it
/// in the creating request (`rtnl_create_link`, net/core/rtnetlink.c).
pub const GROUP_LIVE: u32 = 0x706e_7401;

/// Group of links that wait for deletion; deleting by group waits for one RCU grace period in total instead
/// of one per link.
pub const GROUP_DEAD: u32 = 0x706e_7402;

/// First word of the alias of links whose name the user chose: the name does not show that they are Pontoon's.
pub const ALIAS: &str = "pontoon";

/// Maximum number of ports of one Linux bridge (`BR_MAX_PORTS - 1`, net/bridge/br_private.h).
pub const BRIDGE_PORTS: usize = 1023;

/// Bridges of the engine's built-in driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineBridges {
    /// Their names.
    pub links: BTreeSet<IfName>,
    /// Whether the engine's own rules decide which traffic enters them, as from version 28 on.
    pub guarded: bool,
}

/// Forwarding sysctls, desired or observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forwarding {
    /// `net.ipv4.ip_forward`.
    pub v4: bool,
    /// `net.ipv6.conf.all.forwarding`.
    pub v6: bool,
}

impl Forwarding {
    /// Whether this family is forwarded.
    pub fn of(&self, family: Family) -> bool {
        family.choose(self.v4, self.v6)
    }

    /// The sysctl of this family.
    pub fn of_mut(&mut self, family: Family) -> &mut bool {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// Everything of Pontoon in the kernel, desired or observed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Datapath {
    /// The network or endpoint that needs this, if others may need the same: what several of them need alike stays
    /// until the last of them ends. Never read from the kernel.
    pub sharer: Option<Sharer>,
    /// Links by name; each name is one object of any kind.
    pub objects: BTreeMap<IfName, Object>,
    /// Objects with a part in a sandbox. Such a link cannot be created again from outside: when its end on
    /// the host is missing, its endpoint is dead. Never read from the kernel.
    pub sandboxed: BTreeSet<IfName>,
    /// Host ends whose container end is in another network namespace. Only observed, never desired.
    pub away: BTreeSet<IfName>,
    /// Whether packets are forwarded between links.
    pub forwarding: Forwarding,
    /// Whether Pontoon alone turned forwarding on. Only read from the kernel.
    pub turned_on: Forwarding,
    /// Links (true is IPv6) whose own setting enables forwarding. Only read from the kernel, and only where
    /// it matters: while forwarding is on because of Pontoon alone.
    pub forwarding_links: BTreeSet<(IfName, Family)>,
    /// The policy of the firewall; `None` when its tables are missing or do not have this release's schema.
    pub policy: Option<BTreeSet<Policy>>,
    /// The policy of tables with another release's schema, as far as it can be read. Never desired.
    pub former_policy: BTreeSet<Policy>,
    /// Pontoon's accepting rules at the end of `FORWARD` in `ip filter`; `None` when that chain does not
    /// exist (no dockerd with the iptables back end here).
    pub forward4: Option<BTreeSet<ForwardRule>>,
    /// The same in `ip6 filter`.
    pub forward6: Option<BTreeSet<ForwardRule>>,
    /// Fast path entries past the bridges of overlay networks; `None` where the kernel does not support them.
    pub fastpath: Option<BTreeSet<FastPath>>,
    /// The subnets by bridge of networks that have a fast path only as long as no rule of another program could decide
    /// about their frames. Never read from the kernel.
    pub contestable: BTreeMap<IfName, Vec<IpNetwork>>,
    /// Containers that the host reaches by a host link.
    pub stations: BTreeSet<Station>,
}

impl Datapath {
    /// A datapath with empty tables and no objects.
    pub fn empty() -> Self {
        Self { policy: Some(BTreeSet::new()), fastpath: Some(BTreeSet::new()), ..Self::default() }
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

    /// All veth pairs, mutably.
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

    /// Names of links that Pontoon uses but did not create.
    pub fn foreign(&self) -> BTreeSet<IfName> {
        self.objects.iter().filter(|(name, object)| !object.is_ours(name)).map(|(name, _)| name.clone()).collect()
    }

    /// Updates ports of bridge `from` to `to`, as the kernel does when a bridge is renamed.
    fn bridge_renamed(&mut self, from: &IfName, to: &IfName) {
        for bridge in self.objects.values_mut().filter_map(Object::master_mut) {
            if bridge.as_ref() == Some(from) {
                *bridge = Some(to.clone());
            }
        }
    }
}

/// The kernel as Pontoon uses it. Every call has its own deadline and may be made from any thread that is
/// allowed to block.
pub trait Kernel: Wire {
    /// Reads everything of Pontoon: links in the groups above or with a name in `foreign`, the firewall
    /// table, the accepting rules, the sysctls. Retries torn dumps; never returns one.
    fn observe(&self, foreign: &BTreeSet<IfName>) -> Result<Datapath, KernelError>;

    /// Reads only the firewall ([`Datapath::elements`], `forward4`, `forward6`, `fast path entries`), and forwarding,
    /// which it depends on.
    fn observe_firewall(&self) -> Result<Datapath, KernelError>;

    /// Carries out `steps` in order and stops at the first failure. Each step is idempotent: creating what
    /// exists, or removing what does not exist, is success.
    fn apply(&self, steps: &[Step]) -> Result<(), KernelError>;

    /// Pontoon's rules that dropped packets since the tables were created.
    fn dropped(&self) -> Result<Vec<host::Dropped>, KernelError>;

    /// Looks up one link by name, in constant time.
    fn link(&self, name: &IfName) -> Result<Option<LinkInfo>, KernelError>;

    /// The ports of a bridge with their VLANs, and the bridge itself; those without any VLAN may be missing.
    ///
    /// # Errors
    /// `EOPNOTSUPP` on a kernel without VLAN filtering of bridges.
    fn bridge_ports(&self, bridge: &IfName) -> Result<Vec<BridgePort>, KernelError>;

    /// MTU in bytes of the link that the default route uses, IPv4 first; `None` without one.
    fn uplink_mtu(&self) -> Result<Option<u32>, KernelError>;

    /// Underlay of the overlay networks: an address of this host and the MTU of the link that has it; `None`
    /// when there is no such address at present.
    fn underlay(&self, path: &DataPath) -> Result<Option<Underlay>, KernelError>;

    /// Time since a forwarding entry learned from another host was last used, by the host's address, over all
    /// of Pontoon's tunnels.
    fn heard(&self) -> Result<BTreeMap<IpAddr, Duration>, KernelError>;

    /// Which families are forwarded, and which of them because of Pontoon alone.
    fn forwarding(&self) -> (Forwarding, Forwarding);

    /// Routes, addresses and gateways of the host that a subnet may conflict with.
    fn surroundings(&self) -> Result<Surroundings, KernelError>;

    /// All addresses of the host, on any link.
    fn addresses(&self) -> Result<BTreeSet<IpAddr>, KernelError>;

    /// Bridges that the engine's built-in driver made (`docker0`, `docker_gwbridge`, `br-` and
    /// twelve hex digits).
    fn engine_bridges(&self) -> Result<EngineBridges, KernelError>;

    /// Where the host accepts IPv4 broadcasts that may be for a published port, as the elements
    /// [`Policy::Broadcast`]. The default implementation returns none.
    fn broadcasts(&self) -> Result<BTreeSet<Policy>, KernelError> {
        Ok(BTreeSet::new())
    }

    /// The first rule of another program that could decide about frames between containers, of each of these bridges, with
    /// the subnets of its network, that has one. The default implementation says that there may be one for each.
    fn opposition(&self, bridges: &BTreeMap<IfName, Vec<IpNetwork>>) -> Result<BTreeMap<IfName, String>, KernelError> {
        Ok(bridges.keys().map(|bridge| (bridge.clone(), "rules that cannot be read".to_owned())).collect())
    }

    /// What affects [`Kernel::opposition`] and changes without a notification. The default implementation has nothing.
    fn unannounced(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes addresses of DNS names reachable for the endpoint with address `own` by these protocols and ports, each for a
    /// time; addresses of the other family are ignored. `transports` do not overlap, nor do those of calls for the same
    /// endpoint, unless they are equal. The default implementation does nothing.
    fn admit(&self, own: IpAddr, admissions: &[Admission], transports: &[Transport]) -> Result<(), KernelError> {
        let _ = (own, admissions, transports);
        Ok(())
    }

    /// Ends what names allowed the endpoints with these addresses. The default implementation does nothing.
    fn forget_names(&self, owners: &BTreeSet<IpAddr>) -> Result<(), KernelError> {
        let _ = owners;
        Ok(())
    }

    /// What audited endpoints did although their lists do not allow it, in the last day. The default implementation has
    /// nothing.
    fn records(&self) -> Result<Vec<Record>, KernelError> {
        Ok(Vec::new())
    }

    /// Ends flows that are not allowed any more, in the background. The default implementation does nothing.
    fn cut(&self, verdicts: Verdicts) {
        let _ = verdicts;
    }

    /// Reserves ports on the host by binding a socket to each, all of them or none, so that both sides detect
    /// a conflict with another process. They stay reserved until [`Kernel::release`]. Ports that this process
    /// already holds are success.
    fn reserve(&self, ports: &[HostPort]) -> Result<(), ReserveError>;

    /// Releases reserved ports; releasing one that is not reserved is success.
    fn release(&self, ports: &[HostPort]);

    /// The host's range of ephemeral ports (`net.ipv4.ip_local_port_range`) and the ports excluded from it
    /// (`net.ipv4.ip_local_reserved_ports`).
    fn ephemeral_ports(&self) -> Result<(RangeInclusive<u16>, Vec<RangeInclusive<u16>>), KernelError>;

    /// Waits until every retired link is deleted and every pending flush of flows is done, at most
    /// `patience`; true when nothing is pending.
    fn settle(&self, patience: Duration) -> bool;

    /// Calls `done` from any thread once every flush of flows that is pending now is done or has failed;
    /// never when the process ends first. The default implementation is for a kernel that flushes
    /// immediately.
    fn when_flushed(&self, done: Box<dyn FnOnce() + Send>) {
        done();
    }

    /// The shell commands that correspond to a step: one command per line, and a line that starts with `#`
    /// where no command exists.
    fn commands(&self, step: &Step) -> Vec<String> {
        vec![format!("# {step:?}")]
    }
}
