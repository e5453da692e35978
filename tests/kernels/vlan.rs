//! Networks in VLANs of a user's bridge.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pontoon::datapath::fake::FakeKernel;
use pontoon::datapath::{Change, Datapath, Kernel, Protected, Step, Veth, diff};
use pontoon::linux::LinuxKernel;
use pontoon::linux::link::parse_link;
use pontoon::linux::netlink::{Failure, Protocol, open_fd, receive};
use pontoon::linux::watch::Event;
use pontoon::linux::{frame::Frames, tlv};
use pontoon::model::{Mac, PortVlans, Vid};

use crate::engine::{SOON, binary, on_host};
use testkit::netns::{in_netns, name, run};
use testkit::{KERNEL, Node, Output, Segment, Signal, in_guest, wait_until};

pub fn vlans(access: u16, trunk: &str) -> Option<PortVlans> {
    let trunk = if trunk.is_empty() { Default::default() } else { trunk.parse().unwrap() };
    Some(PortVlans::of(Vid::new(access).unwrap(), trunk))
}

pub fn veth(vlans: Option<PortVlans>) -> Veth {
    Veth {
        peer: name("pntc1"),
        host_mac: Mac::derive("host", "1"),
        peer_mac: Some(Mac::derive("peer", "1")),
        mtu: 1500,
        peer_mtu: 1500,
        bridge: Some(name("br-lan")),
        isolated: true,
        hairpin: false,
        vlans,
        shape: None,
        arp: false,
        up: true,
    }
}

fn observed(kernel: &dyn Kernel) -> Veth {
    let seen = kernel.observe(&BTreeSet::from([name("br-lan")])).unwrap();
    Veth { peer_mac: Some(Mac::derive("peer", "1")), ..seen.veths()[&name("pnth1")].clone() }
}

/// Applies the difference to the desired state; returns the steps.
fn reach(kernel: &dyn Kernel, want: &Veth) -> Vec<Step> {
    let have = Datapath { objects: [(name("pnth1"), observed(kernel).into())].into(), ..Datapath::default() };
    let want = Datapath { objects: [(name("pnth1"), want.clone().into())].into(), ..Datapath::default() };
    let steps = diff(&have, &want, &Protected::default()).steps;
    kernel.apply(&steps).unwrap();
    steps
}

/// Equal on the fake and the real kernel: ports get exactly the desired VLANs, and keep everything else.
fn ports_of(kernel: &dyn Kernel) {
    let sets = [vlans(40, ""), vlans(40, "50-59,70"), vlans(41, "2-39"), vlans(1, ""), vlans(4094, "1-4093")];
    for _ in 0..2 {
        kernel.apply(&[Step::create(name("pnth1"), veth(vlans(40, "")))]).unwrap();
        assert_eq!(observed(kernel), veth(vlans(40, "")));
    }
    for set in sets {
        let want = veth(set);
        reach(kernel, &want);
        assert_eq!(observed(kernel), want);
        assert_eq!(reach(kernel, &want), []);
    }
    let ports = kernel.bridge_ports(&name("br-lan")).unwrap();
    let port = ports.iter().find(|port| port.link == name("pnth1")).expect("the port");
    assert!(port.ours && Some(&port.vlans) == vlans(4094, "1-4093").as_ref());
    let lost = Step::Change(name("pnth9"), Change::Vlans(PortVlans::default()));
    assert_eq!(kernel.apply(&[lost]).unwrap_err().errno(), Some(libc::ENODEV));
}

