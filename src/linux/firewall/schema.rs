//! Checks whether the tables in the kernel have this release's schema: comment, chains, rules and sets, with
//! nothing missing and nothing in addition.
//!
//! Reads only. Used by `tables`.

use std::collections::{BTreeMap, BTreeSet};

use nft::message::{
    self, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, GET_CHAIN, GET_RULE, GET_SET, GET_TABLE, HOOK_NUMBER,
    HOOK_PRIORITY, RULE_CHAIN, RULE_USERDATA, SET_DATA_TYPE, SET_FLAGS, SET_KEY_TYPE, SET_NAME, TABLE_FLAGS,
    TABLE_USERDATA, attributes, wire,
};

use super::ruleset::{CHAINS, FAMILIES, SCHEMA, SCHEMA_WITHOUT_REJECT, TABLE, rules};
use super::sets::Set;
use crate::linux::netlink::{Failure, Socket};
use crate::linux::tlv::{Attributes, big32, text};

/// `NFT_TABLE_F_DORMANT` and every other flag: Pontoon's tables have none.
const NO_FLAGS: u32 = 0;

/// Whether both tables exist and have this release's schema.
pub fn fits(socket: &mut Socket) -> Result<bool, Failure> {
    for family in FAMILIES {
        let Some(rejecting) = table_fits(socket, family)? else { return Ok(false) };
        let fits = chains_fit(socket, family)? && rules_fit(socket, family, rejecting)? && sets_fit(socket, family)?;
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
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
        Some(SCHEMA) => Some(true),
        Some(SCHEMA_WITHOUT_REJECT) => Some(false),
        _ => None,
    };
    Ok(rejecting.filter(|_| table.find(TABLE_FLAGS).and_then(big32).unwrap_or(NO_FLAGS) == NO_FLAGS))
}

fn chains_fit(socket: &mut Socket, family: u8) -> Result<bool, Failure> {
    let found = socket.list(wire(GET_CHAIN), &query(family), |_, payload| parse_chain(payload, family))?;
    let wanted: BTreeSet<_> = CHAINS
        .iter()
        .filter(|chain| chain.family == family)
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

fn rules_fit(socket: &mut Socket, family: u8, rejecting: bool) -> Result<bool, Failure> {
    let found = rules_of(socket, family)?;
    let in_chain = |name: &str| -> Vec<String> {
        found.iter().filter(|(chain, _)| chain == name).map(|(_, comment)| comment.clone()).collect()
    };
    Ok(CHAINS.iter().filter(|chain| chain.family == family).all(|chain| {
        let wanted: Vec<&str> = rules(rejecting).filter(|r| r.chain.name == chain.name).map(|r| r.comment).collect();
        in_chain(chain.name) == wanted
    }))
}

fn sets_fit(socket: &mut Socket, family: u8) -> Result<bool, Failure> {
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
