//! Overlay networks with packets: each namespace is a host with a bridge, a tunnel and a container, and a switch
//! connects them.

use std::net::IpAddr;

use pontoon::datapath::{Announcement, Change, Kernel, ObjectKind, Policy, Step, Underlay, Vxlan, Wire, tunnel};
use pontoon::linux::{LinuxKernel, Options};
use pontoon::model::{
    DataPath, IfName, LinkRole, Mac, Network, NetworkId, NetworkKind, NetworkOptions, NetworkSpec, Overlay, Subnet, Vni,
};

use testkit::netns::*;
use testkit::topology::ip;

const PORT: u16 = 4789;

/// A host: 192.0.2.N and 2001:db8::N on `eth0`, network `over` (10.9.0.0/24, fd09::/64) on it.
pub struct Host {
    pub netns: Netns,
    kernel: LinuxKernel,
    n: usize,
}

fn network() -> Network {
    let subnet = |pool: &str, gateway: &str| {
        Some(Subnet { pool: net(pool), gateway: Some(ip(gateway)), default_gateway: None, aux: Vec::new() })
    };
    let spec = NetworkSpec {
        id: NetworkId::parse("over").unwrap(),
        v4: subnet("10.9.0.0/24", "10.9.0.1"),
        v6: subnet("fd09::/64", "fd09::1"),
        internal: false,
        options: NetworkOptions::default(),
    };
    let overlay = Overlay { vni: Vni::new(70000).unwrap(), link: name("pntxover") };
    Network {
        spec,
        kind: NetworkKind::Overlay { bridge: name("pntbover"), overlay },
        mtu: 1400,
        stored: Default::default(),
    }
}

fn own(n: usize, v6: bool) -> IpAddr {
    ip(&if v6 { format!("2001:db8::{n}") } else { format!("192.0.2.{n}") })
}

/// Hosts 1 to `count` on one switch, each with the others as peers. `v6`: the tunnels use IPv6.
pub fn hosts(count: usize, v6: bool) -> Vec<Host> {
    run("ip link add switch type bridge; ip link set switch up");
    let hosts = (1..=count).map(|n| {
        let netns = Netns::new();
        run(&format!("ip link add up{n} type veth peer name down{n}; ip link set up{n} master switch up"));
        netns.take(&format!("down{n}"), &format!("192.0.2.{n}/24"), "");
        netns.run(&format!("ip addr add 2001:db8::{n}/64 dev eth0 nodad"));
        let peers = (1..=count).map(|n| own(n, v6)).collect();
        let kernel = netns.enter(|| {
            let kernel = LinuxKernel::new(Options::default()).unwrap();
            let network = network();
            let mut want = pontoon::datapath::kind::network(&network);
            let tunnel = tunnel::of(&network, own(n, v6), PORT, &peers);
            let guard = tunnel::guard(PORT, &peers, Some(own(n, v6)));
            want.objects.extend(tunnel.objects.clone());
            let all = [want.policy, tunnel.policy, guard.policy].into_iter().flatten().flatten();
            want.policy = Some(all.collect());
            for _ in 0..2 {
                let plan = pontoon::datapath::diff(&observe(&kernel), &want, &Default::default());
                kernel.apply(&plan.steps).unwrap();
            }
            kernel
        });
        Host { netns, kernel, n }
    });
    let hosts: Vec<_> = hosts.collect();
    for host in &hosts {
        let other = own(host.n % hosts.len() + 1, v6);
        wait_for("the underlay", || host.netns.pings(&other.to_string()));
    }
    hosts
}

/// A container: its namespace and its announcement.
pub struct Container {
    pub netns: Netns,
    place: Announcement,
}

impl Host {
    pub fn do_in<T: Send>(&self, act: impl FnOnce(&LinuxKernel) -> T + Send) -> T {
        self.netns.enter(|| act(&self.kernel))
    }

    /// Starts a container with addresses .N and ::N and a MAC address of its own.
    pub fn container(&self, id: &str, n: u32) -> Container {
        let (host, mut pair) = veth(id, "pntbover");
        (pair.mtu, pair.peer_mac) = (1400, Some(Mac::derive("peer", id)));
        let addresses = vec![ip(&format!("10.9.0.{n}")), ip(&format!("fd09::{n}"))];
        let place = Announcement {
            link: name("pntbover"),
            port: Some(host.clone()),
            mac: Some(Mac::derive("peer", id)),
            addresses,
        };
        self.do_in(|kernel| kernel.apply(&[Step::create(host.clone(), pair.clone())]).unwrap());
        let netns = Netns::new();
        self.netns.enter(|| netns.take(pair.peer.as_str(), &format!("10.9.0.{n}/24"), "10.9.0.1"));
        netns.run(&format!("ip addr add fd09::{n}/64 dev eth0 nodad; ip -6 route add default via fd09::1"));
        // IPv6 of a new link becomes ready with a delay of the kernel, which no test counts as a fault.
        wait_for("IPv6 of the new container", || netns.pings("fd09::1"));
        Container { netns, place }
    }

