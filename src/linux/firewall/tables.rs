//! Manages the tables `inet pontoon` and `bridge pontoon` in the kernel: creates them, changes the policy that
//! their sets hold, reads it.
//!
//! Every write is one transaction: all of it or nothing. Called by `LinuxKernel` and `observe`.

use std::collections::{BTreeMap, BTreeSet};

use nft::batch::commit;
use nft::element::{Entry, parse_entries};
use nft::message::{self, CHUNK, GET_ELEMENTS, listed, wire};
use nft::table::{self, consistent};
use nft::{Expressions, Set as Spec};

use super::elements::{self, Set, entries, set_of};
use super::ruleset::{CHAINS, FAMILIES, SCHEMA, SCHEMA_WITHOUT_REJECT, TABLE, rules};
use super::schema;
use crate::datapath::Policy;
use crate::linux::netlink::{Failure, Request, Socket};

/// Creates the tables with exactly this policy and replaces existing tables of their names; without the rules
/// that reject packets if the kernel does not support their expressions.
pub fn create(socket: &mut Socket, policy: &BTreeSet<Policy>) -> Result<(), Failure> {
    match create_with(socket, policy, true) {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => create_with(socket, policy, false),
        result => result,
    }
}

/// Creates them with or without the rules that reject packets.
pub fn create_with(socket: &mut Socket, policy: &BTreeSet<Policy>, rejecting: bool) -> Result<(), Failure> {
    let schema = if rejecting { SCHEMA } else { SCHEMA_WITHOUT_REJECT };
    let mut messages = Vec::new();
    for family in FAMILIES {
        // Deleting a missing table fails, creating an existing one does not.
        let new = || message::new_table(family, TABLE, schema);
        messages.extend([new(), message::delete_table(family, TABLE), new()]);
    }
    messages.extend(Set::ALL.iter().zip(1..).map(|(set, id)| message::new_set(TABLE, &set.spec(), id)));
    messages.extend(CHAINS.iter().map(|chain| message::new_chain(TABLE, chain)));
    for rule in rules(rejecting) {
        let expressions = (rule.write)(Expressions::default());
        messages.push(message::new_rule(rule.chain.family, TABLE, rule.chain.name, expressions, rule.comment));
    }
    messages.extend(of_elements(&elements::outermost(policy), true));
    commit(socket, &messages)
}

/// Removes policy and adds other; adding an existing element or removing a missing one is success. An added
/// element replaces one with the same key and another value; an element is removed only if it has the
/// same value.
///
/// In the usual case, when everything is as the caller expects, this is one transaction, after one query of
/// the values of the elements to remove: the cost depends on the change. Only when the kernel rejects it are
/// the affected sets read, and the actual difference is written.
///
/// # Errors
/// `ENOENT` when a table is missing.
pub fn change(socket: &mut Socket, add: &BTreeSet<Policy>, remove: &BTreeSet<Policy>) -> Result<(), Failure> {
    let objection = if removes_exactly(socket, add, remove)? {
        let mut messages = of_elements(remove, false);
        messages.extend(of_elements(add, true));
        match commit(socket, &messages) {
            // Some element exists already, has another value, does not exist, or overlaps.
            Err(failure)
                if matches!(failure.errno(), Some(libc::EEXIST | libc::EBUSY | libc::ENOENT | libc::ENOTEMPTY)) =>
            {
                failure
            }
            result => return result,
        }
    } else {
        Failure::refused(libc::ENOENT, "")
    };
    let concerned: BTreeSet<Set> = add.iter().chain(remove).map(set_of).collect();
    let Some(present) = read_sets(socket, &concerned)? else {
        // The table has another schema or is missing: it must be created again, as the error says.
        let refused = Failure::refused(libc::ENOENT, "the tables are missing or not of this release");
        return Err(if objection.errno() == Some(libc::ENOENT) { refused } else { objection });
    };
    let added: BTreeSet<_> = add.iter().filter_map(key).collect();
    let kept = present.difference(remove).filter(|element| key(element).is_none_or(|key| !added.contains(&key)));
    let wanted = elements::outermost(&kept.chain(add).cloned().collect());
    let mut messages = of_elements(&present.difference(&wanted).cloned().collect(), false);
    messages.extend(of_elements(&wanted.difference(&present).cloned().collect(), true));
    commit(socket, &messages)
}

