//! One suite for all implementations of the trait `Kernel`: the same cases on the fake and on the real one, so that
//! results on the fake also hold for the kernel. Needs root.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pontoon::datapath::fake::FakeKernel;
use pontoon::datapath::object::{HostChild, HostLink, Macvlan};
use pontoon::datapath::{
    Bridge, Change, Datapath, FastPath, Kernel, LinkProperty, Object, ObjectKind, Policy, Protected, ReserveError,
    Station, Step, Veth, Vxlan, diff,
};
use pontoon::linux::{LinuxKernel, Options};
use pontoon::model::kind::MacvlanMode;
use pontoon::model::{HostPort, IfName, Mac, Protocol, Published, Vni};

/// Runs a case on the fake and, in its own namespace, on the kernel.
fn on_both(case: fn(&dyn Kernel)) {
    case(&FakeKernel::new());
    std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace: run as root");
        let kernel: Arc<dyn Kernel> = Arc::new(LinuxKernel::new(Options::default()).unwrap());
        case(&*kernel);
    })
    .join()
    .unwrap();
}

fn name(text: &str) -> IfName {
    IfName::parse(text).unwrap()
}

fn bridge() -> Bridge {
    Bridge {
        owned: true,
        mac: Some(Mac::derive("bridge", "contract")),
        mtu: 1400,
        alias: "pontoon network contract".into(),
        addresses: ["10.77.0.1/24".parse().unwrap(), "fd77::1/64".parse().unwrap()].into(),
        ipv6: true,
        localnet: false,
        hardened: true,
        filters_vlans: false,
        up: true,
    }
}

fn veth(peer: &str, bridge: &str, isolated: bool) -> Veth {
    Veth {
        peer: name(peer),
        host_mac: Mac::derive("host", peer),
        peer_mac: Some(Mac::derive("peer", peer)),
        mtu: 1400,
        peer_mtu: 1400,
        bridge: Some(name(bridge)),
        isolated,
        vlans: None,
        hairpin: false,
        shape: None,
        arp: false,
        up: true,
    }
}

fn observe(kernel: &dyn Kernel) -> Datapath {
    let mut seen = kernel.observe(&BTreeSet::new()).unwrap();
    // The initial sysctls of a new namespace are not part of the contract.
    seen.forwarding = Default::default();
    for object in seen.objects.values_mut() {
        if let Object::Bridge(bridge) = object {
            bridge.alias.clear();
        }
    }
    seen
}

fn wanted() -> Datapath {
    let mut plain = bridge();
    plain.alias.clear();
    let mut datapath = Datapath::default();
    datapath.objects.insert(name("pntb1"), plain.into());
    for (host, peer, isolated) in [("pnth1", "pntc1", false), ("pnth2", "pntc2", true)] {
        let veth = Veth { peer_mac: None, ..veth(peer, "pntb1", isolated) };
        datapath.objects.insert(name(host), veth.into());
    }
    datapath.policy =
        Some([Policy::IntraNetwork(name("pntb1")), Policy::Masquerade("10.77.0.0/24".parse().unwrap())].into());
    datapath.fastpath = Some(BTreeSet::new());
    datapath
}

fn build() -> Vec<Step> {
    vec![
        Step::CreateFirewall(vec![Policy::IntraNetwork(name("pntb1"))]),
        Step::ChangeFirewall { add: vec![Policy::Masquerade("10.77.0.0/24".parse().unwrap())], remove: vec![] },
        Step::create(name("pntb1"), bridge()),
        Step::create(name("pnth1"), veth("pntc1", "pntb1", false)),
        Step::create(name("pnth2"), veth("pntc2", "pntb1", true)),
    ]
}

#[test]
fn applied_steps_are_observed_and_idempotent() {
    on_both(|kernel| {
        for _ in 0..2 {
            kernel.apply(&build()).unwrap();
            assert_eq!(observe(kernel), wanted());
        }
    });
}

