//! Owns the expressions that rules are made of: link names, lookups in sets, connection state,
//! counters and verdicts (include/uapi/linux/netfilter/nf_tables.h).
//!
//! Only what Pontoon's own rules need, in exactly the form that nft and iptables write, so that
//! they can read it back. Used by `ruleset` and `forward`.

use super::element::Set;
use crate::linux::tlv::{Attributes, Writer, big32, text};

const LIST_ITEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// Registers of sixteen bytes; two neighbours hold one concatenated key.
const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CMP_EQUAL: u32 = 0;
const CMP_DIFFERENT: u32 = 1;
const LOOKUP_INVERTED: u32 = 1;
const PAYLOAD_NETWORK: u32 = 1;

/// `established` and `related`, as bits of the connection's state.
const ANSWERS: u32 = (1 << 1) | (1 << 2);
/// `IPS_DST_NAT`: the connection's destination was rewritten, so its port is published.
const DESTINATION_REWRITTEN: u32 = 1 << 5;

/// Which link of a packet is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The link it came in by.
    In,
    /// The link it goes out by.
    Out,
}

impl Direction {
    fn meta(self) -> u32 {
        match self {
            Direction::In => META_IIFNAME,
            Direction::Out => META_OIFNAME,
        }
    }
}

/// The expressions of one rule, in order; a rule applies when none of them says no.
#[derive(Debug, Default)]
pub struct Expressions {
    list: Writer,
}

impl Expressions {
    /// The link's name is in the set.
    pub fn link_in(self, direction: Direction, set: Set) -> Self {
        self.meta(direction.meta(), REGISTER_1).lookup(set, false)
    }

    /// The link's name is not in the set.
    pub fn link_not_in(self, direction: Direction, set: Set) -> Self {
        self.meta(direction.meta(), REGISTER_1).lookup(set, true)
    }

    /// The pair of both links' names is in the set.
    pub fn links_in(self, set: Set) -> Self {
        self.meta(META_IIFNAME, REGISTER_1).meta(META_OIFNAME, REGISTER_2).lookup(set, false)
    }

    /// The link's name starts with these bytes; with a final zero among them it equals them.
    pub fn link_starts(self, direction: Direction, name: &[u8]) -> Self {
        self.meta(direction.meta(), REGISTER_1).compare(CMP_EQUAL, name)
    }

    /// The source address is in the set.
    pub fn source_in(self, set: Set) -> Self {
        let (family, offset) = if set == Set::Masq6 { (libc::NFPROTO_IPV6, 8) } else { (libc::NFPROTO_IPV4, 12) };
        let mut this = self.meta(META_NFPROTO, REGISTER_1).compare(CMP_EQUAL, &[family as u8]);
        this.push("payload", |data| {
            data.big(1, REGISTER_1).big(2, PAYLOAD_NETWORK).big(3, offset).big(4, set.key_len() as u32);
        });
        this.lookup(set, false)
    }

    /// The packet belongs to a connection that was let through before, or is an error about one.
    pub fn is_answer(self) -> Self {
        self.connection(CT_STATE, ANSWERS, CMP_DIFFERENT)
    }

    /// The connection was not made to a published port.
    pub fn is_unpublished(self) -> Self {
        self.connection(CT_STATUS, DESTINATION_REWRITTEN, CMP_EQUAL)
    }

    /// Counts packets that come this far.
    pub fn counter(mut self) -> Self {
        self.push("counter", |data| {
            data.bytes(1, &[0; 8]).bytes(2, &[0; 8]);
        });
        self
    }

    /// Lets the packet through this chain.
    pub fn accept(self) -> Self {
        self.verdict(libc::NF_ACCEPT)
    }

    /// Drops the packet.
    pub fn drop(self) -> Self {
        self.verdict(libc::NF_DROP)
    }

    /// Rewrites the source to the address of the outgoing link.
    pub fn masquerade(mut self) -> Self {
        self.push("masq", |_| {});
        self
    }

    /// The finished list.
    pub fn finish(self) -> Writer {
        self.list
    }

    fn meta(mut self, key: u32, register: u32) -> Self {
        self.push("meta", |data| {
            data.big(2, key).big(1, register);
        });
        self
    }

    fn compare(mut self, operation: u32, value: &[u8]) -> Self {
        self.push("cmp", |data| {
            data.big(1, REGISTER_1).big(2, operation).nest(3, |d| {
                d.bytes(DATA_VALUE, value);
            });
        });
        self
    }

