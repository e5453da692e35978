//! Carries out steps: maps each step to kernel requests and makes it idempotent.
//!
//! Decides nothing: the plan determines what is to be done. Called through `Kernel::apply`.

use std::collections::BTreeSet;
use std::time::Duration;

use rtnetlink::LinkUnspec;

use super::firewall::tables;
use super::netlink::{Explain as _, Failure};
use super::object::{self, change};
use super::{LinuxKernel, Master, Route, forward, link, observe};
use crate::datapath::{Change, KernelError, ObjectKind, Policy, Step};
use crate::model::Family;
use crate::model::IfName;

/// How long a step waits for a link of the same name to be deleted.
pub(super) const DELETION_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a step is tried while links of the same name appear and disappear.
pub(super) const CREATE_ATTEMPTS: u32 = 4;

impl LinuxKernel {
    pub(super) fn carry_out(&self, step: &Step) -> Result<(), KernelError> {
        self.announce(step);
        let (operation, object) = describe(step);
        self.try_out(step).map_err(|failure| failure.of(operation, &object))
    }

    fn try_out(&self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Forward { family } => self.turn_on_forwarding(*family),
            Step::CreateFirewall(elements) => tables::create(&mut self.nft(), &elements.iter().cloned().collect()),
            Step::ChangeFirewall { add, remove } => {
                let (add, remove) = (add.iter().cloned().collect(), remove.iter().cloned().collect());
                tables::change(&mut self.nft(), &add, &remove)
            }
            Step::ForwardRules { family, rules } => forward::ensure(&mut self.nft(), *family, rules),
            Step::FastPath { add, remove } => self.change_fastpath(add, remove),
            Step::Stations { add, remove } => self.change_stations(add, remove),
            Step::Create(name, object) => self.create(name, object),
            Step::Change(name, change) => self.change(name, change),
            Step::Delete(name, ObjectKind::Bridge) => self.retire_bridge(name),
            Step::Delete(name, _) => {
                self.reaper.retire(name);
                Ok(())
            }
            Step::Rename { from, to } => self.rename(from, to),
            Step::FlushConntrack(addresses) => {
                self.conntrack_worker.flush(addresses);
                Ok(())
            }
            Step::FlushStaleConntrack(ports) => {
                self.conntrack_worker.flush_stale(ports);
                Ok(())
            }
        }
    }

    /// The rules that block forwarding between foreign links are added before forwarding is turned on.
    fn turn_on_forwarding(&self, family: Family) -> Result<(), Failure> {
        if self.sysctls.forwarding(family) {
            return Ok(());
        }
        let links = link::list(&mut self.route().socket)?;
        let forwarding_links: Vec<_> = observe::forwarding_links(&links, family).collect();
        let mut closed = BTreeSet::from([Policy::LimitedForwarding(family)]);
        closed.extend(forwarding_links.iter().map(|link| Policy::ForwardingLink(link.clone(), family)));
        tables::change(&mut self.nft(), &closed, &BTreeSet::new())?;
        self.sysctls.forward(family)?;
        for link in forwarding_links.iter().filter(|_| !family.is_v6()) {
            // The link may be gone; the element has the same effect.
            if let Err(failure) = self.sysctls.forward_from(link) {
                tracing::warn!(%link, ?failure, "cannot restore the link's own forwarding setting; its packets are forwarded nevertheless");
            }
        }
        tracing::info!(%family, "forwarding turned on, limited to Pontoon's networks");
        Ok(())
    }

    /// Tells watchers that a change of this link is Pontoon's own.
    fn announce(&self, step: &Step) {
        match step {
            // Watchers do not report new pairs or changes of flood lists; a retired pair is marked when it is
            // deleted.
            Step::Delete(_, ObjectKind::Veth) | Step::Change(_, Change::Flood { .. }) => {}
            step if step.creates(ObjectKind::Veth) => {}
            _ => step.link().into_iter().for_each(|link| self.echoes.mark(link)),
        }
    }

    fn rename(&self, from: &IfName, to: &IfName) -> Result<(), Failure> {
        let socket = &mut self.route().socket;
        match link::find(socket, from.as_str())? {
            Some(found) if found.live() => link::rename(socket, found.index, to, || self.sysctls.keep_addresses(from)),
            Some(found) => Err(foreign(from, &found.kind)),
            None => match link::find(socket, to.as_str())? {
                Some(found) if found.live() => Ok(()),
                _ => Err(Failure::refused(libc::ENODEV, "")),
            },
        }
    }

    pub(super) fn await_gone(&self, name: &IfName) -> Result<(), Failure> {
        let gone = self.reaper.await_gone(name, DELETION_TIMEOUT);
        let words = "a link of this name is still being deleted";
        if gone { Ok(()) } else { Err(Failure::refused(libc::EBUSY, words)) }
    }
}

