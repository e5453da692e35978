//! Pontoon's accepting rules at the end of the engine's `FORWARD` chain (tables `ip filter` and `ip6 filter`,
//! which iptables-nft creates), so that the chain's policy does not drop what `inet pontoon` accepts.
//!
//! Invariants: never creates that chain, never changes another program's rule in it. A rule is Pontoon's if
//! it has Pontoon's comment *and* exactly the form that is written here. iptables shows it as `-i pnt+ -m
//! comment --comment pontoon -j ACCEPT`, so users can tell which program added it; after `iptables-save` and
//! `iptables-restore` the comment is a match of iptables, and the rule is still recognised. Called by
//! `LinuxKernel` and `observe`.

use std::collections::BTreeSet;

use super::firewall::forward_accept::{Accept, decode_accept};
use super::netlink::{Failure, Request, Socket};
use super::tlv::{big64, text};
use crate::datapath::{ForwardRule, LinkMatch};
use crate::model::{Family, IfName};
use nft::batch::commit;
use nft::message::{
    self, CHAIN_NAME, GET_CHAIN, GET_RULE, GET_TABLE, IPV4, IPV6, RULE_CHAIN, RULE_EXPRESSIONS, RULE_HANDLE,
    RULE_USERDATA, TABLE_NAME, attributes, body, wire,
};
use nft::{Direction, Expressions};

const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";

/// Where the engine's driver has its rules from version 28 on: a chain beside `FORWARD`, or a table with its
/// nftables back end (daemon/libnetwork/drivers/bridge of moby).
const ENGINE_CHAIN: &str = "DOCKER-FORWARD";
const ENGINE_TABLE: &str = "docker-bridges";

/// The comment that identifies Pontoon's rules.
const COMMENT: &str = "pontoon";

/// How often a change is tried when another program changes the chain at the same time.
const CHANGE_ATTEMPTS: u32 = 3;

/// A rule of Pontoon and the kernel's handle for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Number within the table.
    pub handle: u64,
    /// The rule.
    pub rule: ForwardRule,
    /// Whether only rules of Pontoon follow it. A rule that is followed by others, as after ufw is turned on,
    /// would accept what those rules drop: it counts as missing.
    pub last: bool,
}

/// Reads Pontoon's rules in order; `None` when the chain does not exist.
pub fn read(socket: &mut Socket, family: Family) -> Result<Option<Vec<Placed>>, Failure> {
    if !has_chain(socket, family, CHAIN)? {
        return Ok(None);
    }
    let mut query = body(number_of(family));
    query.text(TABLE_NAME, TABLE).text(RULE_CHAIN, CHAIN);
    let number = number_of(family);
    let rules = socket.list(wire(GET_RULE), &query.finish(), |_, payload| {
        (payload.first() == Some(&number) && is_here(payload)).then(|| parse_forward_rule(payload))
    })?;
    Ok(Some(placed(rules)))
}

