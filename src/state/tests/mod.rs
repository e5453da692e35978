//! The ledger as its callers see it, in a directory per test.

mod found;
mod promised;
mod round_trip;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::*;
use crate::model::{EndpointId, NetworkId};
use crate::state::record::{AddressRecord, Holder, PoolRecord};

const BOOT: &str = "b1";

struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pontoon-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file("ledger")).unwrap()
    }
    /// Creates the directory and a ledger with these bytes.
    fn with(bytes: &[u8]) -> Self {
        let dir = Self::new();
        fs::create_dir_all(&dir.0).unwrap();
        fs::write(dir.file("ledger"), bytes).unwrap();
        dir
    }
    fn open(&self) -> Opened {
        Ledger::open(&self.0, BOOT).unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pool(id: &str) -> Record {
    let subnet = id.rsplit_once("local/").unwrap().1.parse().unwrap();
    Record::Pool(PoolRecord {
        id: id.into(),
        space: "pontoon-local".into(),
        subnet,
        range: None,
        vlan: None,
        used: true,
    })
}

fn address(last: u8, holder: Holder) -> Record {
    Record::Address(AddressRecord { pool: POOL.into(), address: [10, 0, 0, last].into(), holder })
}

fn free(last: u8) -> Record {
    Record::NoAddress { pool: POOL.into(), address: [10, 0, 0, last].into() }
}

fn endpoint(network: &str, id: &str) -> Record {
    serde_json::from_value(serde_json::json!({
        "put": "endpoint", "spec": {"network": network, "id": id}, "attachment": {"veth": {"host": "pnth0", "peer": "pntc0"}},
        "mac": "02:00:00:00:00:01", "phase": "ready"
    }))
    .unwrap()
}

fn network(id: &str) -> Record {
    serde_json::from_value(serde_json::json!({
        "put": "network", "spec": {"id": id, "options": crate::model::NetworkOptions::default()},
        "kind": {"bridge": {"bridge": "pntb0"}}, "mtu": 1500
    }))
    .unwrap()
}

const POOL: &str = "pontoon-local/10.0.0.0/24";

/// Transactions that write every kind of record.
fn story() -> Vec<Vec<Record>> {
    let held =
        Holder::Endpoint { network: NetworkId::parse("n1").unwrap(), endpoint: EndpointId::parse("e1").unwrap() };
    vec![
        vec![Record::Ula { prefix: "fd00:1:2::/48".parse().unwrap() }, pool(POOL)],
        vec![address(1, Holder::Gateway), address(9, Holder::Aux)],
        vec![network("n1")],
        vec![address(3, Holder::Unclaimed { since: 7 })],
        vec![address(2, Holder::Unclaimed { since: 8 })],
        vec![endpoint("n1", "e1"), address(3, held)],
    ]
}

/// A ledger with `story`, one line for each transaction after the header, and its bytes.
fn written() -> (TempDir, Vec<u8>) {
    let dir = TempDir::new();
    let opened = dir.open();
    assert_eq!(opened.outcome, Outcome::Absent);
    for transaction in story() {
        opened.ledger.append(&transaction).unwrap();
    }
    drop(opened);
    let bytes = dir.bytes();
    (dir, bytes)
}

/// The live facts after the first `count` transactions of the story.
fn alive(count: usize) -> Vec<Record> {
    let mut facts = Snapshot::default();
    story().into_iter().take(count).flatten().for_each(|record| facts.apply(record));
    facts.into_records()
}
