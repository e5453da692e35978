//! The clock for grace periods: monotonic while the host is up. Setting the time of day does not change it, and
//! time that the host spends suspended does not count. All processes of one boot share it.

use nix::time::{ClockId, clock_gettime};

use crate::model::Endpoint;
use crate::state::peers::Standing;
use crate::state::record::{Holder, Record};

/// Seconds on this clock.
pub fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec().unsigned_abs())
}

/// Milliseconds of the boot's clock, in which the time that the host is suspended counts: leases run on meanwhile.
pub fn boot_millis() -> u64 {
    let millis = |time: nix::sys::time::TimeSpec| {
        time.tv_sec().unsigned_abs() * 1000 + time.tv_nsec().unsigned_abs() / 1_000_000
    };
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, millis)
}

/// Resets timestamps of another clock to now: those of an earlier boot, and those that an earlier release wrote
/// by the time of day. Both lie in the future or have no meaning.
pub(super) fn restart_periods(records: &mut [Record], now: u64, rebooted: bool) {
    for since in records.iter_mut().filter_map(since) {
        if rebooted || *since > now {
            *since = now;
        }
    }
}

fn since(record: &mut Record) -> Option<&mut u64> {
    match record {
        Record::Endpoint(endpoint) => {
            let Endpoint { since, .. } = &mut **endpoint;
            Some(since)
        }
        Record::Address(address) => match &mut address.holder {
            Holder::Unclaimed { since } => Some(since),
            _ => None,
        },
        Record::Peer(peer) => match &mut peer.standing {
            Standing::Doubted { since } | Standing::Former { since } => Some(since),
            _ => None,
        },
        Record::Vni(vni) => vni.freed.as_mut(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record::AddressRecord;

    fn unclaimed(since: u64) -> Record {
        let (pool, address) = ("p".to_owned(), "10.0.0.2".parse().unwrap());
        Record::Address(AddressRecord { pool, address, holder: Holder::Unclaimed { since } })
    }

    #[test]
    fn times_of_another_clock_count_from_now() {
        let after = |before: u64, rebooted: bool| {
            let mut records = [unclaimed(before)];
            restart_periods(&mut records, 5000, rebooted);
            records == [unclaimed(5000)]
        };
        assert!(after(1_790_000_000, false), "the time of day of an earlier release");
        assert!(after(90, true), "another boot");
        assert!(!after(4990, false), "an earlier life of this boot");
    }

    #[test]
    fn it_runs_forward_and_is_not_the_time_of_day() {
        let first = now();
        assert!(first <= now() && first < 1_000_000_000);
    }
}
