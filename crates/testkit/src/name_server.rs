//! A name server for tests, and a client that asks one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dns::query::{Query, Received, receive};
use dns::{Answer, Code, Name, answer};

/// Type of a query for IPv4 addresses.
pub const A: u16 = 1;
/// Type of a query for IPv6 addresses.
pub const AAAA: u16 = 28;
const CNAME: u16 = 5;

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a name has.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Addresses, valid for this many seconds.
    At(Vec<IpAddr>, u32),
    /// Another name.
    Alias(&'static str),
    /// Addresses that are answered by TCP only.
    Long(Vec<IpAddr>),
    /// Addresses, after forged answers that lead to another address: with another id, and to another question.
    Forged(Vec<IpAddr>, IpAddr),
    /// No answer at all.
    Silent,
}

/// The names of a server, and what it was asked.
#[derive(Debug, Default, Clone)]
pub struct NameServer(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    names: BTreeMap<Name, Entry>,
    asked: Vec<String>,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn wire(text: &str) -> Vec<u8> {
    let labels = text.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

impl NameServer {
    /// Sets what a name has.
    pub fn set(&self, text: &str, entry: Entry) {
        self.0.lock().unwrap().names.insert(name(text), entry);
    }

    /// Takes the names that it was asked for so far.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    /// Answers at port 53 of the calling thread's namespace, in the background.
    pub fn serve(&self) {
        let udp = UdpSocket::bind("[::]:53").unwrap();
        let tcp = TcpListener::bind("[::]:53").unwrap();
        let (by_udp, by_tcp) = (self.clone(), self.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                by_udp.answers(&buffer[..length], false).iter().for_each(|answer| drop(udp.send_to(answer, from)));
            }
        });
        thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let server = by_tcp.clone();
                thread::spawn(move || {
                    while let Some(message) = read(&mut stream) {
                        server.answers(&message, true).iter().for_each(|answer| write(&mut stream, answer));
                    }
                });
            }
        });
    }

    /// The messages that answer a query.
    fn answers(&self, message: &[u8], by_tcp: bool) -> Vec<Vec<u8>> {
        let Received::Query(query) = receive(message) else { return Vec::new() };
        let asked = &query.question.name;
        let mut state = self.0.lock().unwrap();
        state.asked.push(asked.to_string());
        // With names that are made up, one for each address of a subnet.
        let numbered = || {
            let label = String::from_utf8(asked.labels().next()?.to_vec()).ok()?;
            let number: u16 = label.strip_prefix('n')?.parse().ok()?;
            let [high, low] = number.to_be_bytes();
            Some(Entry::At(vec![IpAddr::from([198, 18, high, low])], 1))
        };
        let entry = state.names.get(asked).cloned().or_else(numbered);
        let of_kind = |addresses: &[IpAddr]| -> Vec<IpAddr> {
            let wanted = |address: &&IpAddr| query.question.kind == if address.is_ipv4() { A } else { AAAA };
            addresses.iter().filter(wanted).copied().collect()
        };
        let records = |owner: &[u8], addresses: &[IpAddr], ttl| -> Vec<Vec<u8>> {
            of_kind(addresses).iter().map(|address| record(owner, *address, ttl)).collect()
        };
        const ASKED: [u8; 2] = [0xc0, 12];
        match entry {
            Some(Entry::At(addresses, ttl)) => vec![reply(&query, query.id, &records(&ASKED, &addresses, ttl))],
            Some(Entry::Alias(to)) => {
                let mut all = vec![rr(&ASKED, CNAME, 1, &wire(to))];
                if let Some(Entry::At(addresses, ttl)) = state.names.get(&name(to)) {
                    all.extend(records(&wire(to), addresses, *ttl));
                }
                vec![reply(&query, query.id, &all)]
            }
            Some(Entry::Long(addresses)) if by_tcp => vec![reply(&query, query.id, &records(&ASKED, &addresses, 60))],
            Some(Entry::Long(_)) => vec![answer::truncated(&query)],
            Some(Entry::Forged(addresses, evil)) => {
                let forged = records(&ASKED, &[evil], 60);
                let mut other = reply(&query, query.id, &forged);
                other[13] ^= 1;
                let wrong_id = reply(&query, query.id.wrapping_add(1), &forged);
                vec![wrong_id, other, b"noise".to_vec(), reply(&query, query.id, &records(&ASKED, &addresses, 60))]
            }
            Some(Entry::Silent) => Vec::new(),
            None => vec![reply(&query, query.id, &[])],
        }
    }
}

fn record(owner: &[u8], address: IpAddr, ttl: u32) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => rr(owner, A, ttl, &four.octets()),
        IpAddr::V6(six) => rr(owner, AAAA, ttl, &six.octets()),
    }
}

fn rr(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let fixed = [&kind.to_be_bytes()[..], &[0, 1], &ttl.to_be_bytes(), &(data.len() as u16).to_be_bytes()].concat();
    [owner, &fixed, data].concat()
}

fn reply(query: &Query, id: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = answer::for_client(answer::refuse(query, Code::Refused), id);
    message[3] &= 0xf0;
    message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    message.extend(records.concat());
    message
}

fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

fn write(stream: &mut TcpStream, message: &[u8]) {
    let _ = stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], message].concat());
}

/// Asks a name server at this address and port from the calling thread's namespace; `None` without an answer.
pub fn look_up(text: &str, kind: u16, server: &str, by_tcp: bool) -> Option<Answer> {
    let server: SocketAddr = server.parse().unwrap();
    let head = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let message = [&head[..], &wire(text), &kind.to_be_bytes(), &[0, 1]].concat();
    let Received::Query(query) = receive(&message) else { panic!("{text} is a name") };
    let bytes = if by_tcp {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write(&mut stream, &message);
        read(&mut stream)?
    } else {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(server).ok()?;
        socket.send(&message).ok()?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        buffer[..length].to_vec()
    };
    Answer::read(&bytes, query.id, &query.question)
}
