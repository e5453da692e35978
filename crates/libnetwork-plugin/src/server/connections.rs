//! The limit on connections. When it is reached, a new connection replaces an idle one: one that never sent a
//! complete request first, then the one idle longest. So neither a thousand idle connections nor as many that
//! send a byte a minute lock the engine out.
//!
//! A connection with a request under way stays until it is answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::RETRY_PAUSE;

/// All open connections.
#[derive(Debug)]
pub(super) struct Connections {
    limit: u32,
    free: Arc<Semaphore>,
    open: Mutex<HashMap<u64, State>>,
}

#[derive(Debug)]
struct State {
    /// Requests that were answered or are under way.
    requests: u64,
    busy: bool,
    evicted: bool,
    /// Since when it is busy or idle.
    since: Instant,
    evict: Arc<Notify>,
}

/// An open connection. Dropping it frees its slot.
#[derive(Debug)]
pub(super) struct Connection {
    connections: Arc<Connections>,
    number: u64,
    evict: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

/// A request of a connection is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Busy<'a>(&'a Connection);

impl Connections {
    /// No connections yet, and at most `limit`.
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { limit, free: Arc::new(Semaphore::new(limit as usize)), open: Mutex::default() })
    }

    /// Waits until none is open.
    pub async fn closed(&self) {
        // The semaphore is never closed.
        let _ = self.free.acquire_many(self.limit).await;
    }

    /// Registers connection `number`, which must be unique; waits while the limit is reached and all are busy.
    pub async fn open(self: &Arc<Self>, number: u64) -> Option<Connection> {
        let permit = loop {
            if self.free.available_permits() == 0 {
                self.evict_idle();
            }
            // Retried after a pause: a connection that was busy may be idle by now, and stays open.
            if let Ok(permit) = timeout(RETRY_PAUSE, Arc::clone(&self.free).acquire_owned()).await {
                // The semaphore is never closed.
                break permit.ok()?;
            }
        };
        let evict = Arc::new(Notify::new());
        let state =
            State { requests: 0, busy: false, evicted: false, since: Instant::now(), evict: Arc::clone(&evict) };
        self.states().insert(number, state);
        Some(Connection { connections: Arc::clone(self), number, evict, _permit: permit })
    }

    /// Evicts an idle connection: one that never sent a request first, then the one idle longest.
    ///
    /// Only one at a time: until its thread has ended, the next one gains nothing, and the newest would soon be reached,
    /// whose request nothing has read yet.
    pub fn evict_idle(&self) {
        let mut states = self.states();
        if states.values().any(|state| state.evicted && !state.busy) {
            return;
        }
        let idle = states.values_mut().filter(|state| !state.busy && !state.evicted);
        if let Some(state) = idle.min_by_key(|state| (state.requests > 0, state.since)) {
            state.evicted = true;
            state.evict.notify_one();
        }
    }

    fn states(&self) -> MutexGuard<'_, HashMap<u64, State>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Marks a request as under way.
    pub fn busy(&self) -> Busy<'_> {
        self.set(true);
        Busy(self)
    }

    /// Waits for the eviction of this connection. False when a request began in the meantime: the
    /// connection must then close after its answer.
    pub async fn evicted(&self) -> bool {
        self.evict.notified().await;
        !self.connections.states().get(&self.number).is_some_and(|state| state.busy)
    }

    fn set(&self, busy: bool) {
        if let Some(state) = self.connections.states().get_mut(&self.number) {
            (state.busy, state.since) = (busy, Instant::now());
            state.requests += u64::from(busy);
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.states().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these connections is evicted.
    async fn evicted(connections: &[&Connection]) -> Option<usize> {
        for (at, connection) in connections.iter().enumerate() {
            let evicted = tokio::time::timeout(std::time::Duration::from_millis(1), connection.evicted()).await;
            if evicted == Ok(true) {
                return Some(at);
            }
        }
        None
    }

    #[tokio::test]
    async fn silent_connections_are_evicted_first_and_busy_ones_never() {
        let connections = Connections::new(3);
        let served = connections.open(1).await.unwrap();
        drop(served.busy());
        let silent = connections.open(2).await.unwrap();
        let working = connections.open(3).await.unwrap();
        let busy = working.busy();
        assert_eq!(evicted(&[&served, &silent, &working]).await, None, "no other connection waits yet");
        connections.evict_idle();
        assert_eq!(evicted(&[&served, &silent, &working]).await, Some(1));
        connections.evict_idle();
        assert_eq!(evicted(&[&served, &silent, &working]).await, None, "the evicted connection has not ended yet");
        drop(silent);
        connections.evict_idle();
        assert_eq!(evicted(&[&served, &working]).await, Some(0));
        drop(served);
        connections.evict_idle();
        assert_eq!(evicted(&[&working]).await, None, "a busy connection stays");
        drop(busy);
        assert!(connections.open(4).await.is_some());
    }

    #[tokio::test]
    async fn a_connection_that_becomes_idle_is_evicted_for_a_waiting_one() {
        let connections = Connections::new(1);
        let working = connections.open(1).await.unwrap();
        let busy = working.busy();
        let waiting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.open(2).await.is_some() }
        });
        tokio::time::sleep(RETRY_PAUSE).await;
        assert!(!waiting.is_finished(), "all are busy");
        drop(busy);
        assert!(working.evicted().await);
        drop(working);
        assert!(waiting.await.unwrap());
    }
}
