//! Owns how many connections are served at once. When every place is taken, a newcomer gets the
//! place of a connection that waits for nothing: one that never sent a whole request before one
//! that did, and the longest idle first. So neither a thousand idle connections nor as many that
//! send a byte a minute keep the engine out.
//!
//! A connection whose request is under way keeps its place until it is answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places, and who has one.
#[derive(Debug)]
pub struct Crowd {
    most: u32,
    free: Arc<Semaphore>,
    seats: Mutex<HashMap<u64, Seat>>,
}

#[derive(Debug)]
struct Seat {
    /// Requests that were answered or are under way.
    requests: u64,
    busy: bool,
    dismissed: bool,
    /// Since when it is busy or idle.
    since: Instant,
    leave: Arc<Notify>,
}

/// A connection's place; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    leave: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

/// A request of a connection is under way until this is dropped.
#[derive(Debug)]
pub struct Busy<'a>(&'a Place);

impl Crowd {
    /// A crowd of so many at most.
    pub fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, free: Arc::new(Semaphore::new(most as usize)), seats: Mutex::default() })
    }

    /// Waits until nobody has a place.
    pub async fn gone(&self) {
        // The semaphore is never closed.
        let _ = self.free.acquire_many(self.most).await;
    }

    /// A place for connection `number`, which no other has; waits while every place is busy.
    pub async fn admit(self: &Arc<Self>, number: u64) -> Option<Place> {
        if self.free.available_permits() == 0 {
            self.dismiss();
        }
        // The semaphore is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let leave = Arc::new(Notify::new());
        let seat =
            Seat { requests: 0, busy: false, dismissed: false, since: Instant::now(), leave: Arc::clone(&leave) };
        self.seats().insert(number, seat);
        Some(Place { crowd: Arc::clone(self), number, leave, _permit: permit })
    }

    /// Asks the connection that is missed least to leave.
    pub fn dismiss(&self) {
        let mut seats = self.seats();
        let idle = seats.values_mut().filter(|seat| !seat.busy && !seat.dismissed);
        if let Some(seat) = idle.min_by_key(|seat| (seat.requests > 0, seat.since)) {
            seat.dismissed = true;
            seat.leave.notify_one();
        }
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<u64, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Says that a request is under way.
    pub fn busy(&self) -> Busy<'_> {
        self.set(true);
        Busy(self)
    }

    /// Waits until somebody needs this place. False when a request is under way all the same:
    /// the connection then leaves after its answer.
    pub async fn dismissed(&self) -> bool {
        self.leave.notified().await;
        !self.crowd.seats().get(&self.number).is_some_and(|seat| seat.busy)
    }

    fn set(&self, busy: bool) {
        if let Some(seat) = self.crowd.seats().get_mut(&self.number) {
            (seat.busy, seat.since) = (busy, Instant::now());
            seat.requests += u64::from(busy);
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.seats().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these places is asked to leave.
    async fn leaver(places: &[&Place]) -> Option<usize> {
        for (at, place) in places.iter().enumerate() {
            let asked = tokio::time::timeout(std::time::Duration::from_millis(1), place.dismissed()).await;
            if asked == Ok(true) {
                return Some(at);
            }
        }
        None
    }

    #[tokio::test]
    async fn who_is_missed_least_leaves_first() {
        let crowd = Crowd::new(3);
        let served = crowd.admit(1).await.unwrap();
        drop(served.busy());
        let silent = crowd.admit(2).await.unwrap();
        let working = crowd.admit(3).await.unwrap();
        let busy = working.busy();
        assert_eq!(leaver(&[&served, &silent, &working]).await, None, "nobody waits yet");
        crowd.dismiss();
        assert_eq!(leaver(&[&served, &silent, &working]).await, Some(1));
        crowd.dismiss();
        assert_eq!(leaver(&[&served, &silent, &working]).await, Some(0));
        crowd.dismiss();
        assert_eq!(leaver(&[&served, &silent, &working]).await, None, "what works stays");
        drop(busy);
        drop(silent);
        assert!(crowd.admit(4).await.is_some());
    }
}
