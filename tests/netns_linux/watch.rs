//! Changes by other programs are reported, Pontoon's own are not.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pontoon::datapath::{Change, Kernel, LinkProperty, ObjectKind, Policy, Step};
use pontoon::linux::watch::Event;

use testkit::netns::*;

#[test]
fn a_watcher_reports_foreign_changes_only() {
    in_netns(|kernel| {
        let (send, events) = mpsc::channel();
        let watch = kernel.watch(Box::new(move |event| drop(send.send(event)))).unwrap();
        let br = name("pntbone");
        let (host, mut pair) = veth("abc", "pntbone");
        pair.isolated = true;
        let make = [
            Step::CreateFirewall(vec![]),
            Step::create(br.clone(), bridge("one", &["10.1.0.1/24", "fd00:1::1/64"])),
            Step::create(host.clone(), pair.clone()),
            Step::ChangeFirewall { add: vec![Policy::Link(LinkProperty::ProtectedBridge, br.clone())], remove: vec![] },
        ];
        let began = Instant::now();
        twice(kernel, &make);
        let own = [
            Step::Change(br.clone(), Change::Mtu(1400)),
            Step::Change(host.clone(), Change::Mtu(1400)),
            Step::Change(br.clone(), Change::RemoveAddress(net("10.1.0.1/24"))),
            Step::Delete(host.clone(), ObjectKind::Veth),
            Step::Delete(br.clone(), ObjectKind::Bridge),
        ];
        kernel.apply(&own).unwrap();
        settle(kernel);
        while let Ok(event) = events.recv_timeout(Duration::from_millis(300)) {
            // A second after a change by Pontoon, the link is checked: another program may have changed it, too. A slow
            // machine is still at work by then.
            let late = began.elapsed() > Duration::from_secs(1);
            assert!(late && event == Event::LinkChanged(host.clone()), "{event:?}");
        }

        kernel.apply(&make).unwrap();
        // By now a change of this link cannot be an echo of Pontoon's own.
        thread::sleep(Duration::from_millis(1100));
        let expect = |what: &str, wanted: Event| {
            run(what);
            let mut seen = Vec::new();
            let deadline = Instant::now() + Duration::from_secs(5);
            while !seen.contains(&wanted) {
                let left = deadline.saturating_duration_since(Instant::now());
                seen.push(events.recv_timeout(left).unwrap_or_else(|_| panic!("{what}: no {wanted:?} in {seen:?}")));
            }
        };
        expect("nft flush ruleset", Event::Firewall);
        expect("iptables-nft -P FORWARD DROP", Event::Firewall);
        run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        expect("sysctl -qw net.ipv4.ip_forward=0", Event::Forwarding);
        expect("sysctl -qw net.ipv6.conf.all.forwarding=0", Event::Forwarding);
        expect("ip link set pnthabc type bridge_slave isolated off", Event::LinkChanged(host.clone()));
        expect(
            "bridge link set dev pnthabc isolated on; bridge link set dev pnthabc isolated off",
            Event::LinkChanged(host.clone()),
        );
        expect("ip link set pnthabc down", Event::LinkChanged(host.clone()));
        expect("ip link set pnthabc nomaster", Event::LinkChanged(host.clone()));
        expect("ip link set pntbone mtu 1300", Event::LinkChanged(br.clone()));
        expect("ip addr del 10.1.0.1/24 dev pntbone", Event::AddressGone(br.clone()));
        expect("ip link add br-0123456789ab type bridge", Event::LinkNew(name("br-0123456789ab")));
        expect("ip link add name late type veth peer name later", Event::LinkAppeared(name("later")));
        expect("ip link set late name eth7", Event::LinkAppeared(name("eth7")));
        expect("ip link del br-0123456789ab", Event::LinkGone(name("br-0123456789ab")));
        expect("ip link set pntbone down; ip link set pntbone name other", Event::LinkGone(br.clone()));
        expect("ip link del pnthabc", Event::LinkGone(host.clone()));
        run("ip link del other");
        drop(watch);
        while events.recv_timeout(Duration::from_secs(5)).is_ok() {}
        assert_eq!(events.recv(), Err(mpsc::RecvError), "the thread has ended");
    });
}

#[test]
fn a_flood_of_notifications_is_an_overrun_and_watching_continues() {
    in_netns(|kernel| {
        let (send, events) = mpsc::channel();
        // Notifications pile up until the callback returns.
        let (open, gate) = mpsc::channel::<()>();
        let deliver = move |event| {
            let _ = send.send(event);
            let _ = gate.recv();
        };
        let _watch = kernel.watch(Box::new(deliver)).unwrap();
        run("ip link add b0 type bridge");
        events.recv_timeout(Duration::from_secs(5)).unwrap();
        run(
            "for i in $(seq 1 200); do for j in $(seq 1 40); do echo link set b0 mtu $((1000 + i + j)); done; done | ip -batch -",
        );
        drop(open);
        wait_for("an overrun", || events.try_iter().any(|event| event == Event::Overrun));
        while events.recv_timeout(Duration::from_millis(500)).is_ok() {}
        run("ip link add b1 type bridge");
        wait_for("the next event", || events.try_iter().any(|event| event == Event::LinkNew(name("b1"))));
    });
}
