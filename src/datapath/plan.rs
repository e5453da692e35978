//! Computes the difference between two datapaths and the order of the steps that close it.
//!
//! Pure. Order: protect first, then restore names, then build, then remove in reverse order. Only settings
//! that Pontoon makes are compared.

use std::collections::BTreeSet;

use super::{Datapath, ObjectKind, Policy, Protected, Step, fastpath, renames, station};
use crate::model::Family;
use crate::model::{IfName, Protocol};

/// The steps from one datapath to another, and problems that no step can fix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps in order of execution.
    pub steps: Vec<Step>,
    /// Host ends of endpoints whose sandbox is gone: the pair vanished with it.
    pub dead: Vec<IfName>,
    /// Bridges provided by the user that networks use and that do not exist.
    pub missing: Vec<IfName>,
    /// Bridges that are not created, or not given their address, because an unknown link has their subnet.
    pub withheld: Vec<IfName>,
    /// Links of Pontoon that the state does not know. They are kept.
    pub unknown: Vec<IfName>,
}

/// The plan that turns `have` into `want` and leaves `protected` unchanged.
///
/// `None` in `have.forward4`/`forward6` means that the chain does not exist and nothing is to be done; `None`
/// in `have.policy` means that the whole table must be created.
pub fn diff(have: &Datapath, want: &Datapath, protected: &Protected) -> Plan {
    let mut plan = Plan::default();
    let removed_policy = protect(&mut plan, have, want, protected);
    if want.forwarding.v4 && !have.forwarding.v4 {
        plan.steps.push(Step::Forward { family: Family::V4 });
    }
    if want.forwarding.v6 && !have.forwarding.v6 {
        plan.steps.push(Step::Forward { family: Family::V6 });
    }
    let (renames, have) = renames::restore_names(have, want);
    let have = have.as_ref();
    plan.steps.extend(renames);
    for kind in ObjectKind::ALL {
        create_or_change(&mut plan, kind, have, want);
    }
    stations(&mut plan, have, want, protected);
    fastpath(&mut plan, have, want, protected);
    for kind in ObjectKind::ALL.into_iter().rev() {
        delete(&mut plan, kind, have, want, protected);
    }
    if !removed_policy.is_empty() {
        plan.steps.push(Step::ChangeFirewall { add: Vec::new(), remove: removed_policy });
    }
    protected.withhold(&mut plan, have, want);
    plan
}

/// Plans the firewall's additions; returns the elements to remove at the very end.
fn protect(plan: &mut Plan, have: &Datapath, want: &Datapath, protected: &Protected) -> Vec<Policy> {
    let mut removed = Vec::new();
    if let Some(wanted) = &want.policy {
        match &have.policy {
            None => {
                let all: Vec<_> = wanted.union(&protected.policy).cloned().collect();
                let stale = stale(&all);
                plan.steps.push(Step::CreateFirewall(all));
                plan.steps.extend(stale);
            }
            Some(held) => {
                let add: Vec<_> = wanted.difference(held).cloned().collect();
                removed = held.difference(wanted).filter(|e| !protected.policy.contains(e)).cloned().collect();
                if !add.is_empty() {
                    // When the value of a key changes, removal and addition are one transaction: a port is
                    // never published twice or not at all. So are those of an allow list, whose ranges may overlap.
                    let at_once = |e: &Policy| {
                        matches!(
                            e,
                            Policy::Published(_)
                                | Policy::SourceNat(..)
                                | Policy::Broadcast(..)
                                | Policy::Access(_)
                                | Policy::Limited(..)
                        )
                    };
                    let (now, later) = removed.into_iter().partition(at_once);
                    removed = later;
                    let stale = stale(&add);
                    plan.steps.push(Step::ChangeFirewall { add, remove: now });
                    plan.steps.extend(stale);
                }
            }
        }
    }
    let chains = [(Family::V4, &have.forward4, &want.forward4), (Family::V6, &have.forward6, &want.forward6)];
    for (family, have, want) in chains {
        if let (Some(held), Some(wanted)) = (have, want) {
            let all: BTreeSet<_> = wanted.union(&protected.rules).cloned().collect();
            if *held != all {
                plan.steps.push(Step::ForwardRules { family, rules: all.into_iter().collect() });
            }
        }
    }
    removed
}

/// The flush of stale flows that must follow the publishing of ports: flows of clients that sent too early go
/// to the host, or still to the container that had the port before. TCP does not need it: each of its
/// connections is a new flow.
fn stale(added: &[Policy]) -> Option<Step> {
    let stays = |element: &Policy| match element {
        Policy::Published(port) if port.host.protocol != Protocol::Tcp => Some(*port),
        _ => None,
    };
    let ports: Vec<_> = added.iter().filter_map(stays).collect();
    (!ports.is_empty()).then_some(Step::FlushStaleConntrack(ports))
}

fn create_or_change(plan: &mut Plan, kind: ObjectKind, have: &Datapath, want: &Datapath) {
    for (name, wanted) in want.objects.iter().filter(|(_, object)| object.kind() == kind) {
        let Some(held) = have.object(name, kind) else {
            if kind == ObjectKind::Bridge && !wanted.is_ours(name) {
                plan.missing.push(name.clone());
            } else if want.sandboxed.contains(name) {
                plan.dead.extend(wanted.stays_on_host().then(|| name.clone()));
            } else {
                plan.steps.push(Step::Create(name.clone(), wanted.clone()));
            }
            continue;
        };
        match held.changes(wanted) {
            Some(changes) => plan.steps.extend(changes.into_iter().map(|change| Step::Change(name.clone(), change))),
            None => {
                plan.steps.extend((!wanted.is_completed()).then(|| Step::Delete(name.clone(), kind)));
                plan.steps.push(Step::Create(name.clone(), wanted.clone()));
            }
        }
    }
}

fn delete(plan: &mut Plan, kind: ObjectKind, have: &Datapath, want: &Datapath, protected: &Protected) {
    for (name, held) in have.objects.iter().filter(|(_, object)| object.kind() == kind) {
        let kept = want.object(name, kind).is_some() || protected.links.contains(name);
        if held.is_ours(name) && !kept {
            plan.steps.push(Step::Delete(name.clone(), kind));
        }
    }
}

fn stations(plan: &mut Plan, have: &Datapath, want: &Datapath, protected: &Protected) {
    let made = plan.steps.iter().filter_map(|step| match step {
        Step::Create(link, object) if object.kind() == ObjectKind::HostLink => Some(link),
        _ => None,
    });
    let (add, remove) = station::difference(&have.stations, &want.stations, &made.collect(), protected);
    if !add.is_empty() || !remove.is_empty() {
        plan.steps.push(Step::Stations { add, remove });
    }
}

fn fastpath(plan: &mut Plan, have: &Datapath, want: &Datapath, protected: &Protected) {
    let (Some(held), Some(wanted)) = (&have.fastpath, &want.fastpath) else { return };
    let made = plan.steps.iter().filter_map(|step| match step {
        Step::Create(link, object) if object.kind() != ObjectKind::Bridge => Some(link),
        _ => None,
    });
    let (add, remove) = fastpath::difference(held, wanted, &made.collect(), protected);
    if !add.is_empty() || !remove.is_empty() {
        plan.steps.push(Step::FastPath { add, remove });
    }
}
