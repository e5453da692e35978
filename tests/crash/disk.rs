//! Disk failures: full, read-only, broken, during a write, or a power cut.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::engine::Engine;
use super::fixture;
use super::host::{Host, Paths};
use super::kernel_view::Surroundings;
use super::tracee::{Call, Object, Tracee};
use super::tracer::{Entry, Exit, Script};
use testkit::ledger;

/// How a call on a file of the state fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Errno(i32),
    /// Only half of the bytes are written.
    Short,
}

const FAULTS: [Fault; 4] =
    [Fault::Errno(libc::ENOSPC), Fault::Errno(libc::EIO), Fault::Errno(libc::EROFS), Fault::Short];

/// Makes the call fail that is `ahead` calls away, and the following ones if the failure is lasting.
struct FailAt {
    ahead: Arc<AtomicI64>,
    fault: Fault,
    lasting: bool,
    hit: Arc<Mutex<Option<String>>>,
}

/// Whether a call on the state directory can fail in this way. The lock file is not part of the ledger.
fn applies(call: &Call, fault: Fault) -> bool {
    let Object::State(name) = &call.object else { return false };
    let writes = matches!(call.number, libc::SYS_write);
    let changes = writes
        || matches!(
            call.number,
            libc::SYS_fsync
                | libc::SYS_fdatasync
                | libc::SYS_rename
                | libc::SYS_linkat
                | libc::SYS_unlink
                | libc::SYS_openat
                | libc::SYS_ftruncate
        );
    // Opening a file that need not exist, and reading, are excluded: a broken disk at start has its own test.
    let opens = call.number == libc::SYS_openat && call.args[2] & libc::O_CREAT as u64 == 0;
    name != "lock" && !opens && if fault == Fault::Short { writes } else { changes }
}

impl Script for FailAt {
    fn before(&mut self, call: &Call, _: &Tracee) -> Entry {
        let ahead = self.ahead.load(Ordering::SeqCst);
        if !applies(call, self.fault) || (ahead < 0 && !(self.lasting && self.hit.lock().unwrap().is_some())) {
            return Entry::Pass;
        }
        if ahead >= 0 && self.ahead.fetch_sub(1, Ordering::SeqCst) != 0 {
            return Entry::Pass;
        }
        self.hit.lock().unwrap().get_or_insert_with(|| call.label.clone());
        match self.fault {
            Fault::Errno(errno) => Entry::Instead(-i64::from(errno)),
            Fault::Short => Entry::Shorten(call.args[2] / 2),
        }
    }
}

fn scenario(engine: &mut Engine<'_>) {
    let base = engine.networks.keys().next().unwrap().clone();
    let network = engine.create_network("10.77.0.0/24");
    let one = engine.attach(&base, 2, "eth0", &[(6, 8080)]);
    let two = network.as_ref().ok().and_then(|network| engine.attach(network, 2, "eth1", &[]).ok());
    for endpoint in one.into_iter().chain(two) {
        engine.detach(&endpoint);
    }
    if let Ok(network) = network {
        engine.remove_network(&network);
    }
}

/// Runs the scenario with one fault at one call; `None` when the scenario has no such call.
fn fail_at(engine: &mut Engine<'_>, around: &Surroundings, (at, fault, lasting): (i64, Fault, bool)) -> Option<String> {
    let host = engine.host;
    let (ahead, hit) = (Arc::new(AtomicI64::new(-1)), Arc::new(Mutex::new(None)));
    let script = FailAt { ahead: Arc::clone(&ahead), fault, lasting, hit: Arc::clone(&hit) };
    host.kill();
    host.begin(Some(Box::new(script)));
    assert!(host.serves(), "{}", host.log());
    let before = host.log().len();
    ahead.store(at, Ordering::SeqCst);
    scenario(engine);
    ahead.store(-1, Ordering::SeqCst);
    let point = hit.lock().unwrap().take()?;
    assert!(!host.has_ended(), "the process ended:\n{}", host.log());
    // The disk works again. Requests that were refused may need the next write to be persisted.
    let again = engine.create_network_with_retries("10.78.0.0/24");
    engine.remove_network(&again);
    let log = host.log();
    let logged = log.get(before..).unwrap_or_default();
    assert!(logged.contains("/state/ledger"), "the log does not name the file that failed at {point}: {logged}");
    // After a restart, ledger and kernel match the engine's view.
    for _ in 0..2 {
        let inside = |id: &str| engine.attached.contains_key(id).then_some(true);
        super::kernel_view::assert_matches_ledger(host, &inside, around);
        host.kill();
        if !engine.lost.is_empty() {
            ledger::age(&host.paths.ledger());
        }
        host.start();
    }
    engine.collect_garbage(&Default::default());
    engine.lost = Default::default();
    fixture::compare(host, &[engine], around);
    Some(format!("{fault:?} at {point}"))
}