    fn lookup(mut self, set: Set, inverted: bool) -> Self {
        self.push("lookup", |data| {
            data.text(1, set.name()).big(2, REGISTER_1);
            if inverted {
                data.big(5, LOOKUP_INVERTED);
            }
        });
        self
    }

    /// `ct KEY & mask` compared with zero; connection bits are in the machine's byte order.
    fn connection(mut self, key: u32, mask: u32, operation: u32) -> Self {
        self.push("ct", |data| {
            data.big(1, REGISTER_1).big(2, key);
        });
        self.push("bitwise", |data| {
            data.big(1, REGISTER_1).big(2, REGISTER_1).big(3, 4);
            data.nest(4, |d| {
                d.native(DATA_VALUE, mask);
            });
            data.nest(5, |d| {
                d.native(DATA_VALUE, 0);
            });
        });
        self.compare(operation, &[0; 4])
    }

    fn verdict(mut self, code: i32) -> Self {
        self.push("immediate", |data| {
            data.big(1, REGISTER_VERDICT).nest(2, |value| {
                value.nest(DATA_VERDICT, |verdict| {
                    verdict.big(VERDICT_CODE, code as u32);
                });
            });
        });
        self
    }

    fn push(&mut self, name: &str, fill: impl FnOnce(&mut Writer)) {
        self.list.nest(LIST_ITEM, |item| {
            item.text(EXPR_NAME, name).nest(EXPR_DATA, fill);
        });
    }
}

/// A rule that accepts whatever comes in or goes out by some links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept<'a> {
    /// Which link of the packet is compared.
    pub direction: Direction,
    /// The bytes that its name is compared with.
    pub name: &'a [u8],
    /// The comment, in the form in which iptables writes one: as a match that is always true.
    pub comment: Option<&'a str>,
}

/// Reads a rule of the form `-i NAME [-m comment ...] -j ACCEPT`, or the same with `-o`; `None`
/// for every other rule.
pub fn decode_accept(expressions: &[u8]) -> Option<Accept<'_>> {
    let mut list = Attributes::new(expressions).map_while(|(kind, item)| {
        let item = (kind == LIST_ITEM).then(|| Attributes::new(item))?;
        Some((text(item.find(EXPR_NAME)?)?, Attributes::new(item.find(EXPR_DATA).unwrap_or_default())))
    });
    let (kind, meta) = list.next()?;
    let direction = match meta.find(2).and_then(big32)? {
        META_IIFNAME if kind == "meta" => Direction::In,
        META_OIFNAME if kind == "meta" => Direction::Out,
        _ => return None,
    };
    let (kind, compare) = list.next()?;
    if kind != "cmp" || compare.find(2).and_then(big32)? != CMP_EQUAL {
        return None;
    }
    let name = Attributes::new(compare.find(3)?).find(DATA_VALUE)?;
    let mut comment = None;
    loop {
        match list.next()? {
            ("counter", _) => {}
            // NFTA_MATCH_NAME and NFTA_MATCH_INFO (include/uapi/linux/netfilter/nf_tables_compat.h).
            ("match", matched) if matched.find(1).and_then(text) == Some("comment") => {
                comment = matched.find(3).and_then(text);
            }
            ("immediate", data) => {
                let verdict = Attributes::new(Attributes::new(data.find(2)?).find(DATA_VERDICT)?);
                let code = verdict.find(VERDICT_CODE).and_then(big32)?;
                let accepts = code == libc::NF_ACCEPT as u32 && list.next().is_none();
                return accepts.then_some(Accept { direction, name, comment });
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepting_rule_reads_back_and_no_other_does() {
        let rule = Expressions::default().link_starts(Direction::Out, b"pnt").counter().accept().finish().finish();
        let read = Accept { direction: Direction::Out, name: b"pnt", comment: None };
        assert_eq!(decode_accept(&rule), Some(read));
        let drops = Expressions::default().link_starts(Direction::Out, b"pnt").counter().drop().finish().finish();
        assert_eq!(decode_accept(&drops), None);
        let two = Expressions::default().links_in(Set::Intra).accept().finish().finish();
        assert_eq!(decode_accept(&two), None);
        for end in 0..rule.len() {
            assert_eq!(decode_accept(&rule[..end]), None);
        }
    }
}
