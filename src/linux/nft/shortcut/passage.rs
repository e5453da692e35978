//! Owns the expressions that only shortcuts have: a frame goes on by a link, a hardware address is
//! remembered or forgotten (include/uapi/linux/netfilter/nf_tables.h, `nft_fwd` and `nft_dynset`).
//!
//! Pure. Used by `rules`.

use crate::linux::nft::expression::{DATA_VALUE, DATA_VERDICT, Expressions, REGISTER_VERDICT, REGISTERS, VERDICT_CODE};
use crate::linux::nft::part::Part;

/// `NFT_GOTO`.
const GOTO: i32 = -4;
/// `NFTA_VERDICT_CHAIN`.
const VERDICT_CHAIN: u16 = 2;

/// What is done with a set while a packet passes (`NFT_DYNSET_OP_UPDATE`, `NFT_DYNSET_OP_DELETE`).
#[derive(Debug, Clone, Copy)]
pub enum Memory {
    /// It is in the set from now on, for a time that begins anew.
    Remember = 1,
    /// It is not.
    Forget = 2,
}

impl Expressions {
    /// The frame leaves by the link that the map has for this part of it; goes on here when there is none.
    pub fn sent_by(self, part: Part, map: &str) -> Self {
        self.looked_up(part, map, true).sent()
    }

    /// A part of the frame is in the set.
    pub fn known_in(self, part: Part, set: &str) -> Self {
        self.looked_up(part, set, false)
    }

    /// The frame leaves by the link with this index.
    pub fn sent_to(mut self, index: u32) -> Self {
        self.push("immediate", |data| {
            data.big(1, REGISTERS).nest(2, |value| {
                value.native(DATA_VALUE, index);
            });
        });
        self.sent()
    }

    /// Remembers a part of the frame in the set, or forgets it; the frame goes on.
    pub fn noted(self, part: Part, set: &str, memory: Memory) -> Self {
        let mut noted = self.load(&[part]);
        noted.push("dynset", |data| {
            data.text(1, set).big(3, memory as u32).big(4, REGISTERS);
        });
        noted
    }

    /// What follows is decided by another chain.
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
