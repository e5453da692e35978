//! Limits of containers: they read back, are repaired after any drift, and hold with packets in both directions.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pontoon::datapath::plan::diff;
use pontoon::datapath::{Datapath, Kernel, Protected, Step, kind};
use pontoon::linux::LinuxKernel;
use pontoon::linux::watch::Event;
use pontoon::model::{
    Attachment, Endpoint, EndpointId, EndpointOptions, EndpointSpec, IfName, LimitOptions, LinkRole, Mac, Network,
    NetworkId, NetworkKind, NetworkOptions, NetworkSpec, Phase, Subnet,
};

use testkit::netns::*;
use testkit::throughput::{tcp, udp};

/// What may pass of a rate on a machine with other work: 3 to 6 % are headers.
const BAND: std::ops::Range<f64> = 0.7..1.1;

fn limits(rate_in: Option<&str>, rate_out: Option<&str>) -> LimitOptions {
    let rate = |text: Option<&str>| text.map(|text| text.parse().unwrap());
    LimitOptions { rate_in: rate(rate_in), rate_out: rate(rate_out), ..LimitOptions::default() }
}

/// Network 10.1.0.0/24 and fd00:1::/64 with containers of these limits, `.2` and further.
fn host(containers: &[LimitOptions]) -> Datapath {
    let subnet = |pool: &str, gateway: &str| {
        let gateway = Some(gateway.parse().unwrap());
        Some(Subnet { pool: net(pool), gateway, default_gateway: None, aux: vec![] })
    };
    let id = NetworkId::parse("one").unwrap();
    let (v4, v6) = (subnet("10.1.0.0/24", "10.1.0.1"), subnet("fd00:1::/64", "fd00:1::1"));
    let spec = NetworkSpec { id, v4, v6, internal: true, options: NetworkOptions::default() };
    let network =
        Network { spec, kind: NetworkKind::Bridge { bridge: name("pntbone") }, mtu: 1500, stored: Default::default() };
    let mut all =
        Datapath { policy: Some(Default::default()), fastpath: Some(Default::default()), ..Datapath::default() };
    kind::add(&mut all, kind::network(&network));
    for (at, limits) in (2..).zip(containers) {
        kind::add(&mut all, kind::endpoint(&network, &endpoint(&network, at, *limits)));
    }
    // Nothing of it is on this host.
    (all.forward4, all.forward6) = (None, None);
    all
}

fn endpoint(network: &Network, at: usize, limits: LimitOptions) -> Endpoint {
    let id = format!("c{at}");
    Endpoint {
        lease: None,
        slaac: None,
        spec: EndpointSpec {
            network: network.spec.id.clone(),
            id: EndpointId::parse(&id).unwrap(),
            v4: Some(net(&format!("10.1.0.{at}/24"))),
            v6: Some(net(&format!("fd00:1::{at}/64"))),
            mac: None,
            options: EndpointOptions { limits, ..EndpointOptions::default() },
        },
        attachment: Attachment::Veth {
            host: IfName::derive(LinkRole::Host, &id, 0),
            peer: IfName::derive(LinkRole::Peer, &id, 0),
        },
        mac: Mac::derive("peer", &id),
        phase: Phase::Ready,
        since: 0,
        sandbox: String::new(),
        bindings: vec![],
        v4_only: false,
        stored: Default::default(),
        published: vec![],
    }
}

/// The steps from the kernel to what is wanted.
fn missing(kernel: &LinuxKernel, want: &Datapath) -> Vec<Step> {
    let have = observe(kernel);
    diff(&have, &Datapath { stations: have.stations.clone(), ..want.clone() }, &Protected::default()).steps
}

fn create(kernel: &LinuxKernel, want: &Datapath) {
    let steps = missing(kernel, want);
    twice(kernel, &steps);
    assert_eq!(missing(kernel, want), [], "it reads back");
}

fn queues(link: &str) -> String {
    run(&format!("tc qdisc show dev {link}"))
}

