//! Polls the engine for networks and their services, on a separate thread.
//!
//! The engine does not answer queries about a network while a container is joining it. That is when a container
//! needs its service addresses; so callers never wait, and use the last answer. Called by the app for `pontoon
//! vip`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Network;
use crate::client::{Client, ClientError};

/// The polling interval for services.
const PERIOD: Duration = Duration::from_millis(250);

/// Least time between two polls, even after a request to poll at once.
const PAUSE: Duration = Duration::from_millis(20);

/// The polling interval for the list of networks, unless a poll is requested.
const LISTING: Duration = Duration::from_secs(2);

/// Networks by id, or why the engine does not answer.
pub type Heard = Result<BTreeMap<String, Network>, String>;

/// The engine's last answer.
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
    /// Starts to poll the engine for the networks of a driver. The thread ends when this value is dropped.
    ///
    /// # Errors
    /// The thread or the event loop could not be created.
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

    /// The answer since the last call; `None` if there is no new one.
    pub fn heard(&self) -> Option<Heard> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Requests a poll now.
    pub fn hurry(&self) {
        // A request is already pending, or the thread has ended: then no more answers arrive, which is detected.
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
            // A network that is still being created lacks fields and is left out.
            networks.extend(Network::read(&listed).map(|network| (network.id.clone(), network)));
        }
        Ok(networks)
    }
}
