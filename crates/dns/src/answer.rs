//! Answers: what servers say about a name, and refusals.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::Name;
use crate::query::{Query, Question};
use crate::reader::Reader;
use crate::{INTERNET, flag, kind};

/// Most records of an answer that are read.
const MOST_RECORDS: usize = 512;

/// Most aliases from the name that was asked for to the one that has the addresses.
const MOST_ALIASES: usize = 16;

/// Why there is no answer (RFC 1035, 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The query cannot be read.
    Malformed = 1,
    /// No server answered.
    ServerFailure = 2,
    /// A kind of query that is not answered.
    NotImplemented = 4,
    /// The client may not ask this.
    Refused = 5,
}

/// The answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its code: 0 for success.
    pub code: u8,
    /// Whether it is cut off, so that the client asks again by TCP.
    pub truncated: bool,
    /// The addresses of the name, by way of its aliases, and how long they are valid, in seconds.
    pub addresses: Vec<(IpAddr, u32)>,
}

impl Answer {
    /// Reads the answer to a question that was sent with this id; `None` if the message is another's answer or malformed.
    pub fn read(message: &[u8], id: u16, question: &Question) -> Option<Self> {
        let mut reader = Reader::new(message);
        let header = reader.header()?;
        let [1, count, ..] = header.counts else { return None };
        if header.id != id || !header.is_response() || header.flags & flag::OPCODE != 0 {
            return None;
        }
        if Question::read(&mut reader)? != *question {
            return None;
        }
        let truncated = header.flags & flag::TRUNCATED != 0;
        let records = match (records(&mut reader, count), truncated) {
            (Some(records), _) => records,
            // The last record may be cut off.
            (None, true) => Records::default(),
            (None, false) => return None,
        };
        let addresses = if question.class == INTERNET { records.of(&question.name) } else { Vec::new() };
        Some(Self { code: (header.flags & flag::CODE) as u8, truncated, addresses })
    }
}

/// The records of an answer that say where a name leads.
#[derive(Default)]
struct Records {
    aliases: Vec<(Name, Name)>,
    addresses: Vec<(Name, IpAddr, u32)>,
}

fn records(reader: &mut Reader<'_>, count: u16) -> Option<Records> {
    let mut found = Records::default();
    for _ in 0..usize::from(count).min(MOST_RECORDS) {
        let (owner, mut record) = (reader.name()?, reader.record()?);
        if record.class != INTERNET {
            continue;
        }
        // A number above 2^31 means 0 (RFC 2181, 8).
        let ttl = if record.ttl > i32::MAX as u32 { 0 } else { record.ttl };
        match (record.kind, record.data.len()) {
            (kind::A, 4) => {
                let address = record.data.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))?;
                found.addresses.push((owner, address.into(), ttl));
            }
            (kind::AAAA, 16) => {
                let address = record.data.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes))?;
                found.addresses.push((owner, address.into(), ttl));
            }
            (kind::A | kind::AAAA, _) => return None,
            (kind::CNAME, _) => found.aliases.push((owner, record.inner.name()?)),
            _ => {}
        }
    }
    Some(found)
}

impl Records {
    /// The addresses of a name and of what it is an alias of.
    fn of(&self, name: &Name) -> Vec<(IpAddr, u32)> {
        let mut chain = vec![name];
        while let Some(last) = chain.last().filter(|_| chain.len() <= MOST_ALIASES) {
            let next = self.aliases.iter().find(|(owner, _)| owner == *last).map(|(_, target)| target);
            match next.filter(|next| !chain.contains(next)) {
                Some(next) => chain.push(next),
                None => break,
            }
        }
        let here = self.addresses.iter().filter(|(owner, ..)| chain.contains(&owner));
        here.map(|(_, address, ttl)| (*address, *ttl)).collect()
    }
}

/// An answer to a query without any record.
pub fn refuse(query: &Query, code: Code) -> Vec<u8> {
    let flags = flag::RESPONSE | flag::RECURSION_AVAILABLE | query.flags() & flag::RECURSION_DESIRED | code as u16;
    let mut message = head(query.id, flags, 1);
    query.question.write(&mut message);
    message
}

/// An answer to a message that is no usable query.
pub fn refuse_unusable(id: u16, code: Code) -> Vec<u8> {
    head(id, flag::RESPONSE | code as u16, 0)
}

/// An empty answer that makes a client ask again by TCP.
pub fn truncated(query: &Query) -> Vec<u8> {
    let flags = flag::RESPONSE | flag::TRUNCATED | flag::RECURSION_AVAILABLE | query.flags() & flag::RECURSION_DESIRED;
    let mut message = head(query.id, flags, 1);
    query.question.write(&mut message);
    message
}

fn head(id: u16, flags: u16, questions: u16) -> Vec<u8> {
    [id, flags, questions, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

/// Gives a server's answer the id that the client chose.
pub fn for_client(mut message: Vec<u8>, id: u16) -> Vec<u8> {
    if let Some(place) = message.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
    message
}
