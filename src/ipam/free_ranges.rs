//! The set of free addresses of a range, stored as runs of consecutive addresses.
//!
//! Pure. Memory grows with the number of gaps, not of addresses, so a /8 and an IPv6 /64 cost as little as a
//! /28; every operation is one or two tree lookups.

use std::collections::BTreeMap;

/// The free addresses between two bounds. Invariant: runs lie within the bounds, and between two of them is at
/// least one allocated address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeRuns {
    bounds: Option<(u128, u128)>,
    /// First address of a run, and its last.
    runs: BTreeMap<u128, u128>,
}

impl FreeRuns {
    /// All of `first..=last` is free; the set is empty if `first > last`.
    pub fn new(first: u128, last: u128) -> Self {
        let bounds = (first <= last).then_some((first, last));
        Self { bounds, runs: bounds.into_iter().collect() }
    }

    /// Allocates `address`; false if it is already allocated or out of bounds.
    pub fn take(&mut self, address: u128) -> bool {
        let Some((first, last)) = self.run_of(address) else { return false };
        if first < address {
            self.runs.insert(first, address - 1);
        } else {
            self.runs.remove(&first);
        }
        if address < last {
            self.runs.insert(address + 1, last);
        }
        true
    }

    /// Frees `address`; false if it is free or out of bounds.
    pub fn give_back(&mut self, address: u128) -> bool {
        let within = self.bounds.is_some_and(|(first, last)| (first..=last).contains(&address));
        if !within || self.run_of(address).is_some() {
            return false;
        }
        let before = address.checked_sub(1).and_then(|left| self.run_of(left));
        let after = address.checked_add(1).and_then(|right| self.runs.remove(&right));
        let first = before.map_or(address, |(first, _)| first);
        self.runs.insert(first, after.unwrap_or(address));
        true
    }

    /// The first free address from `cursor` on; wraps around after the last one.
    pub fn next_from(&self, cursor: u128) -> Option<u128> {
        if self.run_of(cursor).is_some() {
            return Some(cursor);
        }
        let next = self.runs.range(cursor..).next().or_else(|| self.runs.first_key_value());
        next.map(|(first, _)| *first)
    }

    /// The free addresses from `cursor` on, then those before it.
    pub fn all_from(&self, cursor: u128) -> impl Iterator<Item = u128> {
        let first = self.run_of(cursor).map(|(_, last)| cursor..=last);
        let after = self.runs.range(cursor.saturating_add(u128::from(first.is_some()))..);
        let before = self.runs.range(..cursor).map(move |(first, last)| *first..=(*last).min(cursor - 1));
        first.into_iter().chain(after.map(|(first, last)| *first..=*last)).chain(before).flatten()
    }

    /// The number of addresses within the bounds, free or not; saturates for an IPv6 /0.
    pub fn size(&self) -> u128 {
        self.bounds.map_or(0, |(first, last)| (last - first).saturating_add(1))
    }

    /// The number of runs, which determines memory use.
    pub fn fragments(&self) -> usize {
        self.runs.len()
    }

    fn run_of(&self, address: u128) -> Option<(u128, u128)> {
        let (first, last) = self.runs.range(..=address).next_back()?;
        (*last >= address).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn splits_and_joins() {
        let mut free = FreeRuns::new(10, 20);
        assert!(free.take(15) && !free.take(15) && !free.take(9) && !free.take(21));
        assert_eq!(free.runs, [(10, 14), (16, 20)].into());
        assert!(free.take(10) && free.take(20) && free.take(16));
        assert_eq!(free.runs, [(11, 14), (17, 19)].into());
        assert!(free.give_back(15) && !free.give_back(15) && !free.give_back(9) && !free.give_back(12));
        assert_eq!(free.runs, [(11, 15), (17, 19)].into());
        assert!(free.give_back(16) && free.give_back(20) && free.give_back(10));
        assert_eq!(free, FreeRuns::new(10, 20));
        assert_eq!(free.size(), 11);
    }

    #[test]
    fn goes_round() {
        let mut free = FreeRuns::new(10, 12);
        assert_eq!([0, 10, 11, 13, u128::MAX].map(|cursor| free.next_from(cursor)), [10, 10, 11, 10, 10].map(Some));
        free.take(11);
        assert_eq!(free.next_from(11), Some(12));
        free.take(12);
        assert_eq!(free.next_from(11), Some(10));
        free.take(10);
        assert_eq!(free.next_from(11), None);
    }

    #[test]
    fn takes_the_extremes() {
        let mut free = FreeRuns::new(0, u128::MAX);
        assert_eq!(free.size(), u128::MAX);
        assert!(free.take(0) && free.take(u128::MAX));
        assert_eq!(free.runs, [(1, u128::MAX - 1)].into());
        assert!(free.give_back(0) && free.give_back(u128::MAX));
        assert_eq!(free, FreeRuns::new(0, u128::MAX));
        let mut none = FreeRuns::new(2, 1);
        assert!(!none.take(1) && !none.give_back(1) && none.next_from(0).is_none() && none.size() == 0);
        assert!(FreeRuns::new(7, 7).take(7));
    }

    #[derive(Debug, Clone)]
    enum Action {
        Take(u128),
        GiveBack(u128),
        NextFrom(u128),
    }

    const SIZE: u128 = 64;

    fn action() -> impl Strategy<Value = Action> {
        // Two addresses beyond the last one.
        let address = 0..SIZE + 2;
        prop_oneof![
            address.clone().prop_map(Action::Take),
            address.clone().prop_map(Action::GiveBack),
            address.prop_map(Action::NextFrom),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(actions in vec(action(), 0..400)) {
            let (mut free, mut model) = (FreeRuns::new(0, SIZE - 1), (0..SIZE).collect::<BTreeSet<_>>());
            for action in actions {
                match action {
                    Action::Take(at) => prop_assert_eq!(free.take(at), model.remove(&at)),
                    Action::GiveBack(at) => prop_assert_eq!(free.give_back(at), at < SIZE && model.insert(at)),
                    Action::NextFrom(at) => {
                        let next = model.range(at..).next().or_else(|| model.first());
                        prop_assert_eq!(free.next_from(at), next.copied());
                        let all: Vec<_> = model.range(at..).chain(model.range(..at)).copied().collect();
                        prop_assert_eq!(free.all_from(at).collect::<Vec<_>>(), all);
                    }
                }
                let runs = model.iter().filter(|at| **at == 0 || !model.contains(&(**at - 1))).count();
                prop_assert_eq!(free.fragments(), runs);
            }
        }
    }
}
