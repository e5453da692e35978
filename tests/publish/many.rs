//! Many published ports on one container.

use std::time::Instant;

use crate::{
    probe::{
        Expect::{By, Closed},
        From::{Host, Outside},
    },
    topology::{Scenario, on_both, on_pontoon},
};

#[test]
fn two_hundred_ports_on_one_container() {
    on_both(many);
}

fn many(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.141.1.0/24", "--ipv6", "--subnet", "fd41:1::/64"]);
    // One proxy for each port is too much for the oldest engines on a small machine.
    let (range, count) = if scenario.is_pontoon() { ("9100-9299:9100-9299", 200) } else { ("9100-9119:9100-9119", 20) };
    let last = 9099 + count;
    let before = spent(scenario);
    let began = Instant::now();
    scenario.serve("web", &[&format!("tcp:9100-{last}")], &["--network", "net", "-p", range]);
    let took = began.elapsed();
    println!(
        "{} ports with {} on engine {}: container served after {took:.2?}",
        count, scenario.driver, scenario.engine
    );
    if let (Some(before), Some(after)) = (before, spent(scenario)) {
        println!("Pontoon's own share of it (program_external_connectivity): {:.2} ms", (after - before) * 1e3);
    }
    let sample: Vec<u16> = (9100..=last).step_by(7).chain([last]).collect();
    let mut rows = Vec::new();
    for port in &sample {
        rows.push((Outside, format!("tcp,192.168.77.1,{port}"), format!("web:{port}")));
        rows.push((Outside, format!("tcp,fd77::1,{port}"), format!("web:{port}")));
        rows.push((Host, format!("tcp,127.0.0.1,{port}"), format!("web:{port}")));
    }
    let rows: Vec<_> = rows.iter().map(|(from, probe, name)| (*from, probe.as_str(), By(name))).collect();
    scenario.expect(&rows);
    if scenario.is_pontoon() {
        assert_eq!(scenario.ports().len(), 2 * usize::from(count));
    }
    scenario.docker(&["rm", "-f", "web"]).ok();
    let closed: Vec<_> = rows.iter().map(|(from, probe, _)| (*from, *probe, Closed)).collect();
    scenario.expect(&closed);
    for port in sample {
        assert!(!scenario.is_pontoon() || scenario.free("tcp", "::", &port.to_string()), "{port} is released");
    }
}

/// Seconds that Pontoon spent on publishing, according to its metrics.
fn spent(scenario: &Scenario) -> Option<f64> {
    let socket = "/run/docker/plugins/pontoon.sock";
    let metrics = scenario.exec(&["curl", "-sf", "--unix-socket", socket, "http://pontoon/metrics"]);
    let text = metrics.success().then(|| metrics.ok())?;
    let sum = |line: &&str| {
        line.starts_with("pontoon_request_duration_seconds_")
            && line.contains("program_external_connectivity")
            && !line.contains("_bucket")
            && !line.contains("_count")
    };
    Some(text.lines().find(sum).and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0))
}

/// Media servers (coturn, FreePBX, Jitsi) publish ranges like this one. The engine lists each port in every request,
/// which is therefore some megabytes long.
#[test]
fn ten_thousand_udp_ports_on_one_container() {
    on_pontoon(range);
}

fn range(scenario: &Scenario) {
    const FIRST: u16 = 20_000;
    const LAST: u16 = 30_000;
    const SERVED: [u16; 3] = [FIRST, (FIRST + LAST) / 2, LAST];
    scenario.network("net", &["--subnet", "10.141.2.0/24"]);
    let publish = format!("{FIRST}-{LAST}:{FIRST}-{LAST}/udp");
    let specs = SERVED.map(|port| format!("udp:{port}"));
    let began = Instant::now();
    scenario.serve("media", &specs.each_ref().map(String::as_str), &["--network", "net", "-p", &publish]);
    println!("10,001 UDP ports on engine {}: container served after {:.2?}", scenario.engine, began.elapsed());
    let mut rows = Vec::new();
    for port in SERVED {
        rows.push((Outside, format!("udp,192.168.77.1,{port}"), format!("media:{port}")));
        rows.push((Host, format!("udp,127.0.0.1,{port}"), format!("media:{port}")));
    }
    let answered: Vec<_> = rows.iter().map(|(from, probe, name)| (*from, probe.as_str(), By(name))).collect();
    scenario.expect(&answered);
    for port in SERVED {
        assert!(!scenario.free("udp", "0.0.0.0", &port.to_string()), "{port} is reserved");
    }
    scenario.not_ready("media");
    scenario.docker(&["restart", "-t", "1", "media"]).ok();
    scenario.listens("media");
    scenario.expect(&answered);
    scenario.docker(&["rm", "-f", "media"]).ok();
    let closed: Vec<_> = rows.iter().map(|(from, probe, _)| (*from, probe.as_str(), Closed)).collect();
    scenario.expect(&closed);
    for port in SERVED {
        assert!(scenario.free("udp", "0.0.0.0", &port.to_string()), "{port} is released");
    }
}
