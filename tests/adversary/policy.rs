//! Allow lists that an operator sets while containers run: flows that are not allowed any more end, the others go on
//! without losing a packet, and a container gains nothing by keeping a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::harness::request;
use testkit::netns::{Netns, wait_for};

use crate::access::bridges_call_iptables;
use crate::host::{Container, Host, Network};

/// Returns what it receives, by TCP and UDP, on these ports.
fn echo(on: &Netns, ports: &[u16]) {
    for port in ports {
        let at = ("::", *port);
        let (tcp, udp) = on.enter(|| (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(&buffer[..length], from);
            }
        });
    }
}

/// A conversation that goes on.
enum Talk {
    Tcp(TcpStream, u8),
    Udp(UdpSocket, u8),
}

const PATIENCE: Duration = Duration::from_millis(400);

impl Talk {
    fn tcp(from: &Netns, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let stream = from.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut talk = Self::Tcp(stream, 0);
        assert!(talk.goes_on(), "{to}");
        talk
    }

    fn udp(from: &Netns, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let socket = from.enter(|| UdpSocket::bind(("::", 0)).unwrap());
        socket.connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut talk = Self::Udp(socket, 0);
        assert!(talk.goes_on(), "{to}");
        talk
    }

    /// Whether one more message is answered; of a datagram that is lost, nothing is sent again.
    fn goes_on(&mut self) -> bool {
        let mut buffer = [0];
        match self {
            Self::Tcp(stream, count) => {
                *count = count.wrapping_add(1);
                let sent = stream.write_all(&[*count]);
                sent.is_ok() && stream.read_exact(&mut buffer).is_ok() && buffer == [*count]
            }
            Self::Udp(socket, count) => {
                *count = count.wrapping_add(1);
                socket.send(&[*count]).is_ok() && socket.recv(&mut buffer).is_ok() && buffer == [*count]
            }
        }
    }
}

fn talks(from: &Container, to: [&str; 2], port: u16) -> Vec<Talk> {
    let at =
        |address: &str| if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    let each = to.map(|address| [Talk::tcp(from, &at(address)), Talk::udp(from, &at(address))]);
    each.into_iter().flatten().collect()
}

#[track_caller]
fn set(host: &Host, body: &Value) {
    let reply = request(&host.daemon().socket, "POST", "/policy", body.to_string().as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// Waits until all of `ending` have ended; every message of `lasting` is answered meanwhile, and after that.
fn end_and_last(what: &str, ending: &mut [Talk], lasting: &mut [Talk]) {
    let mut last = || {
        for (at, talk) in lasting.iter_mut().enumerate() {
            assert!(talk.goes_on(), "{what}: {at} is allowed");
        }
    };
    wait_for(what, || {
        last();
        let still: Vec<usize> = (0..ending.len()).filter(|at| ending[*at].goes_on()).collect();
        eprintln!("{what}: {still:?} go on");
        still.is_empty()
    });
    for _ in 0..5 {
        last();
        let still: Vec<usize> = (0..ending.len()).filter(|at| ending[*at].goes_on()).collect();
        assert!(still.is_empty(), "{what}: {still:?} begin again");
    }
}

#[test]
fn flows_that_are_not_allowed_any_more_end_and_others_lose_nothing() {
    for on in [true, false] {
        let host = Host::start(&[]);
        bridges_call_iptables(&host, on);
        let one = Network::new("one", 1);
        host.create(&one);
        let (a, b) = (host.container(&one, 2), host.container(&one, 3));
        echo(&host.outside, &[7, 8]);
        echo(&b, &[7, 8]);
        echo(&host.netns, &[7]);
        let (outside, sibling, gateway) =
            (["192.0.2.2", "2001:db8::2"], ["10.1.0.3", "fd00:1::3"], ["10.1.0.1", "fd00:1::1"]);
        let mut kept: Vec<Talk> = [talks(&a, outside, 7), talks(&a, sibling, 7)].into_iter().flatten().collect();
        let mut ending: Vec<Talk> =
            [talks(&a, outside, 8), talks(&a, sibling, 8), talks(&a, gateway, 7)].into_iter().flatten().collect();
        let others = || talks(&b, outside, 8);
        let mut of_b = others();
        // Flows within a bridge are recorded from the first list on.
        set(&host, &json!({"network": "one", "endpoint": a.first.endpoint, "lists": {"egress": "any"}}));
        for talk in ending.iter_mut().chain(&mut kept) {
            assert!(talk.goes_on(), "allowed, br_netfilter {on}");
        }
        // The container's own, with the connections kept at first.
        let list = "tcp:7@any+udp:7@192.0.2.0/24+udp:7@2001:db8::/32+udp:7@net";
        let list = list.replace("tcp:7@any", "tcp:7@192.0.2.0/24+tcp:7@2001:db8::/32+tcp:7@net");
        let body =
            json!({"network": "one", "endpoint": a.first.endpoint, "lists": {"egress": list}, "keep_flows": true});
        set(&host, &body);
        for talk in ending.iter_mut().chain(&mut kept) {
            assert!(talk.goes_on(), "kept, br_netfilter {on}");
        }
        assert!(a.ask(testkit::topology::TCP, "192.0.2.2:8").is_none(), "a new connection");
        let mut body = body;
        body["keep_flows"] = json!(false);
        set(&host, &body);
        kept.append(&mut of_b);
        end_and_last("what the container's list does not allow ends", &mut ending, &mut kept);
        // The network's, which adds to the container's and restricts the other container.
        set(&host, &json!({"network": "one", "lists": {"egress": "udp:8@192.0.2.0/24+udp:8@2001:db8::/32"}}));
        let mut of_b = kept.split_off(8);
        let (mut tcp, mut udp): (Vec<_>, Vec<_>) = of_b.drain(..).partition(|talk| matches!(talk, Talk::Tcp(..)));
        kept.append(&mut udp);
        end_and_last("what the network's list does not allow ends", &mut tcp, &mut kept);
        // What may reach the sibling.
        set(&host, &json!({"network": "one", "endpoint": b.first.endpoint, "lists": {"ingress": "tcp:7@net"}}));
        let at = kept.iter().enumerate().filter(|(at, talk)| (4..8).contains(at) && matches!(talk, Talk::Udp(..)));
        let at: Vec<usize> = at.map(|(at, _)| at).collect();
        let mut ending: Vec<Talk> = at.into_iter().rev().map(|at| kept.remove(at)).collect();
        assert_eq!(ending.len(), 2);
        end_and_last("what the sibling's list does not allow ends", &mut ending, &mut kept);
        // Without them everything is open again.
        for endpoint in [json!(null), json!(a.first.endpoint), json!(b.first.endpoint)] {
            set(&host, &json!({"network": "one", "endpoint": endpoint, "remove": true}));
        }
        for mut talk in
            [talks(&a, outside, 8), talks(&a, sibling, 8), talks(&a, gateway, 7), kept].into_iter().flatten()
        {
            assert!(talk.goes_on(), "br_netfilter {on}");
        }
    }
}
