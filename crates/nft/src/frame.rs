//! Expressions for chains of family `netdev`, sets with names chosen at run time, and rarer matches
//! (include/uapi/linux/netfilter/nf_tables.h).

use crate::expression::{
    CMP_DIFFERENT, CMP_EQUAL, CT_STATE, DATA_VALUE, DATA_VERDICT, DYNSET_ADD, EXPR_DATA, EXPR_NAME, Expressions,
    REGISTER_VERDICT, REGISTERS, VERDICT_CODE,
};
use crate::field::{Direction, Field, META_PACKET_TYPE, Side};
use crate::set::Set;
use crate::stateful::Stateful;

/// `NFT_GOTO`.
const GOTO: i32 = -4;
/// `NFTA_VERDICT_CHAIN`.
const VERDICT_CHAIN: u16 = 2;
/// `new`, as bit of the connection's state.
const NEW: u32 = 1 << 3;
/// `NFTA_DYNSET_EXPR`.
const DYNSET_EXPRESSION: u16 = 7;
/// `NFT_CMP_GT`.
const CMP_GREATER: u32 = 4;
/// `PACKET_HOST` (include/uapi/linux/if_packet.h).
const FOR_HOST: u8 = 0;
/// `NFT_SOCKET_MARK`.
const SOCKET_MARK: u32 = 1;

/// Update of a set by a packet (`NFT_DYNSET_OP_UPDATE`, `NFT_DYNSET_OP_DELETE`).
#[derive(Debug, Clone, Copy)]
pub enum Update {
    /// Adds the element, or restarts its timeout.
    Add = 1,
    /// Deletes the element.
    Delete = 2,
}

impl Expressions {
    /// Forwards the frame to the link that the map has for the concatenation of these fields; continues with the next
    /// rule if there is no entry.
    pub fn forward_by(self, parts: &[Field], map: &str) -> Self {
        self.looked_up(parts, map, true).sent()
    }

    /// Matches when a field of the frame is in the set.
    pub fn named_set_has(self, part: Field, set: &str) -> Self {
        self.looked_up(&[part], set, false)
    }

    /// Adds the concatenation of these fields to the set, or restarts its timeout, with this timeout in milliseconds.
    /// When the set is full it adds nothing, and the rest of the rule is not evaluated.
    pub fn update_in(self, parts: &[Field], set: impl Into<Set<'static>>, milliseconds: u64) -> Self {
        let (mut rule, set) = (self.load(parts), set.into());
        rule.push("dynset", |data| {
            data.text(1, set.name).big(3, Update::Add as u32).big(4, REGISTERS).bytes(6, &milliseconds.to_be_bytes());
        });
        rule
    }

    /// Adds the concatenation of these fields to the set if it is missing, and counts the packet in its element. When the set
    /// is full it adds nothing, and the rest of the rule is not evaluated.
    pub fn count_in(self, parts: &[Field], set: impl Into<Set<'static>>) -> Self {
        let (mut rule, set) = (self.load(parts), set.into());
        rule.push("dynset", |data| {
            data.text(1, set.name).big(3, DYNSET_ADD).big(4, REGISTERS);
            Stateful::Counted(0).write(data, DYNSET_EXPRESSION);
        });
        rule
    }

    /// Matches packets within a rate, each concatenation of these fields having one of its own: so many packets an hour, and
    /// so many more at once. The set has what is left, and its elements expire when there are no packets.
    pub fn within_rate(self, parts: &[Field], set: impl Into<Set<'static>>, an_hour: u32, burst: u32) -> Self {
        let (mut rule, set) = (self.load(parts), set.into());
        rule.push("dynset", |data| {
            data.text(1, set.name).big(3, Update::Add as u32).big(4, REGISTERS);
            data.nest(DYNSET_EXPRESSION, |item| {
                item.text(EXPR_NAME, "limit").nest(EXPR_DATA, |data| {
                    data.bytes(1, &u64::from(an_hour).to_be_bytes()).bytes(2, &3600u64.to_be_bytes());
                    data.big(3, burst).big(4, 0).big(5, 0);
                });
            });
        });
        rule
    }

