//! The state before any attack: containers reach each other, and networks are isolated.

use crate::host::{Host, Network, Publish};
use testkit::topology::{TCP, UDP, ask, serve};

#[test]
fn containers_reach_only_their_network_and_published_ports() {
    let host = Host::start(&[]);
    let (one, two) = (Network::new("one", 1), Network::new("two", 2));
    host.create(&one);
    host.create(&two);
    let a = host.container(&one, 2);
    let b = host.container_with(&one, 3, &[Publish::new(6, 8080, 80), Publish::new(17, 8080, 80)]);
    let c = host.container(&two, 2);
    serve(&b);
    for (address, reaches) in [("10.1.0.3", true), ("fd00:1::3", true)] {
        assert_eq!(a.pings(address), reaches, "{address} from the same network");
    }
    assert!(!c.pings("10.1.0.3") && !c.pings("fd00:1::3"), "another network");
    for protocol in [TCP, UDP] {
        for server in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
            assert!(host.outside.enter(|| ask(protocol, server)).is_some(), "{server} from outside");
        }
    }
    host.detach(&b.first);
    assert!(host.outside.enter(|| ask(TCP, "192.0.2.1:8080")).is_none());
}
