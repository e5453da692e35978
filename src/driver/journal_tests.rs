use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use super::*;
use crate::model::{EndpointId, NetworkId};
use crate::state::record::PoolRecord;

/// A state directory that is removed with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pontoon-journal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn journal(&self) -> (Journal, Receiver<Event>) {
        let (events, sent) = Events::queue();
        (Journal::new(Ledger::open(&self.0, "boot").unwrap().ledger, events), sent)
    }

    /// What the next process finds.
    fn records(&self) -> Vec<Record> {
        Ledger::open_read_only(&self.0, "boot").unwrap().records
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pool(id: &str) -> Record {
    let (id, space) = (id.to_owned(), "local".to_owned());
    Record::Pool(PoolRecord { id, space, subnet: "10.0.0.0/24".parse().unwrap(), range: None, vlan: None, used: false })
}

fn gone(id: &str) -> Record {
    Record::NoPool { id: id.to_owned() }
}

#[test]
fn a_pending_tombstone_is_written_before_the_next_record() {
    let dir = Dir::new("order");
    drop(dir.journal().0.write(&[pool("a"), pool("b")]));
    // A directory at the path of the new file lets every write fail.
    let obstacle = dir.0.join("ledger.new");
    std::fs::create_dir(&obstacle).unwrap();
    let (journal, _) = dir.journal();
    journal.write(&[pool("c")]).unwrap_err();
    journal.write_or_defer(vec![gone("a")]).unwrap_err();
    journal.retry_pending();
    assert_eq!(dir.records().len(), 2, "nothing can be written");
    std::fs::remove_dir(&obstacle).unwrap();
    // The pool exists again: a tombstone written after its record would delete it.
    journal.write(&[pool("a")]).unwrap();
    assert_eq!(dir.records(), [pool("a"), pool("b")]);
    journal.write(&[gone("a")]).unwrap();
    journal.write(&[pool("a")]).unwrap();
    journal.retry_pending();
    assert_eq!(dir.records(), [pool("a"), pool("b")], "a written tombstone is not pending");
}

#[test]
fn a_pending_tombstone_is_written_without_another_record() {
    let dir = Dir::new("retry");
    drop(dir.journal().0.write(&[pool("a")]));
    let obstacle = dir.0.join("ledger.new");
    std::fs::create_dir(&obstacle).unwrap();
    let (journal, _) = dir.journal();
    journal.write_or_defer(vec![gone("a")]).unwrap_err();
    std::fs::remove_dir(&obstacle).unwrap();
    journal.retry_pending();
    assert_eq!(dir.records(), []);
}

#[test]
fn compaction_is_requested_once_and_again_after_it_succeeded() {
    let dir = Dir::new("compact");
    let (journal, sent) = dir.journal();
    let (network, id) = (NetworkId::parse("n").unwrap(), EndpointId::parse("e").unwrap());
    let tombstone = Record::NoEndpoint { network, id };
    let requests = |journal: &Journal| {
        for _ in 0..20 {
            journal.write(&vec![tombstone.clone(); 2000]).unwrap();
        }
        sent.try_iter().collect::<Vec<_>>()
    };
    assert_eq!(requests(&journal), [Event::LedgerBacklog]);
    assert_eq!(requests(&journal), []);
    journal.compact();
    assert_eq!(requests(&journal), [Event::LedgerBacklog]);
}
