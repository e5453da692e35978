//! Limits of containers, as typed in docs/limits.md.

use std::time::{Duration, Instant};

use crate::doctor::shell;
use testkit::testbed::{SOON, Testbed};
use testkit::wait_until;

/// What may pass of a rate: TCP has headers, and starting a command takes time.
const BAND: std::ops::Range<f64> = 0.6..1.1;

/// Size of the file that is transferred, in MiB, and the rate.
const SIZE: u32 = 4;
const RATE: f64 = 8e6;

#[track_caller]
fn is_limited(what: &str, took: Duration) {
    let ratio = f64::from(SIZE << 23) / took.as_secs_f64() / RATE;
    assert!(BAND.contains(&ratio), "{what}: {ratio} of the rate");
}

/// Needs a container `one` on a network without limits.
pub fn hold(testbed: &Testbed) {
    let refused = testbed.try_network("tenants", &["-o", "pontoon.rate.out=20mbps"]).err();
    assert!(refused.contains("20mbit") || refused.contains("50mbit"), "{refused}");
    testbed.network("tenants", &["--subnet", "10.97.0.0/24", "-o", "pontoon.rate.out=8mbit"]);
    let options = ["--driver-opt", "pontoon.rate.in=8mbit", "--driver-opt", "pontoon.conn.max=5"];
    testbed.docker(&[&["network", "connect", "--ip", "10.97.0.9"][..], &options, &["tenants", "one"]].concat()).ok();
    testbed.run_container("free", &["--network", "second"]);
    let unlimited = ["--driver-opt", "pontoon.rate.out=1gbit"];
    testbed.docker(&[&["network", "connect", "--ip", "10.97.0.8"][..], &unlimited, &["tenants", "free"]].concat()).ok();
    testbed.ping_soon("one", "10.97.0.8");
    let file = format!("dd if=/dev/zero of=/etc/hosts.large bs=1M count={SIZE}");
    for container in ["one", "free"] {
        testbed.exec_in(container, &["sh", "-c", &file]).ok();
        testbed.serve(container, 8090);
    }

    let begun = Instant::now();
    testbed.exec(&["curl", "-sf", "-o", "/dev/null", "http://10.97.0.9:8090/hosts.large"]).ok();
    is_limited("out", begun.elapsed());
    let begun = Instant::now();
    testbed.exec_in("one", &["wget", "-q", "-O", "/dev/null", "http://10.97.0.8:8090/hosts.large"]).ok();
    is_limited("in", begun.elapsed());

    // Pings of the last half minute are connections, too.
    let open = |address: &str| {
        let connect = format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/8090 && echo open && sleep 9'");
        let script = format!("for n in 1 2 3 4 5 6 7 8; do {connect} 2>/dev/null & done; wait; true");
        shell(testbed, &script).ok().matches("open").count()
    };
    let (limited, free) = (open("10.97.0.9"), open("10.97.0.8"));
    assert!((2..=5).contains(&limited) && free == 8, "{limited} of 5, and {free} of 8");

    // Another program removes the limits.
    let links = shell(testbed, "tc qdisc show | sed -n 's/^qdisc tbf 706e: dev \\([^ ]*\\) root.*/\\1/p'").ok();
    assert_eq!(links.lines().count(), 3, "{links}");
    for link in links.lines().filter(|link| shell(testbed, &format!("tc qdisc show dev {link}")).ok().contains("8Mbit"))
    {
        shell(testbed, &format!("tc qdisc del dev {link} root")).ok();
        let there = format!("tc qdisc show dev {link} | grep -q 'tbf 706e: root.*rate 8Mbit'");
        wait_until(SOON, "the limit to be restored", || shell(testbed, &there).success());
    }
    for container in ["one", "free"] {
        testbed.docker(&["network", "disconnect", "tenants", container]).ok();
    }
    wait_until(SOON, "the links to be removed", || shell(testbed, "! ip link show | grep -q pntq").success());
    testbed.sweep_names(&["free"], &["tenants"]);
}
