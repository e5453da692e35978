//! Owns the form of one line of the ledger: eight hexadecimal digits of CRC-32, a space, JSON, a
//! newline. The header is such a line too, so that no single damaged bit of the file goes unseen.

use serde::{Deserialize, Serialize};

/// First value in every ledger. Frozen, as is the form of a line: that is how an old release
/// recognises the ledger of a newer one instead of calling it damaged.
const MAGIC: &str = "pontoon-ledger";

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    magic: String,
    /// Format version of the lines that follow.
    pub version: u32,
    /// The kernel's boot id when they were written.
    pub boot: String,
}

impl Header {
    pub fn new(version: u32, boot: &str) -> Self {
        Self { magic: MAGIC.to_owned(), version, boot: boot.to_owned() }
    }

    /// Reads the JSON of the first line.
    pub fn parse(json: &str) -> Result<Self, Flaw> {
        match serde_json::from_str::<Header>(json) {
            Ok(header) if header.magic == MAGIC => Ok(header),
            Ok(header) => Err(Flaw::Content(format!("{:?} is not {MAGIC:?}", header.magic))),
            Err(error) => Err(Flaw::Content(error.to_string())),
        }
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    /// The file ends inside the line.
    #[error("it is cut off")]
    Incomplete,
    /// The checksum is not that of the text.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum holds, and yet the text means nothing to this release.
    #[error("it does not decode: {0}")]
    Content(String),
}

/// Appends the line with `json` (which has no newline) to `out`.
pub(super) fn encode(json: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{:08x} ", crc32fast::hash(json.as_bytes())).as_bytes());
    out.extend_from_slice(json.as_bytes());
    out.push(b'\n');
}

/// The JSON in `line`, which includes its newline.
pub(super) fn decode(line: &[u8]) -> Result<&str, Flaw> {
    let line = line.strip_suffix(b"\n").ok_or(Flaw::Incomplete)?;
    let (sum, json) = line.split_at_checked(9).ok_or(Flaw::Checksum)?;
    // Compared as text: upper-case digits or another separator are damage as well.
    if sum != format!("{:08x} ", crc32fast::hash(json)).as_bytes() {
        return Err(Flaw::Checksum);
    }
    str::from_utf8(json).map_err(|error| Flaw::Content(error.to_string()))
}