/// The kernel's notifications about `pnth1`: whether it was ever up with a VLAN other than 40.
fn moments(act: impl FnOnce()) -> (usize, Vec<String>) {
    let fd = open_fd(Protocol::Route, &[1, 33]).unwrap();
    act();
    let (mut up, mut index, mut vids, mut log) = (false, 0, BTreeSet::new(), Vec::new());
    let (mut buffer, mut seen) = (vec![0; 1 << 16], 0);
    loop {
        let bytes = match receive(&fd, &mut buffer, Instant::now() + Duration::from_millis(500)) {
            Ok(bytes) => bytes.to_vec(),
            Err(Failure::Torn) => panic!("notifications were lost"),
            Err(_) => return (seen, log),
        };
        for frame in Frames::new(&bytes) {
            let of = frame.payload.get(4..).and_then(tlv::native32).unwrap_or(0);
            match frame.kind {
                libc::RTM_NEWLINK => {
                    if let Some(link) = parse_link(frame.payload).filter(|link| link.name == "pnth1") {
                        (index, up) = (link.index, link.up);
                    }
                }
                112 | 113 => {
                    for (_, entry) in tlv::Attributes::after(frame.payload, 8) {
                        let info = tlv::Attributes::new(entry).find(1).expect("a VLAN");
                        let vid = tlv::native16(&info[2..]).unwrap();
                        let last = tlv::Attributes::new(entry).find(2).and_then(tlv::native16).unwrap_or(vid);
                        let range = (of, vid..=last);
                        seen += 1;
                        range.1.for_each(|vid| match frame.kind {
                            112 => drop(vids.insert((range.0, vid))),
                            _ => drop(vids.remove(&(range.0, vid))),
                        });
                    }
                }
                _ => {}
            }
            let others: Vec<_> = vids.iter().filter(|(of, vid)| *of == index && *vid != 40).collect();
            if up && !others.is_empty() {
                log.push(format!("up with {others:?}"));
            }
        }
    }
}

#[test]
fn ports_have_their_vlans_before_they_are_up_and_get_them_back() {
    in_guest(KERNEL, || {
        let fake = FakeKernel::new();
        fake.add_link(&name("br-lan"), "bridge");
        fake.filter_vlans(&name("br-lan"), true);
        ports_of(&fake);
        in_netns(|kernel| {
            run("ip link add br-lan up type bridge vlan_filtering 1");
            ports_of(kernel);
            // A bridge adds each new port to its default VLAN.
            let create = || kernel.apply(&[Step::create(name("pnth1"), veth(vlans(40, "")))]).unwrap();
            run("ip link delete pnth1");
            let (seen, bad) = moments(create);
            assert!(seen >= 3, "VLAN 1 is added and removed, and 40 is added: {seen}");
            assert_eq!(bad, Vec::<String>::new());
            for meddle in ["ip link set pnth1 nomaster", "ip link set pnth1 down; bridge vlan add dev pnth1 vid 7"] {
                run(meddle);
                let (seen, bad) = moments(|| drop(reach(kernel, &veth(vlans(40, "")))));
                assert!(seen > 0);
                assert_eq!(bad, Vec::<String>::new(), "{meddle}");
                assert_eq!(observed(kernel), veth(vlans(40, "")));
            }
            watched(kernel);
        });
    });
}

/// Changes by other programs are reported, those by Pontoon are not.
fn watched(kernel: &LinuxKernel) {
    let (send, events) = std::sync::mpsc::channel();
    let _watch = kernel.watch(Box::new(move |event| drop(send.send(event)))).unwrap();
    let next = || events.recv_timeout(Duration::from_secs(3)).ok();
    run("ip link delete pnth1");
    while next().is_some() {}
    kernel.apply(&[Step::create(name("pnth1"), veth(vlans(40, "")))]).unwrap();
    assert_eq!(next(), None, "a new port");
    for meddle in ["bridge vlan add dev pnth1 vid 50", "bridge vlan del dev pnth1 vid 40"] {
        run(meddle);
        assert_eq!(next(), Some(Event::LinkChanged(name("pnth1"))), "{meddle}");
        while next().is_some() {}
    }
    run("ip link set br-lan type bridge vlan_filtering 0; ip link set br-lan type bridge vlan_filtering 1");
    assert_eq!(next(), Some(Event::LinkChanged(name("br-lan"))));
}

