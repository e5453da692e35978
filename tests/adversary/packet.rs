//! Frames as sent by an attacker with a packet socket, and counters of their receivers.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use testkit::netns::Netns;

/// An Ethernet frame.
pub fn frame(to: [u8; 6], from: [u8; 6], kind: u16, content: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), content].concat()
}

/// 01:80:c2:00:00:0x.
pub fn to_bridges(last: u8) -> [u8; 6] {
    [0x01, 0x80, 0xc2, 0, 0, last]
}

pub fn mac_of(text: &str) -> [u8; 6] {
    crate::host::mac_bytes(text)
}

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The Internet checksum of all bytes.
pub fn checksum(bytes: &[u8]) -> u16 {
    sum(&[bytes])
}

/// An IPv4 packet.
pub fn ip4(from: &str, to: &str, protocol: u8, content: &[u8]) -> Vec<u8> {
    let (from, to): (Ipv4Addr, Ipv4Addr) = (from.parse().unwrap(), to.parse().unwrap());
    let length = (20 + content.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let check = sum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&check);
    [header, content.to_vec()].concat()
}

/// An IPv6 packet whose next header is `next`.
pub fn ip6(from: &str, to: &str, next: u8, content: &[u8]) -> Vec<u8> {
    let (from, to): (Ipv6Addr, Ipv6Addr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((content.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(content);
    packet
}

/// A UDP datagram, with a checksum if the addresses are IPv6, which requires it.
pub fn udp(from: &str, to: &str, port: u16) -> Vec<u8> {
    let mut datagram = [7777u16.to_be_bytes(), port.to_be_bytes(), 12u16.to_be_bytes(), [0, 0]].concat();
    datagram.extend(b"evil");
    if let (Ok(from), Ok(to)) = (from.parse::<Ipv6Addr>(), to.parse::<Ipv6Addr>()) {
        let check = sum(&[&from.octets(), &to.octets(), &[0, 0, 0, 12, 0, 0, 0, 17], &datagram]);
        datagram[6..8].copy_from_slice(&check.to_be_bytes());
    }
    datagram
}

/// A datagram in a packet of its family, and the EtherType.
pub fn datagram(from: &str, to: &str, port: u16) -> (u16, Vec<u8>) {
    let content = udp(from, to, port);
    if from.contains(':') { (0x86dd, ip6(from, to, 17, &content)) } else { (0x0800, ip4(from, to, 17, &content)) }
}

/// An ICMPv6 message; `rest` follows the checksum.
pub fn icmp6(from: &str, to: &str, kind: u8, rest: &[u8]) -> Vec<u8> {
    let (source, target): (Ipv6Addr, Ipv6Addr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut message = vec![kind, 0, 0, 0];
    message.extend(rest);
    let length = (message.len() as u32).to_be_bytes();
    let check = sum(&[&source.octets(), &target.octets(), &length, &[0, 0, 0, 58], &message]);
    message[2..4].copy_from_slice(&check.to_be_bytes());
    message
}

/// A neighbour advertisement (136, unsolicited, to override) or solicitation (135) about `about`.
pub fn neighbour(kind: u8, from: &str, to: &str, about: &str, mac: Option<[u8; 6]>) -> Vec<u8> {
    let about: Ipv6Addr = about.parse().unwrap();
    let mut rest = vec![if kind == 136 { 0x20 } else { 0 }, 0, 0, 0];
    rest.extend(about.octets());
    if let Some(mac) = mac {
        rest.extend([if kind == 136 { 2 } else { 1 }, 1]);
        rest.extend(mac);
    }
    icmp6(from, to, kind, &rest)
}

/// Sends frames from a link of a namespace, in one batch.
pub fn send(from: &Netns, link: &str, frames: &[Vec<u8>]) {
    const SCRIPT: &str = "import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for frame in sys.stdin.read().split():
    s.send(bytes.fromhex(frame))";
    let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: Vec<String> = frames.iter().map(hex).collect();
    let status = from.enter(|| {
        let mut sender =
            Command::new("python3").args(["-c", SCRIPT, link]).stdin(Stdio::piped()).spawn().expect("python3");
        sender.stdin.take().expect("a pipe").write_all(lines.join("\n").as_bytes()).unwrap();
        sender.wait().unwrap()
    });
    assert!(status.success(), "cannot send frames from {link}");
}

/// Counts frames that arrive on eth0 of a namespace and match an nft expression.
pub struct Sight<'a> {
    at: &'a Netns,
    table: String,
}

impl<'a> Sight<'a> {
    pub fn new(at: &'a Netns, name: &str, expression: &str) -> Self {
        Self::of(at, "eth0", name, expression)
    }

    /// The same for another link, after the drops of Pontoon there.
    pub fn of(at: &'a Netns, link: &str, name: &str, expression: &str) -> Self {
        let table = format!("netdev sight_{name}");
        at.run(&format!(
            "nft 'add table {table}; add chain {table} c {{ type filter hook ingress device {link} priority 500; }}; add rule {table} c {expression} counter'"
        ));
        Self { at, table }
    }

    pub fn count(&self) -> u64 {
        let text = self.at.run(&format!("nft list table {}", self.table));
        text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok()).expect(&text)
    }

    /// Whether what `act` sends arrives.
    pub fn sees(&self, act: impl FnOnce()) -> bool {
        let before = self.count();
        act();
        std::thread::sleep(std::time::Duration::from_millis(50));
        self.count() > before
    }
}