#[test]
fn limits_read_back_and_every_drift_is_repaired() {
    in_netns(|kernel| {
        let want = host(&[limits(Some("50mbit"), Some("10mbit")), limits(None, None)]);
        create(kernel, &want);
        assert!(queues("pnthc2").contains("tbf 706e: root") && queues("pnthc2").contains("rate 50Mbit"));
        assert!(queues("pntqc2").contains("rate 10Mbit"));
        let fair = {
            run("ip link add name try0 type veth peer name try1");
            let there = succeeds("tc qdisc add dev try0 root fq_codel");
            run("ip link del try0");
            there
        };
        assert!(queues("pnthc2").contains(if fair { "fq_codel 706f:" } else { "bfifo 706f:" }), "{}", queues("pnthc2"));
        assert!(queues("pnthc3").contains("noqueue") && !run("ip link show").contains("pntqc3"), "it has no limits");
        for drift in [
            "tc qdisc del dev pnthc2 root",
            "tc qdisc del dev pnthc2 parent 706e:1",
            "tc qdisc replace dev pnthc2 root handle 1: pfifo",
            "tc qdisc change dev pnthc2 root handle 706e: tbf rate 60mbit burst 16kb latency 50ms",
            "tc qdisc change dev pnthc2 root handle 706e: tbf rate 50mbit burst 160kb latency 50ms",
            "tc qdisc del dev pntqc2 root",
            "ip link set dev pntqc2 down",
            "ip link del pntqc2; ip link add name pntqc2 group 1886286849 up type ifb",
            "ip link del pntqc2",
            "ip link set dev pntqc2 down; ip link set dev pntqc2 name other",
            "nft delete chain netdev pontoon pntqc2",
            "nft flush chain netdev pontoon pntqc2",
            "nft delete table netdev pontoon",
        ] {
            run(drift);
            let steps = missing(kernel, &want);
            assert_ne!(steps, [], "{drift}");
            kernel.apply(&steps).unwrap();
            // The index of a link that was renamed or created again is in a rule.
            kernel.apply(&missing(kernel, &want)).unwrap();
            assert_eq!(missing(kernel, &want), [], "{drift}");
        }
        // A change in place, and no limit any more.
        for next in [limits(Some("80mbit"), Some("1gbit")), limits(None, Some("1gbit")), limits(None, None)] {
            let want = host(&[next, limits(None, None)]);
            kernel.apply(&missing(kernel, &want)).unwrap();
            settle(kernel);
            assert_eq!(missing(kernel, &want), [], "{next:?}");
        }
        assert!(queues("pnthc2").contains("noqueue") && !run("nft list ruleset").contains("pntqc2"));
    });
}

