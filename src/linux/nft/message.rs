//! Messages of nf_tables (include/uapi/linux/netfilter/nf_tables.h): tables, chains, sets, elements, rules,
//! and the bounds of a transaction.
//!
//! Independent of the purpose of the rules. Numbers are in network byte order here. Used by `ruleset`,
//! `table` and `forward`.

use super::element::{Entry, Set};
use super::expression::Expressions;
use super::set;
use crate::linux::netlink::{APPEND, CREATE, Request};
use crate::linux::tlv::{Attributes, Writer};

/// `NFPROTO_INET`.
pub const INET: u8 = 1;
/// `NFPROTO_IPV4`.
pub const IPV4: u8 = 2;
/// `NFPROTO_NETDEV`.
pub const NETDEV: u8 = 5;
/// `NFPROTO_BRIDGE`.
pub const BRIDGE: u8 = 7;
/// `NFPROTO_IPV6`.
pub const IPV6: u8 = 10;

/// Message types, without the subsystem's number.
pub const NEW_TABLE: u16 = 0;
pub(in crate::linux) const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
pub(in crate::linux) const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
pub(in crate::linux) const GET_RULE: u16 = 7;
pub(super) const DEL_CHAIN: u16 = 5;
pub(super) const DEL_RULE: u16 = 8;
pub(super) const NEW_SET: u16 = 9;
pub(super) const GET_SET: u16 = 10;
pub(super) const DEL_SET: u16 = 11;
pub(super) const NEW_ELEMENTS: u16 = 12;
pub(super) const GET_ELEMENTS: u16 = 13;
pub(super) const DEL_ELEMENTS: u16 = 14;
pub(in crate::linux) const GET_GENERATION: u16 = 16;

/// Bytes of `struct nfgenmsg`.
pub const HEADER: usize = 4;

/// `NFNL_SUBSYS_NFTABLES`, as encoded in a message type.
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// Attribute 1 of every message about an object in a table is the table's name.
pub const TABLE_NAME: u16 = 1;
pub(super) const TABLE_FLAGS: u16 = 2;
pub(super) const TABLE_USERDATA: u16 = 6;
pub(in crate::linux) const CHAIN_NAME: u16 = 3;
pub(in crate::linux) const CHAIN_HOOK: u16 = 4;
pub(in crate::linux) const HOOK_NUMBER: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;
pub(in crate::linux) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const CHAIN_USERDATA: u16 = 12;
pub(in crate::linux) const RULE_CHAIN: u16 = 2;
pub(in crate::linux) const RULE_HANDLE: u16 = 3;
pub(in crate::linux) const RULE_EXPRESSIONS: u16 = 4;
pub(in crate::linux) const RULE_USERDATA: u16 = 7;
pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_KEY_TYPE: u16 = 4;
pub(super) const SET_KEY_LEN: u16 = 5;
pub(super) const SET_DATA_TYPE: u16 = 6;
pub(super) const SET_DATA_LEN: u16 = 7;
pub(super) const SET_DESC: u16 = 9;
/// Milliseconds.
pub(super) const SET_TIMEOUT: u16 = 11;
pub(super) const SET_DESC_SIZE: u16 = 1;
const SET_DESC_CONCAT: u16 = 2;
pub(super) const SET_ID: u16 = 10;
pub(super) const SET_USERDATA: u16 = 13;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS_LIST: u16 = 3;
const ELEMENTS_SET_ID: u16 = 4;
pub(super) const LIST_ITEM: u16 = 1;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const ELEMENT_DATA: u16 = 2;
pub(super) const ELEMENT_FLAGS: u16 = 3;
pub(super) const ELEMENT_KEY_END: u16 = 10;
pub(super) const DATA_VALUE: u16 = 1;
/// `NFT_SET_ELEM_INTERVAL_END`.
pub(super) const INTERVAL_END: u32 = 1;

/// User data is a list of (type u8, length u8, value): nft's own convention for data that the kernel only
/// stores. Comments of tables, chains and rules have type 0, those of sets 7; type 0 of a set tells nft the
/// byte order of its keys, for printing.
pub(super) const UDATA_COMMENT: u8 = 0;
pub(super) const UDATA_SET_COMMENT: u8 = 7;
pub(super) const UDATA_SET_KEY_ORDER: u8 = 0;
pub(super) const UDATA_SET_DATA_ORDER: u8 = 1;

/// Elements per message: an attribute holds 64 KiB, the largest element takes about 90 bytes.
pub(super) const CHUNK: usize = 512;

/// The kernel inserts a number into the name; until then such a map is identified by its id.
pub(super) const NAMELESS: &str = "__map%d";

/// A base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Family of its table.
    pub family: u8,
    /// Its name; must not be a keyword of nft, which could not list it otherwise.
    pub name: &'static str,
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `NF_INET_FORWARD`, `NF_BR_PRE_ROUTING`, ... .
    pub hook: u32,
    /// Priority among the chains of the hook; lower is earlier.
    pub priority: i32,
    /// Its purpose.
    pub comment: &'static str,
}

