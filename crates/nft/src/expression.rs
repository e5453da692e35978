//! Expressions of rules: comparisons, lookups in sets and maps, connection state, translation, counters and
//! verdicts (include/uapi/linux/netfilter/nf_tables.h).
//!
//! In exactly the form that nft and iptables write, so that they can list it.

use netlink::Family;
use netlink::tlv::Writer;

use crate::field::{Direction, Field, From, Side};
pub use crate::message::LIST_ITEM;
use crate::message::NAMELESS;
use crate::set::Set;

/// `NFTA_EXPR_NAME`.
pub const EXPR_NAME: u16 = 1;
/// `NFTA_EXPR_DATA`.
pub const EXPR_DATA: u16 = 2;
pub use crate::message::DATA_VALUE;
/// `NFTA_DATA_VERDICT`.
pub const DATA_VERDICT: u16 = 2;
/// `NFTA_VERDICT_CODE`.
pub const VERDICT_CODE: u16 = 1;

/// The register of a verdict, and the first of the four-byte registers: a concatenated key takes several
/// consecutive ones.
pub const REGISTER_VERDICT: u32 = 0;
/// The first of the four-byte registers: a concatenated key takes several consecutive ones.
pub const REGISTERS: u32 = 8;

pub(crate) const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;
const CT_SOURCE_V6: u32 = 21;
const CT_DESTINATION_V6: u32 = 22;
/// `IP_CT_DIR_ORIGINAL` and `IP_CT_DIR_REPLY`.
const ORIGINAL: u8 = 0;
const REPLY: u8 = 1;
/// `NFT_CMP_EQ`.
pub const CMP_EQUAL: u32 = 0;
/// `NFT_CMP_NEQ`.
pub const CMP_DIFFERENT: u32 = 1;
const LOOKUP_INVERTED: u32 = 1;
pub(crate) const DYNSET_ADD: u32 = 0;
const NAT_SOURCE: u32 = 0;
const NAT_DESTINATION: u32 = 1;
const CMP_AT_LEAST: u32 = 5;
const CMP_LESS: u32 = 2;
const FIB_LINK: u32 = 1;
const FIB_ADDRESS_TYPE: u32 = 3;
/// `NFTA_FIB_F_IIF`: only routes through the link that the packet came in by.
const FIB_INPUT_LINK: u32 = 8;

/// `established` and `related`, as bits of the connection's state.
const REPLIES: u32 = (1 << 1) | (1 << 2);
/// `IPS_SRC_NAT`: the connection's source was rewritten.
const SOURCE_REWRITTEN: u32 = 1 << 4;
/// `IPS_DST_NAT`: the connection's destination was rewritten.
const DESTINATION_REWRITTEN: u32 = 1 << 5;

/// The expressions of one rule, in order; a rule applies when all its conditions are true.
#[derive(Debug, Default)]
pub struct Expressions {
    list: Writer,
}

impl Expressions {
    /// Matches when the link's name is in the set.
    pub fn link_in(self, direction: Direction, set: impl Into<Set<'static>>) -> Self {
        self.key_in(&[direction.name()], set)
    }

    /// Matches when the link's name is not in the set.
    pub fn link_not_in(self, direction: Direction, set: impl Into<Set<'static>>) -> Self {
        self.key_not_in(&[direction.name()], set)
    }

    /// Matches when the pair of both links' names is in the set.
    pub fn links_in(self, set: impl Into<Set<'static>>) -> Self {
        self.key_in(&[Direction::In.name(), Direction::Out.name()], set)
    }

    /// Matches when the pair of both links' names is not in the set.
    pub fn links_not_in(self, set: impl Into<Set<'static>>) -> Self {
        self.key_not_in(&[Direction::In.name(), Direction::Out.name()], set)
    }

    /// Matches when the link's name starts with these bytes, or equals them if they include the final zero.
    pub fn link_name_starts(self, direction: Direction, name: &[u8]) -> Self {
        self.load(&[direction.name()]).compare(CMP_EQUAL, name)
    }