#[test]
fn every_write_to_the_disk_can_fail() {
    let tried: Mutex<BTreeMap<String, u32>> = Mutex::default();
    fixture::side_by_side(2, "d", |shard, engine, around| {
        for (number, fault) in FAULTS.into_iter().enumerate() {
            // A regular run combines each call with one of the faults.
            let step = if super::long_run() { 1 } else { FAULTS.len() };
            for at in (if step == 1 { 0 } else { number as i64 }..).step_by(step) {
                let Some(what) = fail_at(engine, around, (at, fault, shard == 1)) else { break };
                *tried.lock().unwrap().entry(what).or_default() += 1;
            }
        }
    });
    let tried = tried.into_inner().unwrap();
    println!("failures of the disk: {} at calls of {} kinds", tried.values().sum::<u32>(), tried.len());
    assert!(tried.len() > 4, "{tried:?}");
}

#[test]
fn a_start_on_a_bad_disk_loses_nothing() {
    let (tried, refused) = fixture::run_on_host("d", 2, every_call_of_a_start);
    println!("failures of the disk at a start: {tried}, {refused} of them refused to start");
    assert!(tried > 20);
}

/// Returns how many calls were tried, and how many of the failures made Pontoon refuse to start.
fn every_call_of_a_start(engine: &mut Engine<'_>, around: &Surroundings) -> (u32, u32) {
    let host = engine.host;
    let (mut tried, mut refused) = (0, 0);
    for (number, fault) in FAULTS.into_iter().enumerate() {
        for lasting in [false, true] {
            // A regular run combines each call with one of the faults, once or lasting.
            let step = if super::long_run() { 1 } else { 2 };
            let first = if step == 1 { 0 } else { (number as i64 + i64::from(lasting)) % 2 };
            for at in (first..).step_by(step) {
                host.kill();
                let (ahead, hit) = (Arc::new(AtomicI64::new(at)), Arc::new(Mutex::new(None)));
                let before = host.log().len();
                let script = FailAt { ahead: Arc::clone(&ahead), fault, lasting, hit: Arc::clone(&hit) };
                host.begin(Some(Box::new(script)));
                let served = host.serves();
                ahead.store(-1, Ordering::SeqCst);
                let Some(point) = hit.lock().unwrap().take() else { break };
                tried += 1;
                let log = host.log();
                let logged = log.get(before..).unwrap_or_default();
                // An interrupted write of a snapshot is continued and need not be logged.
                let known = fault == Fault::Short || logged.contains("/state");
                assert!(known, "the log does not name the failure at {point}: {logged}");
                if served {
                    // The disk works again: the next change is persisted.
                    let network = engine.create_network_with_retries("10.78.0.0/24");
                    engine.remove_network(&network);
                } else {
                    refused += 1;
                    host.reap();
                    host.start();
                }
                fixture::compare(host, &[engine], around);
            }
        }
    }
    (tried, refused)
}

/// The durable content of a disk after a power cut: the synced bytes of each file, and the names that each directory
/// had when it was synced.
#[derive(Default)]
struct Durable {
    /// Durable bytes, by inode.
    safe: BTreeMap<u64, Vec<u8>>,
    /// Durable names, and their inodes.
    names: BTreeMap<String, u64>,
}

