//! Tables `ip pontoon` and `ip6 pontoon`: limits of the connections of containers. They exist once a container had
//! such a limit, so that without one no packet is evaluated here.
//!
//! Packets that open no flow leave at the first rule. A new flow is looked up by the addresses of both ends; the
//! limits themselves are in the elements, so the rules are constant, and what one container has opened is not forgotten
//! when another one is added.
//!
//! Pure but for [`presence`]. Part of `tables`.

use std::sync::OnceLock;

use nft::message::{self, Chain, GET_TABLE, IPV4, IPV6, TABLE_USERDATA, attributes, wire};
use nft::{Expressions, Side};

use super::ruleset::{Rule, TABLE, rule};
use super::schema;
use super::sets::Set;
use crate::linux::netlink::{Failure, Request, Socket};
use crate::model::digest::digest;

/// Families of the tables.
pub const FAMILIES: [u8; 2] = [IPV4, IPV6];

/// Before the chains of table `inet pontoon`, which may accept or reject.
const EARLIER: i32 = libc::NF_IP_PRI_FILTER - 1;

const fn chain(family: u8, name: &'static str, hook: libc::c_int, comment: &'static str) -> Chain {
    Chain { family, name, kind: "filter", hook: hook as u32, priority: EARLIER, comment }
}

const fn forward(family: u8) -> Chain {
    chain(family, "forward_limits", libc::NF_INET_FORWARD, "connections of containers that the host routes")
}

const fn input(family: u8) -> Chain {
    chain(family, "input_limits", libc::NF_INET_LOCAL_IN, "connections of containers to the host")
}

const fn output(family: u8) -> Chain {
    chain(family, "output_limits", libc::NF_INET_LOCAL_OUT, "connections of the host to containers")
}

/// All chains.
const CHAINS: [Chain; 6] = [forward(IPV4), input(IPV4), output(IPV4), forward(IPV6), input(IPV6), output(IPV6)];

/// Neighbour discovery is not tracked, and must pass.
const NOT_NEW: &str = "not the first packet of a connection";
/// Comments of the rules that drop; the doctor explains them by their start.
const FAST_CLIENT: &str = "above pontoon.conn.rate of the client";
const FAST_SERVER: &str = "above pontoon.conn.rate of the server";
const BUSY_CLIENT: &str = "above pontoon.conn.max of the client";
const BUSY_SERVER: &str = "above pontoon.conn.max of the server";

fn over(rule: Expressions, side: Side, set: Set) -> Expressions {
    rule.key_in(&[side.address(set.family())], set).counter().drop()
}

/// A flow that is too fast does not count as open.
static RULES: [Rule; 22] = [
    rule(forward(IPV4), NOT_NEW, |rule| rule.is_not_new().accept()),
    rule(forward(IPV4), FAST_CLIENT, |rule| over(rule, Side::Source, Set::ConnRate4)),
    rule(forward(IPV4), FAST_SERVER, |rule| over(rule, Side::Destination, Set::ConnRate4)),
    rule(forward(IPV4), BUSY_CLIENT, |rule| over(rule, Side::Source, Set::ConnMax4)),
    rule(forward(IPV4), BUSY_SERVER, |rule| over(rule, Side::Destination, Set::ConnMax4)),
    rule(input(IPV4), NOT_NEW, |rule| rule.is_not_new().accept()),
    rule(input(IPV4), FAST_CLIENT, |rule| over(rule, Side::Source, Set::ConnRate4)),
    rule(input(IPV4), BUSY_CLIENT, |rule| over(rule, Side::Source, Set::ConnMax4)),
    rule(output(IPV4), NOT_NEW, |rule| rule.is_not_new().accept()),
    rule(output(IPV4), FAST_SERVER, |rule| over(rule, Side::Destination, Set::ConnRate4)),
    rule(output(IPV4), BUSY_SERVER, |rule| over(rule, Side::Destination, Set::ConnMax4)),
    rule(forward(IPV6), NOT_NEW, |rule| rule.is_not_new().accept()),
    rule(forward(IPV6), FAST_CLIENT, |rule| over(rule, Side::Source, Set::ConnRate6)),
    rule(forward(IPV6), FAST_SERVER, |rule| over(rule, Side::Destination, Set::ConnRate6)),
    rule(forward(IPV6), BUSY_CLIENT, |rule| over(rule, Side::Source, Set::ConnMax6)),
    rule(forward(IPV6), BUSY_SERVER, |rule| over(rule, Side::Destination, Set::ConnMax6)),
    rule(input(IPV6), NOT_NEW, |rule| rule.is_not_new().accept()),
    rule(input(IPV6), FAST_CLIENT, |rule| over(rule, Side::Source, Set::ConnRate6)),
    rule(input(IPV6), BUSY_CLIENT, |rule| over(rule, Side::Source, Set::ConnMax6)),
    rule(output(IPV6), NOT_NEW, |rule| rule.is_not_new().accept()),
    rule(output(IPV6), FAST_SERVER, |rule| over(rule, Side::Destination, Set::ConnRate6)),
    rule(output(IPV6), BUSY_SERVER, |rule| over(rule, Side::Destination, Set::ConnMax6)),
];

