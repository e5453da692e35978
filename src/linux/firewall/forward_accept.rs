//! Parses accepting rules of a foreign chain: in the form that Pontoon writes, or that iptables makes of it.
//!
//! Pure: bytes in, values out; never panics on any input. Used by `forward`.

use nft::Direction;
use nft::expression::{CMP_EQUAL, DATA_VALUE, DATA_VERDICT, EXPR_DATA, EXPR_NAME, LIST_ITEM, VERDICT_CODE};
use nft::field::{META_IIFNAME, META_OIFNAME};

use crate::linux::tlv::{Attributes, big32, text};

/// A rule that accepts all packets that enter or leave through certain links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept<'a> {
    /// Which link of the packet is compared.
    pub direction: Direction,
    /// The bytes that the link's name is compared with.
    pub name: &'a [u8],
    /// The comment, as iptables writes it: as a match that is always true.
    pub comment: Option<&'a str>,
}

/// Parses a rule of the form `-i NAME [-m comment ...] -j ACCEPT`, or the same with `-o`; `None` for every
/// other rule.
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

/// The effect of a rule without conditions on every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outright<'a> {
    /// Drops or rejects it.
    Ends,
    /// Jumps to another chain.
    Asks(&'a str),
}

/// `NFT_JUMP` and `NFT_GOTO`.
const ASKING: [i32; 2] = [-3, -4];

/// Parses a rule without conditions; `None` for every other rule, and for one that accepts.
pub fn decode_outright(expressions: &[u8]) -> Option<Outright<'_>> {
    for (kind, item) in Attributes::new(expressions) {
        let item = (kind == LIST_ITEM).then(|| Attributes::new(item))?;
        let data = Attributes::new(item.find(EXPR_DATA).unwrap_or_default());
        let named = |name: &str| data.find(1).and_then(text) == Some(name);
        match text(item.find(EXPR_NAME)?)? {
            "counter" | "log" => {}
            "match" if named("comment") => {}
            "target" if named("LOG") => {}
            "reject" => return Some(Outright::Ends),
            "target" if named("REJECT") => return Some(Outright::Ends),
            "immediate" => {
                let verdict = Attributes::new(Attributes::new(data.find(2)?).find(DATA_VERDICT)?);
                let code = verdict.find(VERDICT_CODE).and_then(big32)? as i32;
                return match code {
                    libc::NF_DROP => Some(Outright::Ends),
                    code if ASKING.contains(&code) => Some(Outright::Asks(verdict.find(2).and_then(text)?)),
                    _ => None,
                };
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use nft::Expressions;

    use super::super::sets::Set;
    use super::*;

    #[test]
    fn an_accepting_rule_reads_back_and_no_other_does() {
        let rule = Expressions::default().link_name_starts(Direction::Out, b"pnt").counter().accept().finish().finish();
        let read = Accept { direction: Direction::Out, name: b"pnt", comment: None };
        assert_eq!(decode_accept(&rule), Some(read));
        let drops = Expressions::default().link_name_starts(Direction::Out, b"pnt").counter().drop().finish().finish();
        assert_eq!(decode_accept(&drops), None);
        assert_eq!(decode_outright(&drops), None, "not of all");
        let all = Expressions::default().counter().drop().finish().finish();
        assert_eq!(decode_outright(&all), Some(Outright::Ends));
        assert_eq!(decode_outright(&Expressions::default().accept().finish().finish()), None);
        let two = Expressions::default().links_in(Set::IntraNetwork).accept().finish().finish();
        assert_eq!(decode_accept(&two), None);
        for end in 0..rule.len() {
            assert_eq!(decode_accept(&rule[..end]), None);
        }
    }
}
