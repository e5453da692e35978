//! UDP from one source port, while the server behind a published port is replaced.

use crate::{
    stage::{SOON, Scene, on_both},
    support::wait_until,
};

#[test]
fn a_udp_client_is_not_stuck_to_a_dead_container() {
    on_both(replaced);
}

fn replaced(scene: &Scene) {
    scene.network("net", &["--subnet", "10.140.1.0/24", "--ipv6", "--subnet", "fd40:1::/64"]);
    let publish = ["--network", "net", "-p", "8300:53/udp"];
    // a later container has another address
    scene.serve("first", &["udp:53"], &[&publish[..], &["--ip", "10.140.1.11", "--ip6", "fd40:1::11"]].concat());
    let stick = |addr, port| scene.outside.spawn(&["perl", "/lab/tool.pl", "stick", addr, "8300", port]);
    let four = stick("192.168.77.1", "5300");
    let six = stick("fd77::1", "5306");
    let inside = scene.spawn(&["perl", "/lab/tool.pl", "stick", "192.168.77.1", "8300", "5301"]);
    let mut clients = vec![("IPv4 from outside", &four), ("from the host", &inside)];
    if scene.has_six() {
        clients.push(("IPv6 from outside", &six));
    }
    let answers = |name: &str| {
        for (what, client) in &clients {
            wait_until(SOON, &format!("{name} to answer {what} with {}", scene.driver), || {
                client.log().lines().last().is_some_and(|line| line.starts_with(&format!("{name}:53 ")))
            });
        }
    };
    answers("first");
    // one gone, another in its place
    scene.docker(&["rm", "-f", "first"]).ok();
    scene.serve("second", &["udp:53"], &[&publish[..], &["--ip", "10.140.1.12", "--ip6", "fd40:1::12"]].concat());
    answers("second");
    // and a crash of the server, which starts again at another address
    scene.docker(&["kill", "second"]).ok();
    scene.serve("filler", &["udp:53"], &["--network", "net", "--ip", "10.140.1.13"]);
    scene.docker(&["rm", "second"]).ok();
    scene.serve("third", &["udp:53"], &[&publish[..], &["--ip", "10.140.1.14", "--ip6", "fd40:1::14"]].concat());
    answers("third");
    // the other way: the clients are let through to the host, and the port is published only then
    scene.docker(&["rm", "-f", "third"]).ok();
    for (what, source) in [("IPv4 from outside", "5300"), ("IPv6 from outside", "5306"), ("from the host", "5301")] {
        if what.contains('6') && !scene.has_six() {
            continue;
        }
        wait_until(SOON, &format!("{what} to be tracked as a client of the host"), || {
            let flows = scene.exec(&["cat", "/proc/net/nf_conntrack"]).ok();
            flows.lines().any(|flow| {
                flow.contains(&format!("sport={source} "))
                    && !flow.contains("src=10.140.1.14")
                    && !flow.contains(":0014")
            })
        });
    }
    scene.serve("fourth", &["udp:53"], &[&publish[..], &["--ip", "10.140.1.15", "--ip6", "fd40:1::15"]].concat());
    answers("fourth");
}
