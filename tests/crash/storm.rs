//! kill -9 at random moments under concurrent load.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::clients::{Clients, Mix};
use super::fixture::Stream;
use super::host::Host;
use testkit::random::Random;

/// Hosts in parallel, and clients on each.
const HOSTS: u64 = 2;
const CLIENTS: usize = 6;

/// Kills between two comparisons of everything.
const BETWEEN: u64 = 25;

/// Longest time from a start to the kill, in microseconds, or three times the previous start-up time on a slow machine.
const LIFE: u64 = 60_000;

#[derive(Default)]
struct Figures {
    kills: u64,
    containers: u64,
    reclaimed: u64,
    sent: u64,
    lost: u64,
    starts: Vec<Duration>,
}

#[test]
fn crashes_at_random_moments_are_survived() {
    let kills = super::size("CRASH_KILLS", 120);
    let figures = Mutex::new(Figures::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for host in 0..HOSTS {
            let figures = &figures;
            scope.spawn(move || storm(host, kills.div_ceil(HOSTS), figures));
        }
    });
    let mut figures = figures.into_inner().unwrap();
    figures.starts.sort();
    let middle = figures.starts[figures.starts.len() / 2];
    println!(
        "random kills survived: {} in {:.0} s, under the load of {CLIENTS} clients on each of {HOSTS} hosts\n\
         containers started meanwhile: {}; objects lost track of and reclaimed: {}\n\
         packets between running containers: {} sent, {} lost\n\
         from start to serving: median {:.1} ms, worst {:.1} ms",
        figures.kills,
        began.elapsed().as_secs_f64(),
        figures.containers,
        figures.reclaimed,
        figures.sent,
        figures.lost,
        middle.as_secs_f64() * 1e3,
        figures.starts.last().unwrap().as_secs_f64() * 1e3,
    );
    assert!(figures.containers > kills / 10, "the clients make no progress");
    assert_eq!(figures.lost, 0, "packets between running containers");
}

fn storm(number: u64, kills: u64, figures: &Mutex<Figures>) {
    let host = Host::new();
    let clients = Clients::new(&host, CLIENTS, Mix { create: 20, remove: 10, attach: 40 });
    let stream = Stream::start(&clients.engines[0].lock().unwrap());
    let mut random = Random::new(number);
    let mut starts = Vec::new();
    std::thread::scope(|scope| {
        let over = clients.begin();
        for client in 1..=CLIENTS {
            let clients = &clients;
            scope.spawn(move || clients.work(client));
        }
        for kill in 1..=kills {
            let longest = starts.last().map_or(LIFE, |start: &Duration| LIFE.max(start.as_micros() as u64 * 3));
            std::thread::sleep(Duration::from_micros(random.below(longest)));
            host.kill();
            let began = Instant::now();
            host.start();
            starts.push(began.elapsed());
            if kill % 1000 == 0 {
                println!("{kill} of {kills} on host {number}");
            }
            if kill % BETWEEN == 0 {
                clients.compare();
            }
        }
        drop(over);
    });
    clients.clear();
    let (sent, lost) = stream.end();
    let mut figures = figures.lock().unwrap();
    figures.kills += kills;
    figures.containers += clients.lives.into_inner();
    figures.reclaimed += clients.reclaimed.into_inner();
    figures.sent += sent;
    figures.lost += lost;
    figures.starts.extend(starts);
}
