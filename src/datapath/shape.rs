//! How much a link may send: the settings of its token bucket queue.

use std::time::Duration;

use crate::model::limits::{Bytes, Rate};

/// What fits into the bucket unless an option says otherwise: the rate for this time, at least [`LEAST_BURST`]. Within
/// this time the kernel has to wake up to send on.
const BURST: Duration = Duration::from_millis(4);
const LEAST_BURST: u32 = 16 << 10;

/// How long a packet waits in the queue at most, where the kernel has no fair queues.
const LATENCY: Duration = Duration::from_millis(45);

/// Headers that a frame has in addition to the link's MTU: Ethernet and two VLAN tags.
pub const FRAME: u32 = 14 + 8;

/// Nanoseconds of one tick, the kernel's unit for the size of a bucket (`PSCHED_SHIFT`, include/net/pkt_sched.h).
const TICK: u64 = 64;

/// How much a link may send. Equal settings read back equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes per second.
    pub rate: u32,
    /// Size of the bucket, as the time in ticks of 64 ns that it takes to send as much at the rate.
    pub ticks: u32,
}

impl Shape {
    /// The settings for a rate, on a link with this MTU in bytes. A frame larger than the bucket would never be sent, so
    /// the default is at least as large.
    pub fn new(rate: Rate, burst: Option<Bytes>, mtu: u32) -> Self {
        let default = || over(rate.bytes(), BURST).max(LEAST_BURST).max(mtu + FRAME);
        let burst = burst.map_or_else(default, Bytes::get);
        let time = u64::from(burst) * 1_000_000_000 / u64::from(rate.bytes().max(1));
        // One more, because the kernel rounds down when it converts back.
        Self { rate: rate.bytes(), ticks: u32::try_from(time / TICK + 1).unwrap_or(u32::MAX) }
    }

    /// Size of the bucket in bytes.
    pub fn burst(&self) -> u32 {
        let bytes = u64::from(self.ticks) * TICK * u64::from(self.rate) / 1_000_000_000;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Bytes that may wait where the kernel has no fair queues: a full bucket and a few frames at least.
    pub fn backlog(&self) -> u32 {
        over(self.rate, LATENCY).max(self.burst().saturating_add(4 * 1514))
    }
}

/// Bytes at a rate over a time.
fn over(rate: u32, time: Duration) -> u32 {
    u32::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(rate: &str, burst: Option<&str>, mtu: u32) -> Shape {
        Shape::new(rate.parse().unwrap(), burst.map(|text| text.parse().unwrap()), mtu)
    }

    #[test]
    fn the_bucket_follows_from_the_rate_and_fits_a_frame() {
        for (rate, burst, mtu, expected) in [
            ("10mbit", None, 1500, 16 << 10),
            ("1gbit", None, 1500, 500_000),
            ("10mbit", None, 65_535, 65_557),
            ("10mbit", Some("3000"), 1500, 3000),
            ("32gbit", Some("64mb"), 1500, 64 << 20),
            ("8kbit", None, 1500, 16 << 10),
        ] {
            let shape = shape(rate, burst, mtu);
            let found = i64::from(shape.burst());
            // A tick of 64 ns is 256 bytes at 32 Gbit/s.
            assert!((0..=256).contains(&(found - expected)), "{rate} {burst:?} {mtu}: {found}");
            assert!(shape.backlog() > shape.burst());
        }
        assert_eq!(shape("100mbit", None, 1500).backlog(), 562_500);
    }
}
