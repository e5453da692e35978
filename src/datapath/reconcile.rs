//! Holds the desired datapath of the whole host and is the only way to apply it to the kernel.
//!
//! A verb passes its objects before and after the change ([`Reconciler::replace`]): the cost depends on the
//! change, not on what else exists. Start, tick, events and failed verbs compare everything with the observed
//! kernel ([`Reconciler::reconcile`]). This module never decides what is desired: the driver does.
//!
//! Why no race between the two can remove a live object: `reconcile` observes first and reads the desired
//! state afterwards, while no verb is between its two halves (the gate). What a verb added meanwhile is
//! missing in the observation, and creating it again is a no-op; what a verb removed is in the observation,
//! and removing it again is a no-op too.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use super::backoff::{Backoff, Subject};
use super::opposition::Opposition;
use super::repair::{Counts, Repair};
use super::sharing::Sharing;
use super::unknown::{self, Judge};
use super::{
    Datapath, Ended, EngineBridges, FastPath, Forwarding, Kernel, KernelError, ObjectKind, Plan, Policy, Protected,
    Step, diff, fastpath, kind, limited_forwarding, tunnel,
};
use crate::model::{IfName, Mac};
use crate::state::table::lock;

/// See the module documentation.
pub struct Reconciler {
    kernel: Arc<dyn Kernel>,
    pub(super) desired: Mutex<Datapath>,
    engine: Mutex<EngineBridges>,
    broadcasts: Mutex<BTreeSet<Policy>>,
    pub(super) opposition: Mutex<Opposition>,
    /// What is protected for a reason other than being unknown to the state.
    protected: Mutex<Protected>,
    judge: Mutex<Judge>,
    backoff: Mutex<Backoff>,
    sharing: Mutex<Sharing>,
    pub(super) gate: RwLock<()>,
    /// Whether forwarding may be turned on.
    opens: bool,
    /// The families that, when last observed, were forwarded because of Pontoon alone.
    turned_on: Mutex<Forwarding>,
    /// Counters.
    pub counts: Counts,
}

