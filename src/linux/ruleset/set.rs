//! Sets of any table, as far as a lookup needs them.
//!
//! Reads only.

use nft::evaluate::{Lookup, verdict_of};
use nft::message::{
    DATA_VALUE, ELEMENT_DATA, ELEMENT_FLAGS, ELEMENT_KEY, ELEMENT_KEY_END, ELEMENTS_LIST, ELEMENTS_SET, GET_ELEMENTS,
    INTERVAL_END, LIST_ITEM, SET_DESC, SET_DESC_CONCAT, SET_FLAGS, SET_KEY_LEN, SET_NAME, TABLE_NAME, attributes, body,
    wire,
};

use crate::linux::netlink::{Failure, Socket};
use crate::linux::tlv::{Attributes, big32, text};

/// `NFT_SET_INTERVAL`, `NFT_SET_MAP`.
const INTERVAL: u32 = 4;
const MAP: u32 = 8;

/// A set without its elements.
#[derive(Debug, Clone, Default)]
pub struct SetRecord {
    /// Family of its table.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Bytes of a key.
    pub key_length: usize,
    flags: u32,
    /// Bytes of each field of a concatenated key.
    fields: Vec<usize>,
}

/// Parses an entry of a listing of sets.
pub fn parse_set(payload: &[u8]) -> Option<SetRecord> {
    let set = attributes(payload);
    let number = |kind| set.find(kind).and_then(big32).unwrap_or_default();
    let concat = Attributes::new(set.find(SET_DESC).unwrap_or_default()).find(SET_DESC_CONCAT).unwrap_or_default();
    let fields = Attributes::new(concat).filter(|(kind, _)| *kind == LIST_ITEM);
    let fields = fields.filter_map(|(_, item)| Attributes::new(item).find(1).and_then(big32));
    Some(SetRecord {
        family: *payload.first()?,
        table: set.find(TABLE_NAME).and_then(text)?.to_owned(),
        name: set.find(SET_NAME).and_then(text)?.to_owned(),
        key_length: number(SET_KEY_LEN) as usize,
        flags: number(SET_FLAGS),
        fields: fields.map(|len| len as usize).collect(),
    })
}

/// An element.
#[derive(Debug, Clone, Default)]
struct Item {
    key: Vec<u8>,
    last: Option<Vec<u8>>,
    data: Vec<u8>,
    end: bool,
}

/// The elements of a set.
#[derive(Debug, Default)]
pub struct Elements(Vec<Item>);

/// Reads the elements of a set.
pub fn elements(socket: &mut Socket, set: &SetRecord) -> Result<Elements, Failure> {
    let mut query = body(set.family);
    query.text(TABLE_NAME, &set.table).text(ELEMENTS_SET, &set.name);
    let parts = socket.list(wire(GET_ELEMENTS), &query.finish(), |_, payload| Some(parse(payload)));
    let mut items: Vec<Item> = match parts {
        Ok(parts) => parts.into_iter().flatten().collect(),
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Vec::new(),
        Err(failure) => return Err(failure),
    };
    // Of two entries with one key, the range that ends there comes before the one that starts.
    items.sort_by(|a, b| (&a.key, !a.end).cmp(&(&b.key, !b.end)));
    Ok(Elements(items))
}

fn parse(payload: &[u8]) -> Vec<Item> {
    let list = Attributes::new(attributes(payload).find(ELEMENTS_LIST).unwrap_or_default());
    let item = |item: &[u8]| {
        let element = Attributes::new(item);
        let value = |kind| Attributes::new(element.find(kind)?).find(DATA_VALUE).map(<[u8]>::to_vec);
        Some(Item {
            // A catch-all element has no key.
            key: value(ELEMENT_KEY)?,
            last: value(ELEMENT_KEY_END),
            data: element.find(ELEMENT_DATA).unwrap_or_default().to_vec(),
            end: element.find(ELEMENT_FLAGS).and_then(big32).unwrap_or(0) & INTERVAL_END != 0,
        })
    };
    list.filter(|(kind, _)| *kind == LIST_ITEM).filter_map(|(_, one)| item(one)).collect()
}

impl Elements {
    /// Looks a key up as the kernel does.
    pub fn lookup(&self, set: &SetRecord, key: &[u8]) -> Lookup {
        let found = match (set.flags & INTERVAL != 0, set.fields.is_empty()) {
            (false, _) => {
                let at = self.0.binary_search_by(|item| item.key.as_slice().cmp(key));
                at.ok().and_then(|at| self.0.get(at))
            }
            (true, true) => {
                let behind = self.0.partition_point(|item| item.key.as_slice() <= key);
                behind.checked_sub(1).and_then(|at| self.0.get(at)).filter(|item| !item.end)
            }
            (true, false) => self.0.iter().find(|item| within(item, key, &set.fields)),
        };
        let Some(item) = found else { return Lookup::Missing };
        if set.flags & MAP == 0 {
            return Lookup::Found(Vec::new());
        }
        match verdict_of(&item.data) {
            Some(verdict) => Lookup::Verdict(verdict),
            None => Lookup::Found(Attributes::new(&item.data).find(DATA_VALUE).unwrap_or_default().to_vec()),
        }
    }
}

/// Whether each field of a key is in the range of the element.
fn within(item: &Item, key: &[u8], fields: &[usize]) -> bool {
    let last = item.last.as_ref().unwrap_or(&item.key);
    let mut at = 0;
    fields.iter().all(|len| {
        let part = |bytes: &[u8]| bytes.get(at..at + len).map(<[u8]>::to_vec);
        let inside = match (part(&item.key), part(key), part(last)) {
            (Some(first), Some(key), Some(last)) => first <= key && key <= last,
            _ => false,
        };
        at += len.next_multiple_of(4);
        inside
    })
}
