//! Decides what stays in the kernel although the state does not explain it. This is the only place that
//! decides it, for the start, each comparison, `pontoon plan` and `pontoon repair`.
//!
//! Invariant: a link is removed only when it is known to have ended, because this process removed it or the
//! ledger says so.
//!
//! Why: the ledger is written before the kernel is changed, so a link that the ledger never mentioned belongs
//! to a lost ledger, or to one newer than the present one (a backup was restored, another state directory is
//! in use). The link may carry a running container. It stays, with all elements, rules and addresses that may
//! serve it, until it disappears by itself or an operator names it. Nothing is persisted for that: each
//! process observes the kernel's links again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Bridge, Change, Datapath, ForwardRule, LinkProperty, Object, Plan, Policy, Step, renames};
use crate::model::{HostPort, IfName, Mac, overlap};

/// What must stay although the state does not explain it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protected {
    /// Links by name.
    pub links: BTreeSet<IfName>,
    /// Elements of the firewall's sets.
    pub policy: BTreeSet<Policy>,
    /// Rules in the engine's chains.
    pub rules: BTreeSet<ForwardRule>,
}

/// What is known to have ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Names of links.
    pub links: BTreeSet<IfName>,
    /// Hardware addresses derived from the ids of what ended: a link keeps its address when it is renamed.
    pub macs: BTreeSet<Mac>,
    /// Elements of the firewall's sets.
    pub policy: BTreeSet<Policy>,
}

impl Ended {
    /// Adds all links and elements of `before`.
    pub fn add(&mut self, before: &Datapath) {
        self.add_links(before, &Datapath::default());
        self.policy.extend(before.policy.iter().flatten().cloned());
    }

    /// Adds the links of `before` that are not in `after`.
    pub(super) fn add_links(&mut self, before: &Datapath, after: &Datapath) {
        for (name, object) in &before.objects {
            if object.is_ours(name) && after.object(name, object.kind()).is_none() {
                self.links.insert(name.clone());
                self.macs.extend(object.identity());
            }
        }
    }

    /// Forgets what `seen` contained and the kernel does not have any more.
    pub(super) fn forget_gone(&mut self, seen: &Ended, have: &Datapath) {
        self.links.retain(|name| !seen.links.contains(name) || have.objects.contains_key(name));
        if !seen.macs.is_empty() {
            let there: BTreeSet<Mac> = have.objects.values().filter_map(Object::identity).collect();
            self.macs.retain(|mac| !seen.macs.contains(mac) || there.contains(mac));
        }
    }

    fn has(&self, name: &IfName, mac: Option<Mac>) -> bool {
        self.links.contains(name) || mac.is_some_and(|mac| self.macs.contains(&mac))
    }
}

/// Links of Pontoon that are in the kernel, are not desired, and are not known to have ended.
pub fn links(have: &Datapath, want: &Datapath, ended: &Ended) -> BTreeSet<IfName> {
    let (_, have) = renames::restore_names(have, want);
    let unknown = have.objects.iter().filter(|(name, object)| {
        object.is_ours(name) && want.object(name, object.kind()).is_none() && !ended.has(name, object.identity())
    });
    unknown.map(|(name, _)| name.clone()).collect()
}

/// Those of the links `unknown` that are ports, each with its bridge.
pub fn ports(have: &Datapath, unknown: &BTreeSet<IfName>) -> Vec<(IfName, IfName)> {
    let objects = have.objects.iter().filter(|(name, _)| unknown.contains(*name));
    objects.filter_map(|(name, object)| Some((name.clone(), object.master()?.clone()))).collect()
}

/// What a process knows about the past, and what it therefore has to keep.
#[derive(Debug, Default)]
pub struct Judge {
    /// What is known to have ended.
    pub ended: Ended,
    /// Whether facts are known to be missing from the state.
    pub incomplete: bool,
    kept: Option<Protected>,
}

impl Judge {
    /// Decides what stays. Elements and rules are judged once, at the first comparison of a process: those
    /// that appear later were added by another program. They stay as long as a link exists that they may
    /// serve.
    pub fn judge(&mut self, have: &Datapath, want: &Datapath) -> Protected {
        let links = links(have, want, &self.ended);
        let mut kept = self.kept.take().unwrap_or_else(|| self.firewall(have, want));
        if links.is_empty() && !self.incomplete {
            // A ledger older than the kernel may know a container but not its published ports.
            let known = addresses(want.policy.iter().flatten(), &have.away);
            kept.policy.retain(|e| matches!(e, Policy::Published(port) if known.contains(&port.container)));
            kept.rules.clear();
        }
        kept.links = links;
        self.kept = Some(kept.clone());
        kept
    }

    /// What stays of the firewall when the links are not observed.
    pub fn of_firewall(&self, have: &Datapath, want: &Datapath) -> Protected {
        self.kept.clone().unwrap_or_else(|| self.firewall(have, want))
    }

    /// What was kept at the last comparison.
    pub fn kept(&self) -> Protected {
        self.kept.clone().unwrap_or_default()
    }