/// The message type on the wire.
pub fn wire(kind: u16) -> u16 {
    SUBSYSTEM | kind
}

/// A body that starts with the header for a family.
pub fn body(family: u8) -> Writer {
    Writer::with_header(&[family, 0, 0, 0])
}

pub(super) fn request(kind: u16, flags: u16, body: Writer) -> Request {
    Request { kind: wire(kind), flags, body: body.finish() }
}

/// The messages that open and close a transaction.
pub fn bounds() -> (Request, Request) {
    let bound = |kind| Request { kind, flags: 0, body: vec![0, 0, 0, 10] };
    (bound(BATCH_BEGIN), bound(BATCH_END))
}

/// Creates a table; an existing one is left as it is.
pub fn new_table(family: u8, table: &str, comment: &str) -> Request {
    let mut message = body(family);
    message.text(TABLE_NAME, table).bytes(TABLE_USERDATA, &comment_data(UDATA_COMMENT, comment));
    request(NEW_TABLE, CREATE, message)
}

/// Deletes a table with all that is in it.
pub fn delete_table(family: u8, table: &str) -> Request {
    let mut message = body(family);
    message.text(TABLE_NAME, table);
    request(DEL_TABLE, 0, message)
}

/// Creates a base chain with policy accept.
pub fn new_chain(table: &str, chain: &Chain) -> Request {
    let mut message = body(chain.family);
    message.text(TABLE_NAME, table).text(CHAIN_NAME, chain.name).text(CHAIN_TYPE, chain.kind);
    message.nest(CHAIN_HOOK, |hook| {
        hook.big(HOOK_NUMBER, chain.hook).big(HOOK_PRIORITY, chain.priority as u32);
    });
    message.big(CHAIN_POLICY, libc::NF_ACCEPT as u32);
    message.bytes(CHAIN_USERDATA, &comment_data(UDATA_COMMENT, chain.comment));
    request(NEW_CHAIN, CREATE, message)
}

/// Creates a set. `id` is any number that is unique within the transaction.
pub fn new_set(table: &str, set: Set, id: u32) -> Request {
    let spec = set.spec();
    let mut message = body(spec.family);
    message.text(TABLE_NAME, table).text(SET_NAME, spec.name).big(SET_FLAGS, spec.flags()).big(SET_ID, id);
    message.big(SET_KEY_TYPE, set::kind(spec.key)).big(SET_KEY_LEN, set::len(spec.key) as u32);
    if spec.is_map() {
        message.big(SET_DATA_TYPE, set::kind(spec.value)).big(SET_DATA_LEN, set::len(spec.value) as u32);
    }
    if let Some((most, milliseconds)) = spec.notes {
        message.bytes(SET_TIMEOUT, &milliseconds.to_be_bytes());
        message.nest(SET_DESC, |desc| {
            desc.big(SET_DESC_SIZE, most);
            concatenated(desc, spec.key);
        });
    } else if spec.is_concatenated() {
        message.nest(SET_DESC, |desc| concatenated(desc, spec.key));
    }
    let mut data = order_data(UDATA_SET_KEY_ORDER, spec.byte_order());
    if spec.is_map() {
        data.extend(order_data(UDATA_SET_DATA_ORDER, spec.value_order()));
    }
    data.extend(comment_data(UDATA_SET_COMMENT, spec.comment));
    message.bytes(SET_USERDATA, &data);
    request(NEW_SET, CREATE, message)
}

/// The sizes of the fields of a key.
fn concatenated(desc: &mut Writer, key: &[set::Field]) {
    desc.nest(SET_DESC_CONCAT, |concat| {
        for field in key {
            concat.nest(LIST_ITEM, |item| {
                item.big(1, field.size() as u32);
            });
        }
    });
}

/// Adds or removes entries of a set, in as many messages as needed.
pub fn elements(table: &str, set: Set, entries: &[Entry], add: bool) -> Vec<Request> {
    let (kind, flags) = if add { (NEW_ELEMENTS, CREATE) } else { (DEL_ELEMENTS, 0) };
    let chunk = |entries: &[Entry]| request(kind, flags, listed(table, set, entries, add));
    entries.chunks(CHUNK).map(chunk).collect()
}

/// A message about some entries of a set, with or without their values.
pub(super) fn listed(table: &str, set: Set, entries: &[Entry], values: bool) -> Writer {
    let data = |element: &mut Writer, kind: u16, bytes: &[u8]| {
        element.nest(kind, |data| {
            data.bytes(DATA_VALUE, bytes);
        });
    };
    let spec = set.spec();
    let mut message = body(spec.family);
    message.text(TABLE_NAME, table).text(ELEMENTS_SET, spec.name).nest(ELEMENTS_LIST, |list| {
        for entry in entries {
            list.nest(LIST_ITEM, |element| {
                data(element, ELEMENT_KEY, &entry.key);
                if let Some(last) = &entry.last {
                    data(element, ELEMENT_KEY_END, last);
                }
                if values && !entry.value.is_empty() {
                    data(element, ELEMENT_DATA, &entry.value);
                }
                if entry.end {
                    element.big(ELEMENT_FLAGS, INTERVAL_END);
                }
            });
        }
    });
    message
}

