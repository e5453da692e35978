//! Owns table `inet pontoon` in the kernel: makes it, changes its elements, reads it back.
//!
//! Every write is one transaction: all of it or nothing. Called by `LinuxKernel` and `observe`.

use std::collections::{BTreeMap, BTreeSet};

use super::element::{self, Key, Set};
use super::expression::Expressions;
use super::message::{
    self, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, ELEMENTS_SET, GET_CHAIN, GET_ELEMENTS, GET_GENERATION,
    GET_RULE, GET_SET, GET_TABLE, HOOK_NUMBER, HOOK_PRIORITY, INET, RULE_CHAIN, RULE_USERDATA, SET_FLAGS, SET_KEY_TYPE,
    SET_NAME, TABLE_FLAGS, TABLE_NAME, TABLE_USERDATA, attributes, body, wire,
};
use super::ruleset::{CHAINS, RULES, SHAPE, TABLE};
use crate::datapath::Element;
use crate::linux::netlink::{Failure, Request, Socket, retry_torn};
use crate::linux::tlv::{Attributes, big32, text};

/// `NFT_TABLE_F_DORMANT` and every other flag: ours has none.
const NO_FLAGS: u32 = 0;

/// Carries out messages as one transaction.
pub fn transact(socket: &mut Socket, messages: &[Request]) -> Result<(), Failure> {
    if messages.is_empty() {
        return Ok(());
    }
    let (begin, end) = message::bounds();
    socket.transact(&begin, messages, &end)
}

/// Makes the table with exactly these elements, in place of whatever has its name.
pub fn create(socket: &mut Socket, elements: &BTreeSet<Element>) -> Result<(), Failure> {
    // Deleting what is not there fails, making what is there does not.
    let mut messages =
        vec![message::new_table(TABLE, SHAPE), message::delete_table(TABLE), message::new_table(TABLE, SHAPE)];
    messages.extend(Set::ALL.iter().zip(1..).map(|(set, id)| message::new_set(TABLE, *set, id)));
    messages.extend(CHAINS.iter().map(|chain| message::new_chain(TABLE, chain)));
    for rule in &RULES {
        let expressions = (rule.write)(Expressions::default());
        messages.push(message::new_rule(INET, TABLE, rule.chain, expressions, rule.comment));
    }
    messages.extend(of_elements(&element::outermost(elements), true));
    transact(socket, &messages)
}

/// Adds and removes elements; what is there already or not there is success.
///
/// # Errors
/// `ENOENT` when the table is missing.
pub fn change(socket: &mut Socket, add: &BTreeSet<Element>, remove: &BTreeSet<Element>) -> Result<(), Failure> {
    let mut messages = of_elements(remove, false);
    messages.extend(of_elements(add, true));
    let failure = match transact(socket, &messages) {
        // Something is there already, is not there, or overlaps.
        Err(failure) if matches!(failure.errno(), Some(libc::EEXIST | libc::ENOENT | libc::ENOTEMPTY)) => failure,
        result => return result,
    };
    let Some(present) = read(socket)? else {
        // The table has another shape or none: only making it anew helps, and the error says so.
        let refused = Failure::refused(libc::ENOENT, "table inet pontoon is missing or not of this release");
        return Err(if failure.errno() == Some(libc::ENOENT) { refused } else { failure });
    };
    let wanted: BTreeSet<Element> = present.difference(remove).chain(add).cloned().collect();
    let wanted = element::outermost(&wanted);
    let mut messages = of_elements(&present.difference(&wanted).cloned().collect(), false);
    messages.extend(of_elements(&wanted.difference(&present).cloned().collect(), true));
    transact(socket, &messages)
}

/// Reads the elements of all sets; `None` when the table is missing or differs from the shape.
pub fn read(socket: &mut Socket) -> Result<Option<BTreeSet<Element>>, Failure> {
    retry_torn(|| {
        let before = generation(socket)?;
        let read = read_once(socket)?;
        // Several listings make one answer only if nothing changed between them.
        if generation(socket)? == before { Ok(read) } else { Err(Failure::Torn) }
    })
}

fn generation(socket: &mut Socket) -> Result<u32, Failure> {
    let payload = socket.get(wire(GET_GENERATION), &body(0).finish())?;
    attributes(&payload).find(1).and_then(big32).ok_or(Failure::Malformed("a generation without number"))
}

fn read_once(socket: &mut Socket) -> Result<Option<BTreeSet<Element>>, Failure> {
    if !(table_fits(socket)? && chains_fit(socket)? && rules_fit(socket)? && sets_fit(socket)?) {
        return Ok(None);
    }
    let mut elements = BTreeSet::new();
    for set in Set::ALL {
        match element::decode(set, &keys(socket, set)?) {
            Some(decoded) => elements.extend(decoded),
            None => return Ok(None),
        }
    }
    Ok(Some(elements))
}

