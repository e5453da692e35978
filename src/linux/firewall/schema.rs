//! Checks whether the tables in the kernel have this release's schema: comment, chains, rules and sets, with
//! nothing missing and nothing in addition. Each of `parts` is there as a whole or not at all.
//!
//! Reads only. Used by `tables`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use nft::Expressions;
use nft::message::{
    self, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, Chain, GET_CHAIN, GET_RULE, GET_SET, GET_TABLE,
    HOOK_NUMBER, HOOK_PRIORITY, RULE_CHAIN, RULE_USERDATA, SET_DATA_TYPE, SET_FLAGS, SET_KEY_TYPE, SET_NAME,
    TABLE_FLAGS, TABLE_USERDATA, attributes, wire,
};

use super::parts::{PARTS, Part};
use super::ruleset::{CHAINS, FAMILIES, Rule, TABLE, rules};
use super::sets::Set;
use crate::linux::netlink::{Failure, Request, Socket};
use crate::linux::tlv::{Attributes, big32, text};
use crate::model::digest::digest;

/// `NFT_TABLE_F_DORMANT` and every other flag: Pontoon's tables have none.
const NO_FLAGS: u32 = 0;

/// The messages that make everything in the tables but elements and [`PARTS`]: sets, chains and rules; with the rules
/// that reject packets or without them.
pub fn definition(rejecting: bool) -> Vec<Request> {
    let mut messages: Vec<_> = sets().zip(1..).map(|(set, id)| message::new_set(TABLE, &set.spec(), id)).collect();
    messages.extend(of_chains(&CHAINS, rules(rejecting)));
    messages
}

fn sets() -> impl Iterator<Item = &'static Set> {
    Set::ALL.iter().filter(|set| FAMILIES.contains(&set.spec().family))
}

/// The messages that make one of [`PARTS`].
pub fn part_definition(part: &'static Part, rejecting: bool) -> Vec<Request> {
    of_chains(part.chains, part.rules(rejecting))
}

/// The messages that make these chains with their rules.
pub(super) fn of_chains(chains: &[Chain], rules: impl Iterator<Item = &'static Rule>) -> Vec<Request> {
    let mut messages: Vec<_> = chains.iter().map(|chain| message::new_chain(TABLE, chain)).collect();
    messages.extend(rules.map(|rule| {
        let expressions = (rule.write)(Expressions::default());
        message::new_rule(rule.chain.family, TABLE, rule.chain.name, expressions, rule.comment)
    }));
    messages
}

/// Comment of the tables: a digest of what they are made of. A table of a release with another definition has another
/// comment, and is replaced as a whole.
pub fn comment(rejecting: bool) -> &'static str {
    static COMMENTS: [OnceLock<String>; 2] = [OnceLock::new(), OnceLock::new()];
    COMMENTS[usize::from(rejecting)].get_or_init(|| {
        let mut all = definition(rejecting);
        all.extend(PARTS.iter().flat_map(|part| part_definition(part, rejecting)));
        let digest = digest(all.iter().map(|message| &message.body));
        format!("pontoon ruleset {digest:016x}{}", if rejecting { "" } else { ", without reject" })
    })
}

/// What tables of this release's schema have: which of [`PARTS`] exist, with all their rules.
pub type Fit = [bool; PARTS.len()];

/// Compares both tables with this release's schema; `None` if one is missing or differs.
pub fn fits(socket: &mut Socket) -> Result<Option<Fit>, Failure> {
    let mut found = Vec::new();
    for family in FAMILIES {
        let Some(rejecting) = table_fits(socket, family)? else { return Ok(None) };
        let Some(present) = chains_fit(socket, family)? else { return Ok(None) };
        if !rules_fit(socket, family, rejecting, &present)? || !sets_fit(socket, family)? {
            return Ok(None);
        }
        found.push((family, present));
    }
    let mut fit = [false; PARTS.len()];
    for (at, part) in PARTS.iter().enumerate() {
        let mut here = found.iter().filter(|(family, _)| part.is_in(*family)).map(|(_, present)| present[at]);
        fit[at] = here.next().unwrap_or_default();
        // Both tables get its chains in one transaction.
        if here.any(|present| present != fit[at]) {
            return Ok(None);
        }
    }
    Ok(Some(fit))
}

/// Whether one of [`PARTS`] is missing, and then whether the tables have the rules that reject packets. Asks for one
/// chain: all of a part are created in one transaction.
pub fn is_missing(socket: &mut Socket, part: &Part) -> Result<Option<bool>, Failure> {
    let Some(chain) = part.chains.first() else { return Ok(None) };
    let mut named = message::body(chain.family);
    named.text(nft::message::TABLE_NAME, TABLE).text(CHAIN_NAME, chain.name);
    match socket.get(wire(GET_CHAIN), &named.finish()) {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => table_fits(socket, chain.family),
        result => result.map(|_| None),
    }
}

/// The request that lists everything of one table.
pub(super) fn query(family: u8) -> Vec<u8> {
    nft::table::query(family, TABLE)
}

/// Whether the table has the rules that reject packets; `None` when it is missing or has another schema.
fn table_fits(socket: &mut Socket, family: u8) -> Result<Option<bool>, Failure> {
    let payload = match socket.get(wire(GET_TABLE), &query(family)) {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => return Ok(None),
        result => result?,
    };
    let table = attributes(&payload);
    let rejecting = match table.find(TABLE_USERDATA).and_then(message::comment) {
        Some(found) if found == comment(true) => Some(true),
        Some(found) if found == comment(false) => Some(false),
        _ => None,
    };
    Ok(rejecting.filter(|_| is_awake(&table)))
}

