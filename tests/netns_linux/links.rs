//! Links, addresses, routes and settings: every step reads back, is idempotent and repairs drift.

use std::collections::BTreeSet;
use std::thread;

use pontoon::datapath::{Change, EngineBridges, GROUP_LIVE, Kernel, KernelError, ObjectKind, Step, Veth};
use pontoon::model::Family;

use testkit::netns::*;

#[test]
fn a_bridge_is_created_as_requested_and_reads_back() {
    in_netns(|kernel| {
        let br = name("pntbone");
        let mut wanted = bridge("one", &["10.1.0.1/24", "fd00:1::1/64"]);
        wanted.localnet = true;
        twice(kernel, &[Step::create(br.clone(), wanted.clone())]);
        let plain = bridge("two", &["10.2.0.1/24"]);
        twice(kernel, &[Step::create(name("custom0"), plain.clone())]);
        let seen = observe(kernel);
        assert_eq!(seen.bridges().get(&br), Some(&wanted));
        assert_eq!(seen.bridges().get(&name("custom0")), Some(&plain));
        assert!(!run("ip -6 addr show dev pntbone").contains("tentative"));
        assert!(run("ip -6 addr show dev custom0").is_empty(), "IPv6 is off where it is not wanted");
        let info = kernel.link(&br).unwrap().unwrap();
        assert_eq!((info.kind.as_str(), info.mtu, info.group, info.mac), ("bridge", 1500, GROUP_LIVE, wanted.mac));
        assert_eq!(kernel.link(&name("nothere")).unwrap(), None);

        // Its MTU does not follow that of its ports, whether it is the default or not.
        let (host, mut pair) = veth("small", "pntbone");
        pair.mtu = 1280;
        kernel.apply(&[Step::create(host.clone(), pair)]).unwrap();
        assert_eq!(kernel.link(&br).unwrap().unwrap().mtu, 1500);
        twice(kernel, &[Step::Change(br.clone(), Change::Mtu(9000)), Step::Change(host, Change::Mtu(1400))]);
        assert_eq!(kernel.link(&br).unwrap().unwrap().mtu, 9000);

        // The same step repairs drift.
        run(
            "ip link set pntbone down mtu 1600 alias other; ip addr flush dev pntbone; ip link set pntbone address 02:00:00:00:00:01",
        );
        twice(kernel, &[Step::create(br.clone(), wanted.clone())]);
        assert_eq!(observe(kernel).bridges().get(&br), Some(&wanted));
    });
}

#[test]
fn addresses_and_settings_are_idempotent() {
    in_netns(|kernel| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let br = name("pntbone");
        kernel.apply(&[Step::create(br.clone(), bridge("one", &[]))]).unwrap();
        let seen = observe(kernel);
        assert!(!seen.forwarding.v4 && !seen.forwarding.v6 && !seen.bridges()[&br].ipv6);
        twice(
            kernel,
            &[
                Step::CreateFirewall(vec![]),
                Step::Forward { family: Family::V4 },
                Step::Forward { family: Family::V6 },
                Step::Change(br.clone(), Change::EnableIpv6),
                Step::Change(br.clone(), Change::AddAddress(net("fd00:1::1/64"))),
                Step::Change(br.clone(), Change::AddAddress(net("10.1.0.1/24"))),
                Step::Change(br.clone(), Change::AddAddress(net("fe80::1/64"))),
                Step::Change(br.clone(), Change::Up),
            ],
        );
        let seen = observe(kernel);
        assert!(seen.forwarding.v4 && seen.forwarding.v6 && seen.bridges()[&br].ipv6);
        let expected: BTreeSet<_> = ["10.1.0.1/24", "fd00:1::1/64", "fe80::1/64"].map(net).into();
        assert_eq!(seen.bridges()[&br].addresses, expected, "without the link-local one of the kernel");
        // The same address with another prefix length.
        twice(kernel, &[Step::Change(br.clone(), Change::AddAddress(net("fd00:1::1/80")))]);
        twice(
            kernel,
            &[
                Step::Change(br.clone(), Change::RemoveAddress(net("fe80::1/64"))),
                Step::Change(name("gone"), Change::RemoveAddress(net("10.0.0.1/8"))),
            ],
        );
        let expected: BTreeSet<_> = ["10.1.0.1/24", "fd00:1::1/80"].map(net).into();
        assert_eq!(observe(kernel).bridges()[&br].addresses, expected);
    });
}

