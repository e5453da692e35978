//! The format of one line of the ledger: eight hexadecimal digits of CRC-32, a space, JSON, a newline. The
//! header has the same format, so that every single-bit error in the file is detected.

use serde::{Deserialize, Serialize};

/// First value in every ledger. Frozen, as is the format of a line: by it an old release recognises the ledger
/// of a newer one instead of reporting it as damaged.
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

    /// Parses the JSON of the first line.
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
    #[error("it is truncated")]
    Incomplete,
    /// The checksum does not match the text.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches, but this release cannot decode the text.
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