#[test]
fn deleting_twice_is_no_error() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        let end = [
            Step::Delete(name("pnth1"), ObjectKind::Veth),
            Step::Delete(name("pnth2"), ObjectKind::Veth),
            Step::Delete(name("pntb1"), ObjectKind::Bridge),
            Step::ChangeFirewall {
                add: vec![],
                remove: vec![Policy::IntraNetwork(name("pntb1")), Policy::Masquerade("10.77.0.0/24".parse().unwrap())],
            },
        ];
        for _ in 0..2 {
            kernel.apply(&end).unwrap();
            assert!(kernel.settle(Duration::from_secs(10)));
            let nothing =
                Datapath { policy: Some(BTreeSet::new()), fastpath: Some(BTreeSet::new()), ..Datapath::default() };
            assert_eq!(observe(kernel), nothing);
        }
        kernel.apply(&build()).unwrap();
        assert_eq!(observe(kernel), wanted(), "the names are free again");
    });
}

#[test]
fn the_difference_to_any_drift_restores_the_state() {
    type Meddle = (&'static str, fn() -> Vec<Step>);
    let meddles: [Meddle; 6] = [
        ("a veth retired", || vec![Step::Delete(name("pnth2"), ObjectKind::Veth)]),
        ("a bridge retired", || vec![Step::Delete(name("pntb1"), ObjectKind::Bridge)]),
        ("isolation off", || vec![Step::Change(name("pnth2"), Change::Isolate(false))]),
        ("isolation on", || vec![Step::Change(name("pnth1"), Change::Isolate(true))]),
        ("an address removed", || {
            vec![Step::Change(name("pntb1"), Change::RemoveAddress("10.77.0.1/24".parse().unwrap()))]
        }),
        ("the table emptied", || vec![Step::CreateFirewall(vec![])]),
    ];
    for (what, meddle) in meddles {
        static MEDDLE: std::sync::Mutex<Option<Meddle>> = std::sync::Mutex::new(None);
        *MEDDLE.lock().unwrap() = Some((what, meddle));
        on_both(|kernel| {
            let (what, meddle) = MEDDLE.lock().unwrap().unwrap();
            kernel.apply(&build()).unwrap();
            kernel.apply(&meddle()).unwrap();
            kernel.settle(Duration::from_secs(10));
            let mut want = wanted();
            for (host, veth) in want.veths_mut() {
                veth.peer_mac = Some(Mac::derive("peer", &host.as_str().replace("pnth", "pntc")));
            }
            let plan = diff(&observe(kernel), &want, &Protected::default());
            assert!(!plan.steps.is_empty(), "{what}");
            kernel.apply(&plan.steps).unwrap();
            assert_eq!(observe(kernel), wanted(), "{what}");
            let rest = diff(&observe(kernel), &want, &Protected::default());
            assert_eq!(rest.steps, [], "{what}");
        });
    }
}

#[test]
fn a_port_of_no_bridge_and_a_change_of_no_table_are_refused() {
    on_both(|kernel| {
        let error = kernel.apply(&[Step::create(name("pnth1"), veth("pntc1", "pntb9", false))]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
        let error = kernel
            .apply(&[Step::ChangeFirewall {
                add: vec![Policy::Link(LinkProperty::ProtectedBridge, name("pntb1"))],
                remove: vec![],
            }])
            .unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT), "{error}");
        let nothing = Datapath { fastpath: Some(BTreeSet::new()), ..Datapath::default() };
        assert_eq!(observe(kernel), nothing, "neither leaves anything");
    });
}

#[test]
fn a_link_is_found_by_name() {
    on_both(|kernel| {
        assert_eq!(kernel.link(&name("pntb1")).unwrap(), None);
        kernel.apply(&build()).unwrap();
        let link = kernel.link(&name("pntb1")).unwrap().unwrap();
        assert_eq!((link.kind.as_str(), link.mtu, link.group), ("bridge", 1400, pontoon::datapath::GROUP_LIVE));
        assert_eq!(kernel.link(&name("pnth1")).unwrap().unwrap().kind, "veth");
        assert!(kernel.engine_bridges().unwrap().links.is_empty());
    });
}

