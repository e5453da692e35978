//! How much passes between two namespaces, over TCP and UDP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;

use crate::netns::Netns;

/// The start of a measurement that does not count: the bucket is full, and TCP looks for its rate.
const WARM_UP: Duration = Duration::from_millis(500);

/// Size of the receiver's buffer in bytes.
const WINDOW: usize = 96 << 10;

/// Where a party is: in a namespace, or in that of the calling thread.
pub type Place<'a> = Option<&'a Netns>;

fn at<T: Send>(place: Place<'_>, act: impl FnOnce() -> T + Send) -> T {
    match place {
        Some(netns) => netns.enter(act),
        None => act(),
    }
}

/// What one TCP connection from `client` to `server`, which has this address, transfers in bits per second; with `back`
/// from the server to the client.
pub fn tcp(client: Place<'_>, server: Place<'_>, address: &str, back: bool, time: Duration) -> f64 {
    let listener = at(server, || TcpListener::bind(address).expect("the address of the server"));
    setsockopt(&listener, RcvBuf, &WINDOW).expect("a small buffer");
    let address = listener.local_addr().expect("a bound socket");
    let stream = at(client, || TcpStream::connect_timeout(&address, Duration::from_secs(10)).expect("a connection"));
    let (accepted, _) = listener.accept().expect("a connection");
    let (mut sender, mut receiver) = if back { (accepted, stream) } else { (stream, accepted) };
    // What a receiver that had no processor for a while finds waiting must be little beside what it measures.
    setsockopt(&receiver, RcvBuf, &WINDOW).expect("a small buffer");
    let limit = Some(Duration::from_secs(5));
    sender.set_write_timeout(limit).expect("a time limit");
    receiver.set_read_timeout(limit).expect("a time limit");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = Ok(());
            while sent.is_ok() && !done.load(Ordering::Relaxed) {
                sent = sender.write_all(&[7; 16 << 10]);
            }
        });
        let mut buffer = vec![0; 256 << 10];
        let measured = rate(time, || receiver.read(&mut buffer).expect("data"));
        done.store(true, Ordering::Relaxed);
        // Wakes the sender.
        drop(receiver);
        measured
    })
}

/// What a flood of UDP datagrams from `client` to `server` delivers, in bits per second.
pub fn udp(client: Place<'_>, server: Place<'_>, address: &str, time: Duration) -> f64 {
    let receiver = at(server, || UdpSocket::bind(address).expect("the address of the server"));
    receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
    let address = receiver.local_addr().expect("a bound socket");
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let sender = at(client, || UdpSocket::bind(any).expect("a socket"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // A slow machine sleeps for up to 10 ms.
                (0..32).for_each(|_| drop(sender.send_to(&[7; 1400], address)));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let mut buffer = [0; 2048];
        // The headers of IP, UDP and Ethernet are part of the rate.
        let measured = rate(time, || receiver.recv(&mut buffer).expect("data") + 42);
        done.store(true, Ordering::Relaxed);
        measured
    })
}

fn rate(time: Duration, mut receive: impl FnMut() -> usize) -> f64 {
    let begun = Instant::now();
    while begun.elapsed() < WARM_UP {
        receive();
    }
    let (begun, mut bytes) = (Instant::now(), 0);
    while begun.elapsed() < time {
        bytes += receive();
    }
    bytes as f64 * 8.0 / begun.elapsed().as_secs_f64()
}
