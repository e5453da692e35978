//! Tables of iptables-legacy: their entries as the kernel returns them
//! (include/uapi/linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h).
//!
//! A table is a sequence of entries, each a condition on addresses, links and the protocol, then matches, then a target.
//! A jump is the offset of an entry; an entry with the target `ERROR` names the chain that follows it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nft::evaluate::{Lookup, Verdict};
use nft::extension;

use super::chain::destination;
use super::subject::{Seen, Sets};
use crate::datapath::passage::{Decision, Hook, Packet, PacketLink, Passage, RuleSeen};
use crate::linux::iptables_legacy::{LegacyTable, tables};
use crate::linux::tlv::{native16, native32, text};
use crate::model::Family;

/// Tables in the order of their priorities.
const ORDER: [&str; 4] = ["raw", "mangle", "nat", "filter"];

/// Bytes before the verdict of a standard target, and before the name of an error target.
const TARGET: usize = 32;
/// `XT_RETURN`.
const RETURN: i32 = -5;
/// Conditions that are inverted: incoming and outgoing link, source, destination, protocol.
const INVERTED: [u8; 5] = [1, 2, 8, 0x10, 0x40];
/// Depth of jumps, and entries that are evaluated at most.
const DEPTH: usize = 16;
const MOST: usize = 100_000;

/// All tables of both families.
#[derive(Debug, Default)]
pub struct LegacyTables(Vec<LegacyTable>);

/// Tables of iptables-legacy have no sets of their own.
struct NoSets;

impl Sets for NoSets {
    fn key_length(&self, _: &str) -> Option<usize> {
        None
    }

    fn lookup(&self, _: &str, _: &[u8]) -> Lookup {
        Lookup::Unknown
    }
}

/// Where the fields of an entry are.
struct Layout {
    address: usize,
    protocol: usize,
    flags: usize,
    goes: u8,
    target: usize,
    counters: usize,
    size: usize,
}

const V4: Layout = Layout { address: 4, protocol: 80, flags: 82, goes: 2, target: 88, counters: 96, size: 112 };
const V6: Layout = Layout { address: 16, protocol: 128, flags: 131, goes: 4, target: 140, counters: 152, size: 168 };

struct Entry<'a> {
    bytes: &'a [u8],
    layout: &'static Layout,
}

impl<'a> Entry<'a> {
    fn at(table: &'a LegacyTable, offset: usize) -> Option<Self> {
        let layout = if table.family.is_v6() { &V6 } else { &V4 };
        let rest = table.entries.get(offset..)?;
        let next = usize::from(native16(rest.get(layout.target + 2..)?)?);
        (next > layout.size).then(|| rest.get(..next).map(|bytes| Self { bytes, layout })).flatten()
    }

