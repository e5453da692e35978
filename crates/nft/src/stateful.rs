//! Expressions with a state of their own in each element of a set: a lookup finds the element only while the state
//! says so (`NFTA_SET_ELEM_EXPR`, include/uapi/linux/netfilter/nf_tables.h, Linux 5.7). So elements of one set can have
//! different limits.

use std::fmt;

use netlink::tlv::{Attributes, Writer, big32, big64, text};

use crate::expression::{EXPR_DATA, EXPR_NAME};

/// `NFTA_CONNLIMIT_COUNT`, `NFTA_CONNLIMIT_FLAGS`.
const CONNECTIONS_COUNT: u16 = 1;
const CONNECTIONS_FLAGS: u16 = 2;
/// `NFTA_LIMIT_RATE`, `NFTA_LIMIT_UNIT`, `NFTA_LIMIT_BURST`, `NFTA_LIMIT_TYPE`, `NFTA_LIMIT_FLAGS`.
const RATE_PACKETS: u16 = 1;
const RATE_SECONDS: u16 = 2;
const RATE_BURST: u16 = 3;
const RATE_KIND: u16 = 4;
const RATE_FLAGS: u16 = 5;
/// `NFTA_COUNTER_PACKETS`.
const COUNTER_PACKETS: u16 = 2;
/// Matches what exceeds the limit instead of what does not (`NFT_CONNLIMIT_F_INV`, `NFT_LIMIT_F_INV`).
const OVER: u32 = 1;

/// A limit. Its display is nft's syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stateful {
    /// True while more connections than this have been looked up and are still tracked.
    Connections(u32),
    /// True while packets exceed this rate.
    Packets {
        /// Packets per second.
        rate: u32,
        /// How many may exceed it at once.
        burst: u32,
    },
    /// No limit: always true, with the number of packets so far. Packets add such elements.
    Counted(u64),
}

impl fmt::Display for Stateful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stateful::Connections(count) => write!(f, "ct count over {count}"),
            Stateful::Packets { rate, burst } => write!(f, "limit rate over {rate}/second burst {burst} packets"),
            Stateful::Counted(packets) => write!(f, "counter packets {packets} bytes 0"),
        }
    }
}

impl Stateful {
    /// The expression's name.
    pub fn name(&self) -> &'static str {
        match self {
            Stateful::Connections(_) => "connlimit",
            Stateful::Packets { .. } => "limit",
            Stateful::Counted(_) => "counter",
        }
    }

    /// Writes the data of the expression.
    pub fn fill(&self, data: &mut Writer) {
        match self {
            Stateful::Connections(count) => drop(data.big(CONNECTIONS_COUNT, *count).big(CONNECTIONS_FLAGS, OVER)),
            Stateful::Packets { rate, burst } => {
                data.bytes(RATE_PACKETS, &u64::from(*rate).to_be_bytes()).bytes(RATE_SECONDS, &1u64.to_be_bytes());
                data.big(RATE_BURST, *burst).big(RATE_KIND, 0).big(RATE_FLAGS, OVER);
            }
            Stateful::Counted(packets) => drop(data.bytes(COUNTER_PACKETS, &packets.to_be_bytes())),
        }
    }

    /// Appends it as an attribute of a set or element.
    pub(crate) fn write(&self, to: &mut Writer, kind: u16) {
        to.nest(kind, |item| {
            item.text(EXPR_NAME, self.name()).nest(EXPR_DATA, |data| self.fill(data));
        });
    }

    /// Reads such an attribute; `None` for another expression, and for one that does not match what exceeds the limit.
    pub(crate) fn parse(attribute: &[u8]) -> Option<Self> {
        let item = Attributes::new(attribute);
        let data = Attributes::new(item.find(EXPR_DATA)?);
        let number = |kind| data.find(kind).and_then(big32);
        match item.find(EXPR_NAME).and_then(text)? {
            "connlimit" => {
                (number(CONNECTIONS_FLAGS)? == OVER).then_some(Stateful::Connections(number(CONNECTIONS_COUNT)?))
            }
            "limit" => {
                let per_second = data.find(RATE_SECONDS).and_then(big64)? == 1 && number(RATE_KIND)? == 0;
                let rate = u32::try_from(data.find(RATE_PACKETS).and_then(big64)?).ok()?;
                let burst = number(RATE_BURST)?;
                (per_second && number(RATE_FLAGS)? == OVER).then_some(Stateful::Packets { rate, burst })
            }
            "counter" => Some(Stateful::Counted(data.find(COUNTER_PACKETS).and_then(big64)?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_back_and_others_are_none() {
        for limit in [Stateful::Connections(500), Stateful::Packets { rate: 50, burst: 7 }, Stateful::Counted(9)] {
            let mut message = Writer::default();
            limit.write(&mut message, 7);
            let bytes = message.finish();
            let attribute = Attributes::new(&bytes).find(7).unwrap();
            assert_eq!(Stateful::parse(attribute), Some(limit));
            for end in 0..attribute.len() {
                let _ = Stateful::parse(&attribute[..end]);
            }
        }
        let mut counter = Writer::default();
        counter.text(EXPR_NAME, "quota").nest(EXPR_DATA, |_| {});
        assert_eq!(Stateful::parse(&counter.finish()), None);
        assert_eq!(Stateful::Connections(5).to_string(), "ct count over 5");
    }
}
