//! SCTP through published ports. No kernel support for SCTP sockets is needed: both ends build packets with tags and
//! checksums themselves, so that a translation that does not update either is detected.

use crate::{
    probe::{
        Expect::{Closed, Is},
        From::{Host, In, Outside},
    },
    topology::{Scenario, on_pontoon},
};

#[test]
fn an_sctp_association_through_a_published_port() {
    on_pontoon(association);
}

fn association(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.123.1.0/24", "--ipv6", "--subnet", "fd23:1::/64"]);
    scenario.network("other", &["--subnet", "10.123.2.0/24", "--ipv6", "--subnet", "fd23:2::/64"]);
    let publish = ["-p", "9:9/sctp", "-p", "8124:80/sctp", "-p", "127.0.0.1:8125:80/sctp"];
    scenario.serve("assoc", &["sctp:9", "sctp:80", "sctp:81"], &[&["--network", "net"][..], &publish].concat());
    scenario.run_container("away", &["--network", "other"]);
    scenario.route_from_outside(&["10.123.1.0/24", "fd23:1::/64"]);
    let at = scenario.container_addr("assoc", "net");
    let (four, six) = (at.v4.expect("an address"), at.v6.expect("an address"));
    scenario.expect(&[
        (Outside, "sctp,192.168.77.1,9", Is("assoc:9 192.168.77.2")),
        (Outside, "sctp,192.168.77.1,8124", Is("assoc:80 192.168.77.2")),
        (Outside, "sctp,fd77::1,9", Is("assoc:9 fd77::2")),
        (Outside, "sctp,fd77::1,8124", Is("assoc:80 fd77::2")),
        // These are also masqueraded.
        (Host, "sctp,127.0.0.1,8125", Is("assoc:80 10.123.1.1")),
        (Host, "sctp,127.0.0.1,9", Is("assoc:9 10.123.1.1")),
        (In("away"), "sctp,192.168.77.1,8124", Is("assoc:80 10.123.1.1")),
        (In("assoc"), "sctp,192.168.77.1,8124", Is("assoc:80 10.123.1.1")),
        (Outside, "sctp,192.168.77.1,81", Closed),
        (Outside, "sctp,192.168.77.1,8125", Closed),
        (Outside, &format!("sctp,{four},81"), Closed),
        (Outside, &format!("sctp,{six},81"), Closed),
        (In("away"), &format!("sctp,{four},80"), Closed),
        // The same number is another port with another protocol.
        (Outside, "tcp,192.168.77.1,8124", Closed),
        (Outside, "udp,192.168.77.1,8124", Closed),
    ]);
    // Packets that connection tracking regards as invalid are not translated, so their checksums are not repaired
    // either.
    scenario
        .expect(&[(Outside, "sctp,192.168.77.1,8124,damaged", Closed), (Outside, "sctp,fd77::1,9,damaged", Closed)]);
    let log = scenario.docker(&["logs", "assoc"]).ok();
    assert!(!log.contains("damaged") && !log.contains("tag"), "{log}");
    let taken = scenario.try_serve("late", &["tcp:1"], &["--network", "net", "-p", "8124:80/sctp"]).err();
    assert!(taken.contains("8124"), "{taken}");
    scenario.docker(&["rm", "-f", "assoc"]).ok();
    scenario.expect(&[(Outside, "sctp,192.168.77.1,9", Closed)]);
}
