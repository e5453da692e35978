//! Unusual requests: too large, many in one write, from clients that half-closed the connection.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::{assert_bounded, connect, endpoint, head, large_network, many_descriptors, well_behaved};
use testkit::daemon::Daemon;
use testkit::harness::{Dir, read_reply};

#[test]
fn huge_bodies_and_heads_use_bounded_memory() {
    many_descriptors();
    let dir = Dir::new();
    let mut daemon = Daemon::start(&dir.0, &["--log", "error"]);
    well_behaved(&daemon, "NetworkDriver.CreateNetwork", &large_network("aa", 1));
    let descriptors = daemon.descriptors();
    // Of the maximum size, and designed to use as much memory as possible once it is decoded.
    let mut body = r#"{"NetworkID":"aa","EndpointID":"e","Options":{"x":["#.to_owned();
    body.push_str(&"0,".repeat(((1 << 20) - body.len() - 4) / 2));
    body.push_str("0]}}");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..200)
            .map(|_| {
                let (socket, body) = (&daemon.socket, &body);
                scope.spawn(move || {
                    let mut stream = connect(socket);
                    // A refused connection may be closed before all of it is sent.
                    let _ = write!(stream, "{}{body}", head("NetworkDriver.CreateEndpoint", body.len()));
                    read_reply(&mut stream).map_or(0, |reply| reply.status)
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [0, 200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");

    for (text, expected) in [
        (format!("POST /NetworkDriver.Join HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(500_000)), 431),
        (format!("POST /NetworkDriver.Join HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5_000)), 431),
        (format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(500_000)), 431),
        (head("NetworkDriver.Leave", 2 << 20) + &"x".repeat(2 << 20), 413),
        // Join contains a container's published ports, so its limit is higher, but not unbounded.
        (head("NetworkDriver.Join", 17 << 20) + &"x".repeat(17 << 20), 413),
    ] {
        let mut stream = connect(&daemon.socket);
        let _ = stream.write_all(text.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{expected}: {answer}");
    }
    well_behaved(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", 1, 1));
    assert_bounded(&mut daemon, descriptors);
}

#[test]
fn requests_in_one_write_are_answered_in_order() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    well_behaved(&daemon, "NetworkDriver.CreateNetwork", &large_network("aa", 1));
    let mut stream = connect(&daemon.socket);
    let mut text = String::new();
    for number in 0..50 {
        let body = endpoint("aa", 1, number).to_string();
        text += &(head("NetworkDriver.CreateEndpoint", body.len()) + &body);
        text += &head("IpamDriver.GetCapabilities", 0);
    }
    stream.write_all(text.as_bytes()).unwrap();
    // The client half-closes the connection and waits for its answers.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let kinds: Vec<_> = answers
        .split("HTTP/1.1 200 OK")
        .skip(1)
        .map(|answer| (answer.contains("MacAddress"), answer.contains("RequiresMACAddress")))
        .collect();
    assert_eq!(kinds, [(true, false), (false, true)].repeat(50), "{answers}");
}

#[test]
fn clients_that_disconnect_early_leave_nothing_open() {
    let dir = Dir::new();
    let mut daemon = Daemon::start(&dir.0, &["--log", "error"]);
    well_behaved(&daemon, "NetworkDriver.CreateNetwork", &large_network("aa", 1));
    let descriptors = daemon.descriptors();
    let body = endpoint("aa", 1, 1).to_string();
    let whole = head("NetworkDriver.CreateEndpoint", body.len()) + &body;
    for cut in 0..=whole.len() {
        for shut in [false, true] {
            let mut stream = connect(&daemon.socket);
            stream.write_all(&whole.as_bytes()[..cut]).unwrap();
            if shut {
                stream.shutdown(Shutdown::Write).unwrap();
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                assert_eq!(String::from_utf8_lossy(&answer).contains("200 OK"), cut == whole.len());
            }
        }
    }
    well_behaved(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", 1, 1));
    assert_bounded(&mut daemon, descriptors);
}
