//! Finds rules of other programs that could decide about frames between two containers of one bridge, or record or
//! change them: as long as there is one, such frames must pass the bridge.
//!
//! A frame is known by its bridge, the subnets of its network and that it is IP. All else is not known, so a rule that
//! asks for it may match. In doubt a rule decides.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nft::evaluate::{Evaluation, Lookup, Subject, Verdict, evaluate};
use nft::message::{BRIDGE, INET, IPV4, IPV6, NETDEV};
use nft::registers::Value;

use super::{BaseChain, Place, Rule, Ruleset, TABLE, word};
use crate::model::ifname::PREFIX;
use crate::model::{Family, IfName};

/// Depth of jumps that the kernel allows.
const DEPTH: u32 = 16;
/// `NF_INET_PRE_ROUTING`, `NF_INET_FORWARD`, `NF_INET_POST_ROUTING`, the same for bridges, and `NF_INET_INGRESS`.
const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const POSTROUTING: u32 = 4;
const INET_INGRESS: u32 = 5;
/// `NF_NETDEV_INGRESS`.
const INGRESS: u32 = 0;
/// `RTN_UNICAST`.
const UNICAST: u32 = 1;
/// Result of a route lookup that is the type of an address, and flags that tie it to a link.
const FIB_TYPE: u32 = 3;
const FIB_LINKS: u32 = 0x18;

/// Frames between two containers of a network.
struct Frame<'a> {
    bridge: &'a IfName,
    subnet: IpNetwork,
    bridged: bool,
    hook: u32,
    ruleset: &'a Ruleset,
    family: u8,
    table: &'a str,
}

/// How a chain ended.
enum End {
    /// It accepts every such frame that no rule before accepted.
    Accepted,
    /// It may let some of them through to its end.
    Through,
    /// This rule could decide about them.
    Decided(String),
}

impl Ruleset {
    /// The first rule of another program that could decide about frames between containers on this bridge, within these
    /// subnets.
    pub fn opposes(&self, bridge: &IfName, subnets: &[IpNetwork], called: bool) -> Option<String> {
        let links = self.chains.iter().filter(|chain| !is_ours(chain) && self.is_on_a_port(chain));
        let mut found = links.filter_map(|chain| self.used(chain)).next();
        for subnet in subnets {
            found = found.or_else(|| self.decides(bridge, *subnet, true));
            if called {
                found = found.or_else(|| self.decides(bridge, *subnet, false));
                found = found.or_else(|| self.leads_into(*subnet));
            }
        }
        found
    }

    fn is_on_a_port(&self, chain: &BaseChain) -> bool {
        let ingress = match chain.place.0 {
            NETDEV => chain.hook == INGRESS,
            INET => chain.hook == INET_INGRESS,
            _ => false,
        };
        ingress && (chain.links.is_empty() || chain.links.iter().any(|link| link.starts_with(PREFIX)))
    }

    /// The chain, if it does anything at all.
    fn used(&self, chain: &BaseChain) -> Option<String> {
        let rules = self.rules.get(&chain.place).map_or(0, Vec::len);
        (rules > 0 || chain.drops).then(|| named(&chain.place, None))
    }

    fn decides(&self, bridge: &IfName, subnet: IpNetwork, bridged: bool) -> Option<String> {
        let families: &[u8] = match (bridged, Family::of(&subnet.ip())) {
            (true, _) => &[BRIDGE],
            (false, Family::V4) => &[INET, IPV4],
            (false, Family::V6) => &[INET, IPV6],
        };
        let hooks = [PREROUTING, FORWARD, POSTROUTING];
        let passed = |chain: &&BaseChain| hooks.contains(&chain.hook) && families.contains(&chain.place.0);
        self.chains.iter().filter(passed).filter(|chain| !is_ours(chain)).find_map(|chain| {
            let (family, table, _) = &chain.place;
            let (hook, family, table) = (chain.hook, *family, table.as_str());
            let frame = Frame { bridge, subnet, bridged, hook, ruleset: self, family, table };
            match self.ask(&chain.place, &frame, DEPTH) {
                End::Decided(rule) => Some(rule),
                End::Through if chain.drops => Some(named(&chain.place, None)),
                End::Through | End::Accepted => None,
            }
        })
    }

