//! Reads the parts of a message in order.

use crate::name::Name;
use crate::{HEADER, flag};

/// A position in a message.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

/// The header.
pub(crate) struct Header {
    pub id: u16,
    pub flags: u16,
    /// Numbers of questions, answers, records about authority, and additional records.
    pub counts: [u16; 4],
}

/// A record, without its name and its data.
pub(crate) struct Record<'a> {
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    pub data: &'a [u8],
    /// Where its data starts, for names in it.
    pub inner: Reader<'a>,
}

impl Header {
    pub fn is_response(&self) -> bool {
        self.flags & flag::RESPONSE != 0
    }
}

impl<'a> Reader<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let part = self.message.get(self.at..end)?;
        self.at = end;
        Some(part)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub fn header(&mut self) -> Option<Header> {
        debug_assert!(self.at == 0 && HEADER == 12);
        let (id, flags) = (self.u16()?, self.u16()?);
        Some(Header { id, flags, counts: [self.u16()?, self.u16()?, self.u16()?, self.u16()?] })
    }

    /// A name, of which parts may be elsewhere in the message.
    pub fn name(&mut self) -> Option<Name> {
        let (name, end) = Name::read(self.message, self.at)?;
        self.at = end;
        Some(name)
    }

    /// What follows the name of a record.
    pub fn record(&mut self) -> Option<Record<'a>> {
        let (kind, class, ttl, length) = (self.u16()?, self.u16()?, self.u32()?, self.u16()?);
        let inner = *self;
        let data = self.take(usize::from(length))?;
        Some(Record { kind, class, ttl, data, inner })
    }
}
