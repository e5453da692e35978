//! A host with two networks and a host outside, with servers that answer with the client's address.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use pontoon::datapath::{Kernel, LinkProperty, Policy, Step};
use pontoon::linux::LinuxKernel;
use pontoon::model::{Family, HostPort, IfName, Protocol, Published};

use crate::netns::*;

/// Short name for tests.
pub const TCP: Protocol = Protocol::Tcp;
/// Short name for tests.
pub const UDP: Protocol = Protocol::Udp;

const PATIENCE: Duration = Duration::from_millis(600);

/// The host has 192.0.2.1 and 2001:db8::1; `outside` has .2 and ::2, and its default route is the host. Network `one`
/// is 10.1.0.0/24 and fd00:1::/64 on pntbone with containers `a` (.2) and `b` (.3), network `two` 10.2.0.0/24 and
/// fd00:2::/64 on pntbtwo with container `c` (.2).
#[derive(Debug)]
pub struct Topology {
    /// The host outside.
    pub outside: Netns,
    /// A container on network `one`.
    pub a: Netns,
    /// Another on network `one`.
    pub b: Netns,
    /// A container on network `two`.
    pub c: Netns,
    /// The host ends of the three containers.
    pub ends: [IfName; 3],
}

/// An address.
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A published port of the host for port 80 of the container.
pub fn port(protocol: Protocol, host: &str, port: u16, container: &str) -> Policy {
    let host = HostPort { protocol, address: ip(host), port };
    Policy::Published(Published { host, container: ip(container), container_port: 80 })
}

/// The policy of every network, without ports.
pub fn basics() -> Vec<Policy> {
    let mut policy = Vec::new();
    for n in ["one", "two"] {
        let br = name(&format!("pntb{n}"));
        policy.extend([
            Policy::Link(LinkProperty::ProtectedBridge, br.clone()),
            Policy::Link(LinkProperty::ContainerBridge, br.clone()),
            Policy::IntraNetwork(br),
        ]);
    }
    policy.extend(["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"].map(|subnet| Policy::Masquerade(net(subnet))));
    policy
}

impl Topology {
    /// Builds it in the calling thread's namespace, with this policy.
    pub fn new(kernel: &LinuxKernel, policy: Vec<Policy>) -> Self {
        let outside = Netns::new();
        run("ip link add up0 type veth peer name up1; ip addr add 192.0.2.1/24 dev up0; ip link set up0 up");
        run("ip addr add 2001:db8::1/64 dev up0 nodad");
        outside.take("up1", "192.0.2.2/24", "192.0.2.1");
        outside.run("ip addr add 2001:db8::2/64 dev eth0 nodad; ip -6 route add default via 2001:db8::1");
        let mut steps = vec![
            Step::CreateFirewall(policy),
            Step::Forward { family: Family::V4 },
            Step::Forward { family: Family::V6 },
        ];
        for n in [1, 2] {
            let br = name(if n == 1 { "pntbone" } else { "pntbtwo" });
            let mut bridge = bridge(br.as_str(), &[&format!("10.{n}.0.1/24"), &format!("fd00:{n}::1/64")]);
            bridge.localnet = true;
            steps.push(Step::create(br, bridge));
        }
        let containers = [("a", 1, 2), ("b", 1, 3), ("c", 2, 2)];
        let pairs = containers.map(|(id, n, _)| {
            let (host, mut pair) = veth(id, if n == 1 { "pntbone" } else { "pntbtwo" });
            pair.hairpin = true;
            steps.push(Step::create(host.clone(), pair.clone()));
            (host, pair)
        });
        kernel.apply(&steps).unwrap();
        let mut made = containers.iter().zip(&pairs).map(|((_, n, host), (_, pair))| {
            let container = Netns::new();
            container.take(pair.peer.as_str(), &format!("10.{n}.0.{host}/24"), &format!("10.{n}.0.1"));
            container.run(&format!("ip addr add fd00:{n}::{host}/64 dev eth0 nodad"));
            container.run(&format!("ip -6 route add default via fd00:{n}::1"));
            container
        });
        let [a, b, c] = [(); 3].map(|()| made.next().unwrap());
        drop(made);
        for container in [&a, &b, &c] {
            serve(container);
        }
        // The first packets of a new link wait for its link-local address.
        wait_for("IPv6", || hosts_are_up(&outside, [&a, &b, &c]));
        Self { outside, a, b, c, ends: pairs.map(|(host, _)| host) }
    }
}

fn hosts_are_up(outside: &Netns, containers: [&Netns; 3]) -> bool {
    containers.iter().zip([1, 1, 2]).all(|(container, n)| container.pings(&format!("fd00:{n}::1")))
        && outside.pings("2001:db8::1")
}

/// Serves port 80 of TCP and UDP; answers with the client's address.
pub fn serve(on: &Netns) {
    let (tcp, udp) = on.enter(|| (TcpListener::bind("[::]:80").unwrap(), UdpSocket::bind("[::]:80").unwrap()));
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.peer_addr().map(|peer| stream.write_all(plain(peer.ip()).as_bytes()));
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(plain(peer.ip()).as_bytes(), peer);
        }
    });
}

fn plain(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// Asks a server from the calling thread's namespace; returns the client address that it saw, if it answers.
pub fn ask(protocol: Protocol, server: &str) -> Option<String> {
    let server: SocketAddr = server.parse().unwrap();
    let mut answer = [0; 64];
    let len = if protocol == TCP {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read(&mut answer).ok()?
    } else {
        let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(server).ok()?;
        socket.send(b"who").ok()?;
        socket.recv(&mut answer).ok()?
    };
    Some(String::from_utf8_lossy(&answer[..len]).into_owned())
}

impl Netns {
    /// [`ask`] from this namespace.
    pub fn ask(&self, protocol: Protocol, server: &str) -> Option<String> {
        self.enter(|| ask(protocol, server))
    }
}
