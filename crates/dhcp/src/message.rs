//! Messages: the fixed header of BOOTP and the options of DHCP (RFC 2131, 2132, 3396, 3442).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The UDP port of servers and relays.
pub const SERVER_PORT: u16 = 67;
/// The UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

/// Bytes before the options: the header and the magic cookie.
const HEADER: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The positions of the fields `sname` and `file`, which may hold options.
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
/// Relays and servers of BOOTP drop shorter messages (RFC 1542, 2.1).
const SHORTEST: usize = 300;
/// The flag that asks for an answer by broadcast.
const BROADCAST: u16 = 0x8000;

/// Codes of options.
pub mod option {
    #![allow(missing_docs, reason = "the names of RFC 2132")]
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const DNS_SERVERS: u8 = 6;
    pub const HOSTNAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const NTP_SERVERS: u8 = 42;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const TEXT: u8 = 56;
    pub const LONGEST_MESSAGE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const SEARCH: u8 = 119;
    pub const ROUTES: u8 = 121;
    pub const ROUTES_OF_MICROSOFT: u8 = 249;
    pub const END: u8 = 255;
}

/// The type of a message (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of RFC 2131")]
pub enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Discover, Self::Offer, Self::Request, Self::Decline, Self::Ack, Self::Nak, Self::Release];
}

/// A message of a client or a server on Ethernet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whether a server sent it.
    pub is_reply: bool,
    /// The transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Whether the client asks for an answer by broadcast.
    pub broadcast: bool,
    /// The address that the client has and answers at.
    pub ciaddr: Ipv4Addr,
    /// The address for the client.
    pub yiaddr: Ipv4Addr,
    /// The relay.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: [u8; 6],
    /// The options, each with its parts joined (RFC 3396).
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Message {
    /// A message of a client that has no address, without options but its type. Answers are wanted by broadcast.
    pub fn of_client(kind: Kind, xid: u32, chaddr: [u8; 6]) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self {
            is_reply: false,
            xid,
            secs: 0,
            broadcast: true,
            ciaddr: none,
            yiaddr: none,
            giaddr: none,
            chaddr,
            options: BTreeMap::from([(option::KIND, vec![kind as u8])]),
        }
    }

    /// Its type.
    pub fn kind(&self) -> Option<Kind> {
        let &[number] = self.options.get(&option::KIND)?.as_slice() else { return None };
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Replaces an option.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        self.options.insert(code, value.into());
    }

    /// An option that is one address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.options.get(&code)?.as_slice().try_into().ok()?;
        Some(octets.into())
    }

    /// An option that is a list of addresses; empty if it is missing or malformed.
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let bytes = self.options.get(&code).map(Vec::as_slice).unwrap_or_default();
        if !bytes.len().is_multiple_of(4) {
            return Vec::new();
        }
        bytes.chunks_exact(4).filter_map(|chunk| Some(Ipv4Addr::from(*chunk.first_chunk::<4>()?))).collect()
    }

    /// An option that is a number of 32 bits.
    pub fn number(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.options.get(&code)?.as_slice().try_into().ok()?))
    }

    /// An option that is a text; characters that a terminal would interpret are left out.
    pub fn text(&self, code: u8) -> Option<String> {
        let text = String::from_utf8_lossy(self.options.get(&code)?);
        Some(text.chars().filter(|c| !c.is_control()).collect::<String>()).filter(|text| !text.is_empty())
    }

    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let [kind, hardware, length, hops] = [if self.is_reply { 2 } else { 1 }, 1, 6, 0];
        let mut bytes = vec![kind, hardware, length, hops];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend((if self.broadcast { BROADCAST } else { 0 }).to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, Ipv4Addr::UNSPECIFIED, self.giaddr] {
            bytes.extend(address.octets());
        }
        bytes.extend(self.chaddr);
        bytes.resize(HEADER - COOKIE.len(), 0);
        bytes.extend(COOKIE);
        // Old servers expect the type first.
        let (first, rest): (Vec<_>, Vec<_>) = self.options.iter().partition(|(code, _)| **code == option::KIND);
        for (code, value) in first.into_iter().chain(rest) {
            if value.is_empty() {
                bytes.extend([*code, 0]);
            }
            for part in value.chunks(255) {
                bytes.extend([*code, part.len() as u8]);
                bytes.extend(part);
            }
        }
        bytes.push(option::END);
        bytes.resize(bytes.len().max(SHORTEST), option::PAD);
        bytes
    }

    /// Reads a message; `None` if it is not one for Ethernet, or an option is longer than the message.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let is_reply = match header.first()? {
            1 => false,
            2 => true,
            _ => return None,
        };
        if header.get(1..3)? != [1, 6] || header.get(HEADER - COOKIE.len()..)? != COOKIE {
            return None;
        }
        let four = |at: usize| header.get(at..)?.first_chunk::<4>().copied();
        let two = |at: usize| Some(u16::from_be_bytes(*header.get(at..)?.first_chunk::<2>()?));
        let mut options = BTreeMap::new();
        read_options(rest, &mut options)?;
        let overload = options.get(&option::OVERLOAD).and_then(|value| value.first()).copied().unwrap_or(0);
        if overload & 1 != 0 {
            read_options(header.get(FILE)?, &mut options)?;
        }
        if overload & 2 != 0 {
            read_options(header.get(SNAME)?, &mut options)?;
        }
        options.remove(&option::OVERLOAD);
        Some(Self {
            is_reply,
            xid: u32::from_be_bytes(four(4)?),
            secs: two(8)?,
            broadcast: two(10)? & BROADCAST != 0,
            ciaddr: four(12)?.into(),
            yiaddr: four(16)?.into(),
            giaddr: four(24)?.into(),
            chaddr: *header.get(28..)?.first_chunk::<6>()?,
            options,
        })
    }
}

/// Reads the options of one field; several parts of an option are joined.
fn read_options(mut bytes: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) -> Option<()> {
    loop {
        match bytes {
            // Some servers omit the end if the field is full.
            [] | [option::END, ..] => return Some(()),
            [option::PAD, rest @ ..] => bytes = rest,
            [code, len, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*len))?;
                options.entry(*code).or_default().extend(value);
                bytes = rest;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
