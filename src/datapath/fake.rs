//! An in-memory kernel for tests: it keeps state, it can fail, stall or lose links on demand, and it passes
//! the same contract suite as the real one.
//!
//! Compiled into the library (not behind `cfg(test)`) so that integration tests and benchmarks drive the same
//! code that ships; production code never constructs one.

mod around;
mod object;
mod render;
mod tunnel;
mod vlan;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::{
    Bridge, BridgePort, Datapath, EngineBridges, ForwardRule, Forwarding, GROUP_LIVE, Kernel, KernelError, LinkInfo,
    Object, Policy, ReserveError, Step, Surroundings, Underlay,
};
use crate::model::{DataPath, Family, HostPort, IfName, PortVlans};

/// What the next matching step does instead of succeeding.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Fails with this error number and changes nothing.
    Refuse(i32),
    /// Does the work, then fails with this error number: the reply was lost.
    DoneButRefused(i32),
    /// Blocks for this long first.
    Stall(Duration),
}

/// A fault and the predicate of the steps that trigger it.
type Trap = (Box<dyn Fn(&Step) -> bool + Send>, Fault);

#[derive(Default)]
struct World {
    datapath: Datapath,
    foreign: BTreeMap<IfName, LinkInfo>,
    surroundings: Surroundings,
    /// The rule of another program that decides about frames between containers.
    opposed: Option<String>,
    uplink_mtu: Option<u32>,
    faults: VecDeque<Trap>,
    steps: Vec<Step>,
    flushed: Vec<IpAddr>,
    reserved: BTreeSet<HostPort>,
    taken: BTreeSet<HostPort>,
    observations: usize,
    torn: usize,
    beyond: tunnel::Beyond,
    stations: wire::Stations,
    /// VLANs of ports that are not Pontoon's, by bridge and port; no bridge has any on a kernel that cannot filter.
    vlans: Option<BTreeMap<(IfName, IfName), PortVlans>>,
}

/// See the module documentation.
#[derive(Default)]
pub struct FakeKernel(Mutex<World>);

