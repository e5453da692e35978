//! Not tests: how long things take.

use std::time::Instant;

use pontoon::datapath::{GROUP_LIVE, Kernel, Step};
use pontoon::model::Mac;

use crate::netns_support::*;

/// Not a test: how far the typed builders and our socket are from the bare system calls.
#[test]
#[ignore = "a measurement: cargo test --test netns_linux -- --ignored --nocapture"]
fn measure_the_creation_of_a_pair() {
    use pontoon::linux::netlink::{CREATE, EXCLUSIVE, OwnPorts, Protocol, Socket};
    use pontoon::linux::tlv::Writer;
    in_netns(|kernel| {
        kernel.apply(&[Step::CreateBridge(name("pntbone"), bridge("one", &[]))]).unwrap();
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
                kernel.apply(&[Step::CreateVeth(host.clone(), pair)]).unwrap();
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
            kernel.apply(&[Step::RetireVeth(host)]).unwrap();
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
        let made = [Step::CreateBridge(name("pntbone"), bridge("one", &["10.1.0.1/24"])), Step::CreateTable(vec![])];
        kernel.apply(&made).unwrap();
        for round in 0..500 {
            let (host, pair) = veth(&format!("m{round}"), "pntbone");
            kernel.apply(&[Step::CreateVeth(host, pair)]).unwrap();
        }
        let mut times: Vec<_> = (0..21)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(observe(kernel).veths.len(), 500);
                begun.elapsed().as_micros()
            })
            .collect();
        times.sort_unstable();
        eprintln!("observe with 1002 links: median {} us", times[10]);
        let element = pontoon::datapath::Element::Bridge(name("pntbone"));
        let mut times: Vec<_> = (0..201)
            .map(|_| {
                let begun = Instant::now();
                kernel.apply(&[Step::Elements { add: vec![element.clone()], remove: vec![] }]).unwrap();
                let taken = begun.elapsed().as_micros();
                kernel.apply(&[Step::Elements { add: vec![], remove: vec![element.clone()] }]).unwrap();
                taken
            })
            .collect();
        times.sort_unstable();
        eprintln!("one element added: median {} us", times[100]);
        let retire: Vec<_> = observe(kernel).veths.keys().cloned().map(Step::RetireVeth).collect();
        let begun = Instant::now();
        kernel.apply(&retire).unwrap();
        settle(kernel);
        eprintln!("500 veths retired and gone after {:?}", begun.elapsed());
    });
}