#[test]
fn commands_create_what_the_steps_create() {
    in_netns(|kernel| {
        let want = host(&[limits(Some("50mbit"), Some("10mbit"))]);
        let steps = missing(kernel, &want);
        let of_limits = |step: &Step| match step {
            Step::Create(name, _) => name.as_str().starts_with("pntq"),
            step => matches!(step, Step::FastPath { .. }),
        };
        let (limiting, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(of_limits);
        kernel.apply(&others).unwrap();
        run("tc qdisc del dev pnthc2 root");
        for step in limiting.iter().chain(&missing(kernel, &want)) {
            for command in kernel.commands(step).iter().filter(|line| !line.starts_with('#')) {
                run(command);
                run(command);
            }
        }
        let left = missing(kernel, &want);
        // `tc` rounds the size of a bucket.
        let changes_bucket = |step: &Step| matches!(step, Step::Change(_, pontoon::datapath::Change::Shape(_)));
        assert!(left.iter().all(changes_bucket), "{left:?}");
    });
}

#[test]
fn the_removal_of_a_limit_is_reported() {
    in_netns(|kernel| {
        let (send, events) = mpsc::channel();
        let _watch = kernel.watch(Box::new(move |event| drop(send.send(event)))).unwrap();
        let want = host(&[limits(Some("50mbit"), Some("10mbit"))]);
        create(kernel, &want);
        while events.recv_timeout(Duration::from_millis(1200)).is_ok() {}
        for (drift, link) in
            [("tc qdisc del dev pnthc2 root", "pnthc2"), ("tc qdisc replace dev pntqc2 root handle 1: pfifo", "pntqc2")]
        {
            run(drift);
            let wanted = Event::LinkChanged(name(link));
            wait_for(drift, || events.try_iter().any(|event| event == wanted));
            kernel.apply(&missing(kernel, &want)).unwrap();
            let own = events.recv_timeout(Duration::from_millis(300));
            assert_eq!(own, Err(mpsc::RecvTimeoutError::Timeout), "Pontoon's own repair");
        }
    });
}

/// A busy machine may disturb a measurement, but not each of several.
#[track_caller]
fn is_in(what: &str, mut measure: impl FnMut() -> f64, rate: f64) {
    let mut ratios = Vec::new();
    while ratios.last().is_none_or(|ratio| !BAND.contains(ratio)) {
        assert!(ratios.len() < 4, "{what}: {ratios:?} of {rate} bit/s");
        ratios.push(measure() / rate);
    }
    eprintln!("{what}: {ratios:?} of {rate}");
}

#[test]
fn packets_pass_at_the_rate_in_both_directions() {
    in_netns(|kernel| {
        let second = Duration::from_millis(1500);
        // A guest on a busy machine may notice a timer tens of milliseconds late: the bucket must hold as much.
        let all = [(Some("12mbit"), Some("8mbit")), (Some("10mbit"), None), (None, Some("10mbit")), (None, None)];
        let burst = Some("64kb".parse().unwrap());
        create(kernel, &host(&all.map(|(rate_in, rate_out)| LimitOptions { burst, ..limits(rate_in, rate_out) })));
        let container = |at: usize| {
            let container = Netns::new();
            container.take(&format!("pntcc{at}"), &format!("10.1.0.{at}/24"), "10.1.0.1");
            container
        };
        let [both, only_in, only_out, free] = [2, 3, 4, 5].map(container);
        wait_for("the first packet", || both.pings("10.1.0.5") && only_in.pings("10.1.0.4"));
        let (host, free) = (None, Some(&free));
        // From and to the host, and between containers on the bridge.
        is_in("tcp in", || tcp(host, Some(&both), "10.1.0.2:0", false, second), 12e6);
        is_in("tcp out", || tcp(host, Some(&both), "10.1.0.2:0", true, second), 8e6);
        is_in("tcp in, from a container", || tcp(free, Some(&both), "10.1.0.2:0", false, second), 12e6);
        is_in("tcp out, to a container", || tcp(free, Some(&both), "10.1.0.2:0", true, second), 8e6);
        is_in("udp in", || udp(host, Some(&both), "10.1.0.2:0", second), 12e6);
        is_in("udp out", || udp(Some(&both), host, "10.1.0.1:0", second), 8e6);
        // A direction without a limit has none.
        let out = tcp(host, Some(&only_in), "10.1.0.3:0", true, second);
        assert!(out > 3.0 * 10e6, "{out}");
        let into = tcp(host, Some(&only_out), "10.1.0.4:0", false, second);
        assert!(into > 3.0 * 10e6, "{into}");
        is_in("the smaller of two limits", || tcp(Some(&both), Some(&only_in), "10.1.0.3:0", false, second), 8e6);
    });
}

#[test]
fn a_frame_to_the_bridge_itself_is_dropped_before_it_is_limited() {
    in_netns(|kernel| {
        let want = host(&[limits(None, Some("10mbit"))]);
        create(kernel, &want);
        let port = name("pnthc2");
        let guard = Step::FastPath { add: vec![pontoon::datapath::FastPath::Guard { port }], remove: vec![] };
        twice(kernel, &[guard]);
        let container = Netns::new();
        container.take("pntcc2", "10.1.0.2/24", "10.1.0.1");
        wait_for("a packet", || container.pings("10.1.0.1"));
        container.run("ip neigh replace 10.1.0.9 lladdr 01:80:c2:00:00:02 dev eth0");
        assert!(!container.pings("10.1.0.9"));
        let rules = run("nft list chain netdev pontoon pnthc2");
        assert!(rules.contains("counter packets") && !rules.contains("counter packets 0 "), "{rules}");
    });
}

fn connections(max: Option<&str>, rate: Option<&str>, packets: Option<&str>) -> LimitOptions {
    LimitOptions {
        connections: max.map(|text| text.parse().unwrap()),
        connection_rate: rate.map(|text| text.parse().unwrap()),
        packet_rate: packets.map(|text| text.parse().unwrap()),
        ..LimitOptions::default()
    }
}

/// A server that keeps connections until the client ends them.
fn keep_connections(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {});
        }
    });
}

fn connect(address: &str) -> Option<TcpStream> {
    TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_millis(700)).ok()
}