/// Calls `act` with the index of a bridge. The index is cached; if the kernel rejects it, the bridge may have
/// been created again: it is looked up and `act` is called once more.
pub(super) fn with_master(
    route: &mut Route,
    bridge: Option<&IfName>,
    mut act: impl FnMut(&mut Route, Option<u32>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(bridge) = bridge else { return act(route, None) };
    let master = route.bridge(bridge)?;
    let failure = match keeping(route, master, &mut act) {
        // EINVAL: no such link; EOPNOTSUPP: a link that cannot have ports.
        Err(f) if matches!(f.errno(), Some(libc::EINVAL | libc::ENODEV | libc::EOPNOTSUPP)) => f,
        result => return result,
    };
    route.bridges.remove(bridge);
    let fresh = route.bridge(bridge)?;
    if fresh == master { Err(failure) } else { keeping(route, fresh, &mut act) }
}

/// A bridge whose hardware address and MTU were never set explicitly takes the lowest address of its ports
/// and the smallest of their MTUs (`br_stp_recalculate_bridge_id`, `br_mtu_auto_adjust`). A port of Pontoon
/// must not change a foreign bridge for its other users: what the kernel changed is set back explicitly, and
/// stays so.
fn keeping(
    route: &mut Route,
    master: Master,
    act: &mut impl FnMut(&mut Route, Option<u32>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let before = if master.ours { None } else { link::find_index(&mut route.socket, master.index)? };
    let result = act(route, Some(master.index));
    let Some(before) = before else { return result };
    let Some(after) = link::find_index(&mut route.socket, master.index)? else { return result };
    let mut change = LinkUnspec::new_with_index(master.index);
    let mut changed = false;
    if let Some(mac) = before.mac.filter(|mac| before.mac != after.mac && mac.bytes() != [0; 6]) {
        (change, changed) = (change.address(mac.bytes().to_vec()), true);
    }
    if after.mtu != before.mtu {
        (change, changed) = (change.mtu(before.mtu), true);
    }
    if changed {
        link::change(&mut route.socket, change)?;
    }
    result
}

pub(super) fn foreign(name: &IfName, kind: &str) -> Failure {
    let kind = if kind.is_empty() { "link" } else { kind };
    Failure::refused(libc::EEXIST, &format!("{name} is a {kind} that is not Pontoon's"))
}

/// Name of a step in errors, and its object.
fn describe(step: &Step) -> (&'static str, String) {
    let tables = "inet pontoon and bridge pontoon".to_owned();
    match step {
        Step::Forward { family } => ("turn on forwarding of", family.to_string()),
        Step::CreateFirewall(_) => ("create tables", tables),
        Step::ChangeFirewall { .. } => ("change elements of tables", tables),
        Step::ForwardRules { family, .. } => ("write accept rules to FORWARD of", family.to_string()),
        Step::FastPath { .. } => ("change the fast path in table", "netdev pontoon".to_owned()),
        Step::Stations { add, remove } => {
            let addresses: Vec<_> = add.iter().chain(remove).map(|station| station.address.to_string()).collect();
            ("change the host's routes to", addresses.join(", "))
        }
        Step::Create(name, object) => object::describe(name, object),
        Step::Change(name, change) => change::describe(name, change),
        Step::Delete(name, kind) => ("retire", format!("{} {name}", kind.word())),
        Step::Rename { from, to } => ("restore the name of", format!("{to}, now {from}")),
        Step::FlushConntrack(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            ("flush conntrack entries of", addresses.join(", "))
        }
        Step::FlushStaleConntrack(ports) => {
            let ports: Vec<_> = ports.iter().map(|port| port.host.to_string()).collect();
            ("flush stale conntrack entries of", ports.join(", "))
        }
    }
}