/// Records the syncs of one run of Pontoon.
struct Recorder {
    paths: Paths,
    durable: Arc<Mutex<Durable>>,
}

impl Recorder {
    fn inode(path: &std::path::Path) -> Option<u64> {
        Some(std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).ok()?))
    }
}

impl Script for Recorder {
    fn after(&mut self, call: &Call, result: i64, _: &Tracee) -> Exit {
        let Object::State(name) = &call.object else { return Exit::Pass };
        if result != 0 || !matches!(call.number, libc::SYS_fsync | libc::SYS_fdatasync) {
            return Exit::Pass;
        }
        let mut durable = self.durable.lock().unwrap();
        if name.is_empty() {
            durable.names.clear();
            for entry in fs::read_dir(&self.paths.state).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap();
                let inode = Self::inode(&entry.path()).unwrap();
                durable.names.insert(name, inode);
            }
        } else {
            let path = self.paths.state.join(name);
            if let (Some(inode), Ok(bytes)) = (Self::inode(&path), fs::read(&path)) {
                durable.safe.insert(inode, bytes);
            }
        }
        Exit::Pass
    }
}

/// Reduces the state directory to the durable content, plus `torn` eighths of the rest.
fn apply_power_cut(paths: &Paths, durable: &Durable, torn: usize) {
    let mut present = BTreeMap::new();
    for entry in fs::read_dir(&paths.state).unwrap().flatten() {
        let inode = Recorder::inode(&entry.path()).unwrap();
        present.insert(inode, fs::read(entry.path()).unwrap());
    }
    fs::remove_dir_all(&paths.state).unwrap();
    fs::create_dir(&paths.state).unwrap();
    for (name, inode) in &durable.names {
        let safe = durable.safe.get(inode).cloned().unwrap_or_default();
        let mut bytes = safe.clone();
        if let Some(more) = present.get(inode).and_then(|bytes| bytes.get(safe.len()..)) {
            bytes.extend_from_slice(&more[..more.len() * torn / 8]);
        }
        fs::write(paths.state.join(name), bytes).unwrap();
    }
}

#[test]
fn a_power_cut_keeps_every_acknowledged_network() {
    let mut host = Host::new();
    for torn in 0..=8 {
        fs::remove_dir_all(&host.paths.state).ok();
        host.cut_power();
        let durable = Arc::new(Mutex::new(Durable::default()));
        host.begin(Some(Box::new(Recorder { paths: host.paths.clone(), durable: Arc::clone(&durable) })));
        assert!(host.serves(), "{}", host.log());
        let (networks, gone) = {
            let mut engine = Engine::new(&host, "p", 1);
            let ids: Vec<String> =
                (0..4).map(|n| engine.create_network_with_retries(&format!("10.9{n}.0.0/24"))).collect();
            engine.attach(&ids[0], 0, "eth0", &[(6, 8080)]).expect("a container");
            engine.remove_network(&ids[3]);
            (engine.networks.clone(), ids[3].clone())
        };
        host.kill();
        apply_power_cut(&host.paths, &durable.lock().unwrap(), torn);
        // The next boot: an empty kernel, and another boot id.
        host.cut_power();
        ledger::reboot(&host.paths.ledger());
        host.start();
        let facts = ledger::read(&host.paths.ledger());
        for (id, network) in &networks {
            assert!(facts.networks.contains_key(id), "network {id} is lost, with {torn}/8 of the unsynced bytes");
            assert!(facts.pools.contains_key(&network.pool), "pool {} is lost", network.pool);
        }
        assert!(!facts.networks.contains_key(&gone), "a deleted network is back");
        let seen = super::kernel_view::read_kernel(&host);
        let wanted = super::expected::expect(&facts, &|_| None);
        assert_eq!(seen.objects.links.keys().collect::<Vec<_>>(), wanted.links.keys().collect::<Vec<_>>());
    }
}
