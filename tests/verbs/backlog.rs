//! Ledger work in the background: recording that tracked connections were removed, and compaction.

use pontoon::datapath::Step;
use pontoon::datapath::fake::Fault;
use pontoon::driver::Event;
use pontoon::state::Ledger;
use pontoon::state::record::Record;
use serde_json::{Value, json};

use testkit::harness::{Harness, endpoint, join, network, of};

fn program(ports: &[u16]) -> Value {
    let port =
        |port: &u16| json!({"Proto": 17, "IP": "", "Port": 7, "HostIP": "", "HostPort": port, "HostPortEnd": port});
    let ports: Vec<Value> = ports.iter().map(port).collect();
    json!({"NetworkID": "aa", "EndpointID": "e1", "Options": {"com.docker.network.portmap": ports}})
}

/// A container at 10.1.0.2 that publishes 5353.
fn harness() -> Harness {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    harness.ok("NetworkDriver.Join", join("aa", "e1"));
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program(&[5353]));
    harness
}

/// The addresses whose connections are pending removal according to the ledger.
fn pending(harness: &Harness) -> Vec<String> {
    let seen = Ledger::open_read_only(&harness.dir.0.join("state"), &format!("boot-{}", harness.boot)).unwrap();
    let addresses = |record: &Record| if let Record::Flows { addresses } = record { addresses.clone() } else { vec![] };
    seen.records.iter().flat_map(addresses).map(|address| address.to_string()).collect()
}

#[test]
fn flows_of_withdrawn_ports_are_pending_until_they_are_removed() {
    let mut harness = harness();
    assert_eq!(pending(&harness), [""; 0]);
    for body in [program(&[5354]), program(&[5354, 5355])] {
        harness.ok("NetworkDriver.ProgramExternalConnectivity", body);
        assert_eq!(pending(&harness), ["10.1.0.2"]);
    }
    harness.life().driver.flush_ledger();
    assert_eq!(pending(&harness), [""; 0], "a new port needs no removal");
    // Two requests, and a restart before the removal was recorded.
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program(&[5354]));
    harness.ok("NetworkDriver.RevokeExternalConnectivity", of("aa", "e1"));
    assert_eq!(pending(&harness), ["10.1.0.2"]);
    harness.kernel.take_flushed();
    harness.restart();
    assert_eq!(harness.kernel.take_flushed().len(), 1, "the next start removes them");
    assert_eq!(pending(&harness), ["10.1.0.2"]);
    harness.life().driver.flush_ledger();
    assert_eq!(pending(&harness), [""; 0]);
    harness.restart();
    assert_eq!(harness.kernel.take_flushed().len(), 0, "once");
}

#[test]
fn a_failed_withdrawal_removes_no_flows() {
    let harness = harness();
    harness.kernel.take_flushed();
    for _ in 0..10 {
        harness.kernel.inject(|step| matches!(step, Step::ChangeFirewall { .. }), Fault::Refuse(libc::ENOMEM));
    }
    harness.err("NetworkDriver.ProgramExternalConnectivity", program(&[5354]));
    harness.life().driver.flush_ledger();
    assert_eq!((pending(&harness).len(), harness.kernel.take_flushed().len()), (0, 0));
}

#[test]
fn flows_of_deleted_endpoints_stay_pending_across_two_restarts() {
    let mut harness = harness();
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    assert_eq!(pending(&harness), [""; 0], "its tombstone implies the removal");
    for _ in 0..2 {
        harness.kernel.take_flushed();
        harness.restart();
        assert_eq!(harness.kernel.take_flushed().len(), 1);
        assert_eq!(pending(&harness), ["10.1.0.2"]);
    }
}

#[test]
fn a_grown_ledger_is_compacted_before_the_tick() {
    let harness = harness();
    // The events of the start and of the first port.
    harness.life().take_events();
    let mut events = Vec::new();
    let size = || std::fs::metadata(harness.ledger_file()).unwrap().len();
    let live = size();
    let mut lives = 0;
    while events.is_empty() {
        assert!(size() < 3 << 20, "no compaction was requested");
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e2", "10.1.0.3/24"));
        harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e2"));
        events.extend(harness.life().take_events());
        lives += 1;
    }
    assert!(size() > 1 << 20 && lives > 100, "compaction was requested too early: {} bytes", size());
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e3", "10.1.0.4/24"));
    events.extend(harness.life().take_events());
    assert_eq!(events, [Event::LedgerBacklog], "requested once");
    harness.life().driver.flush_ledger();
    assert!(size() < 2 * live + 4096, "{} bytes", size());
    harness.life().driver.flush_ledger();
    assert_eq!(pending(&harness), [""; 0]);
}
