//! Owns asking the engine which networks there are and what their services are: on a thread of its
//! own, again and again.
//!
//! The engine lets nobody look at a network while a container comes to it. Just then a container
//! wants its service addresses; so nobody waits here, and what was heard last counts.
//! Called by the app for `pontoon vip`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Network;
use crate::client::{Client, ClientError};

/// How often services are looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// How long it takes at least from one look to the next, hurry or not.
const PAUSE: Duration = Duration::from_millis(20);

/// How often the engine is asked which networks there are, unless somebody is in a hurry.
const LISTING: Duration = Duration::from_secs(2);

/// Networks by their ids, or why the engine does not tell.
pub type Heard = Result<BTreeMap<String, Network>, String>;

/// What the engine said last.
#[derive(Debug)]
pub struct Feed {
    last: Arc<Mutex<Option<Heard>>>,
    hurry: SyncSender<()>,
}

struct Listener {
    client: Client,
    driver: String,
    ids: BTreeSet<String>,
    listed: Option<Instant>,
}

impl Feed {
    /// Starts to ask the engine for the networks of a driver. The thread ends by itself when this is
    /// dropped.
    ///
    /// # Errors
    /// No thread, or no event loop.
    pub fn start(docker: &Path, driver: &str) -> io::Result<Self> {
        let client = Client::new(docker, "docker").map_err(io::Error::other)?;
        let mut listener = Listener { client, driver: driver.to_owned(), ids: BTreeSet::new(), listed: None };
        let (hurry, hurried) = sync_channel(1);
        let last = Arc::new(Mutex::new(None));
        let theirs = Arc::clone(&last);
        let listen = move || listener.listen(&theirs, &hurried);
        std::thread::Builder::new().name("feed".to_owned()).spawn(listen)?;
        Ok(Self { last, hurry })
    }

    /// What was heard since the last call; `None` for nothing new.
    pub fn heard(&self) -> Option<Heard> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Has the engine be asked now.
    pub fn hurry(&self) {
        // It is under way already, or has ended: then nothing is heard any more, which shows.
        let _ = self.hurry.try_send(());
    }
}

impl Listener {
    fn listen(&mut self, last: &Mutex<Option<Heard>>, hurried: &Receiver<()>) {
        let mut hurry = true;
        loop {
            let heard = self.ask(hurry).map_err(|error| error.to_string());
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
            std::thread::sleep(PAUSE);
            hurry = match hurried.recv_timeout(PERIOD - PAUSE) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    }

    fn ask(&mut self, hurry: bool) -> Result<BTreeMap<String, Network>, ClientError> {
        if hurry || self.listed.is_none_or(|listed| listed.elapsed() >= LISTING) {
            let all: Vec<Value> = self.client.get("/networks")?;
            let ours = all.iter().filter(|one| one["Driver"] == self.driver.as_str() && one["Scope"] == "swarm");
            self.ids = ours.filter_map(|network| network["Id"].as_str()).map(str::to_owned).collect();
            self.listed = Some(Instant::now());
        }
        let mut networks = BTreeMap::new();
        for id in &self.ids {
            let listed: Value = match self.client.get(&format!("/networks/{id}?verbose=true")) {
                Err(error) if error.is_not_found() => continue,
                result => result?,
            };
            // One that is only half made has nothing yet.
            networks.extend(Network::read(&listed).map(|network| (network.id.clone(), network)));
        }
        Ok(networks)
    }
}
