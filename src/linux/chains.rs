//! Reads chains of other programs as far as they affect Pontoon: which ones see forwarded packets, which of
//! Pontoon's packets they accept, and where they drop everything.
//!
//! Reads only. Called by `survey`.

use std::collections::{BTreeMap, BTreeSet};

use super::firewall::forward_accept::{Accept, Outright, decode_accept, decode_outright};
use super::firewall::ruleset::TABLE;
use super::netlink::{Failure, Socket};
use super::tlv::{Attributes, big32, big64, text};
use crate::datapath::host::{HostChain, HostEnd};
use crate::datapath::{ForwardRule, LinkMatch};
use crate::model::IfName;
use crate::model::ifname::PREFIX;
use nft::Direction;
use nft::message::{
    BRIDGE, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, GET_CHAIN, GET_RULE, HOOK_NUMBER, INET, IPV4, IPV6, RULE_CHAIN,
    RULE_EXPRESSIONS, RULE_HANDLE, TABLE_NAME, attributes, wire,
};

/// `NF_INET_FORWARD`.
const FORWARD: u32 = libc::NF_INET_FORWARD as u32;

/// Depth to which jumps between chains are followed; the kernel allows 16.
const DEPTH: u32 = 16;

/// Family, table and name of a chain.
type Place = (String, String, String);

/// The relevant properties of a rule.
#[derive(Debug, Default)]
struct Rule {
    handle: u64,
    accepts: Option<ForwardRule>,
    ends: bool,
    asks: Option<String>,
    names_ours: bool,
}

/// All chains except Pontoon's own, with the effects of their rules on Pontoon.
pub fn list(socket: &mut Socket) -> Result<Vec<HostChain>, Failure> {
    let mut chains = socket.list(wire(GET_CHAIN), &[0; 4], |_, payload| parse_chain(payload))?;
    chains.retain(|chain| chain.table != TABLE);
    let mut rules: BTreeMap<Place, Vec<Rule>> = BTreeMap::new();
    for (place, rule) in socket.list(wire(GET_RULE), &[0; 4], |_, payload| parse_rule(payload))? {
        rules.entry(place).or_default().push(rule);
    }
    for chain in &mut chains {
        let place = (chain.family.clone(), chain.table.clone(), chain.name.clone());
        let held = rules.get(&place).map(Vec::as_slice).unwrap_or_default();
        chain.accepts.extend(held.iter().filter_map(|rule| rule.accepts.clone()));
        chain.names_ours = held.iter().any(|rule| rule.names_ours);
        chain.end = if chain.forward { end(&rules, &place) } else { None };
    }
    Ok(chains)
}

/// The first rule that lets no packet past it, unless both of Pontoon's accepting rules come before it.
fn end(rules: &BTreeMap<Place, Vec<Rule>>, place: &Place) -> Option<HostEnd> {
    let ours = || LinkMatch::Prefix(PREFIX.to_owned());
    let wanted = [ForwardRule::From(ours()), ForwardRule::To(ours())];
    let mut accepted = BTreeSet::new();
    for (at, rule) in rules.get(place)?.iter().enumerate() {
        accepted.extend(rule.accepts.clone());
        if wanted.iter().all(|rule| accepted.contains(rule)) {
            return None;
        }
        let asked = rule.asks.as_ref().map(|name| (place.0.clone(), place.1.clone(), name.clone()));
        if rule.ends || asked.is_some_and(|asked| ends(rules, &asked, DEPTH)) {
            return Some(HostEnd { handle: rule.handle, place: at + 1 });
        }
    }
    None
}

/// Whether a chain reached by a jump lets no packet pass. If it has conditional rules first, it is a
/// deliberate filter of another program and not reported.
fn ends(rules: &BTreeMap<Place, Vec<Rule>>, place: &Place, depth: u32) -> bool {
    for rule in rules.get(place).map(Vec::as_slice).unwrap_or_default() {
        let asked = rule.asks.as_ref().map(|name| (place.0.clone(), place.1.clone(), name.clone()));
        match asked {
            _ if rule.ends => return true,
            Some(asked) if depth > 0 && ends(rules, &asked, depth - 1) => return true,
            Some(_) => {}
            None => return false,
        }
    }
    false
}

fn family(payload: &[u8]) -> Option<String> {
    let name = match *payload.first()? {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        BRIDGE => "bridge",
        _ => return None,
    };
    Some(name.to_owned())
}

fn parse_chain(payload: &[u8]) -> Option<HostChain> {
    let (family, chain) = (family(payload)?, attributes(payload));
    let hook = Attributes::new(chain.find(CHAIN_HOOK).unwrap_or_default()).find(HOOK_NUMBER).and_then(big32);
    Some(HostChain {
        table: chain.find(TABLE_NAME).and_then(text)?.to_owned(),
        name: chain.find(CHAIN_NAME).and_then(text)?.to_owned(),
        forward: hook == Some(FORWARD) && family != "bridge",
        drops: hook.is_some() && chain.find(CHAIN_POLICY).and_then(big32) == Some(libc::NF_DROP as u32),
        family,
        ..HostChain::default()
    })
}

/// A rule with its chain.
fn parse_rule(payload: &[u8]) -> Option<(Place, Rule)> {
    let (family, rule) = (family(payload)?, attributes(payload));
    let table = rule.find(TABLE_NAME).and_then(text)?.to_owned();
    let chain = rule.find(RULE_CHAIN).and_then(text)?.to_owned();
    let expressions = rule.find(RULE_EXPRESSIONS).unwrap_or_default();
    let outright = decode_outright(expressions);
    let read = Rule {
        handle: rule.find(RULE_HANDLE).and_then(big64).unwrap_or_default(),
        accepts: decode_accept(expressions).and_then(accepted),
        ends: outright == Some(Outright::Ends),
        asks: if let Some(Outright::Asks(chain)) = outright { Some(chain.to_owned()) } else { None },
        names_ours: expressions.windows(PREFIX.len()).any(|bytes| bytes == PREFIX.as_bytes()),
    };
    Some(((family, table, chain), read))
}

fn accepted(accept: Accept<'_>) -> Option<ForwardRule> {
    let link = match accept.name.contains(&0) {
        true => LinkMatch::Name(IfName::parse(text(accept.name)?).ok()?),
        false => LinkMatch::Prefix(text(accept.name)?.to_owned()),
    };
    Some(match accept.direction {
        Direction::In => ForwardRule::From(link),
        Direction::Out => ForwardRule::To(link),
    })
}
