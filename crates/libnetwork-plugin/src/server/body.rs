//! Reads bodies within limits: the time for one body, its size, and the memory of all bodies together.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::refusal::{Refusal, RefusalKind};

/// Largest body that is accepted, in bytes, of methods that do not have a container's published ports.
pub const MAX_BODY: usize = 1 << 20;

/// Largest body of a request with the published ports of a container, in bytes: about 110 for each port, in a
/// list of bindings and one of exposed ports.
pub const MAX_PORTS_BODY: usize = 16 << 20;

/// Bytes of such a body for each port, for messages.
const BYTES_PER_PORT: usize = 110;

/// How long a body may take to arrive: the engine sends it with the headers.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Memory for bodies of all requests under way, in bytes; only the first [`MAX_BODY`] of each body count here. A
/// thousand bodies of the engine's usual size fit. Decoded, a body takes a few times its length, or twenty times
/// in the worst case.
const BUDGET: usize = 8 << 20;

/// Memory for the remainder of bodies with published ports, in bytes, all together. They do not grow when they
/// are decoded.
const PORTS_BUDGET: usize = 16 << 20;

/// Most bytes that are read of a body that is not needed. A client that sends more may lose its answer.
const MAX_DISCARDED: usize = 4 * MAX_PORTS_BODY;

/// A body that arrives. It has to end before its request is answered ([`discard`](Self::discard)).
#[derive(Debug)]
pub(super) struct Arriving {
    body: Incoming,
    /// When it has to be complete.
    until: Instant,
}

/// The remaining memory budget for bodies.
#[derive(Debug, Clone)]
pub(super) struct BodyBudget {
    ordinary: Arc<Semaphore>,
    ports: Arc<Semaphore>,
}

/// A body, which holds its share of the budget.
#[derive(Debug)]
pub(super) struct Body {
    /// The complete body.
    pub bytes: Bytes,
    _reserved: [Option<OwnedSemaphorePermit>; 2],
}

impl Arriving {
    pub fn new(body: Incoming) -> Self {
        Self { body, until: Instant::now() + BODY_TIMEOUT }
    }

    /// Reads what has not been read, and drops it. An answer that is sent earlier closes the connection while the
    /// client writes: the engine's HTTP client then reports a broken pipe and not the answer (Go net/http
    /// transport.go, persistConn.roundTrip), and the engine repeats its request for half a minute.
    pub async fn discard(&mut self) {
        let rest = async {
            let mut discarded = 0;
            while let Some(Ok(frame)) = self.body.frame().await {
                discarded += frame.data_ref().map_or(0, Bytes::len);
                if discarded > MAX_DISCARDED {
                    break;
                }
            }
        };
        // A client that is slower gets its answer now.
        let _ = timeout_at(self.until, rest).await;
    }
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self { ordinary: Arc::new(Semaphore::new(BUDGET)), ports: Arc::new(Semaphore::new(PORTS_BUDGET)) }
    }
}

impl BodyBudget {
    /// Reads a body to its end; `has_ports` when it may contain the published ports of a container.
    pub async fn read(&self, arriving: &mut Arriving, has_ports: bool) -> Result<Body, Refusal> {
        let seconds = BODY_TIMEOUT.as_secs();
        let late = |_| Refusal::of(RefusalKind::SlowBody, format!("the body took longer than {seconds} s"));
        timeout_at(arriving.until, self.collect(&mut arriving.body, has_ports)).await.map_err(late)?
    }

    /// Reserves memory for received bytes, not for announced ones: a client that sends nothing uses no budget.
    async fn collect(&self, body: &mut Incoming, has_ports: bool) -> Result<Body, Refusal> {
        let (mut bytes, mut reserved) = (BytesMut::new(), [None::<OwnedSemaphorePermit>, None]);
        let announced = body.size_hint().exact();
        let limit = if has_ports { MAX_PORTS_BODY } else { MAX_BODY };
        while let Some(frame) = body.frame().await {
            let broken = |error| Refusal::of(RefusalKind::Undecodable, format!("the body did not arrive: {error}"));
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if bytes.len() + data.len() > limit {
                return Err(too_large(has_ports, limit, announced));
            }
            let full =
                |_| Refusal::of(RefusalKind::Unavailable, "too many large requests at once: try again".to_owned());
            // A chunk that begins below MAX_BODY counts as ordinary.
            let (semaphore, reserved) = match (&self.ordinary, &self.ports, &mut reserved) {
                (ordinary, _, [reserved, _]) if bytes.len() < MAX_BODY => (ordinary, reserved),
                (_, ports, [_, reserved]) => (ports, reserved),
            };
            // At most MAX_PORTS_BODY, so it fits.
            let more = Arc::clone(semaphore).try_acquire_many_owned(data.len() as u32).map_err(full)?;
            match reserved {
                Some(reserved) => reserved.merge(more),
                None => *reserved = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Body { bytes: bytes.freeze(), _reserved: reserved })
    }
}

fn too_large(has_ports: bool, limit: usize, announced: Option<u64>) -> Refusal {
    let message = if has_ports {
        let ports = announced.map_or(limit as u64, |bytes| bytes.max(limit as u64)) / BYTES_PER_PORT as u64;
        let most = limit / BYTES_PER_PORT;
        format!("about {ports} published ports in one container, {most} are the most: publish fewer")
    } else {
        format!("the body is larger than {limit} bytes")
    };
    Refusal::of(RefusalKind::LargeBody, message)
}
