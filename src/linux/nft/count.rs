//! Reads what Pontoon's rules counted and recorded: how many packets each of them dropped, and which hosts
//! sent to overlay networks without being peers.
//!
//! Reads only. Used by `survey`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::expression::{EXPR_DATA, EXPR_NAME, LIST_ITEM};
use super::message::{self, BRIDGE, GET_RULE, INET, RULE_CHAIN, RULE_EXPRESSIONS, RULE_USERDATA, wire};
use super::ruleset::FAMILIES;
use super::set::Set;
use super::{shape, table};
use crate::datapath::host::Dropped;
use crate::linux::netlink::{Failure, Socket};
use crate::linux::tlv::{Attributes, text};

/// Bytes of a link's name in a key.
const LINK: usize = 16;

/// `NFTA_COUNTER_PACKETS`.
const COUNTER_PACKETS: u16 = 2;

/// Every rule that dropped packets, with its count.
pub fn dropped(socket: &mut Socket) -> Result<Vec<Dropped>, Failure> {
    let mut all = Vec::new();
    for family in FAMILIES {
        let counts = socket.list(wire(GET_RULE), &shape::query(family), |_, payload| {
            let rule = shape::ours(payload, family)?;
            let packets = counted(rule.find(RULE_EXPRESSIONS)?)?;
            let named = rule.find(RULE_USERDATA).and_then(message::comment).unwrap_or_default();
            let chain = rule.find(RULE_CHAIN).and_then(text)?.to_owned();
            let of_inet = family == INET;
            (packets > 0).then(|| Dropped { of_inet, chain, rule: named.to_owned(), packets })
        })?;
        all.extend(counts);
    }
    Ok(all)
}

/// The packet count of the counter among these expressions.
fn counted(expressions: &[u8]) -> Option<u64> {
    let items = Attributes::new(expressions).filter(|(kind, _)| *kind == LIST_ITEM);
    let counter = items
        .map(|(_, item)| Attributes::new(item))
        .find(|item| item.find(EXPR_NAME).and_then(text) == Some("counter"))?;
    let packets = Attributes::new(counter.find(EXPR_DATA)?).find(COUNTER_PACKETS)?;
    packets.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Hosts that are not peers but sent to overlay networks in the last hour, each with the VNI.
pub fn strangers(socket: &mut Socket) -> Result<BTreeSet<(IpAddr, u32)>, Failure> {
    let mut all = BTreeSet::new();
    for set in [Set::Strangers4, Set::Strangers6] {
        let (family, len) = if set.v6() { (libc::AF_INET6, 16) } else { (libc::AF_INET, 4) };
        for entry in table::read_entries(socket, INET, set.spec().name)? {
            let (address, number) = (entry.key.get(..len), entry.key.get(len..).and_then(<[u8]>::first_chunk));
            let address = address.and_then(|bytes| crate::linux::addr::ip(family, bytes));
            all.extend(address.zip(number.map(|bytes| u32::from_be_bytes(*bytes) >> 8)));
        }
    }
    Ok(all)
}

/// Tunnels, each with an address that a container on another host announced there in the last minutes.
pub fn heard(socket: &mut Socket) -> Result<BTreeSet<(String, IpAddr)>, Failure> {
    let mut all = BTreeSet::new();
    for set in [Set::Heard4, Set::Heard6] {
        let (family, len) = if set.v6() { (libc::AF_INET6, 16) } else { (libc::AF_INET, 4) };
        for entry in table::read_entries(socket, BRIDGE, set.spec().name)? {
            let name = entry.key.get(..LINK).and_then(text).map(str::to_owned);
            let address = entry.key.get(LINK..LINK + len).and_then(|bytes| crate::linux::addr::ip(family, bytes));
            all.extend(name.zip(address));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::nft::expression::Expressions;

    #[test]
    fn a_counter_is_found_among_others() {
        let written = Expressions::default().counter().drop().finish().finish();
        assert_eq!(counted(&written), Some(0));
        assert_eq!(counted(&Expressions::default().drop().finish().finish()), None);
        for end in 0..written.len() {
            counted(&written[..end]);
        }
    }
}