    /// Forwards the frame to the link with this index.
    pub fn forward_to(mut self, index: u32) -> Self {
        self.push("immediate", |data| {
            data.big(1, REGISTERS).nest(2, |value| {
                value.native(DATA_VALUE, index);
            });
        });
        self.sent()
    }

    /// Adds a field of the frame to the set, or deletes it; the frame continues.
    pub fn update(self, part: Field, set: &str, update: Update) -> Self {
        let mut noted = self.load(&[part]);
        noted.push("dynset", |data| {
            data.text(1, set).big(3, update as u32).big(4, REGISTERS);
        });
        noted
    }

    /// Continues in another chain and does not return.
    pub fn goto(mut self, chain: &str) -> Self {
        self.push("immediate", |data| {
            data.big(1, REGISTER_VERDICT).nest(2, |value| {
                value.nest(DATA_VERDICT, |verdict| {
                    verdict.big(VERDICT_CODE, GOTO as u32).text(VERDICT_CHAIN, chain);
                });
            });
        });
        self
    }

    /// Matches when a field is a number above this value, both in network byte order.
    pub fn above(self, part: Field, value: &[u8]) -> Self {
        self.load(&[part]).compare(CMP_GREATER, value)
    }

    /// Matches when the link's name does not start with these bytes.
    pub fn link_name_starts_not(self, direction: Direction, name: &[u8]) -> Self {
        self.load(&[direction.name()]).compare(CMP_DIFFERENT, name)
    }

    /// Matches when a field has some of these bits set.
    pub fn with_bits(self, part: Field, bits: &[u8]) -> Self {
        self.load(&[part]).mask(bits).compare(CMP_DIFFERENT, &vec![0; bits.len()])
    }

    /// Matches when the socket that the packet would reach has this mark.
    pub fn socket_mark_is(mut self, mark: u32) -> Self {
        self.push("socket", |data| {
            data.big(1, SOCKET_MARK).big(2, REGISTERS);
        });
        self.compare(CMP_EQUAL, &mark.to_ne_bytes())
    }

    /// Sets the packet's destination to the address that the map has for its link and destination.
    pub fn set_destination_from(self, map: impl Into<Set<'static>>) -> Self {
        let map = map.into();
        let address = Side::Destination.address(map.value_family());
        let mut rule = self.load(&[Direction::In.name(), address]);
        rule.push("lookup", |data| {
            data.text(1, map.name).big(2, REGISTERS).big(3, REGISTERS);
        });
        rule.write(address)
    }

    /// Marks the packet as received for this host alone: others are not forwarded.
    pub fn set_packet_type_host(mut self) -> Self {
        self.push("immediate", |data| {
            data.big(1, REGISTERS).nest(2, |value| {
                value.bytes(1, &[FOR_HOST]);
            });
        });
        self.push("meta", |data| {
            data.big(2, META_PACKET_TYPE).big(3, REGISTERS);
        });
        self
    }

    /// Matches when the packet does not open a connection: it belongs to one, or is not tracked.
    pub fn is_not_new(self) -> Self {
        self.connection(CT_STATE, NEW, CMP_EQUAL)
    }

    /// Matches packets that exceed a rate, of all that are evaluated here.
    pub fn exceeds(mut self, limit: Stateful) -> Self {
        self.push(limit.name(), |data| limit.fill(data));
        self
    }

    /// Refuses the packet with this type and code of `nft_reject`.
    pub fn reject(mut self, kind: u32, code: u8) -> Self {
        self.push("reject", |data| {
            data.big(1, kind).bytes(2, &[code]);
        });
        self
    }

    fn looked_up(self, parts: &[Field], set: &str, is_map: bool) -> Self {
        let mut found = self.load(parts);
        found.push("lookup", |data| {
            data.text(1, set).big(2, REGISTERS);
            if is_map {
                data.big(3, REGISTERS);
            }
        });
        found
    }

    fn sent(mut self) -> Self {
        self.push("fwd", |data| {
            data.big(1, REGISTERS);
        });
        self
    }
}