    /// Matches when the packet has no such link: it was generated here, or does not leave its bridge.
    pub fn has_no_link(self, direction: Direction) -> Self {
        self.is(direction.index(), &[0; 4])
    }

    /// Matches when the concatenation of these fields is in the set.
    pub fn key_in(self, parts: &[Field], set: impl Into<Set<'static>>) -> Self {
        self.load(parts).lookup(set, false)
    }

    /// Matches when the concatenation of these fields is not in the set.
    pub fn key_not_in(self, parts: &[Field], set: impl Into<Set<'static>>) -> Self {
        self.load(parts).lookup(set, true)
    }

    /// Matches when a field has this value.
    pub fn is(self, part: Field, value: &[u8]) -> Self {
        self.load(&[part]).compare(CMP_EQUAL, value)
    }

    /// Matches when a field has any other value.
    pub fn is_not(self, part: Field, value: &[u8]) -> Self {
        self.load(&[part]).compare(CMP_DIFFERENT, value)
    }

    /// Matches when a field is a number of at least this value.
    pub fn at_least(self, part: Field, value: &[u8]) -> Self {
        self.load(&[part]).compare(CMP_AT_LEAST, value)
    }

    /// Matches when a field is a number below this value.
    pub fn below(self, part: Field, value: &[u8]) -> Self {
        self.load(&[part]).compare(CMP_LESS, value)
    }

    /// Matches when no route leads to the source through the link that the packet came in by.
    pub fn no_reverse_route(mut self) -> Self {
        self.push("fib", |data| {
            data.big(1, REGISTERS).big(2, FIB_LINK).big(3, Side::Source.fib() | FIB_INPUT_LINK);
        });
        self.compare(CMP_EQUAL, &[0; 4])
    }

    /// Adds the concatenation of these fields to the set. When the set is full it adds nothing, and the rest
    /// of the rule is not evaluated.
    pub fn add_to(self, parts: &[Field], set: impl Into<Set<'static>>) -> Self {
        let (mut rule, set) = (self.load(parts), set.into());
        rule.push("dynset", |data| {
            data.text(1, set.name).big(3, DYNSET_ADD).big(4, REGISTERS);
        });
        rule
    }

    /// Matches when an address has the same first `prefix` bits as this one.
    pub fn within(self, part: Field, network: &[u8], prefix: u32) -> Self {
        self.masked(part, prefix).compare(CMP_EQUAL, network)
    }

    /// Matches when an address does not have the same first `prefix` bits as this one.
    pub fn outside(self, part: Field, network: &[u8], prefix: u32) -> Self {
        self.masked(part, prefix).compare(CMP_DIFFERENT, network)
    }

    /// Matches when a field has none of these bits set.
    pub fn without_bits(self, part: Field, bits: &[u8]) -> Self {
        self.load(&[part]).mask(bits).compare(CMP_EQUAL, &vec![0; bits.len()])
    }

    /// Matches packets of this family.
    pub fn family(self, family: Family) -> Self {
        let family = family.choose(libc::NFPROTO_IPV4, libc::NFPROTO_IPV6);
        self.is(Field::FAMILY, &[family as u8])
    }

    /// Matches when the address is one of the host's, or is not (`fib ... type local`).
    pub fn local(mut self, side: Side, yes: bool) -> Self {
        self.push("fib", |data| {
            data.big(1, REGISTERS).big(2, FIB_ADDRESS_TYPE).big(3, side.fib());
        });
        let local = u32::from(libc::RTN_LOCAL).to_ne_bytes();
        self.compare(if yes { CMP_EQUAL } else { CMP_DIFFERENT }, &local)
    }

    /// Matches when the packet does not belong to a connection that was accepted before.
    pub fn is_not_reply(self) -> Self {
        self.connection(CT_STATE, REPLIES, CMP_EQUAL)
    }

