//! Reads what Pontoon's rules counted and recorded: packets that each of them dropped, hosts that sent to overlay
//! networks without being peers, and addresses that other hosts announced.
//!
//! Reads only. Used by `survey`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nft::element::Reader;
use nft::expression::{EXPR_DATA, EXPR_NAME, LIST_ITEM};
use nft::message::{self, BRIDGE, GET_RULE, INET, RULE_CHAIN, RULE_EXPRESSIONS, RULE_USERDATA, wire};
use nft::table;

use super::limit_rules;
use super::ruleset::{FAMILIES, TABLE};
use super::schema;
use super::sets::Set;
use crate::datapath::host::Dropped;
use crate::linux::netlink::{Failure, Socket};
use crate::linux::tlv::{Attributes, text};
use crate::model::Family;

/// `NFTA_COUNTER_PACKETS`.
const COUNTER_PACKETS: u16 = 2;

/// Every rule that dropped packets, with its count.
pub fn dropped(socket: &mut Socket) -> Result<Vec<Dropped>, Failure> {
    let mut all = Vec::new();
    for family in FAMILIES.into_iter().chain(limit_rules::FAMILIES) {
        let counts = socket.list(wire(GET_RULE), &schema::query(family), |_, payload| {
            let rule = schema::ours(payload, family)?;
            let packets = counted(rule.find(RULE_EXPRESSIONS)?)?;
            let named = rule.find(RULE_USERDATA).and_then(message::comment).unwrap_or_default();
            let chain = rule.find(RULE_CHAIN).and_then(text)?.to_owned();
            (packets > 0).then(|| Dropped {
                family: message::family_name(family).to_owned(),
                chain,
                rule: named.to_owned(),
                packets,
            })
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
pub fn unknown_senders(socket: &mut Socket) -> Result<BTreeSet<(IpAddr, u32)>, Failure> {
    recorded(socket, INET, [Set::UnknownSender4, Set::UnknownSender6], |key, family| {
        Some((key.address(family)?, key.mark()? >> 8))
    })
}

/// Tunnels, each with an address that a container on another host announced there in the last minutes.
pub fn announced(socket: &mut Socket) -> Result<BTreeSet<(String, IpAddr)>, Failure> {
    recorded(socket, BRIDGE, [Set::Announced4, Set::Announced6], |key, family| {
        Some((key.link()?.to_owned(), key.address(family)?))
    })
}

/// What rules recorded in sets, one for each family of addresses.
fn recorded<T: Ord>(
    socket: &mut Socket,
    family: u8,
    sets: [Set; 2],
    read: impl Fn(&mut Reader<'_>, Family) -> Option<T>,
) -> Result<BTreeSet<T>, Failure> {
    let mut all = BTreeSet::new();
    for set in sets {
        let entries = table::entries(socket, family, TABLE, set.spec().name)?;
        all.extend(entries.iter().filter_map(|entry| Reader::all(&entry.key, |key| read(key, set.family()))));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nft::Expressions;

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