/// Makes the uplink a port of the bridge `br-lan`, which takes over its address.
const BRIDGE: &str = "ip link add br-lan type bridge forward_delay 0 && ip link set br-lan up && \
    ip address flush dev eth0 && ip link set eth0 master br-lan && ip address add 192.168.77.11/24 dev br-lan";

/// Sends frames with the local experimental EtherType to all stations, with these tags, from its own MAC address; or
/// IPv4 packets from a foreign address.
const SENDER: &str = r#"
use strict; use Socket;
my ($link, $number, $packet, @tags) = @ARGV;
my ($index, $own) = `ip -o link show dev $link` =~ /^(\d+):.*link\/ether ([0-9a-f:]+)/ or die "no link $link";
$own = pack("H12", $own =~ tr/://dr);
my $tags = join "", map { pack("nn", 0x8100, $_) } @tags;
my $ip = pack("H28", "0800450000140000400040110000") . pack("C8", 203, 0, 113, 9, 255, 255, 255, 255);
my $frame = ("\xff" x 6) . $own . $tags . ($packet eq "ip" ? $ip : pack("n", 0x88b5));
socket(my $out, 17, SOCK_RAW, 0) or die "socket: $!";
my $to = pack("SnlSCCa8", 17, 3, $index, 0, 0, 6, "\xff" x 6);
for (1 .. $number) { defined send($out, $frame . "\0" x 40, 0, $to) or die "send: $!" }
"#;

/// A place from which frames are sent and where they are counted.
struct Place<'a> {
    at: At<'a>,
    counted: RefCell<BTreeMap<String, u64>>,
}

