//! Several engines' worth of work on one host at once: networks and containers come and go at
//! random, while two bystanders talk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::engine::{Engine, Rescue};
use super::host::Host;
use super::kernel_view::Surroundings;
use super::ledger;
use super::random::Random;
use super::stage;

/// Containers of one client at a time.
const CONTAINERS: usize = 4;

/// How often, in a hundred, a client makes a network, removes one, starts a container; the rest
/// are stops.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub create: u64,
    pub remove: u64,
    pub attach: u64,
}

/// The engines of a host and what they did.
pub struct Clients<'a> {
    pub host: &'a Host,
    pub around: Surroundings,
    mix: Mix,
    /// The bystanders' engine first.
    pub engines: Vec<Mutex<Engine<'a>>>,
    pub lives: AtomicU64,
    pub reclaimed: AtomicU64,
    over: AtomicBool,
}

/// Ends the clients when the one who watches them does, however that is.
pub struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<'a> Clients<'a> {
    pub fn new(host: &'a Host, count: usize, mix: Mix) -> Self {
        let around = stage::surround(host);
        let mut base = Engine::new(host, "b", 2);
        stage::bystanders(&mut base);
        let shared = base.networks.clone();
        let mut engines = vec![Mutex::new(base)];
        for client in 0..count {
            let mut engine = Engine::new(host, &format!("c{client}"), 2);
            // All of them use the bystanders' network too.
            engine.networks.clone_from(&shared);
            engines.push(Mutex::new(engine));
        }
        for engine in &mut engines {
            engine.get_mut().unwrap().rescue = Rescue::Wait;
        }
        let (lives, reclaimed, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Self { host, around, mix, engines, lives, reclaimed, over }
    }

    /// They may work until the returned value is dropped.
    pub fn begin(&self) -> Over<'_> {
        self.over.store(false, Ordering::SeqCst);
        Over(&self.over)
    }

    /// Works until it is over, as client `number` from 1.
    pub fn work(&self, number: usize) {
        let mut random = Random::new(number as u64 + 100);
        let base = lock(&self.engines[0]).networks.keys().next().cloned().unwrap();
        while !self.over.load(Ordering::SeqCst) {
            let mut engine = lock(&self.engines[number]);
            self.act(&mut engine, number, &base, &mut random);
            drop(engine);
            // Whoever wants to compare gets a chance to.
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// One thing that a user does.
    fn act(&self, engine: &mut Engine<'_>, number: usize, base: &str, random: &mut Random) {
        let own: Vec<String> = engine.networks.keys().filter(|id| *id != base).cloned().collect();
        let attached: Vec<String> = engine.attached.keys().cloned().collect();
        let (roll, mix) = (random.below(100), self.mix);
        let create = 0..mix.create;
        let remove = create.end..create.end + mix.remove;
        let attach = remove.end..remove.end + mix.attach;
        match roll {
            _ if create.contains(&roll) && own.len() < 3 => {
                // Half of them have their subnet chosen.
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

    /// Stops all work and compares everything; what was lost track of must go.
    pub fn compare(&self) {
        let mut engines: Vec<MutexGuard<'_, Engine<'a>>> = self.engines.iter().map(lock).collect();
        compare(self.host, &engines, &self.around);
        if engines.iter().all(|engine| engine.lost.nothing()) {
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

    /// Takes everything away but the bystanders, and compares.
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
    stage::compare(host, &all, around);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
