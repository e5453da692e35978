use super::*;
use std::collections::BTreeSet;

#[test]
fn each_set_is_there_once_and_nft_can_hold_its_name() {
    let names: BTreeSet<_> = Set::ALL.iter().map(|set| (set.spec().family, set.spec().name)).collect();
    assert_eq!(names.len(), Set::ALL.len());
    for set in Set::ALL {
        let spec = set.spec();
        assert!(len(spec.key) <= 64 && len(spec.value) <= 64 && spec.comment.len() < 120, "{set:?}");
    }
    assert_eq!((len(Set::Port4.spec().key), len(Set::At6.spec().key), len(Set::Port6.spec().value)), (8, 24, 20));
    assert_eq!((kind(Set::Port4.spec().key), kind(&[])), ((12 << 6) | 13, 0));
    assert_eq!(Set::Allow4.spec().flags(), FLAG_CONCAT | FLAG_INTERVAL);
    assert_eq!(Set::Snat6.spec().flags(), FLAG_MAP | FLAG_INTERVAL);
}
