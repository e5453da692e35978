//! Owns the difference between two datapaths and the order in which it is closed.
//!
//! Pure. Order: protect, then call back what has another name, then build, then take apart in reverse. Only what Pontoon sets is
//! compared.

use std::collections::BTreeSet;

use super::{Datapath, Element, ObjectKind, Protected, Step, shortcut, stray};
use crate::model::{IfName, Protocol};

/// The steps from one datapath to another, and what no step can mend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// Host ends of endpoints whose sandbox is gone: the pair vanished with it.
    pub dead: Vec<IfName>,
    /// Bridges of the user's that networks use and that do not exist.
    pub missing: Vec<IfName>,
    /// Bridges that are not made, or not given their address, because a link that the state does not
    /// know has their subnet.
    pub withheld: Vec<IfName>,
    /// Links of Pontoon's that the state does not know. They stay.
    pub unknown: Vec<IfName>,
}

/// The plan that turns `have` into `want`, keeping `protected` alone.
///
/// `None` in `have.forward4`/`forward6` means there is no such chain and nothing to do; `None` in
/// `have.elements` means that the whole table has to be made.
pub fn diff(have: &Datapath, want: &Datapath, protected: &Protected) -> Plan {
    let mut plan = Plan::default();
    let removed_elements = protect(&mut plan, have, want, protected);
    if want.forwarding.v4 && !have.forwarding.v4 {
        plan.steps.push(Step::Forward { v6: false });
    }
    if want.forwarding.v6 && !have.forwarding.v6 {
        plan.steps.push(Step::Forward { v6: true });
    }
    let (renames, have) = stray::called_back(have, want);
    let have = have.as_ref();
    plan.steps.extend(renames);
    for kind in ObjectKind::ALL {
        create_or_change(&mut plan, kind, have, want);
    }
    shortcuts(&mut plan, have, want, protected);
    for kind in ObjectKind::ALL.into_iter().rev() {
        delete(&mut plan, kind, have, want, protected);
    }
    if !removed_elements.is_empty() {
        plan.steps.push(Step::Elements { add: Vec::new(), remove: removed_elements });
    }
    protected.withhold(&mut plan, have, want);
    plan
}

/// The firewall's additions; returns the elements to remove at the very end.
fn protect(plan: &mut Plan, have: &Datapath, want: &Datapath, protected: &Protected) -> Vec<Element> {
    let mut removed = Vec::new();
    if let Some(wanted) = &want.elements {
        match &have.elements {
            None => {
                let all: Vec<_> = wanted.union(&protected.elements).cloned().collect();
                let misled = misled(&all);
                plan.steps.push(Step::CreateTable(all));
                plan.steps.extend(misled);
            }
            Some(held) => {
                let add: Vec<_> = wanted.difference(held).cloned().collect();
                removed = held.difference(wanted).filter(|e| !protected.elements.contains(e)).cloned().collect();
                if !add.is_empty() {
                    // A key that changes its value is removed and added in one transaction: at no
                    // time is a port published twice, or not at all.
                    let has_value =
                        |e: &Element| matches!(e, Element::Port(_) | Element::SourceNat(..) | Element::Broadcast(..));
                    let (now, later) = removed.into_iter().partition(has_value);
                    removed = later;
                    let misled = misled(&add);
                    plan.steps.push(Step::Elements { add, remove: now });
                    plan.steps.extend(misled);
                }
            }
        }
    }
    for (v6, have, want) in [(false, &have.forward4, &want.forward4), (true, &have.forward6, &want.forward6)] {
        if let (Some(held), Some(wanted)) = (have, want) {
            let all: BTreeSet<_> = wanted.union(&protected.rules).cloned().collect();
            if *held != all {
                plan.steps.push(Step::ForwardRules { v6, rules: all.into_iter().collect() });
            }
        }
    }
    removed
}

/// What must follow the publishing of ports: clients that asked too early are let through to the
/// host, or still go to the container that was there before. Not those of TCP: each of its
/// connections is a new flow.
fn misled(added: &[Element]) -> Option<Step> {
    let stays = |element: &Element| match element {
        Element::Port(port) if port.host.protocol != Protocol::Tcp => Some(*port),
        _ => None,
    };
    let ports: Vec<_> = added.iter().filter_map(stays).collect();
    (!ports.is_empty()).then_some(Step::ForgetMisled(ports))
}

fn create_or_change(plan: &mut Plan, kind: ObjectKind, have: &Datapath, want: &Datapath) {
    for (name, wanted) in want.objects.iter().filter(|(_, object)| object.kind() == kind) {
        let Some(held) = have.object(name, kind) else {
            match wanted {
                wanted if !wanted.is_ours(name) && kind == ObjectKind::Bridge => plan.missing.push(name.clone()),
                _ if want.sandboxed.contains(name) => plan.dead.extend(wanted.stays_on_host().then(|| name.clone())),
                _ => plan.steps.push(Step::Create(name.clone(), wanted.clone())),
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

fn shortcuts(plan: &mut Plan, have: &Datapath, want: &Datapath, protected: &Protected) {
    let (Some(held), Some(wanted)) = (&have.shortcuts, &want.shortcuts) else { return };
    let made = plan.steps.iter().filter_map(|step| match step {
        Step::Create(link, object) if object.kind() != ObjectKind::Bridge => Some(link),
        _ => None,
    });
    let (add, remove) = shortcut::difference(held, wanted, &made.collect(), protected);
    if !add.is_empty() || !remove.is_empty() {
        plan.steps.push(Step::Shortcuts { add, remove });
    }
}