#[test]
fn limits_of_connections_read_back_and_every_drift_is_repaired() {
    in_netns(|kernel| {
        let limited = connections(Some("500"), Some("50/s"), Some("5000/s"));
        let want = host(&[limited, limits(None, None)]);
        create(kernel, &want);
        let rules = run("nft list ruleset");
        for text in [
            "10.1.0.2 ct count over 500",
            "10.1.0.2 limit rate over 50/second",
            "limit rate over 5000/second burst 500",
        ] {
            assert!(rules.contains(text), "{text}: {rules}");
        }
        assert!(!rules.contains("pnthc3_packets") && !rules.contains("10.1.0.3 ct"), "it has no limits");
        for drift in [
            "nft flush set ip pontoon conn_max4",
            "nft delete element ip pontoon conn_max4 '{ 10.1.0.2 }'; nft add element ip pontoon conn_max4 '{ 10.1.0.2 ct count over 501 }'",
            "nft add element ip pontoon conn_max4 '{ 10.1.0.99 ct count over 5 }'",
            "nft delete table ip pontoon",
            "nft delete table ip6 pontoon",
            "nft flush chain ip pontoon forward_limits",
            "nft add chain ip pontoon other",
            "nft flush chain netdev pontoon pnthc2_packets",
            "nft delete chain netdev pontoon pnthc2_packets",
        ] {
            run(drift);
            let steps = missing(kernel, &want);
            assert_ne!(steps, [], "{drift}");
            kernel.apply(&steps).unwrap();
            assert_eq!(missing(kernel, &want), [], "{drift}");
        }
        for next in [connections(Some("7"), None, Some("70/s")), limits(None, None)] {
            let want = host(&[next, limits(None, None)]);
            kernel.apply(&missing(kernel, &want)).unwrap();
            assert_eq!(missing(kernel, &want), [], "{next:?}");
        }
        assert!(!run("nft list ruleset").contains("10.1.0.2 ct count"));
    });
}

/// What is open stays open, whatever happens to other containers and to the limit.
#[test]
fn connections_end_at_the_limit_and_others_change_nothing() {
    in_netns(|kernel| {
        let mut all = vec![connections(Some("3"), None, None), limits(None, None)];
        let want = host(&all);
        create(kernel, &want);
        let [container, other] = [2, 3].map(|at| {
            let container = Netns::new();
            container.take(&format!("pntcc{at}"), &format!("10.1.0.{at}/24"), "10.1.0.1");
            container
        });
        wait_for("the first packet", || container.pings("10.1.0.1") && other.pings("10.1.0.1"));
        keep_connections("10.1.0.1:80");
        container.enter(|| keep_connections("10.1.0.2:80"));
        let to_host = || container.enter(|| connect("10.1.0.1:80"));
        // Those of the host to the container count, too. Pings were connections, for half a minute.
        run("conntrack -F");
        let mut open = vec![to_host().expect("the first"), connect("10.1.0.2:80").expect("the second")];
        open.push(to_host().expect("the third"));
        assert!(to_host().is_none() && connect("10.1.0.2:80").is_none(), "the fourth");
        assert!(other.enter(|| (0..6).all(|_| connect("10.1.0.1:80").is_some())), "a container without a limit");
        // Another container with a limit, and other limits.
        all[1] = connections(Some("9"), Some("90/s"), None);
        all.push(connections(Some("5"), None, None));
        kernel.apply(&missing(kernel, &host(&all))).unwrap();
        assert!(to_host().is_none(), "it still has three");
        drop(open.pop());
        wait_for("the end of the third", || to_host().map(|stream| open.push(stream)).is_some());
        assert!(to_host().is_none());
        all[0] = connections(Some("4"), None, None);
        kernel.apply(&missing(kernel, &host(&all))).unwrap();
        assert!(to_host().is_some(), "a higher limit");
        let dropped = run("nft list chain ip pontoon input_limits");
        assert!(
            dropped.contains("pontoon.conn.max of the client")
                && !dropped.contains("counter packets 0 bytes 0 drop comment \"above pontoon.conn.max"),
            "{dropped}"
        );
    });
}