fn table_fits(socket: &mut Socket) -> Result<bool, Failure> {
    let mut query = body(INET);
    query.text(TABLE_NAME, TABLE);
    let payload = match socket.get(wire(GET_TABLE), &query.finish()) {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => return Ok(false),
        result => result?,
    };
    let table = attributes(&payload);
    let shape = table.find(TABLE_USERDATA).and_then(message::comment);
    Ok(shape == Some(SHAPE) && table.find(TABLE_FLAGS).and_then(big32).unwrap_or(NO_FLAGS) == NO_FLAGS)
}

fn chains_fit(socket: &mut Socket) -> Result<bool, Failure> {
    let mut query = body(INET);
    query.text(TABLE_NAME, TABLE);
    let found = socket.list(wire(GET_CHAIN), &query.finish(), |_, payload| parse_chain(payload))?;
    let wanted: BTreeSet<_> = CHAINS
        .iter()
        .map(|c| BaseChain {
            name: c.name.to_owned(),
            kind: c.kind.to_owned(),
            hook: c.hook,
            priority: c.priority,
            policy: libc::NF_ACCEPT as u32,
        })
        .collect();
    Ok(found.len() == wanted.len() && found.into_iter().collect::<BTreeSet<_>>() == wanted)
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BaseChain {
    name: String,
    kind: String,
    hook: u32,
    priority: i32,
    policy: u32,
}

/// A chain of our table; one that is no base chain has zeroes, which fit none of ours.
fn parse_chain(payload: &[u8]) -> Option<BaseChain> {
    let chain = ours(payload)?;
    let hook = Attributes::new(chain.find(CHAIN_HOOK).unwrap_or_default());
    Some(BaseChain {
        name: chain.find(CHAIN_NAME).and_then(text)?.to_owned(),
        kind: chain.find(CHAIN_TYPE).and_then(text).unwrap_or_default().to_owned(),
        hook: hook.find(HOOK_NUMBER).and_then(big32).unwrap_or_default(),
        priority: hook.find(HOOK_PRIORITY).and_then(big32).unwrap_or_default() as i32,
        policy: chain.find(CHAIN_POLICY).and_then(big32).unwrap_or_default(),
    })
}

fn rules_fit(socket: &mut Socket) -> Result<bool, Failure> {
    let mut query = body(INET);
    query.text(TABLE_NAME, TABLE);
    let found = socket.list(wire(GET_RULE), &query.finish(), |_, payload| {
        let rule = ours(payload)?;
        let chain = rule.find(RULE_CHAIN).and_then(text)?.to_owned();
        let comment = rule.find(RULE_USERDATA).and_then(message::comment).unwrap_or_default();
        Some((chain, comment.to_owned()))
    })?;
    let in_chain = |name: &str| -> Vec<String> {
        found.iter().filter(|(chain, _)| chain == name).map(|(_, comment)| comment.clone()).collect()
    };
    Ok(CHAINS.iter().all(|chain| {
        let wanted: Vec<&str> = RULES.iter().filter(|r| r.chain == chain.name).map(|r| r.comment).collect();
        in_chain(chain.name) == wanted
    }))
}

fn sets_fit(socket: &mut Socket) -> Result<bool, Failure> {
    let mut query = body(INET);
    query.text(TABLE_NAME, TABLE);
    let found: BTreeMap<String, (u32, u32)> = socket
        .list(wire(GET_SET), &query.finish(), |_, payload| {
            let set = ours(payload)?;
            let flags = set.find(SET_FLAGS).and_then(big32).unwrap_or_default();
            Some((set.find(SET_NAME).and_then(text)?.to_owned(), (flags, set.find(SET_KEY_TYPE).and_then(big32)?)))
        })?
        .into_iter()
        .collect();
    let wanted = Set::ALL.iter().map(|set| (set.name().to_owned(), (set.flags(), set.key_type()))).collect();
    Ok(found == wanted)
}

fn keys(socket: &mut Socket, set: Set) -> Result<Vec<Key>, Failure> {
    let mut query = body(INET);
    query.text(TABLE_NAME, TABLE).text(ELEMENTS_SET, set.name());
    let parts = socket.list(wire(GET_ELEMENTS), &query.finish(), |_, payload| Some(element::parse_elements(payload)));
    match parts {
        Ok(parts) => Ok(parts.into_iter().flatten().collect()),
        // It went away meanwhile, which the generation will tell.
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// The attributes of an object, if it is in our table: not every kernel filters a listing.
fn ours(payload: &[u8]) -> Option<Attributes<'_>> {
    let object = attributes(payload);
    let in_table = payload.first() == Some(&INET) && object.find(TABLE_NAME).and_then(text) == Some(TABLE);
    in_table.then_some(object)
}

fn of_elements(elements: &BTreeSet<Element>, add: bool) -> Vec<Request> {
    let mut by_set: BTreeMap<Set, Vec<Key>> = BTreeMap::new();
    for element in elements {
        by_set.entry(Set::of(element)).or_default().extend(element::keys(element));
    }
    by_set.iter().flat_map(|(set, keys)| message::elements(TABLE, *set, keys, add)).collect()
}
