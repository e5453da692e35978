//! Expressions that only shortcuts use: forward a frame to a link, learn or forget a hardware address
//! (include/uapi/linux/netfilter/nf_tables.h, `nft_fwd` and `nft_dynset`).
//!
//! Pure. Used by `rules`.

use crate::linux::nft::expression::{DATA_VALUE, DATA_VERDICT, Expressions, REGISTER_VERDICT, REGISTERS, VERDICT_CODE};
use crate::linux::nft::part::Part;

/// `NFT_GOTO`.
const GOTO: i32 = -4;
/// `NFTA_VERDICT_CHAIN`.
const VERDICT_CHAIN: u16 = 2;

/// Update of a set by a packet (`NFT_DYNSET_OP_UPDATE`, `NFT_DYNSET_OP_DELETE`).
#[derive(Debug, Clone, Copy)]
pub enum Memory {
    /// Adds the element, or restarts its timeout.
    Remember = 1,
    /// Deletes the element.
    Forget = 2,
}

impl Expressions {
    /// Forwards the frame to the link that the map has for this field; continues with the next rule if there
    /// is no entry.
    pub fn sent_by(self, part: Part, map: &str) -> Self {
        self.looked_up(part, map, true).sent()
    }

    /// Matches when a field of the frame is in the set.
    pub fn known_in(self, part: Part, set: &str) -> Self {
        self.looked_up(part, set, false)
    }

    /// Forwards the frame to the link with this index.
    pub fn sent_to(mut self, index: u32) -> Self {
        self.push("immediate", |data| {
            data.big(1, REGISTERS).nest(2, |value| {
                value.native(DATA_VALUE, index);
            });
        });
        self.sent()
    }

    /// Adds a field of the frame to the set, or deletes it; the frame continues.
    pub fn noted(self, part: Part, set: &str, memory: Memory) -> Self {
        let mut noted = self.load(&[part]);
        noted.push("dynset", |data| {
            data.text(1, set).big(3, memory as u32).big(4, REGISTERS);
        });
        noted
    }

    /// Continues in another chain and does not return.
    pub fn decided_by(mut self, chain: &str) -> Self {
        self.push("immediate", |data| {
            data.big(1, REGISTER_VERDICT).nest(2, |value| {
                value.nest(DATA_VERDICT, |verdict| {
                    verdict.big(VERDICT_CODE, GOTO as u32).text(VERDICT_CHAIN, chain);
                });
            });
        });
        self
    }

    fn looked_up(self, part: Part, set: &str, is_map: bool) -> Self {
        let mut found = self.load(&[part]);
        found.push("lookup", |data| {
            data.text(1, set).big(2, REGISTERS);
            if is_map {
                data.big(3, REGISTERS);
            }
        });
        found
    }

    fn sent(mut self) -> Self {
        self.push("fwd", |data| {
            data.big(1, REGISTERS);
        });
        self
    }
}