impl FakeKernel {
    /// A host without any link, table or route.
    pub fn new() -> Self {
        let fake = Self::default();
        fake.world().datapath.policy = None;
        fake
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies `fault` to the next step that `matches`; faults are used up in order.
    pub fn inject(&self, matches: impl Fn(&Step) -> bool + Send + 'static, fault: Fault) {
        self.world().faults.push_back((Box::new(matches), fault));
    }

    /// Makes the next `count` observations fail as torn.
    pub fn tear(&self, count: usize) {
        self.world().torn = count;
    }

    /// Adds a link to the host that is not Pontoon's.
    pub fn add_link(&self, name: &IfName, kind: &str) {
        let mac = Some(crate::model::Mac::derive("link", name.as_str()));
        let info = LinkInfo { kind: kind.to_owned(), mtu: 1500, group: 0, mac, away: false, filters_vlans: false };
        self.world().foreign.insert(name.clone(), info);
    }

    /// Simulates a change of the kernel by another program.
    pub fn meddle(&self, change: impl FnOnce(&mut Datapath)) {
        change(&mut self.world().datapath);
    }

    /// Simulates another process that binds a port of the host.
    pub fn take_port(&self, port: HostPort) {
        self.world().taken.insert(port);
    }

    /// The reserved ports.
    pub fn reserved(&self) -> BTreeSet<HostPort> {
        self.world().reserved.clone()
    }

    /// Returns and clears the addresses whose flows were flushed so far.
    pub fn take_flushed(&self) -> Vec<IpAddr> {
        std::mem::take(&mut self.world().flushed)
    }

    /// The current state of the kernel.
    pub fn datapath(&self) -> Datapath {
        self.world().datapath.clone()
    }

    /// Returns and clears the steps carried out so far.
    pub fn take_steps(&self) -> Vec<Step> {
        std::mem::take(&mut self.world().steps)
    }

    /// Number of full observations: a verb must not cause one.
    pub fn observations(&self) -> usize {
        self.world().observations
    }

    /// Simulates a reboot: every link, table and sysctl of Pontoon is lost.
    pub fn reboot(&self) {
        self.world().datapath = Datapath::default();
    }
}

fn refused(operation: &'static str, object: impl ToString, errno: i32) -> KernelError {
    KernelError::Refused { operation, object: object.to_string(), errno, message: String::new() }
}

impl World {
    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::Forward { family } => self.forward(*family)?,
            Step::CreateFirewall(policy) => self.datapath.policy = Some(policy.iter().cloned().collect()),
            Step::ChangeFirewall { add, remove } => self.change_policy(add, remove)?,
            Step::ForwardRules { family, rules } => self.forward_rules(*family, rules),
            Step::FastPath { add, remove } => self.change_fastpath(add, remove),
            Step::Stations { add, remove } => self.change_stations(add, remove)?,
            Step::Create(name, object) => self.create(name, object)?,
            Step::Change(name, change) => self.change(name, change)?,
            Step::Delete(name, kind) => self.delete(name, *kind),
            Step::Rename { from, to } => self.rename(from, to)?,
            Step::FlushConntrack(addresses) => self.flushed.extend(addresses.iter().copied()),
            // The fake has no clients with stale flows.
            Step::FlushStaleConntrack(_) => {}
        }
        Ok(())
    }

    fn change_policy(&mut self, add: &[Policy], remove: &[Policy]) -> Result<(), KernelError> {
        let held =
            self.datapath.policy.as_mut().ok_or_else(|| refused("change", "table inet pontoon", libc::ENOENT))?;
        for element in remove {
            held.remove(element);
        }
        held.extend(add.iter().cloned());
        Ok(())
    }

    fn forward(&mut self, family: Family) -> Result<(), KernelError> {
        if self.datapath.forwarding.of(family) {
            return Ok(());
        }
        self.change_policy(&[Policy::LimitedForwarding(family)], &[])?;
        for forwarding in [&mut self.datapath.forwarding, &mut self.datapath.turned_on] {
            *forwarding.of_mut(family) = true;
        }
        Ok(())
    }

    fn forward_rules(&mut self, family: Family, rules: &[ForwardRule]) {
        let chain = if family.is_v6() { &mut self.datapath.forward6 } else { &mut self.datapath.forward4 };
        if let Some(held) = chain {
            *held = rules.iter().cloned().collect();
        }
    }
}

impl Kernel for FakeKernel {
    fn observe(&self, foreign: &BTreeSet<IfName>) -> Result<Datapath, KernelError> {
        let mut world = self.world();
        world.observations += 1;
        if world.torn > 0 {
            world.torn -= 1;
            return Err(KernelError::Torn { operation: "list links", tries: 5 });
        }
        let mut seen = world.datapath.clone();
        seen.fastpath.get_or_insert_default();
        seen.veths_mut().for_each(|(_, veth)| veth.peer_mac = None);
        for (name, link) in world.foreign.iter().filter(|(name, link)| link.kind == "bridge" && foreign.contains(*name))
        {
            let bridge = Bridge {
                owned: false,
                mac: None,
                mtu: link.mtu,
                alias: String::new(),
                addresses: BTreeSet::new(),
                ipv6: true,
                localnet: true,
                hardened: true,
                filters_vlans: link.filters_vlans,
                up: true,
            };
            seen.objects.insert(name.clone(), bridge.into());
        }
        if !seen.bridges().values().any(|bridge| bridge.filters_vlans) {
            seen.veths_mut().for_each(|(_, veth)| veth.vlans = None);
        }
        Ok(seen)
    }

    fn observe_firewall(&self) -> Result<Datapath, KernelError> {
        let seen = self.world().datapath.clone();
        Ok(Datapath {
            policy: seen.policy,
            forward4: seen.forward4,
            forward6: seen.forward6,
            fastpath: Some(seen.fastpath.unwrap_or_default()),
            forwarding: seen.forwarding,
            turned_on: seen.turned_on,
            ..Datapath::default()
        })
    }

