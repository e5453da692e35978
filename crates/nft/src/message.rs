//! Messages of nf_tables (include/uapi/linux/netfilter/nf_tables.h): tables, chains, sets, elements and rules.
//! Numbers are in network byte order here.

use netlink::tlv::{Attributes, Writer, text};
use netlink::{APPEND, CREATE, Request};

pub use crate::attribute::*;
use crate::element::Entry;
use crate::expression::Expressions;
use crate::set::{self, DataType, Set};

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

/// A family of tables as nft names it.
pub fn family_name(family: u8) -> &'static str {
    match family {
        IPV4 => "ip",
        IPV6 => "ip6",
        BRIDGE => "bridge",
        NETDEV => "netdev",
        _ => "inet",
    }
}

/// The message type on the wire.
pub fn wire(kind: u16) -> u16 {
    SUBSYSTEM | kind
}

/// A body that starts with the header for a family.
pub fn body(family: u8) -> Writer {
    Writer::with_header(&[family, 0, 0, 0])
}

/// A request with this body; `kind` is without the subsystem.
pub fn request(kind: u16, flags: u16, body: Writer) -> Request {
    Request { kind: wire(kind), flags, body: body.finish() }
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
pub fn new_set(table: &str, set: &Set<'_>, id: u32) -> Request {
    let mut message = body(set.family);
    message.text(TABLE_NAME, table).text(SET_NAME, set.name).big(SET_FLAGS, set.flags()).big(SET_ID, id);
    message.big(SET_KEY_TYPE, set.key_number()).big(SET_KEY_LEN, set.key_size() as u32);
    if set.is_map() {
        message.big(SET_DATA_TYPE, set.value_number()).big(SET_DATA_LEN, set.value_size() as u32);
    }
    if let Some((size, milliseconds)) = set.dynamic {
        message.bytes(SET_TIMEOUT, &milliseconds.to_be_bytes());
        message.nest(SET_DESC, |desc| {
            desc.big(SET_DESC_SIZE, size);
            if set.is_concatenated() {
                concatenated(desc, set.key);
            }
        });
    } else if set.is_concatenated() {
        message.nest(SET_DESC, |desc| concatenated(desc, set.key));
    }
    let mut data = order_data(UDATA_SET_KEY_ORDER, set.key_order());
    if set.is_map() {
        data.extend(order_data(UDATA_SET_DATA_ORDER, set.value_order()));
    }
    data.extend(set.typeof_key);
    data.extend(comment_data(UDATA_SET_COMMENT, set.comment));
    message.bytes(SET_USERDATA, &data);
    if let Some(limit) = &set.stateful {
        limit.write(&mut message, SET_EXPRESSION);
    }
    request(NEW_SET, CREATE, message)
}

/// The sizes of the fields of a key.
fn concatenated(desc: &mut Writer, key: &[DataType]) {
    desc.nest(SET_DESC_CONCAT, |concat| {
        for field in key {
            concat.nest(LIST_ITEM, |item| {
                item.big(1, field.size() as u32);
            });
        }
    });
}

/// Adds or removes entries of a set, in as many messages as needed.
pub fn elements(table: &str, set: &Set<'_>, entries: &[Entry], add: bool) -> Vec<Request> {
    let (kind, flags) = if add { (NEW_ELEMENTS, CREATE) } else { (DEL_ELEMENTS, 0) };
    let chunk = |entries: &[Entry]| request(kind, flags, listed(table, set, entries, add));
    entries.chunks(CHUNK).map(chunk).collect()
}

/// Adds an entry of a set whose elements expire, with its own timeout.
pub fn expiring_element(table: &str, set: &Set<'_>, entry: &Entry, milliseconds: u64) -> Request {
    request(NEW_ELEMENTS, CREATE, list(table, set, std::slice::from_ref(entry), true, Some(milliseconds)))
}

/// A message about some entries of a set, with or without their values and limits.
pub fn listed(table: &str, set: &Set<'_>, entries: &[Entry], values: bool) -> Writer {
    list(table, set, entries, values, None)
}

fn list(table: &str, set: &Set<'_>, entries: &[Entry], values: bool, timeout: Option<u64>) -> Writer {
    let data = |element: &mut Writer, kind: u16, bytes: &[u8]| {
        element.nest(kind, |data| {
            data.bytes(DATA_VALUE, bytes);
        });
    };
    let mut message = body(set.family);
    message.text(TABLE_NAME, table).text(ELEMENTS_SET, set.name).nest(ELEMENTS_LIST, |list| {
        for entry in entries {
            list.nest(LIST_ITEM, |element| {
                data(element, ELEMENT_KEY, &entry.key);
                if let Some(last) = &entry.last {
                    data(element, ELEMENT_KEY_END, last);
                }
                if values && !entry.value.is_empty() {
                    data(element, ELEMENT_DATA, &entry.value);
                }
                if let Some(limit) = entry.limit.filter(|_| values) {
                    limit.write(element, ELEMENT_EXPRESSION);
                }
                if entry.end {
                    element.big(ELEMENT_FLAGS, INTERVAL_END);
                }
                if let Some(milliseconds) = timeout {
                    element.bytes(ELEMENT_TIMEOUT, &milliseconds.to_be_bytes());
                }
            });
        }
    });
    message
}

/// Creates an anonymous map from random numbers to IPv4 addresses, which the kernel deletes with its rule.
/// `id` is any number that is unique within the transaction.
pub fn new_random_map(family: u8, table: &str, id: u32) -> Request {
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
pub fn random_map_elements(family: u8, table: &str, id: u32, entries: &[([u8; 4], [u8; 4])]) -> Vec<Request> {
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
            return text(value);
        }
        rest = rest.get(2 + usize::from(len)..)?;
    }
}

/// The attributes of a reply.
pub fn attributes(payload: &[u8]) -> Attributes<'_> {
    Attributes::after(payload, HEADER)
}

/// User data with the byte order of a set's keys or values, for nft.
pub fn order_data(kind: u8, order: u32) -> Vec<u8> {
    [&[kind, 4][..], &order.to_ne_bytes()].concat()
}

/// User data with a comment, for nft.
pub fn comment_data(kind: u8, comment: &str) -> Vec<u8> {
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
