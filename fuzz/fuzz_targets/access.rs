//! Fuzzing of allow lists: what parses prints, reads back as the same value and expands to disjoint ranges; what does not
//! parse is refused by one bounded line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pontoon::model::access::expand::{expand, expand_beyond};
use pontoon::model::{AllowList, NetworkId, NetworkOptions, NetworkSpec, Subnet};

fn network() -> NetworkSpec {
    let subnet = |pool: &str| Subnet { pool: pool.parse().unwrap(), gateway: None, default_gateway: None, aux: vec![] };
    NetworkSpec {
        id: NetworkId::parse("n").unwrap(),
        v4: Some(subnet("10.1.0.0/24")),
        v6: Some(subnet("fd00:1::/64")),
        internal: false,
        options: NetworkOptions::default(),
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let list: AllowList = match text.parse() {
        Ok(list) => list,
        Err(error) => {
            let line = format!("{error}");
            // 40 characters, each shown as up to 10.
            assert!(line.len() < 700 && !line.contains(char::is_control), "{line}");
            assert!((1..=text.chars().count() + 1).contains(&error.position));
            return;
        }
    };
    let printed = list.to_string();
    assert_eq!(printed.parse::<AllowList>().as_ref(), Ok(&list));
    let ledger = serde_json::to_string(&list).unwrap();
    assert_eq!(serde_json::from_str::<AllowList>(&ledger).unwrap(), list);
    let network = network();
    let ranges = expand(&list, &network).addresses;
    for (at, (one, first, last)) in ranges.iter().enumerate().take(200) {
        assert!(first <= last && first.is_ipv4() == last.is_ipv4());
        let overlaps = ranges[..at].iter().any(|(other, from, to)| {
            let both = |a: (u16, u16), b: (u16, u16)| a.0 <= b.1 && b.0 <= a.1;
            let wide = |a: (u8, u8)| (a.0.into(), a.1.into());
            both(wide(one.protocols), wide(other.protocols))
                && both(one.ports, other.ports)
                && first.is_ipv4() == from.is_ipv4()
                && first <= to
                && from <= last
        });
        assert!(!overlaps, "{printed}");
    }
    assert_eq!(expand_beyond(&list, &list, &network).ranges(), 0);
});
