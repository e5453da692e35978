//! A damaged ledger: truncated at every byte, with every bit flipped, of a newer release. It is read by the library
//! itself, on the fake kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pontoon::datapath::fake::FakeKernel;
use pontoon::driver::{Driver, Events, Settings};
use pontoon::state::record::Record;
use pontoon::state::{Ledger, Opened, Outcome};

use super::engine::Engine;
use super::fixture;
use super::host::Host;

/// A ledger as written by a real Pontoon: networks, containers, published ports.
fn sample_ledger() -> Vec<u8> {
    let host = Host::new();
    fixture::add_foreign_objects(&host);
    let mut engine = Engine::new(&host, "f", 3);
    fixture::bystanders(&mut engine);
    let network = engine.create_network("10.77.0.0/24").unwrap();
    engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353)]).unwrap();
    host.kill();
    fs::read(host.paths.ledger()).unwrap()
}

fn state_dir(name: &str) -> PathBuf {
    let dir = PathBuf::from(format!("/dev/shm/pontoon-damage-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn boot(bytes: &[u8]) -> String {
    let header = str::from_utf8(&bytes[9..bytes.iter().position(|b| *b == b'\n').unwrap()]).unwrap();
    serde_json::from_str::<serde_json::Value>(header).unwrap()["boot"].as_str().unwrap().to_owned()
}

fn open(dir: &Path, bytes: &[u8], boot: &str) -> Opened {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("ledger"), bytes).unwrap();
    Ledger::open(dir, boot).expect("damage is no error")
}

/// All records of all lines of the ledger.
fn written(bytes: &[u8]) -> Vec<Record> {
    let lines = bytes.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty());
    lines
        .flat_map(|line| match serde_json::from_slice::<Vec<Record>>(&line[9..]) {
            Ok(records) => records,
            Err(error) => panic!("{error}"),
        })
        .collect()
}

/// Asserts that only written records were read, and that damage is reported.
fn check(opened: &Opened, whole: &[Record], written: &[Record], what: &str, dir: &Path) {
    for record in &opened.records {
        assert!(written.contains(record), "{what}: {record:?} was never written");
    }
    match &opened.outcome {
        Outcome::Loaded => {
            assert!(opened.records.iter().all(|record| written.contains(record)), "{what}");
        }
        Outcome::Torn { dropped } => assert!(*dropped > 0, "{what}"),
        outcome @ Outcome::Corrupt { kept, .. } => {
            let text = outcome.to_string();
            assert!(kept.starts_with(dir) && kept.exists(), "{what}: the damaged file is not preserved");
            assert!(text.contains("damaged in line") && text.contains("recreate"), "{what}: {text}");
        }
        Outcome::TooNew { .. } => assert!(opened.records.is_empty(), "{what}"),
        Outcome::Absent => panic!("{what}: regarded as a first start"),
    }
    let lost = opened.records.len() < whole.len();
    assert!(!lost || !matches!(opened.outcome, Outcome::Absent), "{what}: a silent reset");
}

#[test]
fn a_ledger_truncated_at_any_byte_is_read_up_to_there() {
    let bytes = sample_ledger();
    let (dir, boot, written) = (state_dir("cut"), boot(&bytes), written(&bytes));
    let whole = open(&dir, &bytes, &boot).records;
    for len in 0..bytes.len() {
        let opened = open(&dir, &bytes[..len], &boot);
        check(&opened, &whole, &written, &format!("truncated at {len}"), &dir);
        // An empty file does not count as a first start either.
        let at_line = len > 0 && bytes[len - 1] == b'\n';
        assert_eq!(matches!(opened.outcome, Outcome::Loaded), at_line, "truncated at {len}: {:?}", opened.outcome);
    }
    println!("ledger of {} bytes: {} truncations", bytes.len(), bytes.len());
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn a_ledger_with_any_bit_flipped_is_detected_and_salvaged() {
    let bytes = sample_ledger();
    let (dir, boot, written) = (state_dir("bit"), boot(&bytes), written(&bytes));
    let whole = open(&dir, &bytes, &boot).records;
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    for bit in 0..bytes.len() * 8 {
        let mut turned = bytes.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        let opened = open(&dir, &turned, &boot);
        let what = format!("bit {bit} flipped");
        check(&opened, &whole, &written, &what, &dir);
        assert!(!matches!(opened.outcome, Outcome::Loaded), "{what}: the damage was not detected");
        if let Outcome::Corrupt { lost, .. } = opened.outcome {
            assert!(lost <= 2, "{what}: {lost} of {lines} lines lost");
        }
    }
    println!("ledger of {} bytes: {} bits flipped", bytes.len(), bytes.len() * 8);
    let _ = fs::remove_dir_all(dir);
}

/// Whatever the damage, the next start removes no unknown link from the kernel.
#[test]
fn no_damage_removes_a_link_from_the_kernel() {
    let bytes = sample_ledger();
    let (dir, boot) = (state_dir("links"), boot(&bytes));
    let kernel = Arc::new(FakeKernel::new());
    let life = |opened: Opened| {
        let driver =
            Driver::load(opened, Arc::<FakeKernel>::clone(&kernel), Settings::default(), Events::none(), Vec::new);
        driver.start().expect("the fake kernel does not fail");
        driver.tick();
    };
    // The fake kernel cannot create the pairs of joined endpoints again: mark them as not yet joined.
    let text = String::from_utf8(bytes.clone()).unwrap().replace("\"phase\":\"joined\"", "\"phase\":\"ready\"");
    let ready: String =
        text.lines().map(|line| format!("{:08x} {}\n", crc32fast::hash(&line.as_bytes()[9..]), &line[9..])).collect();
    life(open(&dir, ready.as_bytes(), &boot));
    let (links, veths) = {
        let datapath = kernel.datapath();
        (datapath.bridges().len(), datapath.veths().len())
    };
    assert_eq!((links, veths), (2, 3));
    for at in (0..ready.len()).step_by(7) {
        let mut damaged = ready.clone().into_bytes();
        damaged[at] = damaged[at].wrapping_add(1);
        life(open(&dir, &damaged, &boot));
        let datapath = kernel.datapath();
        assert_eq!((datapath.bridges().len(), datapath.veths().len()), (links, veths), "byte {at} changed");
    }
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn a_ledger_of_another_release_is_read_or_left_unchanged() {
    let bytes = sample_ledger();
    let (dir, boot) = (state_dir("format"), boot(&bytes));
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let written_as = |version: u32| {
        let mut header: serde_json::Value = serde_json::from_slice(&bytes[9..end]).unwrap();
        header["version"] = version.into();
        let json = header.to_string();
        let mut ledger = format!("{:08x} {json}", crc32fast::hash(json.as_bytes())).into_bytes();
        ledger.extend_from_slice(&bytes[end..]);
        ledger
    };
    let [older, same] = ["v2.ledger", "v3.ledger"].map(|file| {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state");
        open(&dir, &fs::read(fixtures.join(file)).unwrap(), "b1")
    });
    assert!(matches!(older.outcome, Outcome::Loaded), "{:?}", older.outcome);
    assert_eq!(older.records, same.records);
    let newer = written_as(99);
    let opened = open(&dir, &newer, &boot);
    assert!(matches!(opened.outcome, Outcome::TooNew { found: 99, .. }), "{:?}", opened.outcome);
    assert_eq!(fs::read(dir.join("ledger")).unwrap(), newer, "the file is unchanged");
    let text = opened.outcome.to_string();
    assert!(text.contains("newer Pontoon") && text.contains("install"), "{text}");
    let _ = fs::remove_dir_all(dir);
}