fn published(port: u16, container: &str) -> Policy {
    let host = HostPort { protocol: Protocol::Tcp, address: "0.0.0.0".parse().unwrap(), port };
    Policy::Published(Published { host, container: container.parse().unwrap(), container_port: 80 })
}

#[test]
fn a_published_port_has_the_target_of_the_last_change() {
    on_both(|kernel| {
        kernel.apply(&[Step::CreateFirewall(vec![published(1, "10.77.0.2"), published(2, "10.77.0.2")])]).unwrap();
        let change = |add: &[Policy], remove: &[Policy]| {
            for _ in 0..2 {
                kernel.apply(&[Step::ChangeFirewall { add: add.to_vec(), remove: remove.to_vec() }]).unwrap();
            }
            observe(kernel).policy.unwrap()
        };
        // Removals come first, so that the key gets its new value.
        let held = change(&[published(1, "10.77.0.3")], &[published(1, "10.77.0.2")]);
        assert_eq!(held, [published(1, "10.77.0.3"), published(2, "10.77.0.2")].into());
        // Only exactly equal elements are removed, not another one with the same key.
        let held = change(&[], &[published(1, "10.77.0.2"), published(2, "10.77.0.2"), published(3, "10.77.0.2")]);
        assert_eq!(held, [published(1, "10.77.0.3")].into());
        let many: Vec<_> = (10..2010).map(|port| published(port, "10.77.0.4")).collect();
        assert_eq!(change(&many, &[published(1, "10.77.0.3")]), many.iter().cloned().collect());
        assert_eq!(change(&[], &many), BTreeSet::new());
    });
}

#[test]
fn hairpin_and_loopback_are_enabled_and_stay() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        for _ in 0..2 {
            kernel
                .apply(&[
                    Step::Change(name("pnth1"), Change::Hairpin),
                    Step::Change(name("pntb1"), Change::RouteLocalnet),
                ])
                .unwrap();
            let seen = observe(kernel);
            assert!(seen.veths()[&name("pnth1")].hairpin && !seen.veths()[&name("pnth2")].hairpin);
            assert!(seen.bridges()[&name("pntb1")].localnet);
        }
        for step in [Step::Change(name("pnth9"), Change::Hairpin), Step::Change(name("pntb9"), Change::RouteLocalnet)] {
            let error = kernel.apply(std::slice::from_ref(&step)).unwrap_err();
            assert_eq!(error.errno(), Some(libc::ENODEV), "{step:?}");
        }
        let mut both = veth("pntc3", "pntb1", true);
        both.hairpin = true;
        kernel.apply(&[Step::create(name("pnth3"), both)]).unwrap();
        let seen = observe(kernel);
        assert!(seen.veths()[&name("pnth3")].hairpin && seen.veths()[&name("pnth3")].isolated);
        kernel.apply(&[Step::FlushConntrack(vec!["10.77.0.2".parse().unwrap(), "fd77::2".parse().unwrap()])]).unwrap();
    });
}

fn vxlan(vni: u32, local: &str, peers: &[&str]) -> Vxlan {
    Vxlan {
        vni: Vni::new(vni).unwrap(),
        port: 4789,
        local: local.parse().unwrap(),
        mac: Mac::derive("vxlan", "contract"),
        mtu: 1400,
        bridge: Some(name("pntb1")),
        isolated: false,
        up: true,
        low_ports: true,
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
    }
}

/// Two tunnels, as with one network over IPv4 and another over IPv6.
fn tunnels() -> Datapath {
    let mut want = wanted();
    want.objects.insert(name("pntx1"), vxlan(70000, "127.0.0.1", &["192.0.2.2", "192.0.2.3"]).into());
    want.objects.insert(name("pntx2"), vxlan(70001, "::1", &["2001:db8::2"]).into());
    want
}