    fn target(&self) -> Option<&'a [u8]> {
        self.bytes.get(usize::from(native16(self.bytes.get(self.layout.target..)?)?)..)
    }

    fn target_name(&self) -> Option<&'a str> {
        text(self.target()?.get(2..31)?)
    }

    fn packets(&self) -> Option<u64> {
        let counter = self.bytes.get(self.layout.counters..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*counter))
    }

    fn goes(&self) -> bool {
        self.bytes.get(self.layout.flags).is_some_and(|flags| flags & self.layout.goes != 0)
    }

    /// Whether the conditions without matches hold.
    fn holds(&self, packet: &Packet) -> Option<bool> {
        let wide = self.layout.address;
        let part = |at: usize, len: usize| self.bytes.get(at..at + len);
        let inverted = *self.bytes.get(self.layout.flags + 1)?;
        let address = |at: usize, address: IpAddr| {
            let own = match address {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let (wanted, mask) = (part(at, wide)?, part(at + 2 * wide, wide)?);
            Some(own.iter().zip(mask).map(|(byte, mask)| byte & mask).eq(wanted.iter().copied()))
        };
        let links = 4 * wide;
        let link = |at: usize, link: Option<&PacketLink>| {
            let mut name = link.map(|link| link.name.clone()).unwrap_or_default().into_bytes();
            name.resize(16, 0);
            let (wanted, mask) = (part(links + at, 16)?, part(links + 32 + at, 16)?);
            Some(name.iter().zip(wanted).zip(mask).all(|((own, wanted), mask)| (own ^ wanted) & mask == 0))
        };
        let protocol = native16(self.bytes.get(self.layout.protocol..)?)?;
        let conditions = [
            link(0, packet.link_in.as_ref())?,
            link(16, packet.link_out.as_ref())?,
            address(0, packet.source)?,
            address(wide, packet.destination)?,
            protocol == 0 || protocol == u16::from(packet.protocol),
        ];
        Some(conditions.iter().zip(INVERTED).all(|(holds, bit)| *holds != (inverted & bit != 0)))
    }

    /// Whether all matches hold; an unknown one by its name.
    fn matches(&self, seen: &Seen<'_, NoSets>) -> Result<bool, String> {
        let end = self.bytes.get(self.layout.target..).and_then(native16).map_or(0, usize::from);
        let (mut at, mut unknown) = (self.layout.size, None);
        while let Some(one) = self.bytes.get(at..end).filter(|one| one.len() >= TARGET) {
            let len = native16(one).map_or(0, usize::from).max(TARGET);
            let name = one.get(2..31).and_then(text).unwrap_or("?");
            let revision = one.get(31).copied().map_or(0, u32::from);
            match extension::holds(name, revision, one.get(TARGET..len).unwrap_or_default(), seen) {
                Some(true) => {}
                Some(false) => return Ok(false),
                None => unknown = Some(format!("-m {name}")),
            }
            at += len;
        }
        unknown.map_or(Ok(true), Err)
    }
}

impl LegacyTables {
    /// Reads the tables that exist.
    pub fn read() -> Self {
        Self(Family::ALL.into_iter().flat_map(|family| tables(family, &ORDER)).collect())
    }

    /// The passages through the tables of a hook.
    pub fn pass(&self, hook: Hook, packet: &Packet, local: &BTreeSet<IpAddr>) -> Vec<Passage> {
        let (number, false) = hook.number() else { return Vec::new() };
        let (mut packet, family) = (packet.clone(), packet.family());
        let mut passages = Vec::new();
        for table in self.0.iter().filter(|table| table.family == family) {
            let Some((first, last)) = table.hook(number) else { continue };
            let (decision, rule) = {
                let seen = Seen { packet: &packet, bridged: false, local, sets: NoSets };
                Run { table, last, names: names(table), perhaps: Vec::new() }.decide(first, &seen)
            };
            if let Decision::Destination(address, port) = decision {
                (packet.destination, packet.port, packet.translated) = (address, port, true);
            }
            let program = family.choose("iptables-legacy", "ip6tables-legacy");
            let chain = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
            let passage = Passage {
                family: program.to_owned(),
                table: table.name.clone(),
                chain: chain.get(number as usize).copied().unwrap_or_default().to_owned(),
                ours: false,
                decision,
                rule,
            };
            let ends = passage.ends();
            passages.push(passage);
            if ends {
                break;
            }
        }
        passages
    }
}

/// The name of the chain that begins at each offset.
fn names(table: &LegacyTable) -> BTreeMap<usize, String> {
    const HOOKS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    let mut names: BTreeMap<usize, String> = BTreeMap::new();
    names.extend((0..5).zip(HOOKS).filter_map(|(hook, name)| Some((table.hook(hook)?.0, name.to_owned()))));
    let mut at = 0;
    while let Some(entry) = Entry::at(table, at) {
        let next = at + entry.bytes.len();
        if entry.target_name() == Some("ERROR")
            && let Some(name) = entry.target().and_then(|target| text(target.get(TARGET..)?))
        {
            names.insert(next, name.to_owned());
        }
        at = next;
    }
    names
}

