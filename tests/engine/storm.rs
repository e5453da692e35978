//! dockerd and Pontoon are killed at random moments, together, one after the other, or alone, under load, with and
//! without live-restore. Afterwards all states are equal: see [`agreement`](crate::agreement).

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::{
    agreement::{self, LONG},
    stream::Stream,
};
use testkit::{
    Options, Signal,
    random::Random,
    testbed::{Testbed, binary, on_pontoon_with},
    wait_until,
};

/// Concurrent clients, each with its own containers.
const CLIENTS: u64 = 3;

/// Kills in a regular run; `ENGINE_KILLS` overrides it.
const KILLS: u64 = 4;

/// Kills between two comparisons of everything.
const BETWEEN: u64 = 5;

/// Longest time from one start to the next kill, in milliseconds.
const LIFE: u64 = 1200;

#[test]
fn an_engine_killed_under_load_recovers_its_containers() {
    on_pontoon_with(Options::new(), |testbed| storm(testbed, false));
}

#[test]
fn an_engine_killed_under_load_keeps_live_restored_containers() {
    on_pontoon_with(Options::new().flag("--live-restore"), |testbed| storm(testbed, true));
}

fn storm(testbed: &Testbed, live: bool) {
    // Engines report a gateway only if it was specified.
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
            stream.assert_continues(testbed);
        }
    }
    recovers_without_intervention(testbed);
    println!("{killed} kills with live-restore {live}, {done} commands succeeded meanwhile");
    assert!(done > 0, "the clients make no progress");
    if let Some(stream) = stream {
        stream.lost_nothing(testbed);
    }
}

/// Stops the clients when dropped, also during a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets clients work during `count` kills; returns how many of their commands succeeded.
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
            // The first kill is of dockerd only.
            kill_and_restart(testbed, if kill == 0 { 0 } else { random.below(5) });
        }
        // Running commands complete, and at least one succeeds on the last engine.
        let before = done.load(Ordering::Relaxed);
        wait_until(LONG, "a command to succeed", || done.load(Ordering::Relaxed) > before);
    });
    done.into_inner()
}

/// Kills and restarts one or both of the daemons.
fn kill_and_restart(testbed: &Testbed, roll: u64) {
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
        // The engine starts first, and waits for its driver.
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

/// Without load and with a running Pontoon, all running containers are restarted without intervention.
fn recovers_without_intervention(testbed: &Testbed) {
    let before = agreement::running(testbed);
    assert!(before.contains("still") && before.contains("other"), "{before:?}");
    testbed.restart_dockerd(Signal::Kill);
    let gone = || before.difference(&agreement::running(testbed)).cloned().collect::<Vec<_>>();
    wait_until(LONG, "all previously running containers to run", || gone().is_empty());
    agreement::reached(testbed, "still");
}

struct Client<'a> {
    testbed: &'a Testbed<'a>,
    number: u64,
    random: Random,
}

impl Client<'_> {
    /// One action of a user; whether it succeeded. Many fail, because the object or the engine does not exist at that
    /// moment.
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