/// Changes the present state to `want`, with the MACs of the peer ends, which no kernel reports.
fn reach(kernel: &dyn Kernel, want: &Datapath) -> Vec<Step> {
    let mut want = want.clone();
    for (host, veth) in want.veths_mut() {
        veth.peer_mac = Some(Mac::derive("peer", &host.as_str().replace("pnth", "pntc")));
    }
    let plan = diff(&observe(kernel), &want, &Protected::default());
    kernel.apply(&plan.steps).unwrap();
    plan.steps
}

#[test]
fn tunnels_are_created_changed_and_deleted() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        let mut want = tunnels();
        reach(kernel, &want);
        assert_eq!(observe(kernel), want);
        assert_eq!(reach(kernel, &want), []);
        // Some attributes change in place; a change of the identity creates a new link with the name.
        let changes: [fn(&mut Vxlan); 7] = [
            |v| v.peers.extend(["192.0.2.9".parse::<std::net::IpAddr>().unwrap()]),
            |v| v.peers.retain(|peer| peer.to_string() != "192.0.2.2"),
            |v| v.mtu = 1350,
            |v| v.isolated = true,
            |v| v.vni = Vni::new(70002).unwrap(),
            |v| v.local = "127.0.0.2".parse().unwrap(),
            |v| v.port = 4790,
        ];
        for change in changes {
            let Some(Object::Vxlan(vxlan)) = want.objects.get_mut(&name("pntx1")) else { unreachable!() };
            change(vxlan);
            reach(kernel, &want);
            assert_eq!(observe(kernel), want);
        }
        for _ in 0..2 {
            // Adding existing peers and removing missing ones is no error.
            let (add, remove) = (vec!["192.0.2.3".parse().unwrap()], vec!["192.0.2.77".parse().unwrap()]);
            kernel.apply(&[Step::Change(name("pntx1"), Change::Flood { add, remove })]).unwrap();
            kernel.apply(&[Step::create(name("pntx1"), want.vxlans()[&name("pntx1")].clone())]).unwrap();
        }
        assert_eq!(observe(kernel), want);
        let gone = wanted();
        for _ in 0..2 {
            kernel
                .apply(&[
                    Step::Delete(name("pntx1"), ObjectKind::Vxlan),
                    Step::Delete(name("pntx2"), ObjectKind::Vxlan),
                ])
                .unwrap();
            assert!(kernel.settle(Duration::from_secs(10)));
            assert_eq!(observe(kernel), gone);
        }
    });
}

#[test]
fn fast_paths_are_created_changed_and_deleted() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        let mut want = tunnels();
        let port = |host: &str, addresses: &[&str]| FastPath::Port {
            tunnel: name("pntx1"),
            port: name(host),
            mac: Mac::derive("peer", host),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let network = FastPath::Network { tunnel: name("pntx1"), gateway: Mac::derive("bridge", "one") };
        for shortcuts in [
            vec![network.clone()],
            vec![network.clone(), port("pnth1", &["10.77.0.2", "fd00::2"]), port("pnth2", &[])],
            vec![network.clone(), port("pnth1", &["10.77.0.3"]), port("pnth2", &["10.77.0.4"])],
            vec![network, port("pnth2", &["10.77.0.4"])],
            vec![],
        ] {
            want.fastpath = Some(shortcuts.into_iter().collect());
            assert!(!reach(kernel, &want).is_empty());
            assert_eq!(observe(kernel), want);
            assert_eq!(reach(kernel, &want), []);
        }
        // A port without its network's fast path has no effect.
        let alone =
            Step::FastPath { add: vec![port("pnth1", &["10.77.0.2"])], remove: vec![port("pnth2", &["10.77.0.4"])] };
        kernel.apply(&[alone]).unwrap();
        assert_eq!(observe(kernel), want);
    });
}