/// The evaluation of one table.
struct Run<'a> {
    table: &'a LegacyTable,
    /// The entry that is the policy.
    last: usize,
    names: BTreeMap<usize, String>,
    perhaps: Vec<(String, Decision, RuleSeen)>,
}

impl Run<'_> {
    fn decide(mut self, first: usize, seen: &Seen<'_, NoSets>) -> (Decision, Option<RuleSeen>) {
        let (mut at, mut back) = (first, Vec::new());
        for _ in 0..MOST {
            let Some(entry) = Entry::at(self.table, at) else { break };
            let next = at + entry.bytes.len();
            let matched = match entry.holds(seen.packet) {
                Some(true) => entry.matches(seen),
                _ => Ok(false),
            };
            if matched == Ok(false) {
                at = next;
                continue;
            }
            let standard = entry.target_name() == Some("");
            let verdict =
                entry.target().and_then(|target| native32(target.get(TARGET..)?)).map(|verdict| verdict as i32);
            let decision = match (standard, verdict) {
                (true, Some(RETURN)) if matched.is_ok() => match back.pop() {
                    Some(to) => {
                        at = to;
                        continue;
                    }
                    None => {
                        at = self.last;
                        continue;
                    }
                },
                (true, Some(-1)) => Some(Decision::Drop),
                (true, Some(-2)) => Some(Decision::Accept),
                (true, Some(to)) if to >= 0 && matched.is_ok() => {
                    if !entry.goes() && back.len() < DEPTH {
                        back.push(next);
                    }
                    at = to as usize;
                    continue;
                }
                (true, _) => Some(Decision::Unknown("a jump that may be taken".to_owned())),
                (false, _) => self.of_target(&entry, seen.packet),
            };
            let rule = self.rule(at, &entry);
            match (decision, matched) {
                (None, _) => {}
                (Some(decision), Ok(_)) => {
                    let rule = (at != self.last).then_some(rule);
                    return self.settle(decision, rule);
                }
                (Some(decision), Err(what)) => self.perhaps.push((what, decision, rule)),
            }
            at = next;
        }
        (Decision::Unknown("the table cannot be read".to_owned()), None)
    }

    fn of_target(&self, entry: &Entry<'_>, packet: &Packet) -> Option<Decision> {
        let target = entry.target()?;
        let revision = target.get(31).copied().map_or(0, u32::from);
        match extension::does(entry.target_name()?, revision, target.get(TARGET..)?)? {
            Verdict::Reject => Some(Decision::Reject),
            Verdict::Source => Some(Decision::Source),
            Verdict::Destination(address, port) => Some(destination(packet, address.as_deref(), port)),
            Verdict::Unknown(what) => Some(Decision::Unknown(what)),
            _ => None,
        }
    }

    fn rule(&self, at: usize, entry: &Entry<'_>) -> RuleSeen {
        let (start, chain) = self.names.range(..=at).next_back().map_or((0, ""), |(start, name)| (*start, name));
        let (mut place, mut step) = (1, start);
        while step < at {
            let Some(entry) = Entry::at(self.table, step) else { break };
            (place, step) = (place + 1, step + entry.bytes.len());
        }
        RuleSeen { chain: chain.to_owned(), place, packets: entry.packets(), ..RuleSeen::default() }
    }

    fn settle(self, decision: Decision, rule: Option<RuleSeen>) -> (Decision, Option<RuleSeen>) {
        let stops = |decision: &Decision| matches!(decision, Decision::Drop | Decision::Reject);
        let differs = |other: &Decision| match other {
            Decision::Unknown(_) | Decision::Destination(..) => *other != decision,
            _ => stops(other) != stops(&decision),
        };
        match self.perhaps.into_iter().find(|(_, other, _)| differs(other)) {
            Some((what, _, rule)) => (Decision::Unknown(what), Some(rule)),
            None => (decision, rule),
        }
    }
}