enum At<'a> {
    /// A process in a container's namespaces.
    Container(&'a Node, String),
    Segment(&'a Segment),
}

impl<'a> Place<'a> {
    fn container(node: &'a Node, name: &str) -> Self {
        let pid = node.docker(&["inspect", "-f", "{{.State.Pid}}", name]).ok();
        Self { at: At::Container(node, pid.trim().to_owned()), counted: RefCell::default() }
    }

    fn segment(segment: &'a Segment) -> Self {
        Self { at: At::Segment(segment), counted: RefCell::default() }
    }

    fn exec(&self, words: &[&str]) -> Output {
        match &self.at {
            At::Container(node, pid) => node.exec(&[&["nsenter", "-t", pid, "-n"], words].concat()),
            At::Segment(segment) => segment.exec(words),
        }
    }

    fn send(&self, link: &str, number: usize, packet: &str, tags: &[&str]) {
        let number = number.to_string();
        let words = ["perl", "-e", SENDER, link, &number, packet];
        self.exec(&[&words[..], tags].concat()).ok();
    }

    /// Counts the incoming frames of a link, by kind.
    fn count(&self, link: &str) {
        let kinds = [
            ("untagged", "ether type 0x88b5"),
            ("tag40", "vlan id 40 vlan type 0x88b5"),
            ("tag50", "vlan id 50 vlan type 0x88b5"),
            ("tag60", "vlan id 60 vlan type 0x88b5"),
            ("stack", "vlan type 8021q"),
            ("foreign", "ip saddr 203.0.113.9"),
        ];
        let rules: String = kinds.iter().map(|(name, rule)| format!("{rule} counter comment \"{name}\"\n")).collect();
        let hook = format!("type filter hook ingress device {link} priority 500;");
        self.exec(&["nft", &format!("table netdev seen {{\nchain c {{\n{hook}\n{rules}}}\n}}\n")]).ok();
    }

    /// The kinds and numbers of frames since the last call.
    fn seen(&self) -> BTreeMap<String, u64> {
        let text = self.exec(&["nft", "list", "table", "netdev", "seen"]).ok();
        let line = |line: &str| {
            let name = line.split('"').nth(1).filter(|_| line.contains("comment"))?.to_owned();
            let count: u64 = line.split("packets ").nth(1)?.split(' ').next()?.parse().ok()?;
            Some((name, count))
        };
        let now: BTreeMap<_, _> = text.lines().filter_map(line).collect();
        assert_eq!(now.len(), 6, "{text}");
        let before = self.counted.replace(now.clone());
        let new = now.into_iter().map(|(name, count)| (name.clone(), count - before.get(&name).unwrap_or(&0)));
        new.filter(|(_, count)| *count > 0).collect()
    }
}

fn only(kind: &str, count: u64) -> BTreeMap<String, u64> {
    [(kind.to_owned(), count)].into()
}

#[test]
fn containers_are_in_vlans_of_a_bridge() {
    on_host(|segment, node| {
        let lan = |script: &str| segment.exec(&["sh", "-c", script]).ok();
        for (vid, host) in [(40, 254), (50, 253), (60, 252)] {
            lan(&format!("ip link add link br0 name lan{vid} up type vlan id {vid}"));
            lan(&format!("ip address add 10.40.0.{host}/24 dev lan{vid}"));
        }
        node.start_pontoon(&binary(), &[]);
        node.exec(&["sh", "-c", BRIDGE]).ok();
        create(node);
        start(node, segment);
        frames(node, segment);
        drift(node, segment);
        owners_changes(node);
        node.kill_pontoon(Signal::Term);
        node.exec(&["sh", "-c", "ip link del br-lan && ip address add 192.168.77.11/24 dev eth0"]).ok();
        lan("ip link del lan40; ip link del lan50; ip link del lan60");
    });
}

fn network(node: &Node, name: &str, vid: u16, pool: &[&str]) -> Output {
    let vlan = format!("pontoon.vlan={vid}");
    let bridge = "com.docker.network.bridge.name=br-lan";
    let args = ["network", "create", "-d", "pontoon", "-o", bridge, "-o", &vlan, "--subnet", "10.40.0.0/24"];
    let args = [&args[..], &["--gateway", "10.40.0.1", "--ipam-driver", "pontoon"], pool, &[name]].concat();
    node.docker(&args)
}

/// Refused until the printed commands are run; then several networks on one bridge, two with the same subnet.
fn create(node: &Node) {
    for (vid, name) in [(40, "v40"), (50, "v50")] {
        let option = format!("pontoon.vlan={vid}");
        let pool = ["--ipam-opt", &option];
        if vid == 40 {
            let text = network(node, name, vid, &pool).err();
            let command = "ip link set dev br-lan type bridge vlan_filtering 1";
            assert!(text.contains(command) && text.contains("other ports"), "{text}");
            assert!(node.exec(&["ip", "-d", "link", "show", "br-lan"]).ok().contains("vlan_filtering 0"));
            node.exec(&["sh", "-c", command]).ok();
        } else {
            let text = network(node, name, vid, &[]).err();
            assert!(text.contains("overlaps"), "{text}");
        }
        let text = network(node, name, vid, &pool).err();
        let command = format!("bridge vlan add dev eth0 vid {vid}");
        assert!(text.contains(&format!("{command};")) && text.contains("self"), "{text}");
        node.exec(&["sh", "-c", &command]).ok();
        network(node, name, vid, &pool).ok();
    }
    node.exec(&["bridge", "vlan", "add", "dev", "eth0", "vid", "60"]).ok();
    let untagged = ["--subnet", "192.168.77.0/24", "--ip-range", "192.168.77.64/26", "--gateway", "192.168.77.11"];
    let bridge = ["network", "create", "-d", "pontoon", "-o", "com.docker.network.bridge.name=br-lan"];
    node.docker(&[&bridge[..], &untagged, &["lan"]].concat()).ok();
}

/// Two containers with the same address in two VLANs, each reachable in its own.
fn start(node: &Node, segment: &Segment) {
    node.run_container("forty", &["--network", "v40", "--ip", "10.40.0.10"]);
    node.run_container("fifty", &["--network", "v50", "--ip", "10.40.0.10"]);
    node.run_container("plain", &["--network", "lan"]);
    node.run_container("router", &["--network", "name=v40,driver-opt=pontoon.vlan.trunk=50-59"]);
    node.ping_soon("forty", "10.40.0.254");
    node.ping_soon("plain", "192.168.77.254");
    for (link, container) in [("lan40", "forty"), ("lan50", "fifty")] {
        let ping = ["ping", "-c1", "-W3", "-I", link, "10.40.0.10"];
        wait_until(SOON, container, || segment.exec(&ping).success());
        let own = node.exec_in(container, &["cat", "/sys/class/net/eth0/address"]).ok();
        let known = segment.exec(&["ip", "neigh", "show", "10.40.0.10", "dev", link]).ok();
        assert!(known.contains(own.trim()), "{container} {own}: {known}");
    }
}

fn frames(node: &Node, segment: &Segment) {
    let [forty, fifty, plain, router] = ["forty", "fifty", "plain", "router"].map(|name| Place::container(node, name));
    let uplink = Place::segment(segment);
    uplink.count("port11");
    [&forty, &fifty, &plain, &router].iter().for_each(|place| place.count("eth0"));
    let seen = || {
        std::thread::sleep(Duration::from_millis(100));
        [&uplink, &forty, &fifty, &plain, &router].map(Place::seen)
    };
    let none = BTreeMap::new;
    // Untagged in the container; with tag 40 at the uplink and in no other VLAN.
    forty.send("eth0", 200, "plain", &[]);
    assert_eq!(seen(), [only("tag40", 200), none(), none(), none(), only("untagged", 200)]);
    // Frames with a tag of another VLAN, of its own, of VLAN 0, or with two tags, are dropped.
    for tags in [&["50"][..], &["40"], &["0"], &["40", "50"], &["50", "50"]] {
        forty.send("eth0", 20, "plain", tags);
        assert_eq!(seen(), [(); 5].map(|()| none()), "{tags:?}");
    }
    // A trunk: the VLANs of its list with a tag, and its own without.
    fifty.send("eth0", 30, "plain", &[]);
    assert_eq!(seen(), [only("tag50", 30), none(), none(), none(), only("tag50", 30)]);
    router.send("eth0", 40, "plain", &["50"]);
    assert_eq!(seen(), [only("tag50", 40), none(), only("untagged", 40), none(), none()]);
    // The priority is not part of the VLAN id.
    router.send("eth0", 7, "plain", &[&(50 + (5 << 13)).to_string()]);
    assert_eq!(seen()[2], only("untagged", 7));
    for tags in [&["60"][..], &["40"], &["0"], &["50", "40"], &["50", "50"]] {
        router.send("eth0", 20, "plain", tags);
        assert_eq!(seen(), [(); 5].map(|()| none()), "{tags:?}");
        router.send("eth0", 20, "ip", tags);
        assert_eq!(seen(), [(); 5].map(|()| none()), "a packet with a foreign address behind {tags:?}");
    }
    router.send("eth0", 20, "ip", &[]);
    assert_eq!(seen(), [(); 5].map(|()| none()), "a foreign address");
    // From outside.
    for (link, expected) in [
        ("lan40", [none(), only("untagged", 9), none(), none(), only("untagged", 9)]),
        ("lan50", [none(), none(), only("untagged", 9), none(), only("tag50", 9)]),
        ("lan60", [(); 5].map(|()| none())),
        ("br0", [none(), none(), none(), only("untagged", 9), none()]),
    ] {
        uplink.send(link, 9, "plain", &[]);
        assert_eq!(seen(), expected, "{link}");
    }
    // Without source validation, the bridge alone isolates the VLANs.
    let options = "name=v40,driver-opt=pontoon.spoofcheck=false";
    node.run_container("unchecked", &["--network", options]);
    Place::container(node, "unchecked").send("eth0", 20, "plain", &["50"]);
    assert_eq!(seen(), [(); 5].map(|()| none()));
    node.docker(&["rm", "-f", "unchecked"]).ok();
}

/// The host end of a container's link.
fn port(node: &Node, container: &str) -> String {
    let index = node.exec_in(container, &["cat", "/sys/class/net/eth0/iflink"]).ok();
    let links = node.exec(&["ip", "-o", "link"]).ok();
    let line = links.lines().find(|line| line.starts_with(&format!("{}: ", index.trim()))).expect("the host end");
    line.split([' ', '@']).nth(1).expect("a name").to_owned()
}

fn carried(node: &Node, port: &str) -> Vec<String> {
    let text = node.exec(&["bridge", "-compressvlans", "vlan", "show", "dev", port]).ok();
    let words = |line: &str| line.split_whitespace().filter(|word| *word != port).collect::<Vec<_>>().join(" ");
    text.lines().skip(1).map(words).filter(|line| !line.is_empty()).collect()
}

/// Drift is repaired, also if it happens while the daemon does not run.
fn drift(node: &Node, segment: &Segment) {
    let (forty, router) = (port(node, "forty"), port(node, "router"));
    let all = || (carried(node, &forty), carried(node, &router));
    let right = all();
    let (access, trunk) = (["40 PVID Egress Untagged"], ["40 PVID Egress Untagged", "50-59"]);
    assert_eq!((&right.0[..], &right.1[..]), (&access.map(str::to_owned)[..], &trunk.map(str::to_owned)[..]));
    let meddle = |script: &str| drop(node.exec(&["sh", "-c", script]).ok());
    for script in [
        format!("bridge vlan add dev {forty} vid 50"),
        format!("bridge vlan del dev {forty} vid 40"),
        format!("bridge vlan add dev {forty} vid 50 pvid untagged && bridge vlan del dev {router} vid 50-59"),
        format!("ip link set {forty} nomaster"),
    ] {
        meddle(&script);
        wait_until(Duration::from_secs(20), &script, || all() == right);
    }
    node.kill_pontoon(Signal::Kill);
    meddle(&format!("bridge vlan del dev {router} vid 50-55; bridge vlan add dev {forty} vid 50 pvid untagged"));
    node.start_pontoon(&binary(), &[]);
    assert_eq!(all(), right, "before the socket answers");
    node.docker(&["restart", "-t", "1", "forty"]).ok();
    node.ping_soon("forty", "10.40.0.254");
    assert!(segment.exec(&["ping", "-c1", "-W3", "-I", "lan50", "10.40.0.10"]).success());
}

/// A setting that the bridge's owner disables is reported and not changed.
fn owners_changes(node: &Node) {
    let doctor = || {
        let text = node.exec(&["sh", "-c", "PATH=/lab:$PATH; pontoon doctor --json"]).stdout;
        let findings: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let all = findings.as_array().expect("findings").clone();
        all.into_iter().find(|finding| finding["check"] == "vlans").expect("the check").to_string()
    };
    assert!(doctor().contains("\"ok\""), "{}", doctor());
    node.exec(&["bridge", "vlan", "del", "dev", "eth0", "vid", "40"]).ok();
    let text = doctor();
    assert!(text.contains("carries VLAN 40") && text.contains("bridge vlan add dev eth0 vid 40"), "{text}");
    node.exec(&["ip", "link", "set", "br-lan", "type", "bridge", "vlan_filtering", "0"]).ok();
    assert!(doctor().contains("no longer filters VLANs"), "{}", doctor());
    let text = node.docker(&["run", "--rm", "--network", "v40", "busybox", "true"]).err();
    assert!(text.contains("ip link set dev br-lan type bridge vlan_filtering 1"), "{text}");
    let (containers, networks) = (["forty", "fifty", "plain", "router"], ["v40", "v50", "lan"]);
    node.docker(&[&["rm", "-f"][..], &containers].concat()).ok();
    node.docker(&[&["network", "rm"][..], &networks].concat()).ok();
    wait_until(SOON, "the ports to be deleted", || {
        node.exec(&["sh", "-c", "ip -o link | grep -c pnt || true"]).ok() == "0"
    });
    assert!(node.exec(&["ip", "-d", "link", "show", "br-lan"]).ok().contains("vlan_filtering 0"));
}