    fn ask(&self, place: &Place, frame: &Frame<'_>, depth: u32) -> End {
        let rules = self.rules.get(place).map(Vec::as_slice).unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            let Evaluation { fails, undecided, verdict, effect, .. } = evaluate(&rule.expressions, frame);
            let decided = || End::Decided(named(place, Some((index + 1, rule))));
            if effect.is_some() {
                return decided();
            }
            if fails {
                continue;
            }
            let certain = undecided.is_none();
            match verdict {
                None => {}
                Some(Verdict::Accept) if certain => return End::Accepted,
                Some(Verdict::Return) if certain => return End::Through,
                Some(Verdict::Accept | Verdict::Return) => {}
                Some(Verdict::Jump(_) | Verdict::Goto(_)) if depth == 0 => return decided(),
                Some(Verdict::Jump(ref chain) | Verdict::Goto(ref chain)) => {
                    let goes = matches!(verdict, Some(Verdict::Goto(_)));
                    match self.ask(&(place.0, place.1.clone(), chain.clone()), frame, depth - 1) {
                        End::Decided(rule) => return End::Decided(rule),
                        End::Accepted if certain => return End::Accepted,
                        End::Through if certain && goes => return End::Through,
                        End::Accepted | End::Through => {}
                    }
                }
                Some(
                    Verdict::Drop | Verdict::Reject | Verdict::Destination(..) | Verdict::Source | Verdict::Unknown(_),
                ) => return decided(),
            }
        }
        End::Through
    }

    /// A rule that translates destinations to an address of the subnet, or to one that is not known: the answer of a
    /// container to its neighbour must then be translated back, on the bridge.
    fn leads_into(&self, subnet: IpNetwork) -> Option<String> {
        let tables = self.chains.iter().filter(|chain| chain.nat && !is_ours(chain));
        let tables: Vec<_> = tables.map(|chain| (chain.place.0, &chain.place.1)).collect();
        let nat = self.rules.iter().filter(|(place, _)| tables.contains(&(place.0, &place.1)));
        nat.flat_map(|(place, rules)| rules.iter().enumerate().map(move |rule| (place, rule))).find_map(
            |(place, (index, rule))| {
                let leads = match evaluate(&rule.expressions, &Nothing).verdict {
                    Some(Verdict::Destination(Some(bytes), _)) => address(&bytes).is_none_or(|ip| subnet.contains(ip)),
                    Some(Verdict::Unknown(what)) => !LOCAL_TARGETS.contains(&what.as_str()),
                    _ => false,
                };
                leads.then(|| named(place, Some((index + 1, rule))))
            },
        )
    }
}

/// Targets that lead to the host itself.
const LOCAL_TARGETS: [&str; 2] = ["redir", "-j REDIRECT"];

/// The address of a translation: of the targets of iptables always 16 bytes, of which IPv4 uses four.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    match (bytes.len(), bytes.first_chunk::<4>(), bytes.first_chunk::<16>()) {
        (4, Some(v4), _) => Some(IpAddr::from(*v4)),
        (16, Some(v4), Some(v6)) if v6.get(4..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0)) => {
            Some(IpAddr::from(*v4))
        }
        (16, _, Some(v6)) => Some(IpAddr::from(*v6)),
        _ => None,
    }
}

fn is_ours(chain: &BaseChain) -> bool {
    chain.place.1 == TABLE
}

fn named((family, table, chain): &Place, rule: Option<(usize, &Rule)>) -> String {
    let family = if *family == NETDEV { "netdev".to_owned() } else { word(*family) };
    match rule {
        Some((place, rule)) => {
            format!("rule {place} (handle {}) of chain {chain} in table {family} {table}", rule.handle)
        }
        None => format!("chain {chain} in table {family} {table}"),
    }
}

fn unknown(what: &str) -> Value {
    Value::Unknown(what.to_owned())
}

/// Some bytes, all others not known.
fn partly(len: usize, known: &[(usize, &[u8], &[u8])]) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut unsure) = (vec![0; len], vec![0xff; len]);
    for (at, value, mask) in known {
        for ((index, value), mask) in (*at..).zip(*value).zip(*mask) {
            if let (Some(byte), Some(unsure)) = (bytes.get_mut(index), unsure.get_mut(index)) {
                (*byte, *unsure) = (value & mask, !mask);
            }
        }
    }
    (bytes, unsure)
}

