//! Names: their labels, and how messages contain them.

use std::fmt;

/// Longest label and longest name in bytes of a message (RFC 1035, 2.3.4).
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 255;

/// The two upper bits of a length: none for a label, both for a pointer to another part of the message.
const POINTER: u8 = 0xc0;

/// Most pointers that are followed for one name: more than its labels are of no use.
const MOST_POINTERS: usize = 127;

/// A name in lower case: letters are the same in both cases (RFC 4343). The root is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Name {
    /// Each label behind its length, without the final zero.
    bytes: Vec<u8>,
}

impl Name {
    /// Parses labels joined by dots, with or without a final dot; `None` if a label is empty or too long, or the name is.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut name = Self::default();
        if text.is_empty() {
            return Some(name);
        }
        for label in text.split('.') {
            name.push(label.as_bytes())?;
        }
        Some(name)
    }

    /// Reads the name at a position of a message, and where the message goes on; `None` if it is malformed or too long, or
    /// follows pointers forwards or too many of them.
    pub(crate) fn read(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let mut name = Self::default();
        let (mut at, mut end, mut pointers) = (at, None, 0);
        loop {
            let length = *message.get(at)?;
            match length & POINTER {
                0 if length == 0 => return Some((name, end.unwrap_or(at + 1))),
                0 => {
                    let label = message.get(at + 1..at + 1 + usize::from(length))?;
                    name.push(label)?;
                    at += 1 + label.len();
                }
                POINTER => {
                    let low = *message.get(at + 1)?;
                    let target = usize::from(u16::from_be_bytes([length & !POINTER, low]));
                    end.get_or_insert(at + 2);
                    pointers += 1;
                    // Backwards only: so it ends.
                    if target >= at || pointers > MOST_POINTERS {
                        return None;
                    }
                    at = target;
                }
                _ => return None,
            }
        }
    }

    fn push(&mut self, label: &[u8]) -> Option<()> {
        // The final zero counts.
        let fits = (1..=LONGEST_LABEL).contains(&label.len()) && self.bytes.len() + label.len() + 2 <= LONGEST_NAME;
        self.bytes.push(u8::try_from(label.len()).ok().filter(|_| fits)?);
        self.bytes.extend(label.iter().map(u8::to_ascii_lowercase));
        Some(())
    }

    /// Appends it to a message.
    pub(crate) fn write(&self, message: &mut Vec<u8>) {
        message.extend_from_slice(&self.bytes);
        message.push(0);
    }

    /// Its labels, from the host to the top.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first()?;
            let label = tail.get(..usize::from(*length))?;
            rest = tail.get(label.len()..)?;
            Some(label)
        })
    }

    /// Whether it is below another one: `a.example.org` is below `example.org`, which is not below itself.
    pub fn is_below(&self, other: &Name) -> bool {
        let (own, others) = (self.labels().count(), other.labels().count());
        own > others && self.labels().skip(own - others).eq(other.labels())
    }
}

/// Labels joined by dots; bytes that are no letters, digits, `-` or `_` as `\` and three digits (RFC 1035, 5.1), so that
/// two names never look alike.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes.is_empty() {
            return f.write_str(".");
        }
        for (at, label) in self.labels().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            for byte in label {
                match byte {
                    b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' => write!(f, "{}", char::from(*byte))?,
                    byte => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}