#[test]
fn fast_paths_of_neighbours_are_created_changed_and_deleted() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        let mut want = tunnels();
        let neighbour = |host: &str, addresses: &[&str]| FastPath::Neighbour {
            bridge: name("pntb1"),
            port: name(host),
            mac: Mac::derive("peer", host),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let bridge = FastPath::Bridge { bridge: name("pntb1") };
        for shortcuts in [
            vec![bridge.clone()],
            vec![bridge.clone(), neighbour("pnth1", &["10.77.0.2", "fd00::2"]), neighbour("pnth2", &["10.77.0.4"])],
            vec![bridge.clone(), neighbour("pnth1", &["10.77.0.3"]), neighbour("pnth2", &["fd00::4"])],
            vec![bridge, neighbour("pnth2", &["fd00::4"])],
            vec![],
        ] {
            want.fastpath = Some(shortcuts.into_iter().collect());
            assert!(!reach(kernel, &want).is_empty());
            assert_eq!(observe(kernel), want);
            assert_eq!(reach(kernel, &want), []);
        }
        // A container without its network's fast path has no effect.
        let (add, remove) = (neighbour("pnth1", &["10.77.0.2"]), neighbour("pnth2", &["10.77.0.4"]));
        kernel.apply(&[Step::FastPath { add: vec![add], remove: vec![remove] }]).unwrap();
        assert_eq!(observe(kernel), want);
    });
}

#[test]
fn renamed_links_get_their_names_back() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        let mut want = tunnels();
        reach(kernel, &want);
        for (own, other) in [("pntb1", "other"), ("pnth1", "foo"), ("pnth2", "pnthfoo"), ("pntx1", "pntxfoo")] {
            let there = observe(kernel);
            kernel.apply(&[Step::Rename { from: name(own), to: name(other) }]).unwrap();
            assert_ne!(observe(kernel), there);
            want.sandboxed = [name("pnth1"), name("pnth2")].into();
            let plan = diff(&observe(kernel), &want, &Protected::default());
            assert_eq!(plan.steps, [Step::Rename { from: name(other), to: name(own) }]);
            assert!(plan.dead.is_empty(), "{own} is not dead");
            for _ in 0..2 {
                kernel.apply(&plan.steps).unwrap();
                assert_eq!(observe(kernel), there);
            }
        }
        let error = kernel.apply(&[Step::Rename { from: name("pnth1"), to: name("pnth2") }]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
        let error = kernel.apply(&[Step::Rename { from: name("pnth8"), to: name("pnth9") }]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
    });
}

#[test]
fn a_pair_without_pontoons_names_is_not_touched() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        let want = wanted();
        kernel.apply(&[Step::create(name("mine1"), veth("mine2", "pntb1", false))]).unwrap();
        let mut there = observe(kernel);
        assert_eq!(diff(&there, &want, &Protected::default()).steps, []);
        // Its other end is back on the host and identifies the endpoint.
        kernel.apply(&[Step::create(name("foo"), veth("pntc9", "pntb1", false))]).unwrap();
        let steps = diff(&observe(kernel), &want, &Protected::default()).steps;
        assert_eq!(steps, [Step::Delete(name("foo"), ObjectKind::Veth)]);
        kernel.apply(&steps).unwrap();
        assert!(kernel.settle(Duration::from_secs(10)));
        there.objects.remove(&name("foo"));
        assert_eq!(observe(kernel), there);
    });
}

#[test]
fn a_vni_is_exclusive_and_free_again_at_once() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        let one = vxlan(70000, "127.0.0.1", &[]);
        kernel.apply(&[Step::create(name("pntx1"), one.clone())]).unwrap();
        let error = kernel.apply(&[Step::create(name("pntx2"), one.clone())]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
        // The deletion continues in the background, and is awaited where necessary.
        kernel
            .apply(&[Step::Delete(name("pntx1"), ObjectKind::Vxlan), Step::create(name("pntx2"), one.clone())])
            .unwrap();
        assert_eq!(observe(kernel).vxlans().keys().collect::<Vec<_>>(), [&name("pntx2")]);
        let error =
            kernel.apply(&[Step::Change(name("pntx1"), Change::Flood { add: vec![], remove: vec![] })]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
        assert!(kernel.heard().unwrap().is_empty());
    });
}