    /// Matches when the packet belongs to a connection that was accepted before, or is an error about one.
    pub fn is_reply(self) -> Self {
        self.connection(CT_STATE, REPLIES, CMP_DIFFERENT)
    }

    /// Matches when the connection's destination was not translated.
    pub fn is_not_dnat(self) -> Self {
        self.connection(CT_STATUS, DESTINATION_REWRITTEN, CMP_EQUAL)
    }

    /// Matches when the connection's destination was translated.
    pub fn is_dnat(self) -> Self {
        self.connection(CT_STATUS, DESTINATION_REWRITTEN, CMP_DIFFERENT)
    }

    /// Matches replies to a client whose source address was translated.
    pub fn is_reply_of_snat(self) -> Self {
        let reply = self.connected(CT_DIRECTION, None).compare(CMP_EQUAL, &[REPLY]);
        reply.connection(CT_STATUS, SOURCE_REWRITTEN, CMP_DIFFERENT)
    }

    /// Matches when the connection's original source, before any translation, is this IPv6 address.
    pub fn original_source_is(self, address: &[u8; 16]) -> Self {
        self.connected(CT_SOURCE_V6, Some(ORIGINAL)).compare(CMP_EQUAL, address)
    }

    /// Sets the IPv6 destination to the destination of the connection's replies.
    pub fn set_destination_to_reply_destination(self) -> Self {
        self.connected(CT_DESTINATION_V6, Some(REPLY)).write(Side::Destination.address(Family::V6))
    }

    /// Sets the IPv6 destination.
    pub fn set_destination(mut self, address: &[u8; 16]) -> Self {
        self.push("immediate", |data| {
            data.big(1, REGISTERS).nest(2, |value| {
                value.bytes(DATA_VALUE, address);
            });
        });
        self.write(Side::Destination.address(Family::V6))
    }

    /// Counts the packets that match so far.
    pub fn counter(mut self) -> Self {
        self.push("counter", |data| {
            data.bytes(1, &[0; 8]).bytes(2, &[0; 8]);
        });
        self
    }

    /// Accepts the packet in this chain.
    pub fn accept(self) -> Self {
        self.verdict(libc::NF_ACCEPT)
    }

    /// Drops the packet.
    pub fn drop(self) -> Self {
        self.verdict(libc::NF_DROP)
    }

    /// Translates the source to the address of the outgoing link.
    pub fn masquerade(mut self) -> Self {
        self.push("masq", |_| {});
        self
    }

    /// Translates the destination to the address and port that the map has for these fields.
    pub fn dnat_to(self, parts: &[Field], map: impl Into<Set<'static>>) -> Self {
        let map = map.into();
        let port = REGISTERS + map.value_family().choose(1, 4);
        self.load(parts).translate(NAT_DESTINATION, &map, Some(port))
    }

    /// Translates the source to the address that the map has for these fields.
    pub fn snat_to(self, parts: &[Field], map: impl Into<Set<'static>>) -> Self {
        self.load(parts).translate(NAT_SOURCE, &map.into(), None)
    }

    /// Translates the destination to the IPv4 address that an anonymous map has for a random number below
    /// `count` (`NFT_NG_RANDOM`).
    pub fn dnat_to_random(mut self, map: u32, count: u32) -> Self {
        self.push("numgen", |data| {
            data.big(1, REGISTERS).big(2, count).big(3, 1);
        });
        self.push("lookup", |data| {
            data.text(1, NAMELESS).big(2, REGISTERS).big(3, REGISTERS).big(4, map);
        });
        self.push("nat", |data| {
            data.big(1, NAT_DESTINATION).big(2, libc::NFPROTO_IPV4 as u32).big(3, REGISTERS);
        });
        self
    }

    /// The finished list.
    pub fn finish(self) -> Writer {
        self.list
    }

