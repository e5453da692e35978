//! Evaluates one chain with the chains that it calls.

use std::net::IpAddr;

use nft::evaluate::{Evaluation, Lookup, Verdict, evaluate};

use super::subject::{Seen, Sets};
use super::{BaseChain, Place, Rule, Ruleset};
use crate::datapath::passage::{Decision, Packet, RuleSeen};
use crate::model::Family;

/// Depth of jumps that the kernel allows.
const DEPTH: u32 = 16;

/// What a chain decided, and the rule that did.
pub(super) type Decided = (Decision, RuleSeen);

/// The sets of one table.
struct TableSets<'a> {
    ruleset: &'a Ruleset,
    family: u8,
    table: &'a str,
}

impl TableSets<'_> {
    fn place(&self, set: &str) -> Place {
        (self.family, self.table.to_owned(), set.to_owned())
    }
}

impl Sets for TableSets<'_> {
    fn key_length(&self, set: &str) -> Option<usize> {
        self.ruleset.key_length(&self.place(set))
    }

    fn lookup(&self, set: &str, key: &[u8]) -> Lookup {
        self.ruleset.lookup(&self.place(set), key)
    }
}

/// The way through a chain: decisions of rules that may or may not match are kept until it is known whether they make a
/// difference.
#[derive(Default)]
struct Way {
    perhaps: Vec<(String, Decided)>,
}

impl Way {
    /// The decision, unless a rule that may match before would decide otherwise.
    fn settle(self, decision: Decision, rule: Option<RuleSeen>) -> (Decision, Option<RuleSeen>) {
        let lets_pass = |decision: &Decision| !matches!(decision, Decision::Drop | Decision::Reject);
        let differs = |other: &Decision| match (other, &decision) {
            (Decision::Destination(..), _) | (_, Decision::Destination(..)) | (Decision::Unknown(_), _) => {
                *other != decision
            }
            _ => lets_pass(other) != lets_pass(&decision),
        };
        match self.perhaps.into_iter().find(|(_, (other, _))| differs(other)) {
            Some((what, (_, rule))) => (Decision::Unknown(what), Some(rule)),
            None => (decision, rule),
        }
    }
}

/// How a chain ended.
enum End {
    /// With a decision of a rule.
    Decided(Box<Decided>),
    /// At its end, or with `return`.
    Through,
}

impl Ruleset {
    /// What a base chain decides, and the rule that does; without a rule its policy does.
    pub(super) fn walk(&self, chain: &BaseChain, packet: &Packet, bridged: bool) -> (Decision, Option<RuleSeen>) {
        let (family, table, _) = &chain.place;
        let sets = TableSets { ruleset: self, family: *family, table };
        let seen = Seen { packet, bridged, local: &self.local, sets };
        let mut way = Way::default();
        match self.follow(&chain.place, &seen, &mut way, DEPTH) {
            End::Decided(decided) => way.settle(decided.0, Some(decided.1)),
            End::Through => way.settle(if chain.drops { Decision::Drop } else { Decision::Accept }, None),
        }
    }

    fn follow(&self, place: &Place, seen: &Seen<'_, TableSets<'_>>, way: &mut Way, depth: u32) -> End {
        let rules = self.rules.get(place).map(Vec::as_slice).unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            let Evaluation { fails, undecided, verdict, packets, .. } = evaluate(&rule.expressions, seen);
            let (false, Some(verdict)) = (fails, verdict) else { continue };
            let named = || described(&place.2, index + 1, rule, packets);
            let (callee, returns) = match &verdict {
                Verdict::Jump(chain) => (Some(chain), true),
                Verdict::Goto(chain) => (Some(chain), false),
                _ => (None, false),
            };
            if let Some(chain) = callee.filter(|_| depth > 0) {
                let place = (place.0, place.1.clone(), chain.clone());
                let mut inner = Way::default();
                let end = self.follow(&place, seen, &mut inner, depth - 1);
                match (end, undecided) {
                    (End::Through, None) => way.perhaps.extend(inner.perhaps),
                    (End::Decided(decided), None) => {
                        way.perhaps.extend(inner.perhaps);
                        return End::Decided(decided);
                    }
                    (end, Some(what)) => {
                        way.perhaps.extend(inner.perhaps);
                        if let End::Decided(decided) = end {
                            way.perhaps.push((what, *decided));
                        }
                        continue;
                    }
                }
                if !returns {
                    return End::Through;
                }
                continue;
            }
            let decision = match verdict {
                Verdict::Accept => Decision::Accept,
                Verdict::Drop => Decision::Drop,
                Verdict::Reject => Decision::Reject,
                Verdict::Source => Decision::Source,
                Verdict::Destination(address, port) => destination(seen.packet, address.as_deref(), port),
                Verdict::Unknown(what) => Decision::Unknown(what),
                Verdict::Return if undecided.is_none() => return End::Through,
                Verdict::Return => Decision::Unknown("return".to_owned()),
                Verdict::Jump(_) | Verdict::Goto(_) => Decision::Unknown("too many jumps".to_owned()),
            };
            match undecided {
                Some(what) => way.perhaps.push((what, (decision, named()))),
                None => return End::Decided(Box::new((decision, named()))),
            }
        }
        End::Through
    }
}

fn described(chain: &str, place: usize, rule: &Rule, packets: Option<u64>) -> RuleSeen {
    RuleSeen { chain: chain.to_owned(), place, handle: rule.handle, comment: rule.comment.clone(), packets }
}

/// The destination after a translation.
pub(super) fn destination(packet: &Packet, address: Option<&[u8]>, port: Option<u16>) -> Decision {
    let address = match (address, packet.family()) {
        (None, _) => Some(packet.destination),
        (Some(bytes), Family::V4) => bytes.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        (Some(bytes), Family::V6) => bytes.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
    };
    match address {
        Some(address) => Decision::Destination(address, port.unwrap_or(packet.port)),
        None => Decision::Unknown("the address of a translation".to_owned()),
    }
}