/// Whether the engine itself decides which traffic may enter its networks, in both families. From version 28
/// on it drops all other traffic explicitly; before, it relied on the policy of `FORWARD`, which does not
/// stop what Pontoon's rules accept.
pub fn engine_guards(socket: &mut Socket) -> Result<bool, Failure> {
    for family in Family::ALL {
        let mut query = body(number_of(family));
        query.text(TABLE_NAME, ENGINE_TABLE);
        let table = || exists(socket.get(wire(GET_TABLE), &query.finish()));
        if !(table()? || has_chain(socket, family, ENGINE_CHAIN)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_chain(socket: &mut Socket, family: Family, chain: &str) -> Result<bool, Failure> {
    let mut query = body(number_of(family));
    query.text(TABLE_NAME, TABLE).text(CHAIN_NAME, chain);
    exists(socket.get(wire(GET_CHAIN), &query.finish()))
}

fn exists(found: Result<Vec<u8>, Failure>) -> Result<bool, Failure> {
    match found {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(false),
        result => result.map(|_| true),
    }
}

/// Pontoon's rules among all rules of the chain, where `None` is another program's rule.
fn placed(rules: Vec<Option<Placed>>) -> Vec<Placed> {
    let theirs = rules.iter().rposition(Option::is_none);
    let ours = rules.into_iter().enumerate().filter_map(|(at, rule)| Some((at, rule?)));
    ours.map(|(at, rule)| Placed { last: theirs.is_none_or(|theirs| at > theirs), ..rule }).collect()
}

fn is_here(payload: &[u8]) -> bool {
    let rule = attributes(payload);
    rule.find(TABLE_NAME).and_then(text) == Some(TABLE) && rule.find(RULE_CHAIN).and_then(text) == Some(CHAIN)
}

/// Parses a rule from a dump; `None` when it is not Pontoon's.
pub fn parse_forward_rule(payload: &[u8]) -> Option<Placed> {
    let rule = attributes(payload);
    let Accept { direction, name, comment } = decode_accept(rule.find(RULE_EXPRESSIONS)?)?;
    let comment = comment.or_else(|| rule.find(RULE_USERDATA).and_then(message::comment));
    if !is_here(payload) || comment != Some(COMMENT) {
        return None;
    }
    // iptables compares a complete name including its final zero, and a prefix without.
    let link = if name.contains(&0) {
        LinkMatch::Name(IfName::parse(text(name)?).ok()?)
    } else {
        LinkMatch::Prefix(text(name)?.to_owned())
    };
    let rule_of = match direction {
        Direction::In => ForwardRule::From,
        Direction::Out => ForwardRule::To,
    };
    Some(Placed { handle: rule.find(RULE_HANDLE).and_then(big64)?, rule: rule_of(link), last: true })
}

/// Makes Pontoon's rules in the chain exactly these, at its end; does nothing if the chain does not exist.
pub fn ensure(socket: &mut Socket, family: Family, rules: &[ForwardRule]) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        let Some(present) = read(socket, family)? else { return Ok(()) };
        tries += 1;
        match commit(socket, &difference(family, &present, rules)) {
            // Another program deleted a rule or the chain since it was read.
            Err(failure) if failure.errno() == Some(libc::ENOENT) && tries < CHANGE_ATTEMPTS => {}
            result => return result,
        }
    }
}

fn difference(family: Family, present: &[Placed], rules: &[ForwardRule]) -> Vec<Request> {
    let mut kept: BTreeSet<&ForwardRule> = BTreeSet::new();
    let mut messages = Vec::new();
    for placed in present {
        if !placed.last || !rules.contains(&placed.rule) || !kept.insert(&placed.rule) {
            messages.push(message::delete_rule(number_of(family), TABLE, CHAIN, placed.handle));
        }
    }
    for rule in rules {
        if kept.insert(rule) {
            messages.push(message::new_rule(number_of(family), TABLE, CHAIN, expressions(rule), COMMENT));
        }
    }
    messages
}

fn expressions(rule: &ForwardRule) -> Expressions {
    let (direction, link) = match rule {
        ForwardRule::From(link) => (Direction::In, link),
        ForwardRule::To(link) => (Direction::Out, link),
    };
    let name = match link {
        LinkMatch::Prefix(prefix) => prefix.as_bytes().to_vec(),
        LinkMatch::Name(name) => [name.as_str().as_bytes(), &[0]].concat(),
    };
    Expressions::default().link_name_starts(direction, &name).counter().accept()
}

fn number_of(family: Family) -> u8 {
    if family.is_v6() { IPV6 } else { IPV4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_read_back_and_only_the_difference_is_written() {
        let from = ForwardRule::From(LinkMatch::Prefix("pnt".into()));
        let to = ForwardRule::To(LinkMatch::Name(IfName::parse("br0").unwrap()));
        let written = message::new_rule(IPV4, TABLE, CHAIN, expressions(&to), COMMENT);
        let mut payload = super::super::tlv::Writer::with_header(&written.body);
        payload.bytes(RULE_HANDLE, &7u64.to_be_bytes());
        let payload = payload.finish();
        assert_eq!(parse_forward_rule(&payload), Some(Placed { handle: 7, rule: to.clone(), last: true }));
        let other = message::new_rule(IPV4, TABLE, CHAIN, expressions(&to), "another program's");
        assert_eq!(parse_forward_rule(&other.body), None);
        for end in 0..payload.len() {
            assert_eq!(parse_forward_rule(&payload[..end]), None);
        }
        let at = |handle, rule: &ForwardRule| Placed { handle, rule: rule.clone(), last: true };
        let wanted = [from.clone(), to.clone()];
        assert!(difference(Family::V4, &[at(1, &from), at(2, &to)], &wanted).is_empty());
        // One superfluous rule and one missing.
        assert_eq!(difference(Family::V4, &[at(1, &from), at(2, &from)], &wanted).len(), 2);
        // A rule that is followed by another program's is created again, at the end.
        let seen = placed(vec![Some(at(1, &from)), None, Some(at(2, &to))]);
        assert_eq!(seen.iter().map(|placed| placed.last).collect::<Vec<_>>(), [false, true]);
        assert_eq!(difference(Family::V4, &seen, &wanted).len(), 2);
    }
}