#[test]
fn a_veth_is_created_as_requested_and_reads_back() {
    in_netns(|kernel| {
        let br = name("pntbone");
        kernel.apply(&[Step::create(br.clone(), bridge("one", &[]))]).unwrap();
        let (host, mut pair) = veth("abc", "pntbone");
        (pair.mtu, pair.peer_mtu) = (1400, 1300);
        twice(kernel, &[Step::create(host.clone(), pair.clone())]);
        assert_eq!(observe(kernel).veths().get(&host), Some(&read_back(&pair)));
        assert!(run("ip -d link show pntcabc").contains(&pair.peer_mac.unwrap().to_string()));
        assert!(run("ip -d link show pntcabc").contains("mtu 1300"));
        assert!(run("ip -d link show pnthabc").contains("mtu 1400"));
        // A kernel for one processor does not print the number of receive queues.
        let details = run("ip -d link show pntcabc");
        let received = details.split("numrxqueues ").nth(1).is_none_or(|rest| rest.starts_with("1 "));
        assert!(details.contains("numtxqueues 1 ") && received, "{details}");

        let (isolated, mut other) = veth("def", "pntbone");
        other.isolated = true;
        twice(kernel, &[Step::create(isolated.clone(), other.clone())]);
        assert_eq!(observe(kernel).veths().get(&isolated), Some(&read_back(&other)));
        twice(
            kernel,
            &[
                Step::Change(isolated.clone(), Change::Isolate(false)),
                Step::Change(host.clone(), Change::Isolate(true)),
            ],
        );
        let seen = observe(kernel);
        assert!(seen.veths()[&host].isolated && !seen.veths()[&isolated].isolated);

        // The same step repairs drift, on both ends.
        run("ip link set pnthabc down nomaster mtu 1300; ip link set pntcabc mtu 1200");
        twice(kernel, &[Step::create(host.clone(), pair.clone())]);
        assert_eq!(observe(kernel).veths().get(&host), Some(&read_back(&pair)));
        run("ip link set pnthabc nomaster down");
        twice(
            kernel,
            &[Step::Change(host.clone(), Change::Master(br.clone())), Step::Change(host.clone(), Change::Up)],
        );
        assert_eq!(observe(kernel).veths().get(&host), Some(&read_back(&pair)));

        // A peer in another namespace has its requested name, and its MTU is not compared.
        let sandbox = Netns::new();
        sandbox.take("pntcabc", "10.1.0.2/24", "");
        let out_of_sight = Veth { peer_mtu: pair.mtu, ..read_back(&pair) };
        assert_eq!(observe(kernel).veths().get(&host), Some(&out_of_sight));

        // Another program created the bridge again: its index is different.
        run("ip link del pntbone");
        kernel.apply(&[Step::create(name("pntbtwo"), bridge("two", &[]))]).unwrap();
        run(&format!("ip link add pntbone group {GROUP_LIVE} type bridge"));
        twice(kernel, &[Step::Change(host.clone(), Change::Master(br.clone()))]);
        assert_eq!(observe(kernel).veths()[&host].bridge, Some(br));
    });
}

#[test]
fn a_foreign_link_is_never_treated_as_pontoons() {
    in_netns(|kernel| {
        run(
            "ip link add pntbone type bridge; ip link add pnthabc type veth peer name x1; ip link add x2 type veth peer name pntcdef",
        );
        let error = kernel.apply(&[Step::create(name("pntbone"), bridge("one", &[]))]).unwrap_err().to_string();
        assert!(error.contains("create bridge pntbone") && error.contains("not Pontoon's"), "{error}");
        kernel.apply(&[Step::create(name("pntbtwo"), bridge("two", &[]))]).unwrap();
        for (id, taken) in [("abc", "pnthabc"), ("def", "pntcdef")] {
            let (host, pair) = veth(id, "pntbtwo");
            let error = kernel.apply(&[Step::create(host.clone(), pair)]).unwrap_err().to_string();
            assert!(error.contains(&format!("{taken} is a veth that is not Pontoon's")), "{error}");
            kernel.apply(&[Step::Delete(host, ObjectKind::Veth)]).unwrap();
        }
        twice(kernel, &[Step::Delete(name("pntbone"), ObjectKind::Bridge)]);
        settle(kernel);
        assert!(kernel.link(&name("pntbone")).unwrap().is_some() && kernel.link(&name("pnthabc")).unwrap().is_some());
        let seen = observe(kernel);
        assert_eq!(seen.bridges().keys().collect::<Vec<_>>(), [&name("pntbtwo")]);
        assert!(seen.veths().is_empty());
        let named = kernel.observe(&[name("pntbone")].into()).unwrap();
        assert!(!named.bridges()[&name("pntbone")].owned);

        // Ports of a foreign bridge are allowed, a missing bridge is named, the kernel's message is passed on.
        let (host, mut pair) = veth("ghi", "pntbone");
        twice(kernel, &[Step::create(host.clone(), pair.clone())]);
        assert_eq!(observe(kernel).veths()[&host].bridge, Some(name("pntbone")));
        pair.bridge = Some(name("nothere"));
        let error = kernel.apply(&[Step::create(name("pnthx"), pair)]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV));
        assert!(error.to_string().contains("there is no bridge nothere"), "{error}");
        let error = kernel.apply(&[Step::Change(host, Change::Mtu(70_000))]).unwrap_err();
        let KernelError::Refused { message, .. } = &error else { panic!("{error}") };
        assert!(message.contains("mtu greater than device maximum"), "{error}");
    });
}

