//! Concurrent load of several engines on one host: networks and containers are created and removed at random, while two
//! bystanders exchange packets.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::engine::{Engine, Rescue};
use super::fixture;
use super::host::Host;
use super::kernel_view::Surroundings;
use testkit::ledger;
use testkit::random::Random;

/// Concurrent containers of one client.
const CONTAINERS: usize = 4;

/// Percentages of network creations, network removals and container starts of a client; the rest are stops.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub create: u64,
    pub remove: u64,
    pub attach: u64,
}

/// The engines of a host, and counters of their work.
pub struct Clients<'a> {
    pub host: &'a Host,
    pub around: Surroundings,
    mix: Mix,
    /// The bystanders' engine is the first.
    pub engines: Vec<Mutex<Engine<'a>>>,
    pub lives: AtomicU64,
    pub reclaimed: AtomicU64,
    over: AtomicBool,
}

/// Stops the clients when dropped, also during a panic.
pub struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<'a> Clients<'a> {
    pub fn new(host: &'a Host, count: usize, mix: Mix) -> Self {
        let around = fixture::add_foreign_objects(host);
        let mut base = Engine::new(host, "b", 2);
        fixture::bystanders(&mut base);
        let shared = base.networks.clone();
        let mut engines = vec![Mutex::new(base)];
        for client in 0..count {
            let mut engine = Engine::new(host, &format!("c{client}"), 2);
            // All of them also use the bystanders' network.
            engine.networks.clone_from(&shared);
            engines.push(Mutex::new(engine));
        }
        for engine in &mut engines {
            engine.get_mut().unwrap().rescue = Rescue::Wait;
        }
        let (lives, reclaimed, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Self { host, around, mix, engines, lives, reclaimed, over }
    }

    /// Lets the clients work until the returned value is dropped.
    pub fn begin(&self) -> Over<'_> {
        self.over.store(false, Ordering::SeqCst);
        Over(&self.over)
    }

    /// Works as client `number`, counted from 1, until the clients are stopped.
    pub fn work(&self, number: usize) {
        let mut random = Random::new(number as u64 + 100);
        let base = lock(&self.engines[0]).networks.keys().next().cloned().unwrap();
        while !self.over.load(Ordering::SeqCst) {
            let mut engine = lock(&self.engines[number]);
            self.act(&mut engine, number, &base, &mut random);
            drop(engine);
            // Gives a waiting comparison the chance to take the lock.
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// One action of a user.
    fn act(&self, engine: &mut Engine<'_>, number: usize, base: &str, random: &mut Random) {
        let own: Vec<String> = engine.networks.keys().filter(|id| *id != base).cloned().collect();
        let attached: Vec<String> = engine.attached.keys().cloned().collect();
        let (roll, mix) = (random.below(100), self.mix);
        let create = 0..mix.create;
        let remove = create.end..create.end + mix.remove;
        let attach = remove.end..remove.end + mix.attach;
        match roll {
            _ if create.contains(&roll) && own.len() < 3 => {
                // Half of the networks get a subnet that Pontoon chooses.
                let named = format!("10.{}.{}.0/24", 100 + number, random.below(3));
                let taken = engine.networks.values().any(|network| network.subnet == named);
                let subnet = if random.below(2) == 0 || taken { "" } else { &named };
                let _ = engine.create_network(subnet);
            }
            _ if remove.contains(&roll) => {
                let idle = |id: &&String| !engine.attached.values().any(|attached| attached.network == **id);
                if let Some(id) = own.iter().find(idle) {
                    engine.remove_network(id);
                }
            }
            _ if attach.contains(&roll) && attached.len() < CONTAINERS => {
                let network = match own.len() {
                    0 => base.to_owned(),
                    count => [base, &own[random.below(count as u64) as usize]][random.below(2) as usize].to_owned(),
                };
                let link = format!("eth{}", random.below(1 << 20));
                let port = 20_000 + number as u16 * 100 + random.below(50) as u16;
                let free = !engine.attached.values().any(|a| a.ports.iter().any(|(_, taken)| *taken == port));
                let ports: &[(u8, u16)] = if random.below(3) == 0 && free { &[(6, port), (17, port)] } else { &[] };
                if engine.attach(&network, random.below(2) as usize, &link, ports).is_ok() {
                    self.lives.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {
                if !attached.is_empty() {
                    engine.detach(&attached[random.below(attached.len() as u64) as usize]);
                }
            }
        }
    }

    /// Pauses all work and compares everything; removes what the engines lost track of.
    pub fn compare(&self) {
        let mut engines: Vec<MutexGuard<'_, Engine<'a>>> = self.engines.iter().map(lock).collect();
        compare(self.host, &engines, &self.around);
        if engines.iter().all(|engine| engine.lost.is_empty()) {
            return;
        }
        self.host.kill();
        ledger::age(&self.host.paths.ledger());
        self.host.start();
        let used = engines.iter().flat_map(|e| e.networks.values().map(|network| network.pool.clone())).collect();
        for engine in &mut engines {
            let lost = &engine.lost;
            let count = lost.networks.len() + lost.endpoints.len() + lost.pools.len();
            self.reclaimed.fetch_add(count as u64, Ordering::Relaxed);
            engine.collect_garbage(&used);
            engine.lost = Default::default();
        }
        compare(self.host, &engines, &self.around);
    }

    /// Removes everything except the bystanders, and compares.
    pub fn clear(&self) {
        for engine in &self.engines[1..] {
            let mut engine = lock(engine);
            for endpoint in engine.attached.keys().cloned().collect::<Vec<_>>() {
                engine.detach(&endpoint);
            }
            for network in engine.networks.keys().cloned().collect::<Vec<_>>() {
                if !lock_first(self).contains(&network) {
                    engine.remove_network(&network);
                }
            }
        }
        self.compare();
    }
}

fn lock_first(clients: &Clients<'_>) -> Vec<String> {
    lock(&clients.engines[0]).networks.keys().cloned().collect()
}

fn compare(host: &Host, engines: &[MutexGuard<'_, Engine<'_>>], around: &Surroundings) {
    let all: Vec<&Engine<'_>> = engines.iter().map(|engine| &**engine).collect();
    fixture::compare(host, &all, around);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
