//! A thousand endpoints: the costs of a restart and of a complete reconciliation.

use std::time::Duration;

use crate::client;
use crate::daemon::{Daemon, Dir};
use crate::raw::index;
use crate::report::{Row, median, show};
use crate::verbs::time;

const NETWORKS: usize = 10;
const EACH: usize = 100;

pub fn run() -> Vec<Row> {
    let dir = Dir::new("scale");
    let daemon = Daemon::start(&dir.0);
    let empty = daemon.listening_after;
    let idle = daemon.resident();
    let mut client = daemon.client();
    for network in 0..NETWORKS {
        let id = format!("net{network}");
        client.call("NetworkDriver.CreateNetwork", &client::network(&id, 60 + network as u8, true));
        for n in 0..EACH {
            let n = network * EACH + n;
            client.call("NetworkDriver.CreateEndpoint", &client::create(&id, 60 + network as u8, n));
            client.call("NetworkDriver.Join", &client::join(&id, n));
        }
    }
    let full = daemon.resident();
    daemon.kill();
    let mut starts = Vec::new();
    let mut after = 0;
    for _ in 0..7 {
        let daemon = Daemon::start(&dir.0);
        starts.push(daemon.listening_after);
        after = daemon.resident();
        daemon.kill();
    }
    // Everything is lost except the ledger, as after a reboot with the same boot id: a repair of everything.
    let daemon = Daemon::start(&dir.0);
    let bridges: Vec<String> = (0..NETWORKS).map(|n| format!("pntbnet{n}")).collect();
    let repair = time(|| {
        for bridge in &bridges {
            let _ = std::process::Command::new("ip").args(["link", "del", bridge]).status();
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while bridges.iter().any(|bridge| index(bridge) == 0) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let metrics = daemon.resident();
    vec![
        Row::ratio(
            "start to listening, 1,000 endpoints in state",
            median(&starts),
            "100 ms",
            Duration::from_millis(100),
            Some(1.0),
        ),
        Row::figure("start to listening, nothing in state", show(empty)),
        Row::figure(
            "resident memory: idle, with 1,000 endpoints, after a restart with them",
            format!("{idle} kB, {full} kB, {after} kB"),
        ),
        Row::figure(
            "10 bridges deleted by hand (by `ip`) until all are back",
            format!("{} ({metrics} kB)", show(repair)),
        ),
    ]
}