    fn announce(&self, container: &Container) {
        self.do_in(|kernel| kernel.announce(&container.place).unwrap());
    }

    fn stop(&self, container: &Container) {
        self.do_in(|kernel| {
            kernel.apply(&[Step::Delete(container.place.port.clone().unwrap(), ObjectKind::Veth)]).unwrap();
            settle(kernel);
        });
    }
}

#[test]
fn containers_of_three_hosts_reach_each_other_over_either_family() {
    for v6 in [false, true] {
        in_netns(move |_| {
            let hosts = hosts(3, v6);
            let containers: Vec<_> = hosts.iter().map(|h| h.container(&format!("c{}", h.n), 10 + h.n as u32)).collect();
            for (from, container) in containers.iter().enumerate() {
                for to in 11..14 {
                    assert!(container.netns.pings(&format!("10.9.0.{to}")), "{from} to {to}");
                    assert!(container.netns.pings(&format!("fd09::{to}")), "{from} to {to}");
                }
            }
            // As large as the network's MTU, without fragmentation.
            let full = "ping -n -c 1 -W 2 -M do -s 1372 10.9.0.12";
            assert!(containers[0].netns.enter(|| succeeds(full)));
            // The learned entries determine which peers count as alive.
            let heard = hosts[0].do_in(|kernel| kernel.heard().unwrap());
            assert_eq!(heard.keys().copied().collect::<Vec<_>>(), [own(2, v6), own(3, v6)]);
            assert!(heard.values().all(|age| age.as_secs() < 10), "{heard:?}");
        });
    }
}

#[test]
fn each_host_is_the_gateway_of_its_own_containers() {
    in_netns(|_| {
        let hosts = hosts(2, false);
        let (a, b) = (hosts[0].container("a", 11), hosts[1].container("b", 12));
        // A gateway's packets stay on its host, also its neighbour requests: a receiver of a request would learn the
        // sender.
        assert!(!hosts[1].netns.pings("10.9.0.11") && !hosts[1].netns.pings("fd09::11"));
        let heard = a.netns.run("ip neigh");
        assert!(!heard.contains("10.9.0.1 ") && !heard.contains("fd09::1 "), "{heard}");
        // Every host answers for the gateway; only the answer of the own host arrives.
        for address in ["10.9.0.1", "fd09::1"] {
            assert!(a.netns.pings(address) && b.netns.pings(address));
        }
        let gateway = Mac::derive("bridge", "over").to_string();
        for host in &hosts {
            let table = host.netns.run("bridge fdb show br pntbover");
            let learned = table.lines().any(|l| l.contains(&gateway) && l.contains("pntxover") && l.contains("master"));
            assert!(!learned, "{table}");
        }
        // The other host gets no request either: a host that was asked learns the sender.
        for (host, own, other) in [(&hosts[0], 11, 12), (&hosts[1], 12, 11)] {
            let asked = host.netns.run("ip neigh show dev pntbover");
            let by = |who: String| asked.lines().any(|line| line.starts_with(&who) && line.contains("lladdr"));
            for subnet in ["10.9.0.", "fd09::"] {
                assert!(by(format!("{subnet}{own} ")), "host {}: {asked}", host.n);
                assert!(!by(format!("{subnet}{other} ")), "host {}: {asked}", host.n);
            }
        }
        // Only the own host counts the ping, whichever host it is on.
        let echoes = |host: &Host| {
            let text = host.netns.run("cat /proc/net/snmp");
            text.lines()
                .filter(|l| l.starts_with("Icmp:"))
                .nth(1)
                .unwrap()
                .split(' ')
                .nth(9)
                .unwrap()
                .parse::<u32>()
                .unwrap()
        };
        let before = [echoes(&hosts[0]), echoes(&hosts[1])];
        a.netns.run("ip neigh flush all; ping -n -c 3 -i 0.01 10.9.0.1");
        assert_eq!([echoes(&hosts[0]) - before[0], echoes(&hosts[1]) - before[1]], [3, 0]);
        // Duplicate address detection does not see the other gateway's equal link-local address.
        let doubled = hosts[0].netns.run("ip -6 addr show dev pntbover");
        assert!(!doubled.contains("dadfailed"), "{doubled}");
    });
}

