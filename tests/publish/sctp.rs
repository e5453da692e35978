//! SCTP through published ports. Nothing here needs a kernel with SCTP sockets: both ends are made by hand, with their
//! tags and checksums, so that a translation that forgets either is found.

use crate::{
    probe::{
        Expect::{Closed, Is},
        From::{Host, In, Outside},
    },
    stage::{Scene, on_pontoon},
};

#[test]
fn an_sctp_association_through_a_published_port() {
    on_pontoon(association);
}

fn association(scene: &Scene) {
    scene.network("net", &["--subnet", "10.123.1.0/24", "--ipv6", "--subnet", "fd23:1::/64"]);
    scene.network("other", &["--subnet", "10.123.2.0/24", "--ipv6", "--subnet", "fd23:2::/64"]);
    let publish = ["-p", "9:9/sctp", "-p", "8124:80/sctp", "-p", "127.0.0.1:8125:80/sctp"];
    scene.serve("assoc", &["sctp:9", "sctp:80", "sctp:81"], &[&["--network", "net"][..], &publish].concat());
    scene.run_container("away", &["--network", "other"]);
    scene.route_from_outside(&["10.123.1.0/24", "fd23:1::/64"]);
    let at = scene.container_addr("assoc", "net");
    let (four, six) = (at.v4.expect("an address"), at.v6.expect("an address"));
    scene.expect(&[
        (Outside, "sctp,192.168.77.1,9", Is("assoc:9 192.168.77.2")),
        (Outside, "sctp,192.168.77.1,8124", Is("assoc:80 192.168.77.2")),
        (Outside, "sctp,fd77::1,9", Is("assoc:9 fd77::2")),
        (Outside, "sctp,fd77::1,8124", Is("assoc:80 fd77::2")),
        // these are masqueraded besides
        (Host, "sctp,127.0.0.1,8125", Is("assoc:80 10.123.1.1")),
        (Host, "sctp,127.0.0.1,9", Is("assoc:9 10.123.1.1")),
        (In("away"), "sctp,192.168.77.1,8124", Is("assoc:80 10.123.1.1")),
        (In("assoc"), "sctp,192.168.77.1,8124", Is("assoc:80 10.123.1.1")),
        (Outside, "sctp,192.168.77.1,81", Closed),
        (Outside, "sctp,192.168.77.1,8125", Closed),
        (Outside, &format!("sctp,{four},81"), Closed),
        (Outside, &format!("sctp,{six},81"), Closed),
        (In("away"), &format!("sctp,{four},80"), Closed),
        // the same number is another port with another protocol
        (Outside, "tcp,192.168.77.1,8124", Closed),
        (Outside, "udp,192.168.77.1,8124", Closed),
    ]);
    // what connection tracking does not believe is not translated, and thus not repaired either
    scene.expect(&[(Outside, "sctp,192.168.77.1,8124,damaged", Closed), (Outside, "sctp,fd77::1,9,damaged", Closed)]);
    let log = scene.docker(&["logs", "assoc"]).ok();
    assert!(!log.contains("damaged") && !log.contains("tag"), "{log}");
    let taken = scene.try_serve("late", &["tcp:1"], &["--network", "net", "-p", "8124:80/sctp"]).err();
    assert!(taken.contains("8124"), "{taken}");
    scene.docker(&["rm", "-f", "assoc"]).ok();
    scene.expect(&[(Outside, "sctp,192.168.77.1,9", Closed)]);
}