/// The key that distinguishes an element of a map from the others; `None` in a set, where the whole element
/// is the key.
fn key(policy: &Policy) -> Option<(Set, Vec<u8>)> {
    let set = set_of(policy);
    let entry = set.spec().is_map().then(|| entries(policy).into_iter().next())??;
    Some((set, entry.key))
}

/// Whether every map element to remove exists with its value. The kernel removes by key alone; an element
/// whose key gets a new value needs no query.
fn removes_exactly(socket: &mut Socket, add: &BTreeSet<Policy>, remove: &BTreeSet<Policy>) -> Result<bool, Failure> {
    let added: BTreeSet<_> = add.iter().filter_map(key).collect();
    let asked = remove.iter().filter(|element| key(element).is_some_and(|key| !added.contains(&key)));
    for (set, wanted) in &by_set(asked) {
        // The kernel does not return the value of a range for its first key alone; there are few ranges.
        if set.spec().interval {
            return Ok(false);
        }
        for wanted in wanted.chunks(CHUNK) {
            let question = listed(TABLE, &set.spec(), wanted, false).finish();
            // A request for one element has one reply, and no acknowledgement to wait for.
            let answers = match wanted {
                [_] => socket.get(wire(GET_ELEMENTS), &question).map(|answer| vec![answer]),
                _ => socket.query(wire(GET_ELEMENTS), &question),
            };
            let answers = match answers {
                Err(failure) if failure.errno() == Some(libc::ENOENT) => return Ok(false),
                answers => answers?,
            };
            let found: Vec<Entry> = answers.iter().flat_map(|payload| parse_entries(payload)).collect();
            if found != wanted {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Reads the policy in force; `None` when a table is missing or has another schema.
pub fn read(socket: &mut Socket) -> Result<Option<BTreeSet<Policy>>, Failure> {
    read_sets(socket, &BTreeSet::from(Set::ALL))
}

/// Reads the policy of tables with another release's schema, from those sets that this release has too, under
/// their present or former names; sets that differ are left out.
pub fn read_former(socket: &mut Socket) -> Result<BTreeSet<Policy>, Failure> {
    consistent(socket, |socket| {
        let mut policy = BTreeSet::new();
        for set in Set::ALL {
            let names = BTreeSet::from([set.spec().name, set.former_name()]);
            for name in names {
                let entries = table::entries(socket, set.spec().family, TABLE, name)?;
                policy.extend(elements::decode(set, &entries).into_iter().flatten());
            }
        }
        Ok(policy)
    })
}

fn read_sets(socket: &mut Socket, sets: &BTreeSet<Set>) -> Result<Option<BTreeSet<Policy>>, Failure> {
    consistent(socket, |socket| read_once(socket, sets))
}

fn read_once(socket: &mut Socket, sets: &BTreeSet<Set>) -> Result<Option<BTreeSet<Policy>>, Failure> {
    if !schema::fits(socket)? {
        return Ok(None);
    }
    let mut policy = BTreeSet::new();
    for set in sets.iter().filter(|set| set.spec().dynamic.is_none()) {
        match elements::decode(*set, &entries_of(socket, &set.spec())?) {
            Some(decoded) => policy.extend(decoded),
            None => return Ok(None),
        }
    }
    Ok(Some(policy))
}

fn entries_of(socket: &mut Socket, set: &Spec<'_>) -> Result<Vec<Entry>, Failure> {
    table::entries(socket, set.family, TABLE, set.name)
}

fn by_set<'a>(policy: impl IntoIterator<Item = &'a Policy>) -> BTreeMap<Set, Vec<Entry>> {
    let mut by_set: BTreeMap<Set, Vec<Entry>> = BTreeMap::new();
    for statement in policy {
        let (set, element) = elements::element(statement);
        element.write(by_set.entry(set).or_default());
    }
    by_set
}

fn of_elements(policy: &BTreeSet<Policy>, add: bool) -> Vec<Request> {
    by_set(policy).iter().flat_map(|(set, entries)| message::elements(TABLE, &set.spec(), entries, add)).collect()
}
