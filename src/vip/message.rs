//! Encodes DNS queries for addresses and decodes the responses (RFC 1035, section 4; RFC 6891 for the size).
//!
//! Pure; no input makes it panic. Used by `resolver`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Largest accepted response, in bytes: the maximum of a datagram.
pub const LARGEST: u16 = 65_000;

const HEADER: usize = 12;
const ADDRESS: u16 = 1;
const INTERNET: u16 = 1;
const OPTIONS: u16 = 41;
const ANSWER: u16 = 1 << 15;
const WANTS_RECURSION: u16 = 1 << 8;
const CUT: u16 = 1 << 9;
const CODE: u16 = 0xf;
/// The first two bits of a length byte that is a compression pointer.
const POINTER: u8 = 0xc0;

/// The answer for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, at least one.
    Addresses(BTreeSet<Ipv4Addr>),
    /// The response was truncated.
    Cut,
}

/// A query for the IPv4 addresses of a name; `None` if the name cannot be encoded.
pub fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEADER + name.len() + 17);
    for field in [id, WANTS_RECURSION, 1, 0, 0, 1] {
        bytes.extend(field.to_be_bytes());
    }
    for label in name.split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
        bytes.push(len);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    if bytes.len() > HEADER + 255 {
        return None;
    }
    bytes.extend([ADDRESS.to_be_bytes(), INTERNET.to_be_bytes()].concat());
    // The root as name, and the size in the class field; no flags, no options.
    bytes.push(0);
    bytes.extend([OPTIONS.to_be_bytes(), LARGEST.to_be_bytes()].concat());
    bytes.extend([0; 6]);
    Some(bytes)
}

/// Decodes a response: the id of its query, and the answer; `None` there when it contains no address or is an
/// error.
pub fn answer(bytes: &[u8]) -> Option<(u16, Option<Answer>)> {
    let field = |at: usize| number(bytes, at * 2);
    let (id, flags, questions, answers) = (field(0)?, field(1)?, field(2)?, field(3)?);
    if flags & ANSWER == 0 {
        return None;
    }
    if flags & CUT != 0 {
        return Some((id, Some(Answer::Cut)));
    }
    let found = if flags & CODE == 0 { addresses(bytes, questions, answers) } else { BTreeSet::new() };
    Some((id, (!found.is_empty()).then_some(Answer::Addresses(found))))
}

/// All addresses before the first malformed record.
fn addresses(bytes: &[u8], questions: u16, answers: u16) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut at = HEADER;
    for _ in 0..questions {
        let Some(end) = behind_name(bytes, at) else { return found };
        at = end + 4;
    }
    for _ in 0..answers {
        let Some(end) = behind_name(bytes, at) else { return found };
        let (Some(kind), Some(len)) = (number(bytes, end), number(bytes, end + 8)) else { return found };
        let data = bytes.get(end + 10..end + 10 + usize::from(len));
        if let (ADDRESS, Some(octets)) = (kind, data.and_then(|data| <[u8; 4]>::try_from(data).ok())) {
            found.insert(octets.into());
        }
        at = end + 10 + usize::from(len);
    }
    found
}

/// The position after the name that starts here.
fn behind_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            len if len & POINTER == POINTER => return Some(at + 2),
            len => at += 1 + usize::from(len),
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response as Docker sends it: each address under the full name, or under a pointer to it.
    fn answered(flags: u16, addresses: &[[u8; 4]]) -> Vec<u8> {
        let mut bytes = question(7, "tasks.web.fleet").unwrap();
        bytes.truncate(bytes.len() - 11);
        bytes.splice(2..4, (ANSWER | flags).to_be_bytes());
        bytes.splice(6..8, (addresses.len() as u16).to_be_bytes());
        let name = bytes[HEADER..bytes.len() - 4].to_vec();
        for (at, address) in addresses.iter().enumerate() {
            if at % 2 == 0 {
                bytes.extend(&name)
            } else {
                bytes.extend([POINTER, HEADER as u8])
            }
            bytes.extend([0, 1, 0, 1, 0, 0, 2, 88, 0, 4]);
            bytes.extend(address);
        }
        bytes
    }

    #[test]
    fn addresses_are_read_from_whole_and_broken_answers() {
        let addresses = [[10, 0, 1, 3], [10, 0, 1, 4], [10, 0, 1, 5]];
        let whole = answered(0, &addresses);
        let expected = Answer::Addresses(addresses.map(Ipv4Addr::from).into());
        assert_eq!(answer(&whole), Some((7, Some(expected))));
        for end in 0..whole.len() {
            let _ = answer(&whole[..end]);
        }
        assert_eq!(answer(&answered(CUT, &addresses)), Some((7, Some(Answer::Cut))));
        // A server failure, an empty response, and a message that is a query itself.
        assert_eq!(answer(&answered(2, &addresses)), Some((7, None)));
        assert_eq!(answer(&answered(0, &[])), Some((7, None)));
        assert_eq!(answer(&question(7, "web").unwrap()), None);
    }

    #[test]
    fn only_names_that_fit_are_asked_for() {
        assert_eq!(question(1, "a.b").unwrap()[HEADER..HEADER + 5], [1, b'a', 1, b'b', 0]);
        for bad in ["", "a..b", &"x".repeat(64), &["y"; 130].join(".")] {
            assert_eq!(question(1, bad), None, "{bad}");
        }
    }
}
