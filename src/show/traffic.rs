//! What the links of the host have counted.

use std::collections::BTreeMap;

/// Counters of one direction of a link since it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that the link dropped.
    pub dropped: u64,
}

/// Counters of a link. What the host's end of a container's link receives, the container has sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// What the link received.
    pub received: Count,
    /// What it sent.
    pub sent: Count,
}

/// Counters by the names of links.
pub type Traffic = BTreeMap<String, Counters>;

impl Count {
    /// What was counted since `before`; `None` if the link was replaced since, and counts from 0.
    fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            bytes: self.bytes.checked_sub(before.bytes)?,
            packets: self.packets.checked_sub(before.packets)?,
            dropped: self.dropped.checked_sub(before.dropped)?,
        })
    }
}

impl Counters {
    /// What was counted since `before`; `None` as for [`Count::since`].
    pub(super) fn since(self, before: Self) -> Option<Self> {
        Some(Self { received: self.received.since(before.received)?, sent: self.sent.since(before.sent)? })
    }
}

/// Reads `/proc/net/dev` (proc_pid_net(5)). Lines in another form are left out.
pub fn traffic(text: &str) -> Traffic {
    let line = |line: &str| {
        let (name, numbers) = line.rsplit_once(": ").or_else(|| line.rsplit_once(':'))?;
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
        let count = |at: usize| {
            Some(Count { bytes: *numbers.get(at)?, packets: *numbers.get(at + 1)?, dropped: *numbers.get(at + 3)? })
        };
        Some((name.trim().to_owned(), Counters { received: count(0)?, sent: count(8)? }))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_kernels_table() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n  pnth1:    7 1 0 3 0 0 0 0 90 2 0 4 0 0 0 0\n\
                    eth0:1:8 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n bad: 1\n";
        let read = traffic(text);
        let received = Count { bytes: 7, packets: 1, dropped: 3 };
        assert_eq!(read["pnth1"], Counters { received, sent: Count { bytes: 90, packets: 2, dropped: 4 } });
        assert_eq!(read.keys().collect::<Vec<_>>(), ["eth0:1", "pnth1"]);
    }

    #[test]
    fn counters_of_a_link_that_was_created_again_have_no_difference() {
        let count = |bytes, dropped| Count { bytes, packets: 1, dropped };
        let of = |received, sent| Counters { received, sent };
        let (before, now) = (of(count(5, 0), count(7, 1)), of(count(9, 2), count(7, 4)));
        let grown = now.since(before).unwrap();
        assert_eq!((grown.received.bytes, grown.received.dropped, grown.sent.dropped), (4, 2, 3));
        assert_eq!(before.since(now), None);
    }
}
