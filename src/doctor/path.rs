//! Probes the path to other hosts, and reads facts about tunnels from files.
//!
//! A packet as large as the largest that a tunnel sends, with fragmentation forbidden, goes to an unused port of
//! the peer: a rejection proves that it arrived. Needs no privilege. The daemon never calls this.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where `traceroute` begins; almost never bound.
const UNUSED_PORT: u16 = 33434;

/// How long to wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// The maximum number of peers probed, all at once.
const MOST: usize = 64;

/// The result of a full-size packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It arrived unfragmented.
    Whole,
    /// A router on the path reported that it was too large.
    TooLarge,
    /// It did not arrive, but small ones did.
    Swallowed,
    /// No answer, to small packets neither: the peer or a firewall is silent.
    Silent,
}

/// Probes the path from an address of this host to each peer with packets of `size` bytes, including the IP
/// header.
pub fn probe(local: IpAddr, peers: &[IpAddr], size: u32) -> BTreeMap<IpAddr, Arrival> {
    std::thread::scope(|scope| {
        let tries: Vec<_> = peers
            .iter()
            .take(MOST)
            .filter(|peer| peer.is_ipv4() == local.is_ipv4())
            .map(|peer| (*peer, scope.spawn(move || arrival(local, *peer, size).unwrap_or(Arrival::Silent))))
            .collect();
        tries.into_iter().filter_map(|(peer, tried)| Some((peer, tried.join().ok()?))).collect()
    })
}

/// The kernel itself forbids fragmentation of packets that fit the link, and reports ICMP errors to a connected
/// socket (`__udp4_lib_err`, net/ipv4/udp.c).
fn arrival(local: IpAddr, peer: IpAddr, size: u32) -> std::io::Result<Arrival> {
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect((peer, UNUSED_PORT))?;
    let headers = if peer.is_ipv4() { 28 } else { 48 };
    let large = vec![0; (size as usize).saturating_sub(headers)];
    // Each is sent twice: one may be lost, and the peer need not answer all.
    let mut small = false;
    for (bytes, is_large) in [(&large[..], true), (&large, true), (&[0], false), (&[0], false), (&large, true)] {
        if small && !is_large {
            continue;
        }
        match answer(&socket, bytes) {
            Some(ErrorKind::ConnectionRefused) if is_large => return Ok(Arrival::Whole),
            Some(ErrorKind::ConnectionRefused) => small = true,
            Some(_) if is_large => return Ok(Arrival::TooLarge),
            _ => {}
        }
    }
    Ok(if small { Arrival::Swallowed } else { Arrival::Silent })
}

/// The answer to a packet, immediate or delayed: refused, too large, or none.
fn answer(socket: &UdpSocket, bytes: &[u8]) -> Option<ErrorKind> {
    let told = |error: &std::io::Error| match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Some(ErrorKind::ConnectionRefused),
        Some(libc::EMSGSIZE) => Some(ErrorKind::FileTooLarge),
        _ => None,
    };
    if let Err(error) = socket.send(bytes) {
        return told(&error);
    }
    let end = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).ok()?;
        match socket.recv(&mut [0; 16]) {
            // A process does use the port and answered.
            Ok(_) => return Some(ErrorKind::ConnectionRefused),
            Err(error) => match told(&error) {
                None if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                None => {}
                some => return some,
            },
        }
    }
}

/// Processes that have bound a UDP port. The same list contains the tunnel's own socket, which belongs to no
/// process.
pub fn holders(port: u16) -> Vec<String> {
    let mut sockets = BTreeSet::new();
    for file in ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        sockets.extend(held(&text, port).map(|inode| format!("socket:[{inode}]")));
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let has = |process: &Path| {
        let mut links = entries(&process.join("fd")).filter_map(|fd| fs::read_link(fd).ok());
        links.any(|link| sockets.contains(link.to_string_lossy().as_ref()))
    };
    let numbered = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
    };
    let named = |process: PathBuf| {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        format!("{}: {}", process.display(), name.trim())
    };
    entries(Path::new("/proc")).filter(numbered).filter(|process| has(process)).map(named).collect()
}

fn held(text: &str, port: u16) -> impl Iterator<Item = &str> {
    text.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace();
        let local = words.nth(1)?.rsplit(':').next()?;
        let inode = words.nth(7)?;
        (u16::from_str_radix(local, 16).ok()? == port).then_some(inode)
    })
}

/// The driver of a link; `None` if it belongs to no device.
pub fn driver(link: &str) -> Option<String> {
    let path = fs::read_link(Path::new("/sys/class/net").join(link).join("device/driver")).ok()?;
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// Packets that a container dropped because their checksum was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its address.
    pub address: Ipv4Addr,
    /// Segments of TCP.
    pub tcp: u64,
    /// Datagrams of UDP.
    pub udp: u64,
}

/// Searches the network namespaces of all processes for these addresses, and reads the packets dropped there.
/// Namespaces that cannot be read are left out.
pub fn damaged(addresses: &BTreeSet<Ipv4Addr>) -> Vec<Damaged> {
    if addresses.is_empty() {
        return Vec::new();
    }
    let mut seen: BTreeSet<_> = fs::read_link("/proc/self/ns/net").into_iter().collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    for process in processes.filter(|path| path.join("ns/net").exists()) {
        let Ok(namespace) = fs::read_link(process.join("ns/net")) else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let read = |file: &str| fs::read_to_string(process.join("net").join(file)).unwrap_or_default();
        let routes = read("fib_trie");
        let local = |address: &&Ipv4Addr| routes.lines().any(|line| line.trim_start() == format!("|-- {address}"));
        let Some(address) = addresses.iter().find(local) else { continue };
        let counts = read("snmp");
        let (tcp, udp) = (count(&counts, "Tcp:"), count(&counts, "Udp:"));
        if tcp + udp > 0 {
            found.push(Damaged { address: *address, tcp, udp });
        }
    }
    found
}

/// `InCsumErrors` of a protocol in the text of `/proc/net/snmp`.
fn count(text: &str, protocol: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol)).map(str::split_whitespace);
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let found = names.zip(values).find(|(name, _)| *name == "InCsumErrors");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sockets_are_read_by_their_names() {
        let text = "Tcp: RtoMin InErrs InCsumErrors\nTcp: 200 0 7\nUdp: InErrors InCsumErrors\nUdp: 0 9\n";
        assert_eq!((count(text, "Tcp:"), count(text, "Udp:"), count(text, "Icmp:")), (7, 9, 0));
        let sockets = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n \
             1: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 17 2 0 0\n \
             2: 0100007F:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n";
        assert_eq!(held(sockets, 4789).collect::<Vec<_>>(), ["17", "4711"]);
        assert_eq!(held(sockets, 4790).count(), 0);
        assert_eq!(held("x\ny", 1).count(), 0);
    }

    #[test]
    fn the_way_to_oneself_is_whole() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(probe(local, &[local], 1500), [(local, Arrival::Whole)].into());
    }
}
