//! Kernel errors: every netlink request in turn gets every plausible error number, before or after it was carried out;
//! dumps are interrupted, answers are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::engine::Engine;
use super::fixture;
use super::kernel_view::Surroundings;
use super::tracee::{Call, Object, Tracee};
use super::tracer::{Entry, Exit, Script};
use testkit::ledger;

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Not carried out; answered with this error.
    Refused(i32),
    /// Carried out, but answered with this error.
    Done(i32),
    /// The dump is marked as interrupted.
    Torn,
    /// Carried out, but the socket buffer has no room for the answer.
    Overrun,
    /// Never answered.
    Silent,
}

/// Possible errors of any request.
const REFUSALS: [i32; 9] = [
    libc::ENOMEM,
    libc::EPERM,
    libc::EBUSY,
    libc::EINTR,
    libc::ENOBUFS,
    libc::EINVAL,
    libc::EOPNOTSUPP,
    libc::ENOSPC,
    libc::EAGAIN,
];

/// Possible errors although, or because, the request was carried out.
const DONE: [i32; 5] = [libc::EINTR, libc::ENOMEM, libc::EEXIST, libc::ENOENT, libc::ENODEV];

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const BATCH: [u16; 2] = [0x10, 0x11];
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// A type that no subsystem has.
const NONSENSE: u16 = 0x7f;

/// The messages in a datagram: offset, type, flags, sequence number.
fn messages(bytes: &[u8]) -> Vec<(usize, u16, u16, u32)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes.get(at..at + HEADER) {
        let len = u32::from_ne_bytes(head[..4].try_into().unwrap()) as usize;
        let half = |at: usize| u16::from_ne_bytes(head[at..at + 2].try_into().unwrap());
        found.push((at, half(4), half(6), u32::from_ne_bytes(head[8..12].try_into().unwrap())));
        at += len.max(HEADER).next_multiple_of(4);
    }
    found
}

/// Applies the fault to the message that is `ahead` messages away.
struct FailAt {
    ahead: Arc<AtomicI64>,
    fault: Fault,
    hit: Arc<Mutex<Option<String>>>,
    /// Socket and sequence number of the message to fail.
    target: Option<(u64, u32)>,
}

impl FailAt {
    /// Whether the fault can apply to a message with these flags.
    fn applies(&self, flags: u16) -> bool {
        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        match self.fault {
            Fault::Refused(_) | Fault::Overrun | Fault::Silent => true,
            // Only an acknowledged request has an answer that can be changed.
            Fault::Done(_) => !dump && flags & 4 != 0,
            Fault::Torn => dump,
        }
    }
}

impl Script for FailAt {
    fn before(&mut self, call: &Call, tracee: &Tracee) -> Entry {
        if call.object != Object::Netlink || call.number != libc::SYS_sendto || self.ahead.load(Ordering::SeqCst) < 0 {
            return Entry::Pass;
        }
        let bytes = tracee.bytes(call.args[1], call.args[2] as usize);
        for (at, kind, flags, sequence) in messages(&bytes) {
            if BATCH.contains(&kind) || !self.applies(flags) || self.ahead.fetch_sub(1, Ordering::SeqCst) != 0 {
                continue;
            }
            *self.hit.lock().unwrap() = Some(format!("{kind:#x}"));
            self.target = Some((call.args[0], sequence));
            match self.fault {
                Fault::Refused(_) => {
                    let nonsense = (kind & 0xff00) | NONSENSE;
                    tracee.poke(call.args[1] + at as u64 + 4, &nonsense.to_ne_bytes());
                }
                Fault::Silent => return Entry::Instead(call.args[2] as i64),
                _ => {}
            }
            break;
        }
        Entry::Pass
    }

    fn after(&mut self, call: &Call, result: i64, tracee: &Tracee) -> Exit {
        let Some((socket, target)) = self.target else { return Exit::Pass };
        if call.number != libc::SYS_recvfrom || call.args[0] != socket || result <= 0 {
            return Exit::Pass;
        }
        let bytes = tracee.bytes(call.args[1], result as usize);
        for (at, kind, flags, sequence) in messages(&bytes) {
            if sequence != target {
                continue;
            }
            match self.fault {
                Fault::Refused(errno) | Fault::Done(errno) if kind == NLMSG_ERROR => {
                    tracee.poke(call.args[1] + (at + HEADER) as u64, &(-errno).to_ne_bytes());
                    self.target = None;
                }
                Fault::Torn => {
                    let torn = flags | NLM_F_DUMP_INTR;
                    tracee.poke(call.args[1] + at as u64 + 6, &torn.to_ne_bytes());
                    self.target = None;
                }
                Fault::Overrun => {
                    self.target = None;
                    return Exit::Instead(-i64::from(libc::ENOBUFS));
                }
                _ => {}
            }
            return Exit::Pass;
        }
        Exit::Pass
    }
}

