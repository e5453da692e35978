//! Every condition in which a ledger can be found, and how it is handled.

use super::*;

#[test]
fn absent_then_loaded_in_order_of_the_last_put() {
    let (dir, _) = written();
    let opened = dir.open();
    assert_eq!(opened.outcome, Outcome::Loaded);
    assert!(!opened.rebooted && opened.quarantined.is_empty() && opened.unwritten.is_none());
    let story: Vec<Record> = story().concat();
    let held = story[8].clone();
    let expected = [&story[0], &story[1], &story[2], &story[3], &story[6], &held, &story[4], &story[7]];
    assert_eq!(opened.records.iter().collect::<Vec<_>>(), expected);
    let compacted = dir.bytes();
    assert_eq!(compacted.iter().filter(|b| **b == b'\n').count(), 1 + expected.len());
    drop(opened);
    assert_eq!(dir.open().records.len(), expected.len());
    assert_eq!(dir.bytes(), compacted);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(dir.0.clone()), mode(dir.file("ledger"))), (0o700, 0o600));
}

#[test]
fn a_reboot_voids_what_described_running_containers() {
    let (dir, _) = written();
    let opened = Ledger::open(&dir.0, "b2\n").unwrap();
    assert!(opened.rebooted);
    let expected = [
        Record::Ula { prefix: "fd00:1:2::/48".parse().unwrap() },
        pool(POOL),
        address(1, Holder::Gateway),
        address(9, Holder::Aux),
        address(2, Holder::Stale),
        network("n1"),
    ];
    assert_eq!(opened.records, expected);
    drop(opened);
    let again = Ledger::open(&dir.0, "b2").unwrap();
    assert!(!again.rebooted);
    assert_eq!(again.records, expected);
}

#[test]
fn what_ended_before_a_compaction_is_proved_also_after_later_ends() {
    let dir = TempDir::new();
    let opened = dir.open();
    let end =
        |id: &str| Record::NoEndpoint { network: NetworkId::parse("n1").unwrap(), id: EndpointId::parse(id).unwrap() };
    opened.ledger.append(&[network("n1"), endpoint("n1", "e1"), endpoint("n1", "e2")]).unwrap();
    opened.ledger.append(&[end("e1")]).unwrap();
    opened.ledger.compact().unwrap();
    // The link of e1 is not deleted yet when the process ends.
    opened.ledger.append(&[end("e2")]).unwrap();
    drop(opened);
    assert_eq!(dir.open().former, [endpoint("n1", "e1"), endpoint("n1", "e2")]);
}

#[test]
fn cut_at_every_byte_it_is_a_prefix_of_the_transactions() {
    let (_dir, bytes) = written();
    let ends: Vec<usize> = (1..=bytes.len()).filter(|at| bytes[at - 1] == b'\n').collect();
    for cut in 0..=bytes.len() {
        let found = replay(&bytes[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        match found.ending {
            Ending::Damaged { line: 1, lost: 1, .. } => assert!(cut < ends[0], "{cut}"),
            Ending::Whole => assert!(ends.contains(&cut), "{cut}"),
            Ending::Torn { dropped } => assert_eq!(dropped as usize, cut - ends[whole - 1]),
            other => panic!("{cut}: {other:?}"),
        }
        assert_eq!(found.facts.into_records(), alive(whole.saturating_sub(1)), "{cut}");
    }
    // Around the end of each line also on disk, where every open costs a few syncs.
    for cut in [0].into_iter().chain(ends.iter().flat_map(|end| [end - 1, *end, end + 1])) {
        let cut = cut.min(bytes.len());
        let dir = TempDir::with(&bytes[..cut]);
        let opened = dir.open();
        match &opened.outcome {
            Outcome::Corrupt { kept, .. } => {
                assert_eq!((cut < ends[0], fs::read(kept).unwrap()), (true, bytes[..cut].into()))
            }
            Outcome::Loaded => assert!(ends.contains(&cut), "{cut}"),
            Outcome::Torn { .. } => assert!(cut > ends[0] && !ends.contains(&cut), "{cut}"),
            other => panic!("{cut}: {other:?}"),
        }
        // In every case later records are written to an intact ledger.
        opened.ledger.append(&[free(1)]).unwrap();
        drop(opened);
        assert_eq!(dir.open().outcome, Outcome::Loaded, "{cut}");
    }
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let (_dir, bytes) = written();
    let whole = alive(usize::MAX);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let found = replay(&damaged);
            assert!(matches!(found.ending, Ending::Torn { .. } | Ending::Damaged { .. }), "{at}.{bit}: {found:?}");
            // What is left was true at some time: damage removes facts, it never alters one.
            for record in found.facts.into_records() {
                let known = whole.contains(&record) || (0..=story().len()).any(|n| alive(n).contains(&record));
                assert!(known, "{at}.{bit}: {record:?}");
            }
        }
    }
}