    /// Loads fields into consecutive registers.
    pub fn load(mut self, parts: &[Field]) -> Self {
        let mut register = REGISTERS;
        for part in parts {
            match part.from {
                From::Meta(key) => self.push("meta", |data| {
                    data.big(2, key).big(1, register);
                }),
                From::Payload(base, offset) => self.push("payload", |data| {
                    data.big(1, register).big(2, base).big(3, offset).big(4, part.len);
                }),
            }
            register += part.len.div_ceil(4);
        }
        self
    }

    /// Compares the first registers with a value.
    pub fn compare(mut self, operation: u32, value: &[u8]) -> Self {
        self.push("cmp", |data| {
            data.big(1, REGISTERS).big(2, operation).nest(3, |d| {
                d.bytes(DATA_VALUE, value);
            });
        });
        self
    }

    /// Matches when what was loaded is in the set, or is not if inverted.
    pub fn lookup(mut self, set: impl Into<Set<'static>>, inverted: bool) -> Self {
        let set = set.into();
        self.push("lookup", |data| {
            data.text(1, set.name).big(2, REGISTERS);
            if inverted {
                data.big(5, LOOKUP_INVERTED);
            }
        });
        self
    }

    fn translate(mut self, kind: u32, map: &Set<'_>, port: Option<u32>) -> Self {
        self.push("lookup", |data| {
            data.text(1, map.name).big(2, REGISTERS).big(3, REGISTERS);
        });
        let family = map.value_family().choose(libc::NFPROTO_IPV4, libc::NFPROTO_IPV6);
        self.push("nat", |data| {
            data.big(1, kind).big(2, family as u32).big(3, REGISTERS);
            if let Some(port) = port {
                data.big(5, port);
            }
        });
        self
    }

    /// Loads a property of the tracked connection, of one direction where there are two.
    fn connected(mut self, key: u32, direction: Option<u8>) -> Self {
        self.push("ct", |data| {
            data.big(1, REGISTERS).big(2, key);
            if let Some(direction) = direction {
                data.bytes(3, &[direction]);
            }
        });
        self
    }

    /// Writes the register into an address of the packet and updates the checksums that cover it
    /// (`NFT_PAYLOAD_L4CSUM_PSEUDOHDR`).
    pub fn write(mut self, address: Field) -> Self {
        // IPv4 has a checksum in its own header (`NFT_PAYLOAD_CSUM_INET`), at byte 10.
        let (kind, at) = if address.len == 4 { (1, 10) } else { (0, 0) };
        if let From::Payload(base, offset) = address.from {
            self.push("payload", |data| {
                data.big(5, REGISTERS).big(2, base).big(3, offset).big(4, address.len);
                data.big(6, kind).big(7, at).big(8, 1);
            });
        }
        self
    }

    /// Compares `ct KEY & mask` with zero; connection bits are in host byte order.
    pub(crate) fn connection(self, key: u32, mask: u32, operation: u32) -> Self {
        self.connected(key, None).mask(&mask.to_ne_bytes()).compare(operation, &[0; 4])
    }

    fn masked(self, part: Field, prefix: u32) -> Self {
        let byte = |index: u32| {
            let ones = prefix.saturating_sub(index * 8).min(8);
            (0xff00u32 >> ones) as u8
        };
        let mask: Vec<u8> = (0..part.len).map(byte).collect();
        self.load(&[part]).mask(&mask)
    }

    /// Masks the first registers.
    pub fn mask(mut self, mask: &[u8]) -> Self {
        self.push("bitwise", |data| {
            data.big(1, REGISTERS).big(2, REGISTERS).big(3, mask.len() as u32);
            data.nest(4, |d| {
                d.bytes(DATA_VALUE, mask);
            });
            data.nest(5, |d| {
                d.bytes(DATA_VALUE, &vec![0; mask.len()]);
            });
        });
        self
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

    /// Appends an expression.
    pub fn push(&mut self, name: &str, fill: impl FnOnce(&mut Writer)) {
        self.list.nest(LIST_ITEM, |item| {
            item.text(EXPR_NAME, name).nest(EXPR_DATA, fill);
        });
    }
}
