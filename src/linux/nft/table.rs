//! Manages the tables `inet pontoon` and `bridge pontoon` in the kernel: creates them, changes their
//! elements, reads them.
//!
//! Every write is one transaction: all of it or nothing. Called by `LinuxKernel` and `observe`.

use std::collections::{BTreeMap, BTreeSet};

use super::element::{self, Entry, Set, entries, set_of};
use super::expression::Expressions;
use super::message::{
    self, CHUNK, ELEMENTS_SET, GET_ELEMENTS, GET_GENERATION, TABLE_NAME, attributes, body, listed, wire,
};
use super::ruleset::{CHAINS, FAMILIES, SHAPE, SHAPE_WITHOUT_REFUSALS, TABLE, rules};
use super::shape;
use crate::datapath::Element;
use crate::linux::netlink::{Failure, Request, Socket, retry_torn};
use crate::linux::tlv::big32;

/// Executes messages as one transaction.
pub fn transact(socket: &mut Socket, messages: &[Request]) -> Result<(), Failure> {
    if messages.is_empty() {
        return Ok(());
    }
    let (begin, end) = message::bounds();
    socket.transact(&begin, messages, &end)
}

/// Creates the tables with exactly these elements and replaces existing tables of their names; without the
/// rules that refuse if the kernel does not support their expressions.
pub fn create(socket: &mut Socket, elements: &BTreeSet<Element>) -> Result<(), Failure> {
    match create_with(socket, elements, true) {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => create_with(socket, elements, false),
        result => result,
    }
}

/// Creates them with or without the rules that refuse.
pub fn create_with(socket: &mut Socket, elements: &BTreeSet<Element>, refusals: bool) -> Result<(), Failure> {
    let shape = if refusals { SHAPE } else { SHAPE_WITHOUT_REFUSALS };
    let mut messages = Vec::new();
    for family in FAMILIES {
        // Deleting a missing table fails, creating an existing one does not.
        let new = || message::new_table(family, TABLE, shape);
        messages.extend([new(), message::delete_table(family, TABLE), new()]);
    }
    messages.extend(Set::ALL.iter().zip(1..).map(|(set, id)| message::new_set(TABLE, *set, id)));
    messages.extend(CHAINS.iter().map(|chain| message::new_chain(TABLE, chain)));
    for rule in rules(refusals) {
        let expressions = (rule.write)(Expressions::default());
        messages.push(message::new_rule(rule.chain.family, TABLE, rule.chain.name, expressions, rule.comment));
    }
    messages.extend(of_elements(&element::outermost(elements), true));
    transact(socket, &messages)
}

