//! Measurements, not tests.

use std::time::Instant;

use pontoon::datapath::{GROUP_LIVE, Kernel, LinkProperty, ObjectKind, Policy, Step};
use pontoon::model::Mac;

use testkit::netns::*;

/// Compares the typed builders and Pontoon's socket with the bare system calls.
#[test]
#[ignore = "a measurement: cargo test --test netns_linux -- --ignored --nocapture"]
fn measure_the_creation_of_a_pair() {
    use pontoon::linux::netlink::{CREATE, EXCLUSIVE, OwnPorts, Protocol, Socket};
    use pontoon::linux::tlv::Writer;
    in_netns(|kernel| {
        kernel.apply(&[Step::create(name("pntbone"), bridge("one", &[]))]).unwrap();
        let master: u32 = run("cat /sys/class/net/pntbone/ifindex || true")
            .trim()
            .parse()
            .unwrap_or_else(|_| run("ip -o link show pntbone").split(':').next().unwrap().parse().unwrap());
        let mut raw = Socket::open(Protocol::Route, OwnPorts::default().into()).unwrap();
        let mut times: [Vec<u128>; 2] = [vec![], vec![]];
        for round in 0..300 {
            let (host, pair) = veth(&format!("m{round}"), "pntbone");
            let begun = Instant::now();
            if round % 2 == 0 {
                kernel.apply(&[Step::create(host.clone(), pair)]).unwrap();
            } else {
                let end = |body: &mut Writer, link: &str, mac: Mac| {
                    body.text(3, link).native(4, 1500).bytes(1, &mac.bytes()).native(31, 1).native(32, 1);
                };
                let mut body = Writer::with_header(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
                end(&mut body, host.as_str(), pair.host_mac);
                body.native(27, GROUP_LIVE).native(10, master).nest(18, |info| {
                    info.text(1, "veth").nest(2, |data| {
                        let mut peer = Writer::with_header(&[0; 16]);
                        end(&mut peer, pair.peer.as_str(), pair.peer_mac.unwrap());
                        data.bytes(1, &peer.finish());
                    });
                });
                raw.execute(16, CREATE | EXCLUSIVE, &body.finish()).unwrap();
            }
            times[round % 2].push(begun.elapsed().as_micros());
            kernel.apply(&[Step::Delete(host, ObjectKind::Veth)]).unwrap();
            if round % 50 == 0 {
                settle(kernel);
            }
        }
        for (what, times) in ["CreateVeth through apply", "hand-encoded message"].iter().zip(&mut times) {
            times.sort_unstable();
            eprintln!("{what}: median {} us, p10 {} us", times[times.len() / 2], times[times.len() / 10]);
        }
    });
}

#[test]
#[ignore = "a measurement: cargo test --test netns_linux -- --ignored --nocapture"]
fn measure_observing_many_links() {
    in_netns(|kernel| {
        let made = [Step::create(name("pntbone"), bridge("one", &["10.1.0.1/24"])), Step::CreateFirewall(vec![])];
        kernel.apply(&made).unwrap();
        for round in 0..500 {
            let (host, pair) = veth(&format!("m{round}"), "pntbone");
            kernel.apply(&[Step::create(host, pair)]).unwrap();
        }
        let mut times: Vec<_> = (0..21)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(observe(kernel).veths().len(), 500);
                begun.elapsed().as_micros()
            })
            .collect();
        times.sort_unstable();
        eprintln!("observe with 1002 links: median {} us", times[10]);
        let element = Policy::Link(LinkProperty::ProtectedBridge, name("pntbone"));
        let mut times: Vec<_> = (0..201)
            .map(|_| {
                let begun = Instant::now();
                kernel.apply(&[Step::ChangeFirewall { add: vec![element.clone()], remove: vec![] }]).unwrap();
                let taken = begun.elapsed().as_micros();
                kernel.apply(&[Step::ChangeFirewall { add: vec![], remove: vec![element.clone()] }]).unwrap();
                taken
            })
            .collect();
        times.sort_unstable();
        eprintln!("one element added: median {} us", times[100]);
        let retire: Vec<_> =
            observe(kernel).veths().keys().cloned().map(|host| Step::Delete(host, ObjectKind::Veth)).collect();
        let begun = Instant::now();
        kernel.apply(&retire).unwrap();
        settle(kernel);
        eprintln!("500 veths retired and gone after {:?}", begun.elapsed());
    });
}

/// 200 ports of a container, with the elements of which thousands may exist.
fn ports(container: u32) -> Vec<Policy> {
    (0..200u16)
        .map(|n| {
            let address = format!("10.{}.{}.2", container / 250, container % 250);
            testkit::topology::port(testkit::topology::TCP, "0.0.0.0", 1 + n + 200 * container as u16, &address)
        })
        .collect()
}

