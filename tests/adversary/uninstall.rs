//! Uninstalling removes everything of Pontoon and nothing else, and cuts off no container that was not named.

use crate::host::{Host, Network, Publish};
use testkit::topology::{TCP, ask, serve};

const PONTOON: &str = env!("CARGO_BIN_EXE_pontoon");

/// The state of the host that other programs see.
fn seen(host: &Host) -> String {
    // The kernel numbers rules and links; counters and indices are irrelevant.
    host.run("nft list ruleset | sed 's/counter packets [0-9]* bytes [0-9]*/counter/'; ip -o link | sed 's/^[0-9]*: //'; iptables-save | grep -v '^[#:]'; ip6tables-save | grep -v '^[#:]'; ip route; ip -6 route | grep -v '^fe80'; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.mine0.forwarding")
}

#[test]
fn everything_of_pontoon_is_removed_and_nothing_else() {
    let mut host = Host::without_daemon();
    // As with dockerd: the chains of iptables, a policy, rules of the user; a user's bridge.
    host.run("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP; iptables -A FORWARD -i up0 -o up0 -j ACCEPT");
    host.run("iptables -A FORWARD -i pnt+ -m comment --comment mine -j ACCEPT");
    host.run("nft add table inet mine; nft add chain inet mine c '{ type filter hook input priority 5; }'; nft add rule inet mine c counter");
    host.run("ip link add mine0 address 02:00:00:00:00:33 type bridge; ip link set mine0 up; ip addr add 10.3.0.1/24 dev mine0");
    host.run("ip link add free0 type dummy; sleep 2");
    host.run("sysctl -qw net.ipv4.conf.mine0.forwarding=1");
    let before = seen(&host);
    host.begin();
    let networks = [
        Network::new("one", 1),
        Network::new("own", 3).option("com.docker.network.bridge.name", "mine0"),
        Network::new("two", 4).internal(),
    ];
    networks.iter().for_each(|network| host.create(network));
    let a = host.container_with(&networks[0], 2, &[Publish::new(6, 8080, 80)]);
    let b = host.container(&networks[1], 2);
    serve(&a);
    let served = |host: &Host| host.outside.enter(|| ask(TCP, "192.0.2.1:8080")).is_some();
    assert!(served(&host));
    let with = seen(&host);
    for word in ["table inet pontoon", "table bridge pontoon", "pntbone", "-i mine0", "-o pnt+"] {
        assert!(with.contains(word), "{word} is there before: {with}");
    }
    let uninstall = |host: &Host, flags: &str| host.run(&format!("{PONTOON} uninstall {flags} 2>&1; echo exit $?"));
    // Refused while Pontoon runs, and while an unnamed container is attached; listing removes nothing.
    let said = uninstall(&host, "--yes");
    assert!(said.contains("stop it first") && said.contains("exit 1"), "{said}");
    host.end();
    let listed = uninstall(&host, "");
    assert!(listed.contains("table bridge pontoon") && listed.contains("a container is attached"), "{listed}");
    for flags in ["--yes".to_owned(), format!("--yes --cut {}", a.first.port)] {
        let said = uninstall(&host, &flags);
        assert!(said.contains("removed nothing") && said.contains(&b.first.port) && said.contains("exit 1"), "{said}");
        assert!(served(&host));
    }
    let said = uninstall(&host, &format!("--yes --cut {} --cut {}", a.first.port, b.first.port));
    assert!(said.contains("exit 0"), "{said}");
    // The user's bridge loses its carrier a moment after its last port.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while seen(&host) != before && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let after = seen(&host);
    assert_eq!(after, before, "objects of Pontoon left or foreign objects removed");
    let said = uninstall(&host, "--yes");
    assert!(said.contains("removed 0 links, 0 tables") && said.contains("exit 0"), "{said}");
}

#[test]
fn a_command_without_access_does_not_report_success() {
    let host = Host::without_daemon();
    let (state, socket) = (host.dir.0.join("nowhere"), host.dir.0.join("nobody.sock"));
    for command in ["check", "plan", "gc --docker=/dev/null"] {
        let paths = format!("--state-dir {} --socket {}", state.display(), socket.display());
        let said = host.run(&format!("{PONTOON} {command} {paths} 2>&1; echo exit $?"));
        assert!(said.contains("exit 3") && !said.contains("nothing to "), "{command}: {said}");
        let said = host.run(&format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups {PONTOON} {command} {paths} 2>&1; echo exit $?"
        ));
        assert!(said.contains("exit 3"), "{command} as a normal user: {said}");
    }
}