#[test]
fn ports_are_reserved_all_or_none() {
    on_both(|kernel| {
        let port = |protocol, address: &str, port| HostPort { protocol, address: address.parse().unwrap(), port };
        let any = port(Protocol::Tcp, "0.0.0.0", 7001);
        let others = [port(Protocol::Tcp, "::", 7001), port(Protocol::Udp, "0.0.0.0", 7001)];
        kernel.reserve(&[any]).unwrap();
        kernel.reserve(&[any]).unwrap();
        kernel.reserve(&others).unwrap();
        let second = [port(Protocol::Udp, "0.0.0.0", 7002), port(Protocol::Tcp, "127.0.0.1", 7001)];
        let error = kernel.reserve(&second).unwrap_err();
        assert!(matches!(error, ReserveError::Taken { port } if port == second[1]), "{error}");
        kernel.release(&[any, any]);
        kernel.reserve(&second).unwrap();
        let (range, _) = kernel.ephemeral_ports().unwrap();
        assert!(range.start() < range.end());
    });
}

#[test]
fn the_host_reaches_stations_by_a_host_link() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        let link = name("pntshost");
        let host = HostLink {
            parent: name("pntb1"),
            child: HostChild::Macvlan { mac: Mac::derive("host_link", "h"), addressed: true },
            quiet: true,
            up: true,
        };
        let station = |address: &str, mac: &str| Station {
            link: name("pntshost"),
            address: address.parse().unwrap(),
            mac: Some(Mac::derive("peer", mac)),
        };
        let mut want = wanted();
        want.objects.insert(link.clone(), host.into());
        want.stations = [station("10.77.0.9", "a"), station("fd77::9", "a"), station("10.77.0.10", "b")].into();
        reach(kernel, &want);
        assert_eq!(observe(kernel), want);
        assert_eq!(reach(kernel, &want), []);
        // One address moves to another container, another one is removed.
        want.stations = [station("10.77.0.9", "c"), station("fd77::9", "a")].into();
        reach(kernel, &want);
        assert_eq!(observe(kernel), want);
        assert_eq!(reach(kernel, &want), []);
        let gone = Step::Stations { add: vec![], remove: vec![station("10.77.0.99", "x"), station("fd77::99", "x")] };
        kernel.apply(&[gone]).unwrap();
        assert_eq!(observe(kernel), want);
        // Stations are removed with the link, and restored with it.
        kernel.apply(&[Step::Delete(link.clone(), ObjectKind::HostLink)]).unwrap();
        assert!(kernel.settle(Duration::from_secs(10)));
        assert_eq!(observe(kernel), wanted());
        let late = Step::Stations { add: vec![station("10.77.0.9", "c")], remove: vec![] };
        assert_eq!(kernel.apply(&[late]).unwrap_err().errno(), Some(libc::ENODEV));
        reach(kernel, &want);
        assert_eq!(observe(kernel), want);
    });
}

#[test]
fn child_links_are_created_changed_and_deleted() {
    on_both(|kernel| {
        kernel.apply(&build()).unwrap();
        let child =
            Macvlan { parent: name("pntb1"), mode: MacvlanMode::Vepa, mac: Mac::derive("peer", "m"), mtu: 1300 };
        let mut want = wanted();
        want.objects.insert(name("pntcm"), child.clone().into());
        reach(kernel, &want);
        assert_eq!(observe(kernel), want);
        assert_eq!(reach(kernel, &want), []);
        let changes: [fn(&mut Macvlan); 3] =
            [|m| m.mtu = 1400, |m| m.mac = Mac::derive("peer", "other"), |m| m.mode = MacvlanMode::Private];
        for change in changes {
            let Some(Object::Macvlan(child)) = want.objects.get_mut(&name("pntcm")) else { unreachable!() };
            change(child);
            reach(kernel, &want);
            assert_eq!(observe(kernel), want);
        }
        for _ in 0..2 {
            kernel.apply(&[Step::Delete(name("pntcm"), ObjectKind::Macvlan)]).unwrap();
            assert!(kernel.settle(Duration::from_secs(10)));
            assert_eq!(observe(kernel), wanted());
        }
    });
}