#[test]
#[ignore = "a measurement: cargo test --test netns_linux -- --ignored --nocapture"]
fn measure_published_ports() {
    in_netns(|kernel| {
        for present in [0, 1_000, 10_000] {
            let held: Vec<Policy> = (1..=present / 200).flat_map(ports).collect();
            let begun = Instant::now();
            kernel.apply(&[Step::CreateFirewall(held.clone())]).unwrap();
            let made = begun.elapsed();
            let begun = Instant::now();
            assert_eq!(kernel.observe_firewall().unwrap().policy.unwrap().len(), held.len());
            let read = begun.elapsed();
            let mut times: [Vec<f64>; 4] = Default::default();
            let all = ports(0);
            // Single changes first: the kernel frees the elements of a big batch in the background.
            for (at, round) in (0..500).map(|round| (0, round % 200)).chain((0..100).map(|_| (2, 0))) {
                let some = if at == 0 { &all[round..=round] } else { &all[..] };
                let (add, remove) = (some.to_vec(), some.to_vec());
                let steps =
                    [Step::ChangeFirewall { add, remove: vec![] }, Step::ChangeFirewall { add: vec![], remove }];
                for (step, at) in steps.iter().zip(at..) {
                    let begun = Instant::now();
                    kernel.apply(std::slice::from_ref(step)).unwrap();
                    times[at].push(begun.elapsed().as_secs_f64() * 1e6 / some.len() as f64);
                }
            }
            let medians = times.map(|mut times| {
                times.sort_unstable_by(f64::total_cmp);
                times[times.len() / 2]
            });
            let [add, remove, add200, remove200] = medians;
            eprintln!("{present} ports present: tables made in {made:?}, read in {read:?}");
            eprintln!("  one port: added in {add:.1} us, removed in {remove:.1} us");
            eprintln!("  200 in one batch, each: added in {add200:.2} us, removed in {remove200:.2} us");
            let begun = Instant::now();
            kernel.apply(&[Step::ChangeFirewall { add: all.clone(), remove: vec![] }]).unwrap();
            let first = begun.elapsed();
            let begun = Instant::now();
            kernel.apply(&[Step::ChangeFirewall { add: all.clone(), remove: vec![] }]).unwrap();
            let again = begun.elapsed();
            let begun = Instant::now();
            kernel
                .apply(&[Step::ChangeFirewall { add: vec![], remove: held.iter().chain(&all).cloned().collect() }])
                .unwrap();
            let gone = begun.elapsed();
            let begun = Instant::now();
            kernel.apply(&[Step::ChangeFirewall { add: vec![], remove: all.clone() }]).unwrap();
            eprintln!(
                "  200 added in {first:?}, again in {again:?}; all removed in {gone:?}, 200 again in {:?}",
                begun.elapsed()
            );
        }
    });
}

#[test]
#[ignore = "a measurement: cargo test --test netns_linux -- --ignored --nocapture"]
fn measure_flushing_and_reserving() {
    in_netns(|kernel| {
        run(
            "ip addr add 10.1.0.1/32 dev lo; nft 'table inet t { chain c { type filter hook input priority 0; ct state new; }; }'",
        );
        let socket = std::net::UdpSocket::bind("10.1.0.1:0").unwrap();
        for n in 0..20_000u32 {
            let _ =
                socket.send_to(b"x", (std::net::Ipv4Addr::from(0x7f00_0001 + (n >> 12)), 1024 + (n & 0xfff) as u16));
        }
        let count = || run("cat /proc/sys/net/netfilter/nf_conntrack_count").trim().to_owned();
        let before = count();
        let begun = Instant::now();
        kernel.apply(&[Step::FlushConntrack(vec!["10.1.0.9".parse().unwrap()])]).unwrap();
        let asked = begun.elapsed();
        settle(kernel);
        let none = begun.elapsed();
        let udp = |n: u16| match testkit::topology::port(testkit::topology::UDP, "0.0.0.0", 80 + n, "10.1.0.9") {
            Policy::Published(port) => port,
            other => panic!("{other:?}"),
        };
        for count in [1, 200] {
            let begun = Instant::now();
            kernel.apply(&[Step::FlushStaleConntrack((0..count).map(udp).collect())]).unwrap();
            settle(kernel);
            eprintln!("{count} UDP ports: no stale flow after {:?}", begun.elapsed());
        }
        let spare = || pontoon::linux::netlink::OwnPorts::default().into();
        let mut raw =
            pontoon::linux::netlink::Socket::open(pontoon::linux::netlink::Protocol::Netfilter, spare()).unwrap();
        let begun = Instant::now();
        pontoon::linux::conntrack::forget_listed(&mut raw, &["10.1.0.9".parse().unwrap()].into()).unwrap();
        eprintln!("by listing them: {:?}", begun.elapsed());
        let begun = Instant::now();
        kernel.apply(&[Step::FlushConntrack(vec!["10.1.0.1".parse().unwrap()])]).unwrap();
        settle(kernel);
        eprintln!(
            "{before} flows: requested in {asked:?}, no match flushed after {none:?}, {} left after {:?}",
            count(),
            begun.elapsed()
        );
        let port = |n: u16| pontoon::model::HostPort {
            protocol: pontoon::model::Protocol::Tcp,
            address: "0.0.0.0".parse().unwrap(),
            port: 20_000 + n,
        };
        let ports: Vec<_> = (0..200).map(port).collect();
        let begun = Instant::now();
        kernel.reserve(&ports).unwrap();
        let taken = begun.elapsed();
        let begun = Instant::now();
        kernel.release(&ports);
        eprintln!("200 ports reserved in {taken:?}, released in {:?}", begun.elapsed());
    });
}