/// Whether a table has no flags: with one, its rules may have no effect.
pub(super) fn is_awake(table: &Attributes<'_>) -> bool {
    table.find(TABLE_FLAGS).and_then(big32).unwrap_or(NO_FLAGS) == NO_FLAGS
}

/// Which of [`PARTS`] a table has, in addition to all other chains; `None` if a chain is missing or unknown.
fn chains_fit(socket: &mut Socket, family: u8) -> Result<Option<Fit>, Failure> {
    let found = chains_of(socket, family)?;
    let mut present = [false; PARTS.len()];
    for (present, part) in present.iter_mut().zip(&PARTS) {
        *present = found.iter().any(|chain| part.chains.iter().any(|of| of.family == family && of.name == chain.name));
    }
    Ok((found == base_chains(family, &chains_with(&present))).then_some(present))
}

/// [`CHAINS`] and those of these parts.
fn chains_with(present: &Fit) -> Vec<Chain> {
    let parts = PARTS.iter().zip(present).filter(|(_, present)| **present);
    CHAINS.iter().chain(parts.flat_map(|(part, _)| part.chains)).copied().collect()
}

/// Whether a table has exactly those of these chains that are of its family.
pub(super) fn chains_are(socket: &mut Socket, family: u8, chains: &[Chain]) -> Result<bool, Failure> {
    Ok(chains_of(socket, family)? == base_chains(family, chains))
}

fn chains_of(socket: &mut Socket, family: u8) -> Result<Vec<BaseChain>, Failure> {
    let mut found = socket.list(wire(GET_CHAIN), &query(family), |_, payload| parse_chain(payload, family))?;
    found.sort_unstable();
    Ok(found)
}

fn base_chains(family: u8, chains: &[Chain]) -> Vec<BaseChain> {
    let base = |chain: &Chain| BaseChain {
        name: chain.name.to_owned(),
        kind: chain.kind.to_owned(),
        hook: chain.hook,
        priority: chain.priority,
        policy: libc::NF_ACCEPT as u32,
    };
    let mut all: Vec<_> = chains.iter().filter(|chain| chain.family == family).map(base).collect();
    all.sort_unstable();
    all
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BaseChain {
    name: String,
    kind: String,
    hook: u32,
    priority: i32,
    policy: u32,
}

/// A chain of a Pontoon table; a chain without a hook has zeroes, which match no expected chain.
fn parse_chain(payload: &[u8], family: u8) -> Option<BaseChain> {
    let chain = ours(payload, family)?;
    let hook = Attributes::new(chain.find(CHAIN_HOOK).unwrap_or_default());
    Some(BaseChain {
        name: chain.find(CHAIN_NAME).and_then(text)?.to_owned(),
        kind: chain.find(CHAIN_TYPE).and_then(text).unwrap_or_default().to_owned(),
        hook: hook.find(HOOK_NUMBER).and_then(big32).unwrap_or_default(),
        priority: hook.find(HOOK_PRIORITY).and_then(big32).unwrap_or_default() as i32,
        policy: chain.find(CHAIN_POLICY).and_then(big32).unwrap_or_default(),
    })
}

/// Chain and comment of each rule of one table, in order.
pub(super) fn rules_of(socket: &mut Socket, family: u8) -> Result<Vec<(String, String)>, Failure> {
    socket.list(wire(GET_RULE), &query(family), |_, payload| {
        let rule = ours(payload, family)?;
        let chain = rule.find(RULE_CHAIN).and_then(text)?.to_owned();
        let comment = rule.find(RULE_USERDATA).and_then(message::comment).unwrap_or_default();
        Some((chain, comment.to_owned()))
    })
}

fn rules_fit(socket: &mut Socket, family: u8, rejecting: bool, present: &Fit) -> Result<bool, Failure> {
    let all = rules(rejecting).chain(PARTS.iter().flat_map(|part| part.rules(rejecting)));
    rules_are(socket, family, &chains_with(present), all)
}

/// Whether those of these chains that are of the table's family have their rules, by their comments.
pub(super) fn rules_are(
    socket: &mut Socket,
    family: u8,
    chains: &[Chain],
    rules: impl IntoIterator<Item = &'static Rule>,
) -> Result<bool, Failure> {
    let found = rules_of(socket, family)?;
    let rules: Vec<&Rule> = rules.into_iter().filter(|rule| rule.chain.family == family).collect();
    Ok(chains.iter().filter(|chain| chain.family == family).all(|chain| {
        let found = found.iter().filter(|(name, _)| name == chain.name).map(|(_, comment)| comment.as_str());
        found.eq(rules.iter().filter(|rule| rule.chain.name == chain.name).map(|rule| rule.comment))
    }))
}

/// Whether a table has exactly the sets of its family.
pub(super) fn sets_fit(socket: &mut Socket, family: u8) -> Result<bool, Failure> {
    let found: BTreeMap<String, [u32; 3]> = socket
        .list(wire(GET_SET), &query(family), |_, payload| {
            let set = ours(payload, family)?;
            let number = |kind| set.find(kind).and_then(big32).unwrap_or_default();
            let what = [number(SET_FLAGS), number(SET_KEY_TYPE), number(SET_DATA_TYPE)];
            Some((set.find(SET_NAME).and_then(text)?.to_owned(), what))
        })?
        .into_iter()
        .collect();
    let specs = Set::ALL.iter().map(|set| set.spec()).filter(|spec| spec.family == family);
    Ok(found == specs.map(|s| (s.name.to_owned(), [s.flags(), s.key_number(), s.value_number()])).collect())
}

/// The attributes of an object if it belongs to a Pontoon table.
pub(super) fn ours(payload: &[u8], family: u8) -> Option<Attributes<'_>> {
    nft::table::object(payload, family, TABLE)
}
