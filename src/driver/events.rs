//! The one channel on which the driver asks its background threads for work. Sending never blocks, so a verb may
//! send while it holds locks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use crate::model::{EndpointId, NetworkId};

/// A request for work in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The kernel may differ from the desired state: compare everything soon.
    Maintenance,
    /// Records wait to be written, or the ledger to be compacted, and no verb waits for it:
    /// [`super::Driver::flush_ledger`].
    LedgerBacklog,
    /// Addresses are to be asked for in advance: [`super::Driver::probe_ahead`].
    ProbesDue,
    /// Messages for or from DHCP servers or routers wait: [`super::Driver::serve_leases`].
    LeasesDue,
    /// There is an endpoint whose DNS queries are to be answered.
    NamesDue,
    /// An endpoint of a network with other hosts joined its sandbox: announce it.
    Arrival(NetworkId, EndpointId),
}

/// The sending half, given to the driver at construction.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Sends each event to `receive`, which must return at once and may be called from any thread.
    pub fn new(receive: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Discards every event: for a driver without background threads.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Queues every event, for tests.
    pub fn queue() -> (Self, Receiver<Event>) {
        let (send, receive) = channel();
        (Self::new(move |event| drop(send.send(event))), receive)
    }

    /// Sends an event. Without a receiver it is lost.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }
}
