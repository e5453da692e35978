//! Soak test: many containers are started and stopped, with restarts of Pontoon, and no resource grows.

use std::fmt;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::clients::{Clients, Mix};
use super::fixture::Stream;
use super::host::Host;
use super::kernel_view;
use testkit::random::Random;

const CLIENTS: usize = 6;

/// Approximate number of restarts in the first half.
const ENDS: u64 = 50;

/// Rows of the table.
const ROWS: u64 = 10;

/// Resources that must not grow.
#[derive(Debug, Clone)]
struct Row {
    lives: u64,
    ends: u64,
    memory: u64,
    descriptors: usize,
    ledger: u64,
    links: usize,
    elements: usize,
    after: Duration,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lives, ends, memory, descriptors, ledger, links, elements, after } = self;
        let seconds = after.as_secs();
        write!(f, "| {lives} | {ends} | {memory} | {descriptors} | {ledger} | {links} | {elements} | {seconds} |")
    }
}

/// Measures while only the bystanders are left.
fn measure(host: &Host, lives: u64, ends: u64, began: Instant) -> Row {
    let pid = host.pid().expect("Pontoon runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let seen = kernel_view::read_kernel(host);
    Row {
        lives,
        ends,
        memory: memory.trim().trim_end_matches(" kB").parse().unwrap(),
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        ledger: fs::metadata(host.paths.ledger()).unwrap().len() / 1024,
        links: seen.objects.links.len(),
        elements: seen.objects.elements.len(),
        after: began.elapsed(),
    }
}

/// Heaps that the C library created for threads: each is aligned to 64 MiB (`HEAP_MAX_SIZE`, glibc's malloc/arena.c),
/// and only a small part of it is in use.
fn heaps(host: &Host) -> usize {
    const SIZE: u64 = 64 << 20;
    let maps = fs::read_to_string(format!("/proc/{}/maps", host.pid().expect("Pontoon runs"))).unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let begins = |line: &&str| {
        let (start, rest) = line.split_once('-').unwrap();
        let (end, flags) = rest.split_once(' ').unwrap();
        let anonymous = line.split_whitespace().count() == 5;
        anonymous
            && flags.starts_with("rw-p")
            && number(start).is_multiple_of(SIZE)
            && number(end) - number(start) < SIZE
    };
    maps.lines().filter(begins).count()
}

#[test]
fn no_resource_grows_over_many_containers() {
    let total = super::size("CRASH_LIVES", 600);
    let host = Host::new();
    let clients = Clients::new(&host, CLIENTS, Mix { create: 1, remove: 1, attach: 53 });
    for engine in &clients.engines {
        engine.lock().unwrap().plug_one_in = 50;
    }
    let stream = Stream::start(&clients.engines[0].lock().unwrap());
    let mut random = Random::new(7);
    let (began, mut ends, mut rows) = (Instant::now(), 0, Vec::new());
    let mut next = random.below(total / ENDS);
    println!(
        "| lives of containers | restarts of Pontoon | memory KiB | descriptors | ledger KiB | links | elements | s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for row in 0..ROWS {
        let target = total * (row + 1) / ROWS;
        // The second half runs without a restart, so that memory can be compared.
        let crashes = row < ROWS / 2;
        std::thread::scope(|scope| {
            let over = clients.begin();
            for client in 1..=CLIENTS {
                let clients = &clients;
                scope.spawn(move || clients.work(client));
            }
            loop {
                let lives = clients.lives.load(Ordering::Relaxed);
                if lives >= target {
                    break;
                }
                if crashes && lives >= next {
                    next = lives + random.below(total / ENDS);
                    host.kill();
                    host.start();
                    ends += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(over);
        });
        clients.clear();
        let measured = measure(&host, clients.lives.load(Ordering::Relaxed), ends, began);
        println!("{measured}");
        rows.push(measured);
    }
    assert!(heaps(&host) <= 1, "{} heaps, one for each concurrent thread", heaps(&host) + 1);
    let (sent, lost) = stream.end();
    println!("packets between running containers: {sent} sent, {lost} lost");
    assert_eq!(lost, 0);
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    assert!(last.ends > ENDS / 4, "only {} restarts", last.ends);
    assert_eq!((first.links, first.elements), (last.links, last.elements), "kernel objects are left");
    let (half, last) = (&rows[rows.len() / 2], last);
    assert!(last.memory <= half.memory + 1024, "memory grew from {} to {} KiB", half.memory, last.memory);
    assert!(last.descriptors <= half.descriptors + 8, "descriptors: {} and {}", half.descriptors, last.descriptors);
}