#[test]
fn damage_is_quarantined_and_the_rest_salvaged() {
    let (_dir, bytes) = written();
    let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 20;
    let mut damaged = bytes.clone();
    damaged[second] ^= 1;
    let dir = TempDir::with(&damaged);
    fs::write(dir.file("ledger.corrupt-1"), "older").unwrap();
    let opened = dir.open();
    let kept = dir.file("ledger.corrupt-2");
    let Outcome::Corrupt { line: 2, what, kept: named, lost: 1 } = &opened.outcome else {
        panic!("{:?}", opened.outcome)
    };
    assert_eq!((what.as_str(), named), ("its checksum does not match", &kept));
    assert_eq!(fs::read(&kept).unwrap(), damaged);
    assert_eq!(opened.quarantined, [dir.file("ledger.corrupt-1"), kept.clone()]);
    let salvaged: Vec<Record> =
        alive(9).into_iter().filter(|r| !matches!(r, Record::Ula { .. } | Record::Pool(_))).collect();
    assert_eq!(opened.records, salvaged);
    opened.ledger.append(&[pool(POOL)]).unwrap();
    drop(opened);
    // The degraded state persists across the restart until an operator has removed the file.
    let again = dir.open();
    assert_eq!((again.outcome, again.quarantined.len()), (Outcome::Loaded, 2));
    assert_eq!(fs::read(&kept).unwrap(), damaged);
}

#[test]
fn damage_is_not_absence() {
    for bytes in ["", "\n", "hello", "00000000 {}\n", "\0\0\0\0"] {
        let dir = TempDir::with(bytes.as_bytes());
        let opened = dir.open();
        assert!(matches!(opened.outcome, Outcome::Corrupt { line: 1, .. }), "{bytes:?}: {:?}", opened.outcome);
        assert!(!opened.rebooted);
    }
    let (dir, _) = written();
    drop(dir.open());
    fs::remove_file(dir.file("ledger")).unwrap();
    let opened = dir.open();
    let Outcome::Corrupt { line: 0, what, lost: 0, .. } = opened.outcome else { panic!("{:?}", opened.outcome) };
    assert!(what.contains("ledger.prev"));
    assert_eq!(opened.records, alive(9));
}

#[test]
fn a_readable_line_of_nonsense_is_damage_even_at_the_end() {
    let (_dir, mut bytes) = written();
    codec::encode(r#"[{"put":"weather"}]"#, &mut bytes);
    let opened = TempDir::with(&bytes).open();
    let Outcome::Corrupt { line: 8, what, lost: 1, .. } = opened.outcome else { panic!("{:?}", opened.outcome) };
    assert!(what.contains("does not decode") && what.contains("weather"), "{what}");
    assert_eq!(opened.records, alive(9));
}

#[test]
fn the_ledger_of_a_newer_release_is_left_alone() {
    let mut bytes = Vec::new();
    encode(Path::new(""), &Header::new(4, BOOT), &mut bytes).unwrap();
    bytes.extend_from_slice(b"who knows\n");
    let dir = TempDir::with(&bytes);
    let opened = dir.open();
    assert_eq!(opened.outcome, Outcome::TooNew { found: 4, known: 3 });
    assert!(opened.records.is_empty() && !opened.ledger.compact_due());
    for error in [opened.ledger.append(&[free(1)]), opened.ledger.append(&[]), opened.ledger.compact().map(drop)] {
        let text = error.unwrap_err().to_string();
        assert!(text.contains("/ledger: its format is 4 and this release knows up to 3; install"), "{text}");
    }
    drop(opened);
    assert_eq!(dir.bytes(), bytes);
    assert!(!dir.file("ledger.prev").exists());
}

#[test]
fn every_format_still_loads() {
    macro_rules! fixture {
        ($file:literal) => {
            include_str!(concat!("../../../tests/fixtures/state/", $file))
        };
    }
    let versions = [
        (fixture!("v1.ledger"), fixture!("v1.records.json")),
        (fixture!("v2.ledger"), fixture!("v2.records.json")),
        (fixture!("v3.ledger"), fixture!("v3.records.json")),
    ];
    for (ledger, records) in versions {
        loads(ledger.as_bytes(), records);
    }
}

fn loads(bytes: &[u8], records: &str) {
    let dir = TempDir::with(bytes);
    let opened = dir.open();
    assert_eq!(opened.outcome, Outcome::Loaded);
    // Compared as JSON, so that a field with a default may be added but none be lost or renamed.
    let expected: Vec<Value> = serde_json::from_str(records).unwrap();
    let found: Vec<Value> = opened.records.iter().map(|record| serde_json::to_value(record).unwrap()).collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!(includes(found, expected), "{found:#} lacks something of {expected:#}");
    }
}

