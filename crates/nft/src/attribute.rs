//! Numbers of families, messages and attributes, with the names of include/uapi/linux/netfilter/nf_tables.h in short.

#![allow(missing_docs, reason = "the header documents them")]

// `NFPROTO_INET`.
pub const INET: u8 = 1;
// `NFPROTO_IPV4`.
pub const IPV4: u8 = 2;
// `NFPROTO_NETDEV`.
pub const NETDEV: u8 = 5;
// `NFPROTO_BRIDGE`.
pub const BRIDGE: u8 = 7;
// `NFPROTO_IPV6`.
pub const IPV6: u8 = 10;

// Message types, without the subsystem's number.
pub const NEW_TABLE: u16 = 0;
pub const GET_TABLE: u16 = 1;
pub const DEL_TABLE: u16 = 2;
pub const NEW_CHAIN: u16 = 3;
pub const GET_CHAIN: u16 = 4;
pub const NEW_RULE: u16 = 6;
pub const GET_RULE: u16 = 7;
pub const DEL_CHAIN: u16 = 5;
pub const DEL_RULE: u16 = 8;
pub const NEW_SET: u16 = 9;
pub const GET_SET: u16 = 10;
pub const DEL_SET: u16 = 11;
pub const NEW_ELEMENTS: u16 = 12;
pub const GET_ELEMENTS: u16 = 13;
pub const DEL_ELEMENTS: u16 = 14;
pub const GET_GENERATION: u16 = 16;

// Bytes of `struct nfgenmsg`.
pub const HEADER: usize = 4;

// `NFNL_SUBSYS_NFTABLES`, as encoded in a message type.
pub const SUBSYSTEM_ID: u8 = 10;
pub const SUBSYSTEM: u16 = (SUBSYSTEM_ID as u16) << 8;
pub const BATCH_BEGIN: u16 = 16;
pub const BATCH_END: u16 = 17;

// Attribute 1 of every message about an object in a table is the table's name.
pub const TABLE_NAME: u16 = 1;
pub const TABLE_FLAGS: u16 = 2;
pub const TABLE_USERDATA: u16 = 6;
pub const CHAIN_NAME: u16 = 3;
pub const CHAIN_HOOK: u16 = 4;
pub const HOOK_NUMBER: u16 = 1;
pub const HOOK_PRIORITY: u16 = 2;
pub const CHAIN_POLICY: u16 = 5;
pub const CHAIN_TYPE: u16 = 7;
pub const CHAIN_USERDATA: u16 = 12;
pub const RULE_CHAIN: u16 = 2;
pub const RULE_HANDLE: u16 = 3;
pub const RULE_EXPRESSIONS: u16 = 4;
pub const RULE_USERDATA: u16 = 7;
pub const SET_NAME: u16 = 2;
pub const SET_FLAGS: u16 = 3;
pub const SET_KEY_TYPE: u16 = 4;
pub const SET_KEY_LEN: u16 = 5;
pub const SET_DATA_TYPE: u16 = 6;
pub const SET_DATA_LEN: u16 = 7;
pub const SET_DESC: u16 = 9;
// Milliseconds.
pub const SET_TIMEOUT: u16 = 11;
pub const SET_DESC_SIZE: u16 = 1;
pub const SET_DESC_CONCAT: u16 = 2;
pub const SET_ID: u16 = 10;
pub const SET_USERDATA: u16 = 13;
pub const SET_EXPRESSION: u16 = 17;
pub const ELEMENTS_SET: u16 = 2;
pub const ELEMENTS_LIST: u16 = 3;
pub const ELEMENTS_SET_ID: u16 = 4;
pub const LIST_ITEM: u16 = 1;
pub const ELEMENT_KEY: u16 = 1;
pub const ELEMENT_DATA: u16 = 2;
pub const ELEMENT_FLAGS: u16 = 3;
// Milliseconds: the whole time of an element, and what is left of it.
pub const ELEMENT_TIMEOUT: u16 = 4;
pub const ELEMENT_EXPIRATION: u16 = 5;
pub const ELEMENT_EXPRESSION: u16 = 7;
pub const ELEMENT_KEY_END: u16 = 10;
pub const DATA_VALUE: u16 = 1;
// `NFT_SET_ELEM_INTERVAL_END`.
pub const INTERVAL_END: u32 = 1;

// User data is a list of (type u8, length u8, value): nft's own convention for data that the kernel only
// stores. Comments of tables, chains and rules have type 0, those of sets 7; type 0 of a set tells nft the
// byte order of its keys, for printing.
pub const UDATA_COMMENT: u8 = 0;
pub const UDATA_SET_COMMENT: u8 = 7;
pub const UDATA_SET_KEY_ORDER: u8 = 0;
pub const UDATA_SET_DATA_ORDER: u8 = 1;

// Elements per message: an attribute holds 64 KiB, the largest element takes about 90 bytes.
pub const CHUNK: usize = 512;

// The kernel inserts a number into the name; until then such a map is identified by its id.
pub const NAMELESS: &str = "__map%d";
