//! Reservation of host ports: all or none, with an error for the later one in a conflict.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use pontoon::datapath::{Kernel, ReserveError};
use pontoon::model::{HostPort, Protocol};

use testkit::netns::*;

fn port(protocol: Protocol, address: &str, port: u16) -> HostPort {
    HostPort { protocol, address: address.parse().unwrap(), port }
}

#[test]
fn ports_are_reserved_all_or_none() {
    in_netns(|kernel| {
        use Protocol::{Sctp, Tcp, Udp};
        let all = [port(Tcp, "0.0.0.0", 80), port(Tcp, "::", 80), port(Udp, "0.0.0.0", 80), port(Sctp, "0.0.0.0", 80)];
        kernel.reserve(&all).unwrap();
        kernel.reserve(&all).unwrap();
        assert!(TcpListener::bind("127.0.0.1:80").is_err() && TcpListener::bind("[::1]:80").is_err());
        assert!(UdpSocket::bind("127.0.0.1:80").is_err() && UdpSocket::bind("[::1]:80").is_ok());
        assert!(!answers("127.0.0.1:80"), "a connection is reset instead of dropped");

        let taken = TcpListener::bind("127.0.0.1:83").unwrap();
        let wanted = [port(Tcp, "127.0.0.1", 81), port(Udp, "127.0.0.1", 82), port(Tcp, "0.0.0.0", 83)];
        let error = kernel.reserve(&wanted).unwrap_err();
        assert!(matches!(error, ReserveError::Taken { port } if port == wanted[2]), "{error}");
        assert_eq!(error.to_string(), "port 0.0.0.0:83/tcp is already in use on this host");
        // A process forked by another test briefly holds this process's sockets, even closed ones.
        wait_for("port 81", || TcpListener::bind("127.0.0.1:81").is_ok());
        wait_for("port 82", || UdpSocket::bind("127.0.0.1:82").is_ok());
        drop(taken);
        wait_for("the ports", || kernel.reserve(&wanted).is_ok());
        // Pontoon's own ports are conflicts, too, also of a protocol that this kernel does not have.
        for port in [port(Tcp, "127.0.0.1", 80), port(Sctp, "127.0.0.1", 80)] {
            assert!(matches!(kernel.reserve(&[port]), Err(ReserveError::Taken { .. })), "{port}");
        }
        let error = kernel.reserve(&[port(Tcp, "192.0.2.1", 84)]).unwrap_err();
        assert!(matches!(error, ReserveError::NoAddress { .. }), "{error}");
        kernel.release(&all);
        kernel.release(&all);
        wait_for("port 80", || TcpListener::bind("0.0.0.0:80").is_ok());
        assert!(TcpListener::bind("127.0.0.1:81").is_err(), "the others are not reserved");
        let (range, _) = kernel.ephemeral_ports().unwrap();
        assert!(range.contains(&40000), "{range:?}");
    });
}

#[test]
fn connections_in_time_wait_are_no_conflict() {
    in_netns(|kernel| {
        let server = TcpListener::bind("127.0.0.1:85").unwrap();
        let client = TcpStream::connect("127.0.0.1:85").unwrap();
        let (accepted, _) = server.accept().unwrap();
        // The end that closes first stays in TIME-WAIT.
        drop((accepted, server));
        drop(client);
        wait_for("a connection in TIME-WAIT", || run("ss -tan state time-wait").contains(":85"));
        wait_for("the port", || kernel.reserve(&[port(Protocol::Tcp, "0.0.0.0", 85)]).is_ok());
        assert!(TcpListener::bind("127.0.0.1:85").is_err());
        assert!(!answers("127.0.0.1:85"));
    });
}

fn answers(address: &str) -> bool {
    TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_millis(300)).is_ok()
}
