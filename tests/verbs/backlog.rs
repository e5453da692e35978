//! What happens to the ledger although no verb waits for it: it records that tracked connections are removed, and
//! is compacted.

use pontoon::datapath::Step;
use pontoon::datapath::fake::Fault;
use pontoon::driver::Event;
use pontoon::state::Ledger;
use pontoon::state::record::Record;
use serde_json::{Value, json};

use super::rig::{Rig, endpoint, join, network, of};

fn program(ports: &[u16]) -> Value {
    let port =
        |port: &u16| json!({"Proto": 17, "IP": "", "Port": 7, "HostIP": "", "HostPort": port, "HostPortEnd": port});
    let ports: Vec<Value> = ports.iter().map(port).collect();
    json!({"NetworkID": "aa", "EndpointID": "e1", "Options": {"com.docker.network.portmap": ports}})
}

/// A container at 10.1.0.2 that publishes 5353.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    rig.ok("NetworkDriver.Join", join("aa", "e1"));
    rig.ok("NetworkDriver.ProgramExternalConnectivity", program(&[5353]));
    rig
}

/// The addresses whose connections the ledger says are to be removed.
fn pending(rig: &Rig) -> Vec<String> {
    let seen = Ledger::open_read_only(&rig.dir.0.join("state"), &format!("boot-{}", rig.boot)).unwrap();
    let addresses = |record: &Record| if let Record::Flows { addresses } = record { addresses.clone() } else { vec![] };
    seen.records.iter().flat_map(addresses).map(|address| address.to_string()).collect()
}

#[test]
fn flows_of_withdrawn_ports_are_pending_until_they_are_removed() {
    let mut rig = rig();
    assert_eq!(pending(&rig), [""; 0]);
    for body in [program(&[5354]), program(&[5354, 5355])] {
        rig.ok("NetworkDriver.ProgramExternalConnectivity", body);
        assert_eq!(pending(&rig), ["10.1.0.2"]);
    }
    rig.life().driver.flush_ledger();
    assert_eq!(pending(&rig), [""; 0], "a port that comes is no reason");
    // Two at once, and an end before anybody wrote that they are done.
    rig.ok("NetworkDriver.ProgramExternalConnectivity", program(&[5354]));
    rig.ok("NetworkDriver.RevokeExternalConnectivity", of("aa", "e1"));
    assert_eq!(pending(&rig), ["10.1.0.2"]);
    rig.kernel.take_flushed();
    rig.restart();
    assert_eq!(rig.kernel.take_flushed().len(), 1, "the next life removes them");
    assert_eq!(pending(&rig), ["10.1.0.2"]);
    rig.life().driver.flush_ledger();
    assert_eq!(pending(&rig), [""; 0]);
    rig.restart();
    assert_eq!(rig.kernel.take_flushed().len(), 0, "once");
}

#[test]
fn a_withdrawal_that_fails_leaves_flows_alone() {
    let rig = rig();
    rig.kernel.take_flushed();
    for _ in 0..10 {
        rig.kernel.inject(|step| matches!(step, Step::ChangeFirewall { .. }), Fault::Refuse(libc::ENOMEM));
    }
    rig.err("NetworkDriver.ProgramExternalConnectivity", program(&[5354]));
    rig.life().driver.flush_ledger();
    assert_eq!((pending(&rig).len(), rig.kernel.take_flushed().len()), (0, 0));
}

#[test]
fn flows_of_endpoints_that_ended_outlive_two_ends_of_the_daemon() {
    let mut rig = rig();
    rig.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    assert_eq!(pending(&rig), [""; 0], "its tombstone says enough");
    for _ in 0..2 {
        rig.kernel.take_flushed();
        rig.restart();
        assert_eq!(rig.kernel.take_flushed().len(), 1);
        assert_eq!(pending(&rig), ["10.1.0.2"]);
    }
}

#[test]
fn a_ledger_that_has_grown_is_compacted_before_the_tick() {
    let rig = rig();
    // Those of the start and of the first port.
    rig.life().take_events();
    let mut events = Vec::new();
    let size = || std::fs::metadata(rig.ledger_file()).unwrap().len();
    let live = size();
    let mut lives = 0;
    while events.is_empty() {
        assert!(size() < 3 << 20, "nobody was asked to");
        rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e2", "10.1.0.3/24"));
        rig.ok("NetworkDriver.DeleteEndpoint", of("aa", "e2"));
        events.extend(rig.life().take_events());
        lives += 1;
    }
    assert!(size() > 1 << 20 && lives > 100, "too early: {} bytes", size());
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e3", "10.1.0.4/24"));
    events.extend(rig.life().take_events());
    assert_eq!(events, [Event::LedgerBacklog], "asked once");
    rig.life().driver.flush_ledger();
    assert!(size() < 2 * live + 4096, "{} bytes", size());
    rig.life().driver.flush_ledger();
    assert_eq!(pending(&rig), [""; 0]);
}