#[test]
fn only_peers_are_accepted_on_a_tunnel_and_foreign_tunnels_share_its_port() {
    in_netns(|_| {
        let hosts = hosts(3, false);
        let (a, c) = (hosts[0].container("a", 11), hosts[2].container("c", 13));
        assert!(a.netns.pings("10.9.0.13"));
        let third = Policy::Peer(own(3, false));
        let change = |add: &[Policy], remove: &[Policy]| {
            let step = Step::ChangeFirewall { add: add.to_vec(), remove: remove.to_vec() };
            hosts[0].do_in(|kernel| kernel.apply(&[step]).unwrap());
        };
        change(&[], std::slice::from_ref(&third));
        assert!(!c.netns.pings("10.9.0.11"), "packets of a host that is no peer arrive");
        let dropped = hosts[0].netns.run("nft list chain inet pontoon input_filter");
        let rule = dropped.lines().find(|line| line.contains("\"IPv4 senders that are not peers")).unwrap();
        let count = rule.split("counter packets ").nth(1).unwrap().split(' ').next().unwrap();
        assert_ne!(count, "0", "{dropped}");
        // A foreign tunnel on the same port, with another VNI, is not affected.
        for (host, to) in [(0, 3), (2, 1)] {
            let n = hosts[host].n;
            hosts[host].netns.run(&format!(
                "ip link add other type vxlan id 4097 local 192.0.2.{n} remote 192.0.2.{to} dstport 4789 noudpcsum; \
                 ip addr add 10.8.0.{n}/24 dev other; ip link set other up"
            ));
        }
        assert!(hosts[2].netns.pings("10.8.0.1"));
        change(&[third], &[]);
        assert!(c.netns.pings("10.9.0.11"));
    });
}

#[test]
fn an_isolated_network_is_isolated_across_hosts() {
    in_netns(|_| {
        let hosts = hosts(2, false);
        let (a, b) = (hosts[0].container("a", 11), hosts[1].container("b", 12));
        assert!(a.netns.pings("10.9.0.12"));
        for host in &hosts {
            let link = IfName::derive(LinkRole::Host, if host.n == 1 { "a" } else { "b" }, 0);
            let steps =
                [Step::Change(link, Change::Isolate(true)), Step::Change(name("pntxover"), Change::Isolate(true))];
            host.do_in(|kernel| kernel.apply(&steps).unwrap());
        }
        assert!(!a.netns.pings("10.9.0.12") && !b.netns.pings("fd09::11"));
        assert!(a.netns.pings("10.9.0.1"), "the gateway is not isolated");
    });
}

/// An address moves between hosts within milliseconds, many times. After the announcement every other container reaches
/// it at once: no entry is stale.
#[test]
fn a_moved_address_leaves_no_stale_entry() {
    in_netns(|_| {
        let hosts = hosts(3, false);
        let watchers: Vec<_> = hosts.iter().map(|h| h.container(&format!("w{}", h.n), 20 + h.n as u32)).collect();
        let mut at = hosts[0].container("life0", 7);
        for life in 1..=12 {
            // Every container and every host has learned the current location of the address.
            for watcher in &watchers {
                assert!(watcher.netns.pings("10.9.0.7") && watcher.netns.pings("fd09::7"), "move {life}: before it");
            }
            let old = &hosts[(life - 1) % 3];
            old.netns.pings("10.9.0.7");
            old.stop(&at);
            let host = &hosts[life % 3];
            at = host.container(&format!("life{life}"), 7);
            host.announce(&at);
            for (n, watcher) in watchers.iter().enumerate() {
                // A single packet, which a stale neighbour would drop, however long the ping waits for the answer.
                for address in ["10.9.0.7", "fd09::7"] {
                    let probe = format!("ping -n -c 1 -W 4 {address}");
                    assert!(watcher.netns.enter(|| succeeds(&probe)), "move {life}: watcher {n} to {address}");
                }
            }
            assert!(host.netns.enter(|| succeeds("ping -n -c 1 -W 4 10.9.0.7")), "move {life}: its own host");
        }
    });
}

/// The same on one host, with a user-defined MAC address that moves along.
#[test]
fn a_user_defined_mac_address_moves_along() {
    in_netns(|_| {
        let hosts = hosts(2, false);
        let watchers: Vec<_> = hosts.iter().map(|h| h.container(&format!("w{}", h.n), 20 + h.n as u32)).collect();
        let mac = Mac::parse("02:00:00:00:00:99").unwrap();
        for life in 0..6 {
            let host = &hosts[life % 2];
            let mut at = host.container(&format!("life{life}"), 7);
            at.netns.run(&format!("ip link set eth0 address {mac}"));
            at.netns.run("ip -6 addr replace fd09::7/64 dev eth0 nodad");
            at.place.mac = Some(mac);
            host.announce(&at);
            for watcher in &watchers {
                let probe = "ping -n -c 1 -W 4 10.9.0.7";
                assert!(watcher.netns.enter(|| succeeds(probe)), "move {life}");
            }
            host.stop(&at);
        }
    });
}

