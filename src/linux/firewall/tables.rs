//! Manages the tables `inet pontoon` and `bridge pontoon` in the kernel: creates them, changes the policy that
//! their sets hold, reads it.
//!
//! Every write is one transaction: all of it or nothing. Called by `LinuxKernel` and `observe`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nft::Set as Spec;
use nft::batch::commit;
use nft::element::{Entry, parse_entries};
use nft::message::{self, CHUNK, GET_ELEMENTS, listed, wire};
use nft::table::{self, consistent};

use super::elements::{self, Set, entries, set_of};
use super::limit_rules::{self, Presence};
use super::names;
use super::parts::{PARTS, Part};
use super::records;
use super::ruleset::{FAMILIES, TABLE};
use super::schema;
use crate::datapath::{Access, Policy};
use crate::linux::feature;
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
    let mut messages = Vec::new();
    for family in FAMILIES {
        // Deleting a missing table fails, creating an existing one does not.
        let new = || message::new_table(family, TABLE, schema::comment(rejecting));
        messages.extend([new(), message::delete_table(family, TABLE), new()]);
    }
    messages.extend(schema::definition(rejecting));
    for part in needed(policy) {
        messages.extend(schema::part_definition(part, rejecting));
    }
    messages.extend(limit_rules::removal());
    if policy.iter().any(limits) {
        messages.extend(limit_rules::definition());
    }
    messages.extend(of_elements(&elements::outermost(policy), true));
    commit(socket, &messages)
}

/// Whether the tables of [`limit_rules`] are needed because of a statement.
fn limits(policy: &Policy) -> bool {
    matches!(policy, Policy::Limited(..))
}

/// The messages that create the tables of [`limit_rules`] if they are needed and missing.
fn missing_limits(socket: &mut Socket, add: &BTreeSet<Policy>) -> Result<Vec<Request>, Failure> {
    let needed = add.iter().any(limits) && limit_rules::presence(socket)? != Presence::Whole;
    Ok(if needed { [limit_rules::removal(), limit_rules::definition()].concat() } else { Vec::new() })
}

/// Which of [`PARTS`] these statements need.
fn needed(policy: &BTreeSet<Policy>) -> impl Iterator<Item = &'static Part> {
    PARTS.iter().filter(|part| policy.iter().any(part.needed_by))
}

/// The address of the endpoint whose DNS queries a statement redirects.
fn redirected(policy: &Policy) -> Option<IpAddr> {
    match policy {
        Policy::Access(Access::Redirected(_, own, _)) => Some(*own),
        _ => None,
    }
}

/// The address of the endpoint that a statement has audited.
fn audited(policy: &Policy) -> Option<IpAddr> {
    match policy {
        Policy::Access(Access::Audited(_, own)) => Some(*own),
        _ => None,
    }
}

/// The messages that create those of [`PARTS`] that are needed and missing.
fn missing_parts(socket: &mut Socket, add: &BTreeSet<Policy>) -> Result<Vec<Request>, Failure> {
    let mut messages = Vec::new();
    for part in needed(add) {
        if let Some(rejecting) = schema::is_missing(socket, part)? {
            messages.extend(schema::part_definition(part, rejecting));
        }
    }
    Ok(messages)
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
    // Another endpoint may have had the address, or gets it next.
    let redirected: BTreeSet<IpAddr> = add.iter().chain(remove).filter_map(redirected).collect();
    if !redirected.is_empty() {
        names::forget(socket, &redirected)?;
    }
    let audited: BTreeSet<IpAddr> = add.iter().chain(remove).filter_map(audited).collect();
    if !audited.is_empty() {
        records::forget(socket, &audited)?;
    }
    let limits = missing_limits(socket, add)?;
    if !limits.is_empty() {
        // On their own, so that an error is about them.
        commit(socket, &limits).map_err(|failure| match failure.errno() {
            Some(libc::ENOENT | libc::EOPNOTSUPP) => feature::lacking(feature::CONNECTION_LIMITS),
            _ => failure,
        })?;
    }
    let chains = missing_parts(socket, add)?;
    let objection = if removes_exactly(socket, add, remove)? {
        let mut messages = chains.clone();
        messages.extend(of_elements(remove, false));
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
    let mut messages = chains;
    messages.extend(of_elements(&present.difference(&wanted).cloned().collect(), false));
    messages.extend(of_elements(&wanted.difference(&present).cloned().collect(), true));
    commit(socket, &messages)
}

/// The key that distinguishes an element with a value or a limit from the others; `None` in other sets, where the whole
/// element is the key.
fn key(policy: &Policy) -> Option<(Set, Vec<u8>)> {
    let set = set_of(policy);
    let entry = set.spec().has_values().then(|| entries(policy).into_iter().next())??;
    Some((set, entry.key))
}

/// Whether every element with a value or a limit that is to be removed exists with it. The kernel removes by key alone; an element
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
    let Some(fit) = schema::fits(socket)? else { return Ok(None) };
    if limit_rules::fits(socket)? == Presence::Damaged {
        return Ok(None);
    }
    let mut policy = BTreeSet::new();
    for set in sets.iter().filter(|set| set.spec().dynamic.is_none()) {
        match elements::decode(*set, &entries_of(socket, &set.spec())?) {
            Some(decoded) => policy.extend(decoded),
            None => return Ok(None),
        }
    }
    // Statements without the chains that enforce them would have no effect.
    if PARTS.iter().zip(fit).any(|(part, present)| !present && policy.iter().any(part.needed_by)) {
        return Ok(None);
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
