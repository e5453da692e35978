//! dockerd is killed at random moments, Pontoon with it, before it, alone, while clients work: with live-restore and
//! without. Afterwards everybody agrees: see [`agreement`](crate::agreement).

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::{
    agreement::{self, LONG},
    random::Random,
    stream::Stream,
    support::{Options, Signal, wait_until},
    testbed::{Testbed, binary, on_pontoon_with},
};

/// Clients at work at the same time, each with containers of its own.
const CLIENTS: u64 = 3;

/// Kills in everyday tests; `ENGINE_KILLS` says otherwise.
const KILLS: u64 = 4;

/// Kills between two comparisons of everything.
const BETWEEN: u64 = 5;

/// Longest time from one start to the next kill, in milliseconds.
const LIFE: u64 = 1200;

#[test]
fn an_engine_that_dies_under_load_comes_back_to_what_it_had() {
    on_pontoon_with(Options::new(), |testbed| storm(testbed, false));
}

#[test]
fn an_engine_that_dies_under_load_leaves_live_restored_containers_alone() {
    on_pontoon_with(Options::new().flag("--live-restore"), |testbed| storm(testbed, true));
}

fn storm(testbed: &Testbed, live: bool) {
    // Engines tell of a gateway only when it was named.
    for (net, subnet, gateway) in [("net", "10.150.0.0/24", "10.150.0.1"), ("second", "10.151.0.0/24", "10.151.0.1")] {
        testbed.network(net, &["--ipam-driver", "pontoon", "--subnet", subnet, "--gateway", gateway]);
    }
    for still in ["still", "other"] {
        testbed.run_container(still, &["--network", "net", "--restart", "always"]);
        testbed.docker(&["network", "connect", "second", still]).ok();
    }
    let other = testbed.container_addr("other", "net").v4.expect("an address").to_string();
    let stream = live.then(|| Stream::start(testbed, "still", &other));
    let kills = std::env::var("ENGINE_KILLS").map_or(KILLS, |kills| kills.parse().expect("ENGINE_KILLS is a number"));
    let mut random = Random::new(u64::from(live));
    let (mut killed, mut done) = (0, 0);
    while killed < kills {
        let round = BETWEEN.min(kills - killed);
        done += work_under_kills(testbed, killed, round, &mut random);
        killed += round;
        agreement::reached(testbed, "still");
        if let Some(stream) = &stream {
            stream.goes_on(testbed);
        }
    }
    back_by_itself(testbed);
    println!("{killed} kills with live-restore {live}, {done} commands succeeded meanwhile");
    assert!(done > 0, "the clients get nothing done");
    if let Some(stream) = stream {
        stream.lost_nothing(testbed);
    }
}

/// Ends the clients when the one who watches them does, however that is.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Clients work until `count` kills are survived; returns how many of their commands succeeded.
fn work_under_kills(testbed: &Testbed, first: u64, count: u64, random: &mut Random) -> u64 {
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let over = Over(&over);
        for number in 1..=CLIENTS {
            let (over, done) = (over.0, &done);
            scope.spawn(move || {
                let mut client = Client { testbed, number, random: Random::new(first * 100 + number + 1000) };
                while !over.load(Ordering::SeqCst) {
                    done.fetch_add(u64::from(client.acts()), Ordering::Relaxed);
                }
            });
        }
        for kill in first..first + count {
            thread::sleep(Duration::from_millis(random.below(LIFE)));
            // The first is one of dockerd alone.
            strike(testbed, if kill == 0 { 0 } else { random.below(5) });
        }
        // What was begun comes to its end, and something is done by the last of the engines.
        let before = done.load(Ordering::Relaxed);
        wait_until(LONG, "a command to succeed", || done.load(Ordering::Relaxed) > before);
    });
    done.into_inner()
}

/// Somebody dies and comes back.
fn strike(testbed: &Testbed, roll: u64) {
    match roll {
        0 | 1 => testbed.restart_dockerd(Signal::Kill),
        2 => {
            testbed.kill_pontoon(Signal::Kill);
            testbed.start_pontoon(&binary(), &[]);
        }
        3 => {
            testbed.kill_dockerd();
            testbed.kill_pontoon(Signal::Kill);
            testbed.start_pontoon(&binary(), &[]);
            testbed.start_dockerd();
        }
        // The engine comes back first, and waits for its driver.
        _ => {
            testbed.kill_pontoon(Signal::Kill);
            testbed.kill_dockerd();
            thread::scope(|scope| {
                scope.spawn(|| testbed.start_dockerd());
                testbed.start_pontoon(&binary(), &[]);
            });
        }
    }
}

/// When nobody works and Pontoon lives, all containers that ran are back without a word of anybody's.
fn back_by_itself(testbed: &Testbed) {
    let before = agreement::running(testbed);
    assert!(before.contains("still") && before.contains("other"), "{before:?}");
    testbed.restart_dockerd(Signal::Kill);
    let gone = || before.difference(&agreement::running(testbed)).cloned().collect::<Vec<_>>();
    wait_until(LONG, "all containers that ran to run", || gone().is_empty());
    agreement::reached(testbed, "still");
}

struct Client<'a> {
    testbed: &'a Testbed<'a>,
    number: u64,
    random: Random,
}

impl Client<'_> {
    /// One thing that a user does; whether it succeeded. Much fails: what it is about is not there, or the engine is
    /// not.
    fn acts(&mut self) -> bool {
        let n = self.random.below(2);
        let name = format!("c{}-{n}", self.number);
        let own = format!("n{}", self.number);
        let (subnet, gateway) = (format!("10.16{}.0.0/24", self.number), format!("10.16{}.0.1", self.number));
        let port = format!("{}:80", 20_000 + self.number * 10 + n);
        let network = ["net", "second", &own][self.random.below(3) as usize];
        let serve = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"];
        let make = |verb: &[&'static str]| -> Vec<&str> {
            let options =
                ["--name", &name, "--restart", "always", "--stop-signal", "KILL", "--network", network, "-p", &port];
            [verb, &options, &serve].concat()
        };
        let command = match self.random.below(20) {
            0..=5 => make(&["run", "-d"]),
            6 => make(&["create"]),
            7 | 8 => vec!["start", &name],
            9 => vec!["restart", "-t", "0", &name],
            10 => vec!["stop", "-t", "0", &name],
            11 | 12 => vec!["network", "connect", network, &name],
            13 | 14 => vec!["network", "disconnect", network, &name],
            15 | 16 => [
                &["network", "create", "-d", "pontoon", "--ipam-driver", "pontoon", "--subnet", &subnet][..],
                &["--gateway", &gateway, &own],
            ]
            .concat(),
            17 => vec!["network", "rm", &own],
            _ => vec!["rm", "-f", &name],
        };
        self.testbed.docker(&command).success()
    }
}
