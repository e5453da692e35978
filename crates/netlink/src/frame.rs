//! Framing of netlink: messages within a datagram, errors with the kernel's own message, and whether a listing is
//! complete, unfinished or torn (include/uapi/linux/netlink.h).

use crate::tlv::{Attributes, native16, native32, text};

/// Bytes of `struct nlmsghdr`.
pub const HEADER: usize = 16;

/// `NLMSG_ERROR`: an error number, or 0 as an acknowledgement.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a listing.
pub const DONE: u16 = 3;
/// `NLMSG_OVERRUN`: data was lost.
const OVERRUN: u16 = 4;

/// `NLM_F_DUMP_INTR`: the listing was inconsistent.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED`: the error repeats only the header of the request.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: extended acknowledgement attributes follow.
const ACK_ATTRIBUTES: u16 = 0x200;

/// `NLMSGERR_ATTR_MSG`: the kernel's message.
const ACK_MESSAGE: u16 = 1;
/// `NLMSGERR_ATTR_OFFS`: offset of the offending attribute within the request.
const ACK_OFFSET: u16 = 2;

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: that of the request it answers.
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket it answers, or whose request caused it.
    pub port: u32,
    /// The bytes after the header.
    pub payload: &'a [u8],
}

/// Iterates over the messages of a datagram; stops at the first malformed one.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Reads all of `datagram`.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let len = native32(self.rest)? as usize;
        let frame = Frame {
            kind: native16(self.rest.get(4..)?)?,
            flags: native16(self.rest.get(6..)?)?,
            sequence: native32(self.rest.get(8..)?)?,
            port: native32(self.rest.get(12..)?)?,
            payload: self.rest.get(HEADER..len)?,
        };
        self.rest = len.checked_next_multiple_of(4).and_then(|next| self.rest.get(next..)).unwrap_or_default();
        Some(frame)
    }
}

/// The contents of an error message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The error number, positive; 0 is success.
    pub errno: i32,
    /// The kernel's message, or the position of the attribute that it rejects, or empty.
    pub message: String,
}

/// Reads the payload of an [`ERROR`] frame, or of a [`DONE`] frame that carries an error.
/// `None` when it is too short to be one.
pub fn verdict(frame: &Frame<'_>) -> Option<Verdict> {
    let errno = native32(frame.payload)? as i32;
    // A number without a negation is not an error number.
    let errno = errno.checked_neg()?;
    let skipped = match (frame.kind, frame.flags & CAPPED != 0) {
        (DONE, _) => 4,
        (_, true) => 4 + HEADER,
        (_, false) => {
            // The complete request is repeated; its header contains its length.
            let request = frame.payload.get(4..).and_then(native32).unwrap_or_default() as usize;
            4usize.saturating_add(request.checked_next_multiple_of(4).unwrap_or(usize::MAX))
        }
    };
    let mut message = String::new();
    if frame.flags & ACK_ATTRIBUTES != 0 {
        let attributes = Attributes::after(frame.payload, skipped);
        if let Some(words) = attributes.find(ACK_MESSAGE).and_then(text) {
            message = words.trim_end().to_owned();
        } else if let Some(offset) = attributes.find(ACK_OFFSET).and_then(native32).filter(|_| errno != 0) {
            message = format!("the attribute at byte {offset} of the request");
        }
    }
    Some(Verdict { errno, message })
}

/// The progress of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// More datagrams follow.
    More,
    /// It is complete; torn when the kernel state changed meanwhile, so that it proves nothing.
    Complete {
        /// Whether any part carried `NLM_F_DUMP_INTR` or data was lost.
        torn: bool,
    },
    /// The kernel refused.
    Refused(Verdict),
    /// Not in the documented format.
    Malformed(&'static str),
}

/// Collects one listing over its datagrams.
#[derive(Debug, Clone)]
pub struct Listing {
    sequence: u32,
    torn: bool,
}

impl Listing {
    /// Collects the answer to the request with this sequence number.
    pub fn new(sequence: u32) -> Self {
        Self { sequence, torn: false }
    }

    /// Processes the next datagram and passes its items to `each` (message type and payload). Answers to other
    /// requests are skipped: they belong to a request that timed out.
    pub fn feed(&mut self, datagram: &[u8], each: &mut dyn FnMut(u16, &[u8])) -> Progress {
        for frame in Frames::new(datagram) {
            if frame.sequence != self.sequence {
                continue;
            }
            self.torn |= frame.flags & DUMP_INTERRUPTED != 0;
            match frame.kind {
                ERROR => {
                    return match verdict(&frame) {
                        Some(v) if v.errno == 0 => Progress::Complete { torn: self.torn },
                        Some(v) => Progress::Refused(v),
                        None => Progress::Malformed("short error"),
                    };
                }
                DONE => {
                    // Its payload is the result of the dump; old kernels omit it.
                    return match verdict(&frame) {
                        Some(v) if v.errno > 0 => Progress::Refused(v),
                        _ => Progress::Complete { torn: self.torn },
                    };
                }
                OVERRUN => self.torn = true,
                kind => each(kind, frame.payload),
            }
        }
        Progress::More
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_listing_is_whole_torn_or_refused() {
        let mut seen = Vec::new();
        let mut each = |kind: u16, payload: &[u8]| seen.push((kind, payload.to_vec()));
        let mut listing = Listing::new(5);
        let stale = frame(16, DUMP_INTERRUPTED, 4, b"old ");
        let first = [stale, frame(16, 2, 5, b"one "), frame(16, 2, 5, b"two ")].concat();
        assert_eq!(listing.feed(&first, &mut each), Progress::More);
        assert_eq!(listing.feed(&frame(DONE, 2, 5, &[0; 4]), &mut each), Progress::Complete { torn: false });
        let mut torn = Listing::new(5);
        assert_eq!(torn.feed(&frame(16, 2 | DUMP_INTERRUPTED, 5, b"one "), &mut each), Progress::More);
        assert_eq!(torn.feed(&frame(DONE, 2, 5, &[0; 4]), &mut each), Progress::Complete { torn: true });
        let late = Listing::new(5).feed(&frame(DONE, 2 | DUMP_INTERRUPTED, 5, &[0; 4]), &mut each);
        assert_eq!(late, Progress::Complete { torn: true });
        let refused = Listing::new(5).feed(&frame(DONE, 2, 5, &(-95i32).to_ne_bytes()), &mut each);
        assert!(matches!(refused, Progress::Refused(Verdict { errno: 95, .. })));
        assert_eq!(Listing::new(5).feed(&frame(ERROR, 0, 5, &[1]), &mut each), Progress::Malformed("short error"));
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn reads_the_kernels_message() {
        let mut payload = (-17i32).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend([4 + 6u8, 0, 1, 0]);
        payload.extend(b"words\0");
        let bytes = frame(ERROR, CAPPED | ACK_ATTRIBUTES, 1, &payload);
        let read = Frames::new(&bytes).next().and_then(|f| verdict(&f));
        assert_eq!(read, Some(Verdict { errno: 17, message: "words".into() }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in vec(prop_oneof![7 => 0..32u8, 1 => any::<u8>()], 0..90)) {
            for frame in Frames::new(&bytes) {
                let _ = verdict(&frame);
            }
            let _ = Listing::new(0).feed(&bytes, &mut |_, payload| {
                let _ = Attributes::new(payload).count();
            });
        }
    }
}