impl Reconciler {
    /// Starts with only the base desired. Without `opens`, forwarding is left as it is.
    pub fn new(kernel: Arc<dyn Kernel>, opens: bool) -> Self {
        Self {
            kernel,
            desired: Mutex::new(kind::base()),
            engine: Mutex::default(),
            broadcasts: Mutex::default(),
            opposition: Mutex::default(),
            protected: Mutex::default(),
            judge: Mutex::default(),
            backoff: Mutex::default(),
            sharing: Mutex::default(),
            gate: RwLock::new(()),
            opens,
            turned_on: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// The kernel, for read-only look-ups.
    pub fn kernel(&self) -> &dyn Kernel {
        &*self.kernel
    }

    /// Replaces `before` with `after` in the desired state and carries out the difference.
    ///
    /// On an error the kernel may hold part of it, and `after` stays desired: the caller either has
    /// [`Reconciler::reconcile`] finish it or replaces it back.
    pub fn replace(&self, before: &Datapath, after: &Datapath) -> Result<(), KernelError> {
        let _verbs = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let before = &*self.replaced(before, after);
        let [before, after] = self.uncontested([before, after]);
        let mut plan = diff(&before, &after, &Protected::default());
        plan.steps.retain(|step| self.opens || !limited_forwarding::turns_on(step));
        let is_extra = |step: &Step| matches!(step, Step::FastPath { add, .. } if !add.iter().any(FastPath::is_needed));
        for steps in plan.steps.chunk_by(|one, next| is_extra(one) == is_extra(next)) {
            match self.kernel.apply(steps) {
                // Without fast path entries all frames pass the bridge; a comparison retries them or reports why they
                // fail.
                Err(error) if steps.iter().all(is_extra) => {
                    tracing::debug!(%error, "cannot update the fast path; the next comparison retries")
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// Changes the desired state without touching the kernel: at load, and for facts that have no step (an
    /// endpoint joined or left its sandbox).
    pub fn desire(&self, before: &Datapath, after: &Datapath) {
        self.replaced(before, after);
    }

    /// The same; returns `before` without what other networks still need of it.
    fn replaced<'a>(&self, before: &'a Datapath, after: &Datapath) -> Cow<'a, Datapath> {
        let mut desired = lock(&self.desired);
        let before = lock(&self.sharing).replaced(before, after);
        lock(&self.judge).replaced(&before, after);
        for name in before.objects.keys() {
            desired.objects.remove(name);
            desired.sandboxed.remove(name);
        }
        desired.contestable.retain(|bridge, _| !before.contestable.contains_key(bridge));
        remove_all(&mut desired.policy, &before.policy);
        remove_all(&mut desired.forward4, &before.forward4);
        remove_all(&mut desired.forward6, &before.forward6);
        remove_all(&mut desired.fastpath, &before.fastpath);
        desired.stations.retain(|station| !before.stations.contains(station));
        kind::add(&mut desired, after.clone());
        before
    }

    /// Sets what is known to have ended, and whether facts are known to be missing from the state. To be
    /// called before the first comparison.
    pub fn remember(&self, ended: Ended, incomplete: bool) {
        let mut judge = lock(&self.judge);
        (judge.ended, judge.incomplete) = (ended, incomplete);
    }

    /// Marks links with these names or hardware addresses as ended, as told by an operator or the engine.
    pub fn give_up(&self, links: impl IntoIterator<Item = IfName>, macs: impl IntoIterator<Item = Mac>) {
        let ended = &mut lock(&self.judge).ended;
        ended.links.extend(links);
        ended.macs.extend(macs);
    }

    /// The observed datapath and the links in it that are unknown to the state at present.
    ///
    /// # Errors
    /// Errors of the observation.
    pub fn look_for_unknown(&self) -> Result<(Datapath, BTreeSet<IfName>), KernelError> {
        let have = self.observe()?;
        let links = unknown::links(&have, &lock(&self.desired), &lock(&self.judge).ended);
        Ok((have, links))
    }

    /// What is kept although the state does not know it, as of the last comparison.
    pub fn kept(&self) -> Protected {
        lock(&self.judge).kept()
    }

    /// Reads the kernel and protects the tunnels found, for the rest of this process.
    pub fn protect_tunnels(&self) -> Result<(), KernelError> {
        let found = tunnel::present(&self.observe()?);
        let mut protected = lock(&self.protected);
        protected.links.extend(found.links);
        protected.policy.extend(found.policy);
        Ok(())
    }

    /// Compares everything with the observed kernel and closes the difference.
    pub fn reconcile(&self) -> Repair {
        let mut repair = self.compared(|| self.look());
        // A renamed link may have lost settings while it had another name.
        if repair.plan.steps.iter().any(|step| matches!(step, Step::Rename { .. })) {
            let Repair { plan, failed } = self.compared(|| self.look());
            repair.plan.steps.extend(plan.steps);
            repair.plan = Plan { steps: repair.plan.steps, ..plan };
            repair.failed = failed;
        }
        if repair.failed.is_none() {
            *lock(&self.counts.in_order) = Some(Instant::now());
        }
        repair
    }

    fn look(&self) -> Result<Repair, KernelError> {
        let ended = lock(&self.judge).ended.clone();
        let have = self.observe()?;
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let want = self.want(&have);
        let kept = {
            let mut judge = lock(&self.judge);
            judge.ended.forget_gone(&ended, &have);
            judge.judge(&have, &want)
        };
        let unknown = kept.links.iter().cloned().collect();
        let mut repair = self.close(&have, want, kept, false);
        repair.plan.unknown = unknown;
        Ok(repair)
    }

    /// The plan that [`Reconciler::reconcile`] would carry out now; nothing is changed. A verb that ends
    /// between observing and comparing looks like drift, so a difference is checked a second time.
    ///
    /// # Errors
    /// Errors of the observation.
    pub fn plan(&self) -> Result<Plan, KernelError> {
        let look = || {
            let have = self.observe()?;
            let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            let want = self.want(&have);
            let kept = lock(&self.judge).judge(&have, &want);
            let unknown = kept.links.iter().cloned().collect();
            Ok(Plan { unknown, ..diff(&have, &want, &self.with_protected(kept)) })
        };
        let mut plan = look()?;
        if plan != Plan::default() {
            let again = look()?;
            plan.steps.retain(|step| again.steps.contains(step));
            plan.dead.retain(|host| again.dead.contains(host));
            plan.missing.retain(|bridge| again.missing.contains(bridge));
            plan.withheld.retain(|bridge| again.withheld.contains(bridge));
            plan.unknown.retain(|link| again.unknown.contains(link));
        }
        Ok(plan)
    }

    /// Compares the firewall only: a flushed table is restored without listing any link.
    pub fn reconcile_firewall(&self) -> Repair {
        self.compared(|| {
            let have = self.kernel.observe_firewall()?;
            let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            let all = self.want(&have);
            let want = Datapath {
                policy: all.policy,
                forward4: all.forward4,
                forward6: all.forward6,
                fastpath: all.fastpath,
                ..Datapath::default()
            };
            let kept = lock(&self.judge).of_firewall(&have, &want);
            Ok(self.close(&have, want, kept, true))
        })
    }

    /// Whether forwarding is turned on when a network needs it.
    pub fn opens(&self) -> bool {
        self.opens
    }

    /// Whether forwarding between foreign links is blocked, because Pontoon turned forwarding on.
    pub fn keeps_apart(&self) -> bool {
        *lock(&self.turned_on) != Forwarding::default()
    }

    /// Whether another program has changed forwarding since the last comparison. The kernel sends a
    /// notification only when it is turned off.
    pub fn is_taken_over(&self) -> bool {
        self.kernel.forwarding().1 != *lock(&self.turned_on)
    }

    /// Number of repairs that keep failing.
    pub fn failing(&self) -> usize {
        lock(&self.backoff).count()
    }

    /// When the next failed repair is to be retried.
    pub fn next_try(&self) -> Option<Instant> {
        lock(&self.backoff).next()
    }

    /// Makes the next comparison try everything, regardless of backoff.
    pub fn hurry(&self) {
        lock(&self.backoff).hurry(Instant::now());
    }

    /// Whether a link of this name is desired.
    pub fn wants(&self, name: &IfName) -> bool {
        lock(&self.desired).objects.contains_key(name)
    }

    /// Whether a link is desired whose parent has this name.
    pub fn has_children_on(&self, parent: &IfName) -> bool {
        lock(&self.desired).objects.values().any(|object| object.parent() == Some(parent))
    }

    /// Whether an object of this kind is desired.
    pub fn wants_kind(&self, kind: ObjectKind) -> bool {
        lock(&self.desired).objects.values().any(|object| object.kind() == kind)
    }

    /// Whether this bridge was one of the engine's when they were last read.
    pub fn is_engine_bridge(&self, name: &IfName) -> bool {
        lock(&self.engine).links.contains(name)
    }

    /// Reads again what the firewall must know about the host, and updates the firewall. This is not counted
    /// as a repair, because nothing has drifted. False when it did not succeed and a comparison is due.
    pub fn follow_host(&self) -> Result<bool, KernelError> {
        let before = self.of_host();
        let same = !self.find_host()?;
        let _verbs = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let with = |policy| Datapath { policy: Some(policy), ..Datapath::default() };
        let plan = diff(&with(before), &with(self.of_host()), &Protected::default());
        Ok((plan.steps.is_empty() || self.kernel.apply(&plan.steps).is_ok()) && same)
    }

    /// Reads what the firewall must know about the host, and leaves the rest to the next comparison: bridges
    /// of the engine's built-in driver, where broadcasts are accepted, and rules of other programs. Whether those change
    /// a fast path.
    pub fn find_host(&self) -> Result<bool, KernelError> {
        let (engine, broadcasts) = (self.kernel.engine_bridges()?, self.kernel.broadcasts()?);
        *lock(&self.engine) = engine;
        *lock(&self.broadcasts) = broadcasts;
        Ok(self.find_opposition())
    }

    fn of_host(&self) -> BTreeSet<Policy> {
        let mut policy = kind::engine_bridges(&lock(&self.engine));
        policy.extend(lock(&self.broadcasts).iter().cloned());
        policy
    }

    fn observe(&self) -> Result<Datapath, KernelError> {
        let foreign = lock(&self.desired).foreign();
        self.kernel.observe(&foreign)
    }

    fn want(&self, have: &Datapath) -> Datapath {
        let mut want = lock(&self.desired).clone();
        merge(&mut want.policy, &Some(self.of_host()));
        if !self.opens {
            want.forwarding = Forwarding::default();
        }
        let limited_forwarding = limited_forwarding::policy(have, &want);
        want.policy.get_or_insert_default().extend(limited_forwarding);
        *lock(&self.turned_on) = have.turned_on;
        want.fastpath = want.fastpath.map(|entries| fastpath::whole(self.open(entries)));
        want
    }

    /// Tries every step, so that one object that cannot be repaired does not block the others; only steps
    /// that have failed repeatedly wait for their backoff.
    fn close(&self, have: &Datapath, want: Datapath, kept: Protected, firewall_alone: bool) -> Repair {
        let mut plan = diff(have, &want, &self.with_protected(kept));
        let now = Instant::now();
        let is_due = |step: &Step| lock(&self.backoff).due(&Subject::of(step), now);
        let (due, wait): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.steps).into_iter().partition(is_due);
        let mut still: Vec<_> = wait.iter().map(Subject::of).collect();
        let mut failed = None;
        if self.kernel.apply(&due).is_ok() {
            plan.steps = due;
        } else {
            for step in due {
                let Err(error) = self.kernel.apply(std::slice::from_ref(&step)) else {
                    plan.steps.push(step);
                    continue;
                };
                still.push(Subject::of(&step));
                lock(&self.backoff).failed(Subject::of(&step), step.is_firewall(), &error, now);
                failed.get_or_insert(error);
            }
        }
        lock(&self.backoff).only(&still, firewall_alone);
        Repair { plan, failed }
    }

    fn with_protected(&self, mut kept: Protected) -> Protected {
        let more = lock(&self.protected);
        kept.links.extend(more.links.iter().cloned());
        kept.policy.extend(more.policy.iter().cloned());
        kept
    }

    /// Observes and closes the difference, and counts the result.
    fn compared(&self, look: impl FnOnce() -> Result<Repair, KernelError>) -> Repair {
        self.counts.reconciles.fetch_add(1, Ordering::Relaxed);
        let repair = look().unwrap_or_else(|error| {
            lock(&self.backoff).failed(Subject::Comparison, true, &error, Instant::now());
            Repair { plan: Plan::default(), failed: Some(error) }
        });
        self.counts.repairs.fetch_add(repair.plan.steps.len() as u64, Ordering::Relaxed);
        self.counts.failures.fetch_add(u64::from(repair.failed.is_some()), Ordering::Relaxed);
        repair
    }
}

pub(super) fn merge<T: Ord + Clone>(to: &mut Option<BTreeSet<T>>, more: &Option<BTreeSet<T>>) {
    if let Some(more) = more {
        to.get_or_insert_with(BTreeSet::new).extend(more.iter().cloned());
    }
}

fn remove_all<T: Ord>(from: &mut Option<BTreeSet<T>>, less: &Option<BTreeSet<T>>) {
    if let (Some(from), Some(less)) = (from, less) {
        for element in less {
            from.remove(element);
        }
    }
}