#[test]
fn the_hosts_links_and_routes_are_read() {
    in_netns(|kernel| {
        assert_eq!(kernel.uplink_mtu().unwrap(), None);
        assert!(kernel.surroundings().unwrap().ways.is_empty());
        run("ip link add up0 mtu 1380 type veth peer name up1; ip link set up1 up; ip link set up0 up");
        run("ip -6 addr add 2001:db8:1::2/64 dev up0 nodad; ip -6 route add default via 2001:db8:1::1");
        assert_eq!(kernel.uplink_mtu().unwrap(), Some(1380), "IPv6 alone");
        run("ip link add up2 mtu 1420 type veth peer name up3; ip link set up3 up; ip link set up2 up");
        run(
            "ip addr add 192.0.3.2/24 dev up2; ip route add default via 192.0.3.1; ip route add 10.7.0.0/16 via 192.0.3.1",
        );
        assert_eq!(kernel.uplink_mtu().unwrap(), Some(1420), "IPv4 first");
        let expected = ["10.7.0.0/16", "192.0.3.0/24", "2001:db8:1::/64"].map(net);
        let mut around = kernel.surroundings().unwrap();
        around.ways.sort_by_key(|way| way.destination);
        assert_eq!(around.ways.iter().map(|way| way.destination).collect::<Vec<_>>(), expected);
        assert_eq!(
            around.ways.iter().map(|way| (way.yields, way.connected)).collect::<Vec<_>>(),
            [(true, false), (false, true), (false, true)]
        );
        assert_eq!(around.gateways, ["192.0.3.1", "2001:db8:1::1"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));
        assert_eq!(around.addresses.len(), 2);
        run("ip tuntap add tun0 mode tun; ip addr add 10.8.0.2/24 dev tun0; ip link set tun0 up");
        run(
            "ip route add 0.0.0.0/1 dev tun0; ip route add 128.0.0.0/1 via 10.8.0.1; ip route add 172.16.0.0/12 via 192.0.3.1 table 52",
        );
        run("ip route add 10.30.0.0/16 nexthop via 192.0.3.7 nexthop via 192.0.3.8");
        let around = kernel.surroundings().unwrap();
        for (destination, yields) in [
            ("0.0.0.0/1", true),
            ("128.0.0.0/1", true),
            ("172.16.0.0/12", true),
            ("10.30.0.0/16", true),
            ("10.8.0.0/24", false),
        ] {
            let way = around.ways.iter().find(|way| way.destination == net(destination)).unwrap();
            assert_eq!(way.yields, yields, "{destination}");
        }
        assert!(around.gateways.contains(&"192.0.3.7".parse().unwrap()));
        run("ip link del tun0; ip route del 10.30.0.0/16");
        run("ip link add docker0 type bridge; ip link add br-0123456789ab type bridge; ip link add br-lan type bridge");
        let bridges = |guarded| {
            let links = ["br-0123456789ab", "docker0"].map(name).into();
            EngineBridges { links, guarded }
        };
        assert_eq!(kernel.engine_bridges().unwrap(), bridges(false));
        // From 28 on the engine protects its own bridges, and its chain tells so for each family.
        run("iptables -N DOCKER-FORWARD");
        assert_eq!(kernel.engine_bridges().unwrap(), bridges(false), "IPv6 is left to Pontoon");
        run("ip6tables -N DOCKER-FORWARD");
        assert_eq!(kernel.engine_bridges().unwrap(), bridges(true));
        run("iptables -X DOCKER-FORWARD; ip6tables -X DOCKER-FORWARD; nft add table ip docker-bridges");
        assert_eq!(kernel.engine_bridges().unwrap(), bridges(false), "IPv6 is left to Pontoon");
        run("nft add table ip6 docker-bridges");
        assert_eq!(kernel.engine_bridges().unwrap(), bridges(true));
    });
}

#[test]
fn without_the_privilege_the_error_names_it() {
    let unprivileged = thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this test needs root");
        // SAFETY: a raw system call that changes the user of this thread only.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        pontoon::linux::LinuxKernel::new(pontoon::linux::Options::default()).map(drop)
    });
    let error = unprivileged.join().unwrap().unwrap_err();
    assert_eq!(error.errno(), Some(libc::EPERM));
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
}
