//! The whole ruleset of nf_tables in this network namespace, Pontoon's tables and those of other programs, and what it
//! decides about a described packet.
//!
//! Reads only. `set` has the sets, `subject` the fields of the packet, `legacy` the tables of iptables-legacy. Used by
//! the app for `pontoon explain`. Rules are evaluated as the kernel would; where that is not possible the result says
//! what is undecided.

mod chain;
mod legacy;
mod opposition;
mod set;
mod subject;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nft::evaluate::Lookup;
use nft::message::{
    self, BRIDGE, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, GET_CHAIN, GET_RULE, GET_SET, HOOK_NUMBER,
    HOOK_PRIORITY, INET, IPV4, IPV6, RULE_CHAIN, RULE_EXPRESSIONS, RULE_HANDLE, RULE_USERDATA, TABLE_NAME, attributes,
    wire,
};

use self::legacy::LegacyTables;
use self::set::{Elements, SetRecord};
use super::firewall::ruleset::TABLE;
use super::netlink::{Failure, Socket};
use super::tlv::{Attributes, big32, big64, text};
use crate::datapath::passage::{Decision, Hook, Packet, Passage};
use crate::model::Family;

/// `NFTA_HOOK_DEV`, `NFTA_HOOK_DEVS` and, in the list, `NFTA_DEVICE_NAME`.
const HOOK_LINK: u16 = 3;
const HOOK_LINKS: u16 = 4;
const HOOK_LINK_NAME: u16 = 1;

/// Family, table and name of a chain or a set.
type Place = (u8, String, String);

/// A chain that the kernel calls at a hook.
#[derive(Debug)]
struct BaseChain {
    place: Place,
    hook: u32,
    priority: i32,
    nat: bool,
    drops: bool,
    /// Of a chain at the ingress of links: their names.
    links: Vec<String>,
}

/// A rule.
#[derive(Debug)]
struct Rule {
    handle: u64,
    comment: String,
    expressions: Vec<u8>,
}

/// All tables.
#[derive(Debug)]
pub struct Ruleset {
    socket: RefCell<Socket>,
    chains: Vec<BaseChain>,
    rules: BTreeMap<Place, Vec<Rule>>,
    sets: BTreeMap<Place, SetRecord>,
    elements: RefCell<BTreeMap<Place, Option<Elements>>>,
    legacy: LegacyTables,
    local: BTreeSet<IpAddr>,
}

impl Ruleset {
    /// Reads chains and rules; elements of sets are read when a rule asks for them. `local` are the host's addresses.
    pub fn read(mut socket: Socket, local: BTreeSet<IpAddr>) -> Result<Self, Failure> {
        let chains = socket.list(wire(GET_CHAIN), &[0; 4], |_, payload| parse_chain(payload))?;
        let mut rules: BTreeMap<Place, Vec<Rule>> = BTreeMap::new();
        for (place, rule) in socket.list(wire(GET_RULE), &[0; 4], |_, payload| parse_rule(payload))? {
            rules.entry(place).or_default().push(rule);
        }
        let sets = socket.list(wire(GET_SET), &[0; 4], |_, payload| set::parse_set(payload))?;
        let sets = sets.into_iter().map(|set| ((set.family, set.table.clone(), set.name.clone()), set)).collect();
        let (elements, socket) = (RefCell::default(), RefCell::new(socket));
        let mut chains: Vec<_> = chains.into_iter().flatten().collect();
        chains.sort_by_key(|chain| chain.priority);
        Ok(Self { socket, chains, rules, sets, elements, legacy: LegacyTables::read(), local })
    }

    /// Whether Pontoon's tables exist.
    pub fn has_ours(&self) -> bool {
        self.rules.keys().any(|(family, table, _)| *family == INET && table == TABLE)
    }

