//! Many concurrent requests, a full bridge and a full pool.

use std::io::Write;
use std::time::Duration;

use pontoon::server::DEADLINE;
use serde_json::json;

use crate::{LATENCY, assert_bounded, connect, endpoint, head, large_network, many_descriptors, well_behaved};
use testkit::daemon::Daemon;
use testkit::harness::{self, Dir, LATE, read_reply};

/// Ports of a Linux bridge: BR_MAX_PORTS is 1 << 10, and number 0 is not used (net/bridge/br_private.h).
const PORTS: usize = 1023;

#[test]
fn a_thousand_concurrent_requests_and_a_full_bridge() {
    many_descriptors();
    let dir = Dir::new();
    let mut daemon = Daemon::start(&dir.0, &["--log", "warn"]);
    well_behaved(&daemon, "NetworkDriver.CreateNetwork", &large_network("aa", 1));
    well_behaved(&daemon, "NetworkDriver.CreateNetwork", &large_network("bb", 2));
    let descriptors = daemon.descriptors();

    let mut streams: Vec<_> = (0..1000).map(|_| connect(&daemon.socket)).collect();
    let began = std::time::Instant::now();
    for (number, stream) in streams.iter_mut().enumerate() {
        let body = endpoint("aa", 1, number).to_string();
        write!(stream, "{}{body}", head("NetworkDriver.CreateEndpoint", body.len())).unwrap();
    }
    // Meanwhile another network is served in time.
    well_behaved(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("bb", 2, 0));
    // All of them need the lock of one network: on a slow machine the last ones may be asked to retry.
    let (mut late, mut longest) = (Vec::new(), Duration::ZERO);
    for (number, stream) in streams.iter_mut().enumerate() {
        let reply = read_reply(stream).expect("an answer");
        longest = longest.max(began.elapsed());
        assert_eq!(reply.status, 200, "{}", reply.body);
        if !reply.body.contains("MacAddress") {
            assert!(reply.body.contains(LATE), "{}", reply.body);
            late.push(number);
        }
    }
    println!("1000 endpoints at once: answered within {longest:?}, {} late", late.len());
    assert!(longest < DEADLINE + LATENCY, "an answer took {longest:?}");
    drop(streams);
    for number in late {
        // Retried until done, as the engine does. The request continued meanwhile.
        let body = endpoint("aa", 1, number).to_string();
        daemon.until("a late request to be done", |daemon| {
            let reply = harness::request(&daemon.socket, "POST", "/NetworkDriver.CreateEndpoint", body.as_bytes());
            reply.body.contains("MacAddress")
        });
    }

    for number in 1000..PORTS {
        well_behaved(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", 1, number));
    }
    let one_more = endpoint("aa", 1, PORTS).to_string();
    let refused = harness::request(&daemon.socket, "POST", "/NetworkDriver.CreateEndpoint", one_more.as_bytes());
    assert!(refused.body.contains("1023") && refused.body.contains("network aa"), "{}", refused.body);
    // A released port can be used again, and the other network has all of its own.
    well_behaved(&daemon, "NetworkDriver.DeleteEndpoint", &harness::of("aa", "aa0000"));
    well_behaved(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", 1, PORTS));
    well_behaved(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("bb", 2, 1));
    let links = (PORTS + 2).to_string();
    daemon.until("the deleted one to go", |daemon| daemon.shell("ip -o link | grep -c ': pnth'").trim() == links);
    assert_bounded(&mut daemon, descriptors);
}

#[test]
fn a_full_pool_is_reported_and_affects_no_other() {
    let dir = Dir::new();
    let mut daemon = Daemon::start(&dir.0, &["--log", "error"]);
    let descriptors = daemon.descriptors();
    let pool = |subnet: &str| {
        let body = json!({"AddressSpace": "pontoon-local", "Pool": subnet, "SubPool": "", "Options": {}, "V6": false});
        let answer = well_behaved(&daemon, "IpamDriver.RequestPool", &body);
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()["PoolID"].as_str().unwrap().to_owned()
    };
    let (small, other) = (pool("10.7.0.0/24"), pool("10.8.0.0/24"));
    let ask = |pool: &str| {
        let body = json!({"PoolID": pool, "Address": "", "Options": {}}).to_string();
        harness::request(&daemon.socket, "POST", "/IpamDriver.RequestAddress", body.as_bytes()).body
    };
    // Eight concurrent clients until the pool is exhausted.
    let (mut given, mut refused) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..40).map(|_| ask(&small)).collect::<Vec<_>>())).collect();
        let answers = askers.into_iter().flat_map(|asker| asker.join().unwrap());
        (given, refused) = answers.partition(|answer| answer.contains("\"Address\""));
    });
    given.sort();
    given.dedup();
    assert_eq!((given.len(), refused.len()), (254, 320 - 254), "each address once: {:?}", refused.first());
    assert!(refused.iter().all(|text| text.contains("\"Error\"") && text.contains("10.7.0.0/24")), "{}", refused[0]);
    let began = std::time::Instant::now();
    assert!(ask(&other).contains("\"Address\""));
    assert!(began.elapsed() < LATENCY);
    assert_bounded(&mut daemon, descriptors);
}
