use std::collections::BTreeSet;

use super::*;

#[test]
fn each_set_exists_once_and_nft_can_hold_its_comment() {
    let names: BTreeSet<_> = Set::ALL.iter().map(|set| (set.spec().family, set.spec().name)).collect();
    assert_eq!(names.len(), Set::ALL.len());
    for set in Set::ALL {
        assert!(set.spec().comment.len() < 120, "{set:?}");
    }
}

#[test]
fn former_names_belong_to_sets_and_are_free_now() {
    let names: BTreeSet<_> = Set::ALL.iter().map(|set| set.spec().name).collect();
    for (now, former) in FORMER_NAMES {
        assert!(names.contains(now) && !names.contains(former), "{now}, {former}");
    }
}