/// Removes elements and adds others; adding an existing element or removing a missing one is success. An
/// added element replaces one with the same key and another value; an element is removed only if it has the
/// same value.
///
/// In the usual case, when everything is as the caller expects, this is one transaction, after one query of
/// the values of the elements to remove: the cost depends on the change. Only when the kernel rejects it are
/// the affected sets read, and the actual difference is written.
///
/// # Errors
/// `ENOENT` when a table is missing.
pub fn change(socket: &mut Socket, add: &BTreeSet<Element>, remove: &BTreeSet<Element>) -> Result<(), Failure> {
    let objection = if removes_exactly(socket, add, remove)? {
        let mut messages = of_elements(remove, false);
        messages.extend(of_elements(add, true));
        match transact(socket, &messages) {
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
    let wanted = element::outermost(&kept.chain(add).cloned().collect());
    let mut messages = of_elements(&present.difference(&wanted).cloned().collect(), false);
    messages.extend(of_elements(&wanted.difference(&present).cloned().collect(), true));
    transact(socket, &messages)
}

/// The key that distinguishes an element of a map from the others; `None` in a set, where the whole element
/// is the key.
fn key(element: &Element) -> Option<(Set, Vec<u8>)> {
    let set = set_of(element);
    let entry = entries(element).into_iter().next()?;
    set.spec().is_map().then_some((set, entry.key))
}

/// Whether every map element to remove exists with its value. The kernel removes by key alone; an element
/// whose key gets a new value needs no query.
fn removes_exactly(socket: &mut Socket, add: &BTreeSet<Element>, remove: &BTreeSet<Element>) -> Result<bool, Failure> {
    let added: BTreeSet<_> = add.iter().filter_map(key).collect();
    let asked = remove.iter().filter(|element| key(element).is_some_and(|key| !added.contains(&key)));
    for (set, wanted) in &by_set(asked) {
        // The kernel does not return the value of a range for its first key alone; there are few ranges.
        if set.spec().interval {
            return Ok(false);
        }
        for wanted in wanted.chunks(CHUNK) {
            let question = listed(TABLE, *set, wanted, false).finish();
            // A request for one element has one reply, and no acknowledgement to wait for.
            let answers = match wanted {
                [_] => socket.get(wire(GET_ELEMENTS), &question).map(|answer| vec![answer]),
                _ => socket.query(wire(GET_ELEMENTS), &question),
            };
            let answers = match answers {
                Err(failure) if failure.errno() == Some(libc::ENOENT) => return Ok(false),
                answers => answers?,
            };
            let found: Vec<Entry> = answers.iter().flat_map(|payload| element::parse_elements(payload)).collect();
            if found != wanted {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Reads the elements of all sets; `None` when a table is missing or has another schema.
pub fn read(socket: &mut Socket) -> Result<Option<BTreeSet<Element>>, Failure> {
    read_sets(socket, &BTreeSet::from(Set::ALL))
}

/// Reads the elements of tables with another release's schema, from those sets that this release has too;
/// sets that differ are left out.
pub fn read_former(socket: &mut Socket) -> Result<BTreeSet<Element>, Failure> {
    as_one(socket, |socket| {
        let mut elements = BTreeSet::new();
        for set in Set::ALL {
            let entries = read_entries(socket, set.spec().family, set.spec().name)?;
            elements.extend(element::decode(set, &entries).into_iter().flatten());
        }
        Ok(elements)
    })
}

fn read_sets(socket: &mut Socket, sets: &BTreeSet<Set>) -> Result<Option<BTreeSet<Element>>, Failure> {
    as_one(socket, |socket| read_once(socket, sets))
}

/// Runs several dumps, which are consistent only if nothing changed between them.
pub(super) fn as_one<T>(
    socket: &mut Socket,
    mut read: impl FnMut(&mut Socket) -> Result<T, Failure>,
) -> Result<T, Failure> {
    retry_torn(|| {
        let before = generation(socket)?;
        let read = read(socket)?;
        if generation(socket)? == before { Ok(read) } else { Err(Failure::Torn) }
    })
}

fn generation(socket: &mut Socket) -> Result<u32, Failure> {
    let payload = socket.get(wire(GET_GENERATION), &body(0).finish())?;
    attributes(&payload).find(1).and_then(big32).ok_or(Failure::Malformed("a generation without number"))
}

fn read_once(socket: &mut Socket, sets: &BTreeSet<Set>) -> Result<Option<BTreeSet<Element>>, Failure> {
    if !shape::fits(socket)? {
        return Ok(None);
    }
    let mut elements = BTreeSet::new();
    for set in sets.iter().filter(|set| set.spec().notes.is_none()) {
        match element::decode(*set, &read_entries(socket, set.spec().family, set.spec().name)?) {
            Some(decoded) => elements.extend(decoded),
            None => return Ok(None),
        }
    }
    Ok(Some(elements))
}

pub(super) fn read_entries(socket: &mut Socket, family: u8, set: &str) -> Result<Vec<Entry>, Failure> {
    let mut query = body(family);
    query.text(TABLE_NAME, TABLE).text(ELEMENTS_SET, set);
    let parts = socket.list(wire(GET_ELEMENTS), &query.finish(), |_, payload| Some(element::parse_elements(payload)));
    match parts {
        Ok(parts) => Ok(parts.into_iter().flatten().collect()),
        // It was deleted meanwhile, which the generation number will show.
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

fn by_set<'a>(elements: impl IntoIterator<Item = &'a Element>) -> BTreeMap<Set, Vec<Entry>> {
    let mut by_set: BTreeMap<Set, Vec<Entry>> = BTreeMap::new();
    for element in elements {
        by_set.entry(set_of(element)).or_default().extend(entries(element));
    }
    by_set
}

fn of_elements(elements: &BTreeSet<Element>, add: bool) -> Vec<Request> {
    by_set(elements).iter().flat_map(|(set, entries)| message::elements(TABLE, *set, entries, add)).collect()
}