    /// The passages through the chains of a hook, in order, until one ends the packet. A translation is applied to the
    /// packet, so that later chains see it.
    pub fn pass(&self, hook: Hook, packet: &mut Packet) -> Vec<Passage> {
        let (number, bridged) = hook.number();
        let families: &[u8] = match (bridged, packet.family()) {
            (true, _) => &[BRIDGE],
            (false, Family::V4) => &[INET, IPV4],
            (false, Family::V6) => &[INET, IPV6],
        };
        let mut passages = Vec::new();
        let mut translated = false;
        for chain in self.chains.iter().filter(|chain| chain.hook == number && families.contains(&chain.place.0)) {
            // The kernel asks no further chain about a connection that one has translated.
            if chain.nat && translated {
                continue;
            }
            let (decision, rule) = self.walk(chain, packet, bridged);
            translated |= chain.nat && apply(&decision, packet);
            let (family, table, name) = &chain.place;
            let ours = table == TABLE;
            let passage =
                Passage { family: word(*family), table: table.clone(), chain: name.clone(), ours, decision, rule };
            let ends = passage.ends();
            passages.push(passage);
            if ends {
                return passages;
            }
        }
        for passage in self.legacy.pass(hook, packet, &self.local) {
            apply(&passage.decision, packet);
            let ends = passage.ends();
            passages.push(passage);
            if ends {
                break;
            }
        }
        passages
    }

    /// Bytes of a key of a set.
    fn key_length(&self, place: &Place) -> Option<usize> {
        self.sets.get(place).map(|set| set.key_length)
    }

    fn lookup(&self, place: &Place, key: &[u8]) -> Lookup {
        let Some(set) = self.sets.get(place) else { return Lookup::Unknown };
        let mut read = self.elements.borrow_mut();
        let elements =
            read.entry(place.clone()).or_insert_with(|| set::elements(&mut self.socket.borrow_mut(), set).ok());
        elements.as_ref().map_or(Lookup::Unknown, |elements| elements.lookup(set, key))
    }
}

/// Applies a translation; true if the decision is one.
fn apply(decision: &Decision, packet: &mut Packet) -> bool {
    match decision {
        Decision::Destination(address, port) => {
            (packet.destination, packet.port, packet.translated) = (*address, *port, true);
            true
        }
        Decision::Source => true,
        _ => false,
    }
}

fn word(family: u8) -> String {
    match family {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        BRIDGE => "bridge",
        _ => "other",
    }
    .to_owned()
}

/// A base chain; `Some(None)` for a chain that only others call.
fn parse_chain(payload: &[u8]) -> Option<Option<BaseChain>> {
    let chain = attributes(payload);
    let Some(hook) = chain.find(CHAIN_HOOK).map(Attributes::new) else { return Some(None) };
    let name = |kind| chain.find(kind).and_then(text).map(str::to_owned);
    let listed = Attributes::new(hook.find(HOOK_LINKS).unwrap_or_default()).filter(|(kind, _)| *kind == HOOK_LINK_NAME);
    let links = listed.map(|(_, name)| name).chain(hook.find(HOOK_LINK)).filter_map(text).map(str::to_owned).collect();
    Some(Some(BaseChain {
        links,
        place: (*payload.first()?, name(TABLE_NAME)?, name(CHAIN_NAME)?),
        hook: hook.find(HOOK_NUMBER).and_then(big32)?,
        priority: hook.find(HOOK_PRIORITY).and_then(big32)? as i32,
        nat: chain.find(CHAIN_TYPE).and_then(text) == Some("nat"),
        drops: chain.find(CHAIN_POLICY).and_then(big32) == Some(libc::NF_DROP as u32),
    }))
}

fn parse_rule(payload: &[u8]) -> Option<(Place, Rule)> {
    let rule = attributes(payload);
    let name = |kind| rule.find(kind).and_then(text).map(str::to_owned);
    let place = (*payload.first()?, name(TABLE_NAME)?, name(RULE_CHAIN)?);
    let comment = rule.find(RULE_USERDATA).and_then(message::comment).unwrap_or_default().to_owned();
    let handle = rule.find(RULE_HANDLE).and_then(big64).unwrap_or_default();
    Some((place, Rule { handle, comment, expressions: rule.find(RULE_EXPRESSIONS).unwrap_or_default().to_vec() }))
}