/// At the limit of IPv6 connections, neighbours are still found.
#[test]
fn neighbour_discovery_is_no_connection() {
    in_netns(|kernel| {
        create(kernel, &host(&[connections(Some("1"), Some("1/s"), None)]));
        let container = Netns::new();
        container.take("pntcc2", "10.1.0.2/24", "10.1.0.1");
        container.run("ip address add fd00:1::2/64 dev eth0 nodad");
        let listener = TcpListener::bind("[::]:80").unwrap();
        let to_host = || container.enter(|| connect("[fd00:1::1]:80"));
        let mut open = None;
        wait_for("the first connection", || {
            open = to_host();
            open.is_some()
        });
        let found = || container.run("ip -6 neigh show fd00:1::1").contains("lladdr");
        for _ in 0..8 {
            container.run("ip -6 neigh flush dev eth0");
            run("ip -6 neigh flush dev pntbone");
            assert!(to_host().is_none(), "the second connection");
            assert!(found(), "{}", container.run("ip -6 neigh show"));
        }
        drop((listener, open));
    });
}

/// A flood from a container neither fills the connection table nor reaches the host at its own rate.
#[test]
fn floods_end_at_their_rates() {
    in_netns(|kernel| {
        let want = host(&[connections(None, Some("50/s"), None), connections(None, None, Some("100/s"))]);
        create(kernel, &want);
        let [connecting, sending] = [2, 3].map(|at| {
            let container = Netns::new();
            container.take(&format!("pntcc{at}"), &format!("10.1.0.{at}/24"), "10.1.0.1");
            container
        });
        wait_for("the first packet", || connecting.pings("10.1.0.1") && sending.pings("10.1.0.1"));
        run("conntrack -F; conntrack -F");
        // 400 flows within two seconds: what passes are the burst and the rate.
        let begun = Instant::now();
        connecting.enter(|| {
            for port in 0..400 {
                let socket = UdpSocket::bind("10.1.0.2:0").unwrap();
                let _ = socket.send_to(b"x", ("10.1.0.1", 9000 + port));
                thread::sleep(Duration::from_millis(5));
            }
        });
        let most = 5.0 + 50.0 * begun.elapsed().as_secs_f64();
        let tracked = run("conntrack -L -s 10.1.0.2 2>/dev/null").lines().count() as f64;
        assert!(tracked > 0.5 * most.min(400.0) && tracked <= most + 2.0, "{tracked} flows, at most {most}");

        let receiver = UdpSocket::bind("10.1.0.1:7000").unwrap();
        receiver.set_nonblocking(true).unwrap();
        let begun = Instant::now();
        sending.enter(|| {
            let socket = UdpSocket::bind("10.1.0.3:0").unwrap();
            for _ in 0..1000 {
                let _ = socket.send_to(b"x", "10.1.0.1:7000");
                thread::sleep(Duration::from_millis(1));
            }
        });
        let most = 10.0 + 100.0 * begun.elapsed().as_secs_f64();
        let mut received = 0.0;
        while receiver.recv(&mut [0; 8]).is_ok() {
            received += 1.0;
        }
        assert!(received > 0.5 * most && received <= most + 2.0, "{received} packets, at most {most}");
    });
}

/// What each limit adds to the creation of a container's links and rules, all other things equal.
#[test]
#[ignore = "a measurement: cargo test --release --test netns_linux -- --ignored --nocapture limits"]
fn measure_what_limits_cost_at_creation() {
    in_netns(|kernel| {
        let kinds = [
            ("none", limits(None, None)),
            ("in", limits(Some("50mbit"), None)),
            ("out", limits(None, Some("10mbit"))),
            ("connections", connections(Some("500"), Some("50/s"), None)),
            ("packets", connections(None, None, Some("5000/s"))),
        ];
        let without = host(&[]);
        create(kernel, &without);
        let mut times = kinds.map(|_| Vec::new());
        for round in 0..500 {
            let which = round % kinds.len();
            let want = host(&[kinds[which].1]);
            let before = &without;
            let plan = diff(before, &want, &Protected::default());
            let begun = Instant::now();
            kernel.apply(&plan.steps).unwrap();
            times[which].push(begun.elapsed().as_micros());
            kernel.apply(&diff(&want, before, &Protected::default()).steps).unwrap();
            settle(kernel);
        }
        for ((what, _), times) in kinds.iter().zip(&mut times) {
            times.sort_unstable();
            eprintln!("{what}: median {} us, p10 {} us", times[times.len() / 2], times[times.len() / 10]);
        }
    });
}