    /// Records that `before` is replaced with `after`.
    pub fn replaced(&mut self, before: &Datapath, after: &Datapath) {
        self.ended.add_links(before, after);
        for name in after.objects.keys() {
            self.ended.links.remove(name);
        }
        if let Some(kept) = self.kept.as_mut().filter(|kept| !kept.policy.is_empty()) {
            kept.policy.retain(|element| !before.policy.as_ref().is_some_and(|before| before.contains(element)));
        }
    }

    /// All elements and rules that are not desired and are not known to have ended.
    fn firewall(&self, have: &Datapath, want: &Datapath) -> Protected {
        let unwanted = |element: &&Policy| {
            let wanted = want.policy.as_ref().is_some_and(|wanted| wanted.contains(*element));
            // Elements that depend on the host alone are always known, whatever the ledger contains.
            let of_host = matches!(
                element,
                Policy::Broadcast(..)
                    | Policy::Link(LinkProperty::EngineBridge, _)
                    | Policy::LimitedForwarding(_)
                    | Policy::ForwardingLink(..)
            );
            !wanted && !of_host && !self.ended.policy.contains(*element)
        };
        // Elements of tables of another release count too: those tables are about to be replaced.
        let policy = have.policy.iter().flatten().chain(&have.former_policy).filter(unwanted).cloned().collect();
        let mut rules = BTreeSet::new();
        for (have, want) in [(&have.forward4, &want.forward4), (&have.forward6, &want.forward6)] {
            let wanted = |rule: &ForwardRule| want.as_ref().is_some_and(|want| want.contains(rule));
            rules.extend(have.iter().flatten().filter(|rule| !wanted(rule)).cloned());
        }
        Protected { links: BTreeSet::new(), policy, rules }
    }
}

/// Addresses of the containers behind these host ends.
fn addresses<'a>(policy: impl Iterator<Item = &'a Policy>, hosts: &BTreeSet<IfName>) -> BTreeSet<IpAddr> {
    policy
        .filter_map(|element| match element {
            Policy::SourceAddress(host, address) if hosts.contains(host) => Some(*address),
            _ => None,
        })
        .collect()
}

impl Protected {
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.policy.is_empty() && self.rules.is_empty()
    }

    /// Addresses of containers in these elements.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.policy
            .iter()
            .filter_map(|element| match element {
                Policy::SourceAddress(_, address)
                | Policy::OpenPort(_, address, _)
                | Policy::SourceFiltered(address) => Some(*address),
                Policy::Published(port) => Some(port.container),
                _ => None,
            })
            .collect()
    }

    /// Ports of the host that lead to containers in these elements.
    pub fn ports(&self) -> impl Iterator<Item = HostPort> {
        self.policy
            .iter()
            .filter_map(|element| if let Policy::Published(port) = element { Some(port.host) } else { None })
    }

    /// Whether a bridge with these addresses would take over the subnet of a protected one.
    fn holds_subnet(&self, have: &Datapath, name: &IfName, wanted: &Bridge) -> bool {
        let others = have.objects.iter().filter(|(other, _)| *other != name && self.links.contains(*other));
        let mut held = others.flat_map(|(_, object)| match object {
            Object::Bridge(bridge) => bridge.addresses.iter().collect(),
            _ => Vec::new(),
        });
        held.any(|held| wanted.addresses.iter().any(|new| overlap(held, new)))
    }

    /// Leaves out the steps that would remove something protected: state and kernel contradict each other,
    /// and what runs takes precedence.
    pub(super) fn withhold(&self, plan: &mut Plan, have: &Datapath, want: &Datapath) {
        if *self == Self::default() {
            return;
        }
        let held = |name: &IfName| match want.objects.get(name) {
            Some(Object::Bridge(wanted)) => self.holds_subnet(have, name, wanted),
            _ => false,
        };
        let mut withheld = BTreeSet::new();
        plan.steps.retain(|step| match step {
            Step::Create(name, Object::Bridge(_)) | Step::Change(name, Change::AddAddress(_)) if held(name) => {
                withheld.insert(name.clone());
                false
            }
            Step::Create(_, object) => {
                object.master().is_none_or(|bridge| have.objects.contains_key(bridge) || !held(bridge))
            }
            _ => true,
        });
        plan.withheld.extend(withheld);
        let taken = |element: &Policy| match element {
            Policy::Published(port) => self
                .policy
                .iter()
                .any(|kept| matches!(kept, Policy::Published(other) if other.host == port.host && other != port)),
            Policy::SourceNat(net, _) => self
                .policy
                .iter()
                .any(|kept| kept != element && matches!(kept, Policy::SourceNat(other, _) if other == net)),
            _ => false,
        };
        for step in &mut plan.steps {
            if let Step::ChangeFirewall { add, .. } | Step::CreateFirewall(add) = step {
                add.retain(|element| !taken(element) || self.policy.contains(element));
            }
        }
        plan.steps.retain(
            |step| !matches!(step, Step::ChangeFirewall { add, remove } if add.is_empty() && remove.is_empty()),
        );
    }
}