/// The messages that make everything but the elements. The tables must not exist.
pub fn definition() -> Vec<Request> {
    let mut messages: Vec<_> = FAMILIES.iter().map(|family| message::new_table(*family, TABLE, comment())).collect();
    messages.extend(contents());
    messages
}

fn contents() -> Vec<Request> {
    let sets = Set::ALL.iter().filter(|set| FAMILIES.contains(&set.spec().family));
    let mut messages: Vec<_> = sets.zip(1..).map(|(set, id)| message::new_set(TABLE, &set.spec(), id)).collect();
    messages.extend(schema::of_chains(&CHAINS, RULES.iter()));
    messages
}

/// The messages that remove the tables, if they exist.
pub fn removal() -> Vec<Request> {
    let removed = |family| [message::new_table(family, TABLE, ""), message::delete_table(family, TABLE)];
    FAMILIES.into_iter().flat_map(removed).collect()
}

/// Comment of the tables: a digest of what they are made of.
fn comment() -> &'static str {
    static COMMENT: OnceLock<String> = OnceLock::new();
    COMMENT.get_or_init(|| format!("pontoon limits {:016x}", digest(contents().iter().map(|message| &message.body))))
}

/// Which of the tables exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// None.
    Missing,
    /// Both, with this release's schema.
    Whole,
    /// Only one, or they have another schema.
    Damaged,
}

/// Which of the tables exist, by their comments alone.
pub fn presence(socket: &mut Socket) -> Result<Presence, Failure> {
    let mut found = Vec::new();
    for family in FAMILIES {
        found.push(match socket.get(wire(GET_TABLE), &schema::query(family)) {
            Err(failure) if failure.errno() == Some(libc::ENOENT) => Presence::Missing,
            result => {
                let payload = result?;
                let table = attributes(&payload);
                let fits = table.find(TABLE_USERDATA).and_then(message::comment) == Some(comment());
                if fits && schema::is_awake(&table) { Presence::Whole } else { Presence::Damaged }
            }
        });
    }
    Ok(if found[0] == found[1] { found[0] } else { Presence::Damaged })
}

/// The same, by everything but the elements.
pub fn fits(socket: &mut Socket) -> Result<Presence, Failure> {
    let found = presence(socket)?;
    if found != Presence::Whole {
        return Ok(found);
    }
    for family in FAMILIES {
        let chains = schema::chains_are(socket, family, &CHAINS)?;
        if !chains || !schema::rules_are(socket, family, &CHAINS, &RULES)? || !schema::sets_fit(socket, family)? {
            return Ok(Presence::Damaged);
        }
    }
    Ok(Presence::Whole)
}

/// Probes what the tables need, in tables that are removed again.
///
/// # Errors
/// The kernel's error when it lacks a part of them.
pub fn offered(socket: &mut Socket) -> Result<(), Failure> {
    nft::batch::commit(socket, &[removal(), definition()].concat())
}