fn scenario(engine: &mut Engine<'_>) {
    let base = engine.networks.keys().next().unwrap().clone();
    let network = engine.create_network("10.77.0.0/24");
    let one = engine.attach(&base, 2, "eth0", &[(6, 8080), (17, 5353)]);
    let two = network.as_ref().ok().and_then(|network| engine.attach(network, 2, "eth1", &[]).ok());
    for endpoint in one.into_iter().chain(two) {
        engine.detach(&endpoint);
    }
    if let Ok(network) = network {
        engine.remove_network(&network);
    }
}

/// Runs the scenario with one fault at one message; `None` when it has no such message.
fn fail_at(engine: &mut Engine<'_>, around: &Surroundings, at: i64, fault: Fault) -> Option<String> {
    let host = engine.host;
    let (ahead, hit) = (Arc::new(AtomicI64::new(-1)), Arc::new(Mutex::new(None)));
    let script = FailAt { ahead: Arc::clone(&ahead), fault, hit: Arc::clone(&hit), target: None };
    host.kill();
    host.begin(Some(Box::new(script)));
    assert!(host.serves(), "{}", host.log());
    ahead.store(at, Ordering::SeqCst);
    scenario(engine);
    let missed = ahead.swap(-1, Ordering::SeqCst) >= 0;
    let hit = hit.lock().unwrap().take();
    assert!(!host.has_ended(), "the process ended:\n{}", host.log());
    // Pending work is completed without a restart.
    let context = format!("{fault:?} for message {hit:?} (#{at})");
    let doubt = !engine.lost.is_empty();
    let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fixture::compare(host, &[engine], around)));
    assert!(compared.is_ok(), "after {context}");
    if doubt {
        host.kill();
        ledger::age(&host.paths.ledger());
        host.start();
        engine.collect_garbage(&Default::default());
        engine.lost = Default::default();
        fixture::compare(host, &[engine], around);
    }
    if missed { None } else { Some(format!("{fault:?} {}", hit.unwrap_or_default())) }
}

/// Combines messages with faults: one for each message in a regular run, all of them in a long run.
fn try_all(faults: &[Fault]) -> (u32, BTreeSet<String>) {
    let tried: Mutex<BTreeMap<String, u32>> = Mutex::default();
    const SHARDS: usize = 2;
    fixture::side_by_side(SHARDS, "k", |shard, engine, around| {
        let own = faults.iter().enumerate().filter(|(number, _)| number % SHARDS == shard);
        for (number, fault) in own {
            let step = if super::long_run() { 1 } else { faults.len() };
            let first = if step == 1 { 0 } else { number as i64 };
            for at in (first..).step_by(step) {
                let Some(what) = fail_at(engine, around, at, *fault) else { break };
                *tried.lock().unwrap().entry(what).or_default() += 1;
            }
        }
    });
    let tried = tried.into_inner().unwrap();
    (tried.values().sum(), tried.into_keys().collect())
}

#[test]
fn every_request_can_be_refused() {
    let refused = REFUSALS.map(Fault::Refused);
    let done = DONE.map(Fault::Done);
    let faults: Vec<Fault> = refused.into_iter().chain(done).chain([Fault::Torn, Fault::Overrun]).collect();
    let (count, kinds) = try_all(&faults);
    println!("errors of the kernel: {count} pairs of request and error tried, {} kinds", kinds.len());
    assert!(count > 25, "{kinds:?}");
}

/// The deadline of a request is 5 s, so a regular run covers only the creation of the pair.
#[test]
fn a_request_can_stay_unanswered() {
    if super::long_run() {
        let (count, kinds) = try_all(&[Fault::Silent, Fault::Silent]);
        println!("requests without an answer: {count}, {} kinds", kinds.len());
        return;
    }
    fixture::run_on_host("s", 3, |engine, around| assert_ne!(fail_at(engine, around, 12, Fault::Silent), None));
}
