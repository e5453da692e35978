//! Overlay networks: only the kernel's tunnels send on them, and packets are accepted only from peers.
//!
//! Two hosts on a LAN, `a` and `b`, with a daemon each; a container of the network on `b` counts the datagrams that
//! arrive inside it. The attacker is on `a`, or is a host that `b` regards as a peer.

use crate::host::{Container, Host, Network, mac_bytes};
use testkit::netns::{Netns, wait_for};

const PORT: u16 = 4789;
const VNI: u32 = 70000;

/// Hosts on a LAN: host N has 198.51.100.N and 2001:db8:5::N on `lan0`, and the others as peers.
pub struct Lan {
    pub hosts: Vec<Host>,
    pub v6: bool,
    pub switch: Netns,
}

pub fn lan_address(n: usize, v6: bool) -> String {
    if v6 { format!("2001:db8:5::{n}") } else { format!("198.51.100.{n}") }
}

impl Lan {
    pub fn new(count: usize, v6: bool) -> Self {
        Self::with(count, v6, |_| Vec::new())
    }

    /// With further arguments for the daemon of host N.
    pub fn with(count: usize, v6: bool, more: impl Fn(usize) -> Vec<String>) -> Self {
        let switch = Netns::new();
        switch.run("ip link add name switch type bridge mcast_snooping 0; ip link set switch up");
        let hosts = (1..=count).map(|n| {
            let own = lan_address(n, v6);
            let peers: Vec<_> = (1..=count).filter(|other| *other != n).map(|other| lan_address(other, v6)).collect();
            let mut args = vec!["--data-path".to_owned(), own, "--peers".to_owned(), peers.join(",")];
            args.extend(more(n));
            let mut host = Host::without_daemon();
            host.run(&format!(
                "ip link add lan0 type veth peer name port{n} netns {}; \
                 ip addr add 198.51.100.{n}/24 dev lan0; ip addr add 2001:db8:5::{n}/64 dev lan0 nodad; ip link set lan0 up",
                switch.tid()
            ));
            switch.run(&format!("ip link set port{n} master switch up"));
            host.begin_with(&args);
            host
        });
        Self { hosts: hosts.collect(), v6, switch }
    }

    pub fn address(&self, n: usize) -> String {
        lan_address(n, self.v6)
    }
}

pub fn overlay() -> Network {
    Network::new("over", 9).option("pontoon.vni", "70000")
}

/// Counts datagrams to UDP port 7777 in a container.
fn watch(container: &Container) {
    container.run(
        "nft add table inet w; nft add chain inet w i '{ type filter hook prerouting priority 0; }'; \
         nft add rule inet w i udp dport 7777 counter",
    );
}