/// Creates an anonymous map from random numbers to IPv4 addresses, which the kernel deletes with its rule.
/// `id` is any number that is unique within the transaction.
pub fn new_drawing_map(family: u8, table: &str, id: u32) -> Request {
    // `NFT_SET_ANONYMOUS`, `NFT_SET_CONSTANT`, `NFT_SET_MAP`; nft's numbers for integers and addresses.
    const FLAGS: u32 = 1 | 2 | 8;
    const INTEGER: u32 = 4;
    const ADDRESS: u32 = 7;
    let mut message = body(family);
    message.text(TABLE_NAME, table).text(SET_NAME, NAMELESS).big(SET_FLAGS, FLAGS).big(SET_ID, id);
    message.big(SET_KEY_TYPE, INTEGER).big(SET_KEY_LEN, 4).big(SET_DATA_TYPE, ADDRESS).big(SET_DATA_LEN, 4);
    let orders = [(UDATA_SET_KEY_ORDER, set::ORDER_HOST), (UDATA_SET_DATA_ORDER, set::ORDER_NETWORK)];
    let data = orders.map(|(kind, order)| order_data(kind, order)).concat();
    message.bytes(SET_USERDATA, &data);
    request(NEW_SET, CREATE, message)
}

/// Adds numbers and their addresses to an anonymous map.
pub fn numbered(family: u8, table: &str, id: u32, entries: &[([u8; 4], [u8; 4])]) -> Vec<Request> {
    let chunk = |entries: &[([u8; 4], [u8; 4])]| {
        let mut message = body(family);
        message.text(TABLE_NAME, table).text(ELEMENTS_SET, NAMELESS).big(ELEMENTS_SET_ID, id);
        message.nest(ELEMENTS_LIST, |list| {
            for (number, address) in entries {
                list.nest(LIST_ITEM, |element| {
                    element.nest(ELEMENT_KEY, |data| {
                        data.bytes(DATA_VALUE, number);
                    });
                    element.nest(ELEMENT_DATA, |data| {
                        data.bytes(DATA_VALUE, address);
                    });
                });
            }
        });
        request(NEW_ELEMENTS, CREATE, message)
    };
    entries.chunks(CHUNK).map(chunk).collect()
}

/// Appends a rule to the end of a chain.
pub fn new_rule(family: u8, table: &str, chain: &str, expressions: Expressions, comment: &str) -> Request {
    let mut message = body(family);
    message.text(TABLE_NAME, table).text(RULE_CHAIN, chain);
    message.nest(RULE_EXPRESSIONS, |list| *list = expressions.finish());
    message.bytes(RULE_USERDATA, &comment_data(UDATA_COMMENT, comment));
    request(NEW_RULE, CREATE | APPEND, message)
}

/// Deletes one rule.
pub fn delete_rule(family: u8, table: &str, chain: &str, handle: u64) -> Request {
    let mut message = body(family);
    message.text(TABLE_NAME, table).text(RULE_CHAIN, chain).bytes(RULE_HANDLE, &handle.to_be_bytes());
    request(DEL_RULE, 0, message)
}

/// The comment in the user data of a table, chain or rule, if it has one.
pub fn comment(data: &[u8]) -> Option<&str> {
    let mut rest = data;
    loop {
        let [kind, len, ..] = *rest else { return None };
        let value = rest.get(2..2 + usize::from(len))?;
        if kind == UDATA_COMMENT {
            return crate::linux::tlv::text(value);
        }
        rest = rest.get(2 + usize::from(len)..)?;
    }
}

/// The attributes of a reply.
pub fn attributes(payload: &[u8]) -> Attributes<'_> {
    Attributes::after(payload, HEADER)
}

/// User data with the byte order of a set's keys or values, for nft.
pub(super) fn order_data(kind: u8, order: u32) -> Vec<u8> {
    [&[kind, 4][..], &order.to_ne_bytes()].concat()
}

pub(super) fn comment_data(kind: u8, comment: &str) -> Vec<u8> {
    // With its final zero, the length must fit one byte.
    let text = comment.get(..comment.len().min(250)).unwrap_or_default();
    let mut data = vec![kind, text.len() as u8 + 1];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_read_back_and_broken_ones_do_not_panic() {
        assert_eq!(comment(&comment_data(0, "pontoon")), Some("pontoon"));
        assert_eq!(comment(&[1, 2, 9, 9, 0, 2, b'x', 0]), Some("x"));
        for broken in [&[][..], &[0], &[0, 9, 1], &[1, 0], &[0, 2, 0xff, 0xff]] {
            assert_eq!(comment(broken), None, "{broken:?}");
        }
    }
}
