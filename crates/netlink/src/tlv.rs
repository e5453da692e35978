//! Attributes, as every netlink family encodes them (type, length, value, padded to four bytes;
//! include/uapi/linux/netlink.h): a writer for requests and a reader for answers.

/// `NLA_F_NESTED`: the value is a list of attributes.
const NESTED: u16 = 1 << 15;

/// Type bits that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`), not the type.
const TYPE_MASK: u16 = 0x3fff;

/// Bytes of an attribute's header.
const HEADER: usize = 4;

/// Longest value of one attribute, in bytes: its length field has 16 bits and counts the header.
pub const MAX_VALUE: usize = u16::MAX as usize - HEADER;

/// Builds the body of a request: fixed headers first, then attributes.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts with a fixed header, which must be a multiple of four bytes long.
    pub fn with_header(header: &[u8]) -> Self {
        Self { bytes: header.to_vec() }
    }

    /// Appends one attribute. A value longer than [`MAX_VALUE`] is truncated: no caller has one, and the kernel
    /// refuses the rest.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let value = value.get(..MAX_VALUE).unwrap_or(value);
        self.bytes.extend_from_slice(&((value.len() + HEADER) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Appends a string with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Appends a number in the machine's byte order (the convention of rtnetlink).
    pub fn native(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order (the convention of nf_tables).
    pub fn big(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends an attribute whose value is written by `fill`.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) -> &mut Self {
        let mut inner = Writer::default();
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.bytes)
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The complete body.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// One attribute: its type without flags, and its value.
pub type Attribute<'a> = (u16, &'a [u8]);

/// Iterates over the attributes of an answer. Stops at the first malformed one: the attributes before it are
/// still used, as in the kernel's own parsers.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads attributes from all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads attributes after a fixed header of `header` bytes; none when the input is shorter.
    pub fn after(bytes: &'a [u8], header: usize) -> Self {
        Self { rest: bytes.get(header..).unwrap_or_default() }
    }

    /// The value of the first attribute of this type.
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self.clone(), |(k, _)| *k == kind).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let len = usize::from(native16(self.rest)?);
        let kind = native16(self.rest.get(2..)?)? & TYPE_MASK;
        let value = self.rest.get(HEADER..len)?;
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The first two bytes as a number in the machine's order.
pub fn native16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

/// The first four bytes as a number in the machine's order.
pub fn native32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// The first two bytes as a number in network order.
pub fn big16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// The first four bytes as a number in network order.
pub fn big32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// The first eight bytes as a number in network order.
pub fn big64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|b| u64::from_be_bytes(*b))
}

/// A string up to its first zero; `None` when it is not UTF-8.
pub fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = Writer::with_header(&[0xff; 16]);
        writer.text(3, "pntb").native(4, 1500).nest(18, |w| {
            w.bytes(1, b"x").big(2, 7);
        });
        let bytes = writer.finish();
        let attributes = Attributes::after(&bytes, 16);
        assert_eq!(attributes.find(3).and_then(text), Some("pntb"));
        assert_eq!(attributes.find(4).and_then(native32), Some(1500));
        let inner = Attributes::new(attributes.find(18).unwrap());
        assert_eq!(inner.find(1), Some(&b"x"[..]));
        assert_eq!(inner.find(2).and_then(big32), Some(7));
        assert_eq!(inner.count(), 2);
    }

    #[test]
    fn malformed_input_ends_the_list() {
        for bytes in [&[][..], &[4], &[0, 0, 0, 0], &[3, 0, 1, 0], &[255, 255, 1, 0, 1, 2], &[8, 0, 1, 0, 1, 2]] {
            assert_eq!(Attributes::new(bytes).count(), 0, "{bytes:?}");
        }
        // A last attribute without its padding is complete.
        assert_eq!(Attributes::new(&[5, 0, 1, 0, 9]).collect::<Vec<_>>(), vec![(1, &[9u8][..])]);
        assert_eq!(Attributes::after(&[1, 2], 16).count(), 0);
    }
}