fn seen(container: &Container) -> u32 {
    let list = container.run("nft list chain inet w i");
    list.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// A VXLAN packet's payload in hexadecimal: the header, and a frame with a datagram to port 7777 in it.
fn forged(vni: u32, to: &Container) -> String {
    let mut frame = mac_bytes(&to.first.mac).to_vec();
    frame.extend([2, 0, 0, 0, 0, 99, 8, 0]);
    let mut packet = vec![69, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 99];
    packet.extend(to.first.v4.split('.').map(|part| part.parse::<u8>().unwrap()));
    let sum: u32 = packet.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    // From port 12345, without a checksum.
    packet.extend([0x30, 0x39, 0x1e, 0x61, 0, 12, 0, 0, 65, 65, 65, 65]);
    frame.extend(packet);
    let header = [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes()].concat();
    [header, frame].concat().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How a datagram is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By a socket, from this source port; 0 leaves it to the kernel.
    Socket(u16),
    /// In two fragments, via a link with an MTU of 1280, from a port below 1024.
    Fragments,
    /// Preceded by options: those of IPv4, or a hop-by-hop header.
    Options,
    /// By a raw socket with a self-made source address.
    Raw(u16),
}

/// Python that sends `payload` to UDP port `port` of `to`.
fn script(by: By, to: &str, port: u16, payload: &str, source: &str) -> String {
    let family = if to.contains(':') { "AF_INET6" } else { "AF_INET" };
    let v6 = to.contains(':');
    let send = match by {
        By::Socket(from) => format!(
            "s=socket.socket(socket.{family},socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1); \
             {}s.sendto(p,('{to}',{port}))",
            if from == 0 { String::new() } else { format!("s.bind(('',{from})); ") }
        ),
        By::Fragments => format!(
            "s=socket.socket(socket.{family},socket.SOCK_DGRAM); s.bind(('',700)); {}s.sendto(p.ljust(1350,bytes(1)),('{to}',{port}))",
            if v6 { "" } else { "s.setsockopt(0,10,0); " }
        ),
        By::Options if v6 => format!(
            "s=socket.socket(socket.{family},socket.SOCK_DGRAM); s.bind(('',700)); \
             s.setsockopt(41,59,bytes([0,0,1,4,0,0,0,0])); s.sendto(p,('{to}',{port}))"
        ),
        By::Options => format!(
            "s=socket.socket(socket.{family},socket.SOCK_DGRAM); s.bind(('',700)); \
             s.setsockopt(0,4,bytes([1,1,1,1])); s.sendto(p,('{to}',{port}))"
        ),
        By::Raw(from) => format!(
            "s=socket.socket(socket.{family},socket.SOCK_RAW,255); \
             u=struct.pack('!HHHH',{from},{port},8+len(p),0)+p; \
             a=socket.inet_pton(socket.{family},'{source}'); d=socket.inet_pton(socket.{family},'{to}'); \
             {}s.sendto(h+u,('{to}',0))",
            if v6 {
                "c=a+d+struct.pack('!II',len(u),17)+u; c+=bytes(len(c)%2); \
                 t=sum(struct.unpack('!%dH'%(len(c)//2),c)); t=(t&65535)+(t>>16); t=(t&65535)+(t>>16); \
                 u=u[:6]+struct.pack('!H',~t&65535)+u[8:]; h=struct.pack('!IHBB',6<<28,len(u),17,64)+a+d; "
            } else {
                "h=struct.pack('!BBHHHBBH4s4s',69,0,20+len(u),0,0,64,17,0,a,d); "
            }
        ),
    };
    format!("p=bytes.fromhex('{payload}'); {send}")
}

/// Sends; a refusal by the system counts as not sent.
fn send(from: &Netns, user: u32, by: By, to: &str, payload: &str, source: &str) {
    let script = script(by, to, PORT, payload, source);
    from.run(&format!("python3 -c \"import socket,struct; {}{script}\" 2>/dev/null || true", become_user(user)));
}

/// Python code that drops root privileges.
fn become_user(user: u32) -> String {
    if user == 0 { String::new() } else { format!("import os; os.setgroups([]); os.setuid({user}); ") }
}

/// A container of the engine's bridge driver: a separate bridge, and masquerading.
fn on_docker0(host: &Host) -> Netns {
    host.run(
        "ip link add name docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; \
         ip addr add fd17::1/64 dev docker0 nodad; ip link set docker0 up; \
         nft add table inet engine; nft add chain inet engine post '{ type nat hook postrouting priority 100; }'; \
         nft add rule inet engine post ip saddr 172.17.0.0/16 oifname != docker0 masquerade; \
         nft add rule inet engine post ip6 saddr fd17::/64 oifname != docker0 masquerade; \
         ip link add vethd type veth peer name cd; ip link set vethd master docker0 up",
    );
    let container = Netns::new();
    host.run(&format!("ip link set cd netns {} name eth0", container.tid()));
    container.run(
        "ip addr add 172.17.0.2/16 dev eth0; ip addr add fd17::2/64 dev eth0 nodad; ip link set eth0 up; \
         ip route add default via 172.17.0.1; ip -6 route add default via fd17::1",
    );
    container
}

/// Nothing of what `attack` sends arrives at `victim`; it does after `open` removed the guards.
fn holds(what: &str, victim: &Container, attack: impl Fn(), open: impl FnOnce()) {
    let before = seen(victim);
    attack();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(seen(victim) - before, 0, "{what}: it arrived");
    open();
    wait_for(&format!("{what}: without the guard it arrives"), || {
        attack();
        std::thread::sleep(std::time::Duration::from_millis(100));
        seen(victim) > before
    });
}

/// The two hosts with the network and a container on each, and the counter on host 2.
fn two(v6: bool) -> (Lan, Container, Container) {
    let lan = Lan::new(2, v6);
    let network = overlay();
    lan.hosts.iter().for_each(|host| host.create(&network));
    let one = lan.hosts[0].container(&network, 11);
    let victim = lan.hosts[1].container(&network, 12);
    wait_for("the overlay", || one.pings("10.9.0.12"));
    watch(&victim);
    (lan, one, victim)
}

#[test]
fn containers_cannot_send_to_a_peers_tunnel() {
    for v6 in [false, true] {
        let (mut lan, _one, victim) = two(v6);
        let plain = Network::new("plain", 3);
        lan.hosts[0].create(&plain);
        let ours = lan.hosts[0].container(&plain, 2);
        let theirs = on_docker0(&lan.hosts[0]);
        for from in [&ours.netns, &theirs] {
            from.run("ip link set eth0 mtu 1280");
        }
        lan.hosts[1].run("ip addr add 198.51.100.77/24 dev lan0; ip addr add 2001:db8:5::77/64 dev lan0 nodad");
        let payload = forged(VNI, &victim);
        let all = |more: &str| {
            for from in [&ours.netns, &theirs] {
                for by in [By::Socket(700), By::Socket(0), By::Fragments, By::Options] {
                    send(from, 0, by, &lan.address(2), &payload, "");
                }
                if !more.is_empty() {
                    send(from, 0, By::Socket(700), more, &payload, "");
                }
            }
        };
        let secondary = if v6 { "2001:db8:5::77" } else { "198.51.100.77" };
        let before = seen(&victim);
        all(secondary);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(seen(&victim) - before, 0, "v6 {v6}");
        let family = if v6 { "IPv6" } else { "IPv4" };
        lan.hosts[0].end();
        let host = &lan.hosts[0];
        let gone = host.remove_rules("inet pontoon forward_tunnel", &format!("over {family}\""))
            + host.remove_rules("inet pontoon forward_tunnel", &format!("to an {family} peer"));
        assert_eq!(gone, 2);
        // Foreign traffic is not forwarded either.
        host.remove_rules("inet pontoon forward_others", "between links of other programs");
        // Both paths were open: via Pontoon's bridge and via the other one.
        for from in [&ours.netns, &theirs] {
            for by in [By::Socket(700), By::Fragments, By::Options] {
                let before = seen(&victim);
                send(from, 0, by, &lan.address(2), &payload, "");
                wait_for(&format!("{by:?} to arrive without the guard, v6 {v6}"), || seen(&victim) > before);
            }
        }
        // Packets to another address of the peer are rejected there, too.
        lan.hosts[1].end();
        holds(
            "to an address without a tunnel",
            &victim,
            || send(&theirs, 0, By::Socket(701), secondary, &payload, ""),
            || {
                lan.hosts[1].run("nft insert rule inet pontoon input_filter accept");
            },
        );
    }
}

#[test]
fn host_processes_cannot_send_to_a_peers_tunnel() {
    for v6 in [false, true] {
        let (mut lan, _one, victim) = two(v6);
        let payload = forged(VNI, &victim);
        let to = lan.address(2);
        let source = lan.address(1);
        let all = |host: &Host| {
            send(&host.netns, 65534, By::Socket(0), &to, &payload, "");
            for by in [By::Socket(0), By::Socket(700), By::Options, By::Raw(700)] {
                send(&host.netns, 0, by, &to, &payload, &source);
            }
        };
        let before = seen(&victim);
        all(&lan.hosts[0]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(seen(&victim) - before, 0, "v6 {v6}");
        lan.hosts[0].end();
        assert_eq!(lan.hosts[0].remove_rules("inet pontoon output_tunnel", "by a process"), 3);
        for by in [By::Socket(700), By::Options, By::Raw(700)] {
            let before = seen(&victim);
            send(&lan.hosts[0].netns, 0, by, &to, &payload, &source);
            wait_for(&format!("{by:?} to arrive without the guard, v6 {v6}"), || seen(&victim) > before);
        }
        // Even then packets of unprivileged users are dropped: the tunnel sends from a privileged source port.
        lan.hosts[1].end();
        let rule =
            if v6 { "unprivileged source port of an IPv6 peer" } else { "unprivileged source port of an IPv4 peer" };
        holds(
            "from an unprivileged port",
            &victim,
            || send(&lan.hosts[0].netns, 65534, By::Socket(0), &to, &payload, ""),
            || assert_eq!(lan.hosts[1].remove_rules("inet pontoon input_filter", rule), 1),
        );
    }
}

#[test]
fn a_host_with_peers_but_no_overlay_sends_them_nothing() {
    for v6 in [false, true] {
        let mut lan = Lan::new(2, v6);
        let network = overlay();
        lan.hosts[1].create(&network);
        let victim = lan.hosts[1].container(&network, 12);
        watch(&victim);
        let theirs = on_docker0(&lan.hosts[0]);
        lan.hosts[0].run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        let (payload, to) = (forged(VNI, &victim), lan.address(2));
        let container = || send(&theirs, 0, By::Socket(700), &to, &payload, "");
        let process = |host: &Host| send(&host.netns, 65534, By::Socket(0), &to, &payload, "");
        let before = seen(&victim);
        container();
        process(&lan.hosts[0]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(seen(&victim) - before, 0, "v6 {v6}");
        lan.hosts[0].end();
        let family = if v6 { "IPv6" } else { "IPv4" };
        let peer = format!("to an {family} peer");
        for (chain, attack) in [("output_tunnel", false), ("forward_tunnel", true)] {
            assert_eq!(lan.hosts[0].remove_rules(&format!("inet pontoon {chain}"), &peer), 1);
            let before = seen(&victim);
            if attack {
                container()
            } else {
                process(&lan.hosts[0])
            }
            wait_for(&format!("the packet to arrive without the guard of {chain}, v6 {v6}"), || seen(&victim) > before);
        }
    }
}

#[test]
fn a_forged_peer_source_is_dropped() {
    for v6 in [false, true] {
        let lan = Lan::new(3, v6);
        let network = overlay();
        lan.hosts[..2].iter().for_each(|host| host.create(&network));
        let here = lan.hosts[0].container(&network, 11);
        let there = lan.hosts[1].container(&network, 12);
        [&here, &there].into_iter().for_each(watch);
        let theirs = on_docker0(&lan.hosts[0]);
        let source = lan.address(3);
        let mut lan = lan;
        // From a container with CAP_NET_RAW: to the tunnel of its own host, and through the host to a peer's.
        for (to, victim) in [(1, &here), (2, &there)] {
            let (payload, to) = (forged(VNI, victim), lan.address(to));
            let before = seen(victim);
            send(&theirs, 0, By::Raw(700), &to, &payload, &source);
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert_eq!(seen(victim) - before, 0, "v6 {v6} to {to}");
        }
        lan.hosts[0].end();
        assert_eq!(lan.hosts[0].remove_rules("inet pontoon prerouting_tunnel", "does not lead to the peer"), 2);
        // Foreign traffic is not forwarded either.
        lan.hosts[0].remove_rules("inet pontoon forward_others", "between links of other programs");
        for (to, victim) in [(1, &here), (2, &there)] {
            let (payload, to) = (forged(VNI, victim), lan.address(to));
            let before = seen(victim);
            send(&theirs, 0, By::Raw(700), &to, &payload, &source);
            wait_for(&format!("the packet to arrive without the guard, v6 {v6} to {to}"), || seen(victim) > before);
        }
    }
}

#[test]
fn forged_frames_fill_no_table_and_change_no_neighbour() {
    let (mut lan, _one, victim) = two(false);
    let plain = Network::new("plain", 3);
    lan.hosts[0].create(&plain);
    let ours = lan.hosts[0].container(&plain, 2);
    let to = lan.address(2);
    // Frames from 2000 addresses, and an ARP reply that moves the victim's address.
    let open = "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',700))";
    let flood = format!(
        "{open}\n\
         for n in range(2000): s.sendto(bytes.fromhex('0800000001117000ffffffffffff02aa%08x0806' % n)+bytes(46),('{to}',{PORT}))"
    );
    let answer = format!(
        "{open}; s.sendto(bytes.fromhex('0800000001117000ffffffffffff02aa000000010806'\n\
          '0001080006040002'+'02aa00000001'+'0a09000c'+'ffffffffffff'+'0a090001')+bytes(18),('{to}',{PORT}))"
    );
    let attack = || {
        ours.run(&format!("python3 -c \"{flood}\""));
        ours.run(&format!("python3 -c \"{answer}\""));
    };
    let learned = |lan: &Lan| {
        let table = lan.hosts[1].run("bridge fdb show dev pntxover");
        table.lines().filter(|line| line.contains("02:aa:")).count()
    };
    let neighbour = |lan: &Lan| lan.hosts[1].run("ip neigh show 10.9.0.12 dev pntbover");
    lan.hosts[1].run("ping -n -c 1 -W 1 10.9.0.12");
    attack();
    assert_eq!(learned(&lan), 0);
    assert!(neighbour(&lan).contains(&victim.first.mac), "{}", neighbour(&lan));
    let link = lan.hosts[1].run("ip -d link show pntxover");
    assert!(link.contains("maxaddr 65536") && link.contains("srcport 768 1024"), "{link}");
    lan.hosts[0].end();
    assert_eq!(lan.hosts[0].remove_rules("inet pontoon forward_tunnel", "over IPv4\""), 1);
    assert_eq!(lan.hosts[0].remove_rules("inet pontoon forward_tunnel", "to an IPv4 peer"), 1);
    attack();
    wait_for("the addresses to be learned without the guard", || learned(&lan) > 1000);
    wait_for("the neighbour to change without the guard", || {
        attack();
        !neighbour(&lan).contains(&victim.first.mac)
    });
}

/// The same UDP port also carries foreign tunnels, and processes of the host communicate over them.
#[test]
fn foreign_tunnels_on_the_same_port_keep_working() {
    for v6 in [false, true] {
        let (lan, one, _victim) = two(v6);
        for (n, other) in [(1, 2), (2, 1)] {
            lan.hosts[n - 1].run(&format!(
                "ip link add theirs type vxlan id 4097 local {} remote {} dstport {PORT}{}; \
                 ip addr add 10.8.0.{n}/24 dev theirs; ip link set theirs up; \
                 ip link add flannel type vxlan id 1 local {} remote {} dstport 8472; \
                 ip addr add 10.7.0.{n}/24 dev flannel; ip link set flannel up",
                lan.address(n),
                lan.address(other),
                if v6 { "" } else { " noudpcsum" },
                lan.address(n),
                lan.address(other),
            ));
        }
        assert!(lan.hosts[0].netns.pings("10.8.0.2") && lan.hosts[0].netns.pings("10.7.0.2"), "v6 {v6}");
        // From an unprivileged process.
        lan.hosts[0].run(&format!(
            "python3 -c \"import socket; {}s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
             s.connect(('10.8.0.2',9)); s.send(b'x'); s.settimeout(5)\ntry: s.recv(1)\nexcept ConnectionRefusedError: pass\"",
            become_user(65534)
        ));
        assert!(one.pings("10.9.0.12") && one.pings("fd00:9::12"), "v6 {v6}");
        let drops = lan.hosts.iter().map(|host| host.run("nft list table inet pontoon")).collect::<String>();
        let dropped = drops.lines().filter(|line| {
            line.contains("counter") && line.contains("drop comment") && !line.contains("counter packets 0 ")
        });
        assert_eq!(dropped.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

/// A tunnel as an earlier release created it: any source port, no limit of learned addresses.
fn as_before(host: &Host, own: &str, peer: &str) {
    host.run(&format!(
        "mac=$(ip -o link show pntxover | sed -E 's/.*link.ether ([^ ]+) .*/\\1/'); nft delete table netdev pontoon; ip link del pntxover; \
         ip link add pntxover mtu 1450 address $mac group 1886286849 type vxlan id {VNI} local {own} dstport {PORT} noudpcsum; \
         ip link set pntxover alias 'pontoon overlay {VNI}'; ip link set pntxover master pntbover up; \
         bridge fdb append 00:00:00:00:00:00 dev pntxover dst {peer}"
    ));
}

/// A host is upgraded while another still runs an earlier release: connections persist.
#[test]
fn tunnels_of_an_earlier_release_are_accepted_and_replaced() {
    let (mut lan, one, _victim) = two(false);
    lan.hosts.iter_mut().for_each(Host::end);
    as_before(&lan.hosts[0], &lan.address(1), &lan.address(2));
    as_before(&lan.hosts[1], &lan.address(2), &lan.address(1));
    for host in &lan.hosts {
        host.run("nft flush set inet pontoon privileged_sender4");
    }
    assert!(one.pings("10.9.0.12"), "both of the earlier release");
    // Host 1 is upgraded: its tunnel is created again while packets pass.
    let pings = std::thread::scope(|scope| {
        let pings = scope.spawn(|| one.run("ping -n -q -c 150 -i 0.02 -W 1 10.9.0.12 || true"));
        std::thread::sleep(std::time::Duration::from_millis(500));
        lan.hosts[0].begin();
        pings.join().unwrap()
    });
    let link = lan.hosts[0].run("ip -d link show pntxover");
    assert!(link.contains("srcport 768 1024"), "{link}");
    let received: u32 = pings.split(" received").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(received > 130, "{pings}");
    println!("{received} of 150 pings at 20 ms were answered");
    assert!(one.pings("10.9.0.12"), "one of each release");
    lan.hosts[1].begin();
    assert!(one.pings("10.9.0.12"), "both of this release");
}

/// Runs `pontoon doctor` on a host; its findings as JSON.
fn doctor(host: &Host) -> Vec<serde_json::Value> {
    let (program, daemon) = (env!("CARGO_BIN_EXE_pontoon"), host.daemon());
    let command = format!(
        "{program} doctor --json --socket {} --state-dir {} || true",
        daemon.socket.display(),
        daemon.state.display()
    );
    serde_json::from_str(&host.run(&command)).expect("an array")
}

fn findings<'a>(all: &'a [serde_json::Value], check: &str) -> Vec<&'a str> {
    all.iter()
        .filter(|one| one["check"] == check && one["level"] != "ok")
        .filter_map(|one| one["title"].as_str())
        .collect()
}

/// An address of the host among the peers, at the start or added later. Packets flooded to it would return through the
/// tunnel, and the bridge would learn containers behind it.
#[test]
fn a_host_is_not_its_own_peer() {
    for v6 in [false, true] {
        let (own, later) = if v6 { ("2001:db8::1", "2001:db8:5::51") } else { ("192.0.2.1", "198.51.100.51") };
        let mut lan = Lan::with(2, v6, |n| match n {
            1 => vec!["--peers".to_owned(), format!("{own},{later}")],
            _ => Vec::new(),
        });
        let network = overlay();
        let host = &lan.hosts[0];
        host.create(&network);
        let [c1, c2, c3] = [11, 12, 13].map(|n| host.container(&network, n));
        let floods = |host: &Host| host.run("bridge fdb show dev pntxover | grep 00:00:00:00:00:00");
        assert!(!floods(host).contains(&format!("dst {own} ")) && floods(host).contains(&format!("dst {later} ")));
        assert!(findings(&doctor(host), "peers").iter().any(|title| title.contains(own)), "{:?}", doctor(host));
        host.run(&format!(
            "ip addr add {later}/{} dev lan0{}",
            if v6 { 64 } else { 24 },
            if v6 { " nodad" } else { "" }
        ));
        wait_for("the host's new address to be left out", || !floods(host).contains(&format!("dst {later} ")));
        let peers = host.run("nft list set inet pontoon peers4; nft list set inet pontoon peers6");
        assert!(!peers.contains(own) && !peers.contains(later), "{peers}");
        host.run(&format!("ip addr del {later}/{} dev lan0", if v6 { 64 } else { 24 }));
        wait_for("the address to be a peer again", || floods(host).contains(&format!("dst {later} ")));
        host.run(&format!(
            "ip addr add {later}/{} dev lan0{}",
            if v6 { 64 } else { 24 },
            if v6 { " nodad" } else { "" }
        ));
        wait_for("the address to be left out again", || !floods(host).contains(&format!("dst {later} ")));

        let reach = || c1.pings("10.9.0.12") && c3.pings("10.9.0.11") && c2.pings("fd00:9::13");
        let misplaced = |host: &Host| {
            let table = host.run("bridge fdb show br pntbover | grep pntxover || true");
            [&c1, &c2, &c3].iter().any(|container| table.contains(&container.first.mac))
        };
        assert!(reach() && !misplaced(host), "v6 {v6}");
        // Rejected in the options of a network.
        for wrong in ["127.0.0.1", "255.255.255.255", "fe80::1", "::1", "::ffff:192.0.2.9"] {
            let refused = Network {
                id: "wrong".to_owned(),
                n: 8,
                v6: true,
                internal: false,
                options: vec![("pontoon.vni", "8"), ("pontoon.peers", wrong)],
            };
            let error = host.call("NetworkDriver.CreateNetwork", &refused.body()).unwrap_err();
            assert!(error.contains("pontoon.peers"), "{error}");
        }
        // If packets were flooded to it nevertheless, the firewall would drop them on their return.
        lan.hosts[0].end();
        let host = &lan.hosts[0];
        host.run(&format!("bridge fdb append 00:00:00:00:00:00 dev pntxover dst {own}"));
        let announce =
            || c1.run("ip neigh flush all; ping -n -c 1 -W 1 10.9.0.12; ping -n -c 1 -W 1 10.9.0.99 || true");
        announce();
        assert!(reach() && !misplaced(host), "v6 {v6}, with the firewall only");
        assert_eq!(host.remove_rules("inet pontoon input_filter", "from this host itself"), 1);
        host.remove_rules("inet pontoon input_filter", "not to the IPv");
        host.run(&format!("nft add element inet pontoon peers{} '{{ {} }}'", if v6 { 6 } else { 4 }, lan.address(1)));
        wait_for("a frame to return without the guards", || {
            announce();
            misplaced(host)
        });
    }
}

/// The doctor of the dropping host names the source of dropped packets.
#[test]
fn doctor_reports_dropped_packets() {
    let (lan, _one, victim) = two(false);
    let quiet = doctor(&lan.hosts[1]);
    assert!(findings(&quiet, "drops").iter().all(|title| !title.contains("overlay")), "{quiet:?}");
    lan.switch.run("ip addr add 198.51.100.66/24 dev switch; ip addr add 2001:db8:5::66/64 dev switch nodad");
    let payload = forged(VNI, &victim);
    send(&lan.switch, 0, By::Socket(0), &lan.address(2), &payload, "");
    let all = doctor(&lan.hosts[1]);
    let titles = findings(&all, "drops");
    assert!(titles.iter().any(|title| title.contains("198.51.100.66") && title.contains("not a peer")), "{titles:?}");
    // Packets of a process and of a container are reported on their own host.
    send(&lan.hosts[0].netns, 0, By::Socket(700), &lan.address(2), &payload, "");
    send(&on_docker0(&lan.hosts[0]), 0, By::Socket(700), &lan.address(2), &payload, "");
    let all = doctor(&lan.hosts[0]);
    let titles = findings(&all, "drops");
    for what in ["a process in the host's network namespace", "a container or a machine behind this host"] {
        assert!(titles.iter().any(|title| title.contains(what)), "{what}: {titles:?}");
    }
    assert!(all.iter().filter(|one| one["check"] == "drops").all(|one| one["remedy"].is_string()), "{all:?}");
}

/// Two hosts use one VNI for networks with different subnets.
#[test]
fn doctor_reports_different_subnets_of_one_vni() {
    let lan = Lan::new(2, false);
    let mut other = overlay();
    lan.hosts[0].create(&other);
    other.n = 7;
    lan.hosts[1].create(&other);
    let (_one, two) = (lan.hosts[0].container(&overlay(), 11), lan.hosts[1].container(&other, 12));
    for asked in ["10.7.0.99", "fd00:7::99"] {
        two.run(&format!("ping -n -c 1 -W 1 {asked} || true"));
    }
    wait_for("the finding", || {
        two.run("ip neigh flush all; ping -n -c 1 -W 1 10.7.0.99 || true");
        let all = doctor(&lan.hosts[0]);
        findings(&all, "subnets").iter().any(|title| title.contains("10.7.0.12"))
    });
    let same = two_alike();
    assert_eq!(findings(&doctor(&same.0.hosts[0]), "subnets"), Vec::<&str>::new());
}

fn two_alike() -> (Lan, Container, Container) {
    let all = two(false);
    assert!(all.2.pings("10.9.0.11") && all.2.pings("fd00:9::11"));
    all
}
