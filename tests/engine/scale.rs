//! Many containers and networks at once.

use std::{collections::BTreeSet, time::Duration};

use testkit::testbed::{Testbed, on_pontoon};

#[test]
fn twenty_containers_start_and_stop_four_at_a_time() {
    on_pontoon(crowd);
}

fn crowd(testbed: &Testbed) {
    let before = testkit::testbed::traces(testbed);
    testbed
        .network("net", &["--ipam-driver", "pontoon", "--ipv6", "--subnet", "10.119.0.0/24", "--subnet", "fdb9::/64"]);
    let empty = testkit::testbed::traces(testbed);
    let four_at_a_time = |command: &str| {
        let script = format!("seq 20 | xargs -P4 -I{{}} {command} >/dev/null");
        testbed.exec_within(Duration::from_secs(90), &["sh", "-c", &script]).ok();
    };
    four_at_a_time("docker run -d --name c{} --network net busybox");
    let network = testbed.inspect("net");
    let members = network["Containers"].as_object().cloned().unwrap_or_default();
    for field in ["IPv4Address", "IPv6Address", "MacAddress"] {
        let values: BTreeSet<_> = members.values().map(|member| member[field].as_str().unwrap_or_default()).collect();
        assert_eq!(values.len(), 20, "{field}: not unique");
    }
    for to in 2..=20 {
        testbed.names("c1", "-4", &format!("c{to}"));
    }
    four_at_a_time("docker restart -t 5 c{}");
    testbed.names("c7", "-6", "c19");
    four_at_a_time("docker rm -f c{}");
    testbed.expect_traces(&empty);
    testbed.docker(&["network", "rm", "net"]).ok();
    testbed.expect_traces(&before);
    // Networks, likewise.
    four_at_a_time("docker network create -d pontoon --ipam-driver pontoon n{}");
    four_at_a_time("docker network rm n{}");
    testbed.expect_traces(&before);
}
