//! A thousand endpoints: the costs of a restart and of a complete reconciliation.

use std::path::Path;
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
    let status = dir.0.join("status.sock");
    let daemon = Daemon::start_with(&dir.0, &["--status-socket", &status.to_string_lossy()]);
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
    let shown = shown(&status, &daemon);
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
        shown,
    ]
}

/// What operators wait for.
fn shown(status: &Path, daemon: &Daemon) -> Row {
    let many = |work: &dyn Fn()| median(&(0..15).map(|_| time(work)).collect::<Vec<_>>());
    let of = |path: &str| many(&|| assert!(client::get(status, path) > 0));
    let command = many(&|| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pontoon"));
        command.args(["status", "--docker", "/nowhere", "--status-socket"]).arg(status);
        let output = command.output().expect("the command runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
    let figures: Vec<String> = ["/status", "/objects", "/metrics"].iter().map(|path| show(of(path))).collect();
    Row::figure(
        "`pontoon status`, and GET of /status, /objects, /metrics, with 1,000 endpoints",
        format!("{}; {} (then {} kB)", show(command), figures.join(", "), daemon.resident()),
    )
}