    fn apply(&self, steps: &[Step]) -> Result<(), KernelError> {
        for step in steps {
            let mut world = self.world();
            let at = world.faults.iter().position(|(matches, _)| matches(step));
            let fault = at.and_then(|at| world.faults.remove(at)).map(|(_, fault)| fault);
            match fault {
                Some(Fault::Refuse(errno)) => return Err(refused("apply", format!("{step:?}"), errno)),
                Some(Fault::DoneButRefused(errno)) => {
                    world.apply(step)?;
                    return Err(refused("apply", format!("{step:?}"), errno));
                }
                Some(Fault::Stall(time)) => {
                    drop(world);
                    std::thread::sleep(time);
                    world = self.world();
                }
                None => {}
            }
            world.apply(step)?;
            world.steps.push(step.clone());
        }
        Ok(())
    }

    fn link(&self, name: &IfName) -> Result<Option<LinkInfo>, KernelError> {
        let world = self.world();
        let found = world.foreign.get(name).cloned();
        let ours = |object: &Object| {
            let (kind, mtu, mac) = object.info();
            let away = world.datapath.away.contains(name);
            LinkInfo { kind: kind.to_owned(), mtu, group: GROUP_LIVE, mac, away, filters_vlans: false }
        };
        Ok(found.or_else(|| world.datapath.objects.get(name).map(ours)))
    }

    fn bridge_ports(&self, bridge: &IfName) -> Result<Vec<BridgePort>, KernelError> {
        self.world().bridge_ports(bridge)
    }

    fn dropped(&self) -> Result<Vec<super::host::Dropped>, KernelError> {
        Ok(Vec::new())
    }

    fn uplink_mtu(&self) -> Result<Option<u32>, KernelError> {
        Ok(self.world().uplink_mtu)
    }

    fn underlay(&self, path: &DataPath) -> Result<Option<Underlay>, KernelError> {
        Ok(self.world().beyond.underlay(path))
    }

    fn addresses(&self) -> Result<BTreeSet<IpAddr>, KernelError> {
        Ok(self.world().beyond.own())
    }

    fn heard(&self) -> Result<BTreeMap<IpAddr, Duration>, KernelError> {
        Ok(self.world().beyond.heard.clone())
    }

    fn forwarding(&self) -> (Forwarding, Forwarding) {
        let world = self.world();
        (world.datapath.forwarding, world.datapath.turned_on)
    }

    fn surroundings(&self) -> Result<Surroundings, KernelError> {
        Ok(self.world().surroundings.clone())
    }

    fn engine_bridges(&self) -> Result<EngineBridges, KernelError> {
        let is_engines = |name: &IfName| name.as_str() == "docker0" || name.as_str().starts_with("br-");
        let links = self.world().foreign.keys().filter(|name| is_engines(name)).cloned().collect();
        Ok(EngineBridges { links, guarded: false })
    }

    fn opposition(&self, bridges: &BTreeMap<IfName, Vec<IpNetwork>>) -> Result<BTreeMap<IfName, String>, KernelError> {
        let opposed = self.world().opposed.clone();
        Ok(bridges.keys().filter_map(|bridge| Some((bridge.clone(), opposed.clone()?))).collect())
    }

    fn reserve(&self, ports: &[HostPort]) -> Result<(), ReserveError> {
        let mut world = self.world();
        let meets = |a: &HostPort, b: &HostPort| {
            (a.protocol, a.port) == (b.protocol, b.port)
                && a.address.is_ipv4() == b.address.is_ipv4()
                && (a.address == b.address || a.address.is_unspecified() || b.address.is_unspecified())
        };
        for port in ports {
            let others = world.taken.iter().chain(world.reserved.iter().filter(|held| *held != port));
            if let Some(port) = others.into_iter().any(|held| meets(held, port)).then_some(*port) {
                return Err(ReserveError::Taken { port });
            }
        }
        world.reserved.extend(ports.iter().copied());
        Ok(())
    }

    fn release(&self, ports: &[HostPort]) {
        let mut world = self.world();
        for port in ports {
            world.reserved.remove(port);
        }
    }

    fn ephemeral_ports(&self) -> Result<(RangeInclusive<u16>, Vec<RangeInclusive<u16>>), KernelError> {
        Ok((32768..=60999, Vec::new()))
    }

    fn settle(&self, _patience: Duration) -> bool {
        true
    }
}