#[test]
fn the_underlay_is_found_by_address_link_and_default_route() {
    in_netns(|kernel| {
        let find = |path| kernel.underlay(&path).unwrap();
        assert_eq!(find(DataPath::DefaultRoute), None);
        run("ip link add up0 mtu 1480 type veth peer name up1; ip link set up0 up; ip link set up1 up");
        run(
            "ip addr add 10.200.0.1/24 dev up0; ip addr add 2001:db8:77::1/64 dev up0 nodad; ip addr add 198.51.100.9/32 dev lo",
        );
        let found = |address: &str, mtu| Some(Underlay { address: ip(address), mtu });
        assert_eq!(find(DataPath::Address(ip("2001:db8:77::1"))), found("2001:db8:77::1", 1480));
        assert_eq!(find(DataPath::Address(ip("198.51.100.9"))), found("198.51.100.9", 65536));
        assert_eq!(find(DataPath::Address(ip("203.0.113.1"))), None);
        assert_eq!(find(DataPath::Link(name("up0"))), found("10.200.0.1", 1480));
        assert_eq!(find(DataPath::Link(name("up1"))), None, "a link-local address does not count");
        assert_eq!(find(DataPath::Link(name("nowhere"))), None);
        run("ip -6 route add default via 2001:db8:77::2 dev up0");
        assert_eq!(find(DataPath::DefaultRoute), found("2001:db8:77::1", 1480));
        run("ip route add default via 10.200.0.2");
        assert_eq!(find(DataPath::DefaultRoute), found("10.200.0.1", 1480));
    });
}

/// The addresses used to look up the default route may be blackholed, or in use.
#[test]
fn the_default_route_is_found_with_any_route_for_documentation_addresses() {
    in_netns(|kernel| {
        let find = || kernel.underlay(&DataPath::DefaultRoute).unwrap().map(|found| found.address.to_string());
        run("ip link set lo up");
        for n in 0..2 {
            run(&format!(
                "ip link add up{n} type veth peer name down{n}; ip link set up{n} up; ip link set down{n} up"
            ));
            run(&format!("ip addr add 10.200.{n}.1/24 dev up{n}; ip addr add 2001:db8:{n}::1/64 dev up{n} nodad"));
        }
        // Neither family has a default route.
        assert_eq!((find(), kernel.uplink_mtu().unwrap()), (None, None));
        // Only IPv6 has one; the IPv4 routes for those addresses are irrelevant.
        run("ip -6 route add default via 2001:db8:0::2 dev up0; ip route add blackhole 192.0.2.0/24");
        assert_eq!(find().unwrap(), "2001:db8::1");
        run("ip route replace 192.0.2.0/24 dev up1");
        assert_eq!(find().unwrap(), "2001:db8::1");
        // A temporary address beside it would be the kernel's source address.
        run(
            "ip addr add 2001:db8:0::99/64 dev up0 nodad preferred_lft 0; ip -6 route replace default via 2001:db8:0::2 dev up0 src 2001:db8:0::99",
        );
        assert_eq!(find().unwrap(), "2001:db8::1");
        // Both have one; of two, the one with the smaller metric counts.
        run("ip route add default via 10.200.1.2 metric 50; ip route add default via 10.200.0.2 metric 20");
        assert_eq!(find().unwrap(), "10.200.0.1");
        for throw in ["blackhole", "unreachable", "prohibit"] {
            run(&format!("ip route replace {throw} 192.0.2.0/24"));
            assert_eq!(find().unwrap(), "10.200.0.1", "{throw}");
        }
        // The addresses are blackholed for IPv6, too.
        run("ip route del default metric 20; ip route del default metric 50; ip route del 192.0.2.0/24");
        run("ip -6 route add unreachable 2001:db8::/32");
        assert_eq!(find().unwrap(), "2001:db8::1");
        // Two halves instead of a default route.
        run("ip -6 route del default; ip route add 0.0.0.0/1 via 10.200.1.2; ip route add 128.0.0.0/1 via 10.200.1.2");
        assert_eq!(find().unwrap(), "10.200.1.1");
    });
}

#[test]
fn a_vni_in_use_is_reported() {
    in_netns(|kernel| {
        run("ip link add theirs type vxlan id 70000 local 127.0.0.1 dstport 4789");
        let network = network();
        let vxlan: Vxlan =
            tunnel::of(&network, ip("127.0.0.1"), PORT, &Default::default()).vxlans()[&name("pntxover")].clone();
        let vxlan = Vxlan { bridge: None, ..vxlan };
        let error = kernel.apply(&[Step::create(name("pntxover"), vxlan)]).unwrap_err();
        assert!(error.to_string().contains("VNI 70000"), "{error}");
        run("ip link del theirs");
    });
}