fn includes(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(key, value)| found.get(key).is_some_and(|found| includes(found, value)))
        }
        _ => found == expected,
    }
}

#[test]
fn tracked_connections_are_told_of_until_they_are_removed() {
    let (dir, _) = written();
    let at = |network: &str, id: &str, address: &str| {
        let Record::Endpoint(mut endpoint) = endpoint(network, id) else { unreachable!() };
        endpoint.spec.v4 = Some(address.parse().unwrap());
        Record::Endpoint(endpoint)
    };
    let end = |network: &str, id: &str| Record::NoEndpoint {
        network: NetworkId::parse(network).unwrap(),
        id: EndpointId::parse(id).unwrap(),
    };
    let flows = |opened: &Opened| -> Vec<std::net::IpAddr> {
        let flows =
            |record: &Record| if let Record::Flows { addresses } = record { addresses.clone() } else { Vec::new() };
        opened.records.iter().flat_map(flows).collect()
    };
    let opened = dir.open();
    assert!(flows(&opened).is_empty());
    for (id, address) in [("e2", "10.0.0.4/24"), ("e3", "10.0.0.5/24"), ("e4", "10.0.0.6/24")] {
        opened.ledger.append(&[at("n1", id, address)]).unwrap();
    }
    // one that ended, one whose address is in use again, one that was deleted with its network
    opened.ledger.append(&[end("n1", "e2"), end("n1", "e3")]).unwrap();
    opened.ledger.append(&[at("n2", "e5", "10.0.0.5/24")]).unwrap();
    opened.ledger.append(&[Record::NoNetwork { id: NetworkId::parse("n1").unwrap() }]).unwrap();
    // and one that still exists and publishes fewer ports
    let fewer: std::net::IpAddr = [10, 0, 0, 9].into();
    opened.ledger.append(&[Record::Flows { addresses: vec![fewer] }]).unwrap();
    drop(opened);
    let ended: [std::net::IpAddr; 2] = [[10, 0, 0, 4].into(), [10, 0, 0, 6].into()];
    let all = [ended[0], ended[1], fewer];
    assert_eq!(flows(&dir.open()), all);
    let opened = dir.open();
    assert_eq!(flows(&opened), all, "the life before may have had no time for it");
    opened.ledger.append(&[Record::NoFlows { addresses: ended.to_vec() }]).unwrap();
    assert!(opened.ledger.compact().unwrap().is_empty());
    opened.ledger.append(&[end("n2", "e5")]).unwrap();
    assert_eq!(opened.ledger.compact().unwrap(), [std::net::IpAddr::from([10, 0, 0, 5])], "its tombstone is gone");
    drop(opened);
    let opened = dir.open();
    assert_eq!(flows(&opened), [std::net::IpAddr::from([10, 0, 0, 5]), fewer]);
    drop(opened);
    assert!(flows(&Ledger::open(&dir.0, "another boot").unwrap()).is_empty());
}

#[test]
fn whoever_only_looks_changes_nothing_and_holds_up_nobody() {
    let dir = TempDir::new();
    let nothing = Ledger::open_read_only(&dir.0, BOOT).unwrap();
    assert!(nothing.outcome == Outcome::Absent && nothing.records.is_empty() && nothing.holder.is_none());
    assert!(!dir.0.exists(), "not even the directory is made");
    let opened = dir.open();
    opened.ledger.append(&[pool(POOL), address(2, Holder::Unclaimed { since: 7 })]).unwrap();
    let mut bytes = dir.bytes();
    let seen = Ledger::open_read_only(&dir.0, BOOT).unwrap();
    assert_eq!((seen.outcome, seen.records.len(), seen.holder), (Outcome::Loaded, 2, Some(std::process::id())));
    // A line that is being written is not damage; without a writer it is torn.
    bytes.extend_from_slice(b"0123");
    fs::write(dir.file("ledger"), &bytes).unwrap();
    assert_eq!(Ledger::open_read_only(&dir.0, BOOT).unwrap().outcome, Outcome::Loaded);
    drop(opened);
    let seen = Ledger::open_read_only(&dir.0, "another boot").unwrap();
    assert_eq!((seen.outcome, seen.holder), (Outcome::Torn { dropped: 4 }, None));
    let stale = |record: &Record| matches!(record, Record::Address(a) if a.holder == Holder::Stale);
    assert!(seen.records.iter().any(stale), "a reboot counts here too");
    assert_eq!(dir.bytes(), bytes, "nothing was cut off");
}