impl Frame<'_> {
    fn link(&self, comes_in: bool) -> Value {
        const WHAT: &str = "the link";
        let mut name = self.bridge.as_str().as_bytes().to_vec();
        name.resize(16, 0);
        // A hook before forwarding has no link out, and the one after it none in.
        let there = if comes_in { self.hook != POSTROUTING } else { self.hook != PREROUTING };
        match (there, self.bridged) {
            (true, false) => Value::Known(name),
            (true, true) => {
                let port = PREFIX.as_bytes();
                let (bytes, unsure) = partly(16, &[(0, port, &vec![0xff; port.len()])]);
                Value::Partly(bytes, unsure, WHAT.to_owned())
            }
            (false, _) => unknown(WHAT),
        }
    }

    fn network_header(&self) -> (Vec<u8>, Vec<u8>) {
        let (net, mask) = match (self.subnet.network(), self.subnet.mask()) {
            (IpAddr::V4(net), IpAddr::V4(mask)) => (net.octets().to_vec(), mask.octets().to_vec()),
            (IpAddr::V6(net), IpAddr::V6(mask)) => (net.octets().to_vec(), mask.octets().to_vec()),
            _ => (Vec::new(), Vec::new()),
        };
        let (len, source, target) = if self.subnet.is_ipv6() { (40, 8, 24) } else { (20, 12, 16) };
        partly(len, &[(source, &net, &mask), (target, &net, &mask)])
    }
}

impl Subject for Frame<'_> {
    fn meta(&self, key: u32) -> Value {
        match key {
            1 => Value::Known(if self.subnet.is_ipv6() { vec![0x86, 0xdd] } else { vec![8, 0] }),
            6 => self.link(true),
            7 => self.link(false),
            15 => Value::Known(vec![match (self.bridged, self.subnet.is_ipv6()) {
                (true, _) => libc::NFPROTO_BRIDGE as u8,
                (false, true) => libc::NFPROTO_IPV6 as u8,
                (false, false) => libc::NFPROTO_IPV4 as u8,
            }]),
            other => Value::Unknown(format!("meta {other}")),
        }
    }

    fn payload(&self, base: u32, offset: u32, len: u32) -> Value {
        const WHAT: &str = "the packet";
        let (bytes, unsure) = self.network_header();
        let range = offset as usize..(offset as usize).saturating_add(len as usize);
        match (base, bytes.get(range.clone()), unsure.get(range)) {
            (1, Some(bytes), Some(unsure)) => Value::Partly(bytes.to_vec(), unsure.to_vec(), WHAT.to_owned()),
            _ => unknown(WHAT),
        }
    }

    fn connection(&self, _: u32) -> Value {
        unknown("ct")
    }

    /// Both addresses are those of containers.
    fn fib(&self, result: u32, flags: u32) -> Value {
        match result {
            FIB_TYPE if flags & FIB_LINKS == 0 => Value::Known(UNICAST.to_ne_bytes().to_vec()),
            _ => unknown("fib"),
        }
    }

    fn socket(&self, _: u32) -> Value {
        unknown("socket")
    }

    fn key_length(&self, set: &str) -> Option<usize> {
        self.ruleset.key_length(&(self.family, self.table.to_owned(), set.to_owned()))
    }

    fn lookup(&self, set: &str, key: &[u8]) -> Lookup {
        self.ruleset.lookup(&(self.family, self.table.to_owned(), set.to_owned()), key)
    }
}

/// A packet of which nothing is known.
struct Nothing;

impl Subject for Nothing {
    fn meta(&self, _: u32) -> Value {
        unknown("meta")
    }

    fn payload(&self, _: u32, _: u32, _: u32) -> Value {
        unknown("payload")
    }

    fn connection(&self, _: u32) -> Value {
        unknown("ct")
    }

    fn fib(&self, _: u32, _: u32) -> Value {
        unknown("fib")
    }

    fn socket(&self, _: u32) -> Value {
        unknown("socket")
    }

    fn key_length(&self, _: &str) -> Option<usize> {
        None
    }

    fn lookup(&self, _: &str, _: &[u8]) -> Lookup {
        Lookup::Unknown
    }
}
