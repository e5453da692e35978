//! Events of notifications of nf_tables: changes of Pontoon's tables and of rules of other programs.
//!
//! Pure. Used by `watch`.

use super::firewall::ruleset::TABLE;
use super::frame::Frame;
use super::tlv::text;
use super::watch::Event;
use nft::message::{BRIDGE, CHAIN_NAME, INET, IPV4, IPV6, NETDEV, RULE_CHAIN, TABLE_NAME, attributes, wire};

/// The event of notifications about changes by other programs.
pub fn of<'a>(mut theirs: impl Iterator<Item = Frame<'a>>) -> Option<Event> {
    let first = theirs.next()?;
    let concerns = concerns_us(&first) || theirs.any(|frame| concerns_us(&frame));
    Some(if concerns { Event::Firewall } else { Event::Rules })
}

/// Whether a notification of nf_tables concerns a Pontoon table or the engine's chain.
fn concerns_us(frame: &Frame<'_>) -> bool {
    // wire(0) to wire(2) are about tables, 3 to 5 about chains, 6 to 8 about rules.
    let Some(kind) = frame.kind.checked_sub(wire(0)) else { return false };
    let object = attributes(frame.payload);
    let table = object.find(TABLE_NAME).and_then(text);
    match (frame.payload.first(), table, kind) {
        (Some(&(INET | BRIDGE | NETDEV | IPV4 | IPV6)), Some(TABLE), _) => true,
        (Some(&(IPV4 | IPV6)), Some("filter"), 0..=2) => true,
        (Some(&(IPV4 | IPV6)), Some("filter"), 3..=5) => object.find(CHAIN_NAME).and_then(text) == Some("FORWARD"),
        (Some(&(IPV4 | IPV6)), Some("filter"), 6..=8) => object.find(RULE_CHAIN).and_then(text) == Some("FORWARD"),
        _ => false,
    }
}
