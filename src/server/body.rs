//! Owns the reading of bodies: how long one may take, how large one may be, and how much memory
//! all of them take together.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Largest body taken, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Largest body of a request that has the published ports of a container, in bytes: some 110 for
/// each, in a list of bindings and one of exposed ports.
pub const MAX_PORTS_BODY: usize = 16 << 20;

/// Bytes that a published port takes there, for words.
const PORT: usize = 110;

/// How long a body may take to arrive: the engine sends it with the headers.
const TIME: Duration = Duration::from_secs(10);

/// What all bodies of requests under way may take, in bytes, each up to [`MAX_BODY`]. A thousand of
/// the engine's fit in; decoded, a body takes a few times its length, or twenty times if it is made
/// for that.
const ROOM: usize = 8 << 20;

/// What the rest of those with published ports may take together, in bytes. Decoded they do not grow.
const PORTS_ROOM: usize = 16 << 20;

/// The room that is left.
#[derive(Debug, Clone)]
pub struct Room {
    ordinary: Arc<Semaphore>,
    ports: Arc<Semaphore>,
}

/// A body, and its part of the room for as long as it is kept.
#[derive(Debug)]
pub struct Body {
    /// All of it.
    pub bytes: Bytes,
    _room: [Option<OwnedSemaphorePermit>; 2],
}

/// Why there is no body: a status and what to say.
pub type Refusal = (StatusCode, String);

impl Default for Room {
    fn default() -> Self {
        Self { ordinary: Arc::new(Semaphore::new(ROOM)), ports: Arc::new(Semaphore::new(PORTS_ROOM)) }
    }
}

impl Room {
    /// Reads a body to its end; `has_ports` when it may have the published ports of a container.
    pub async fn read(&self, body: Incoming, has_ports: bool) -> Result<Body, Refusal> {
        let late = |_| (StatusCode::REQUEST_TIMEOUT, format!("the body took longer than {} s", TIME.as_secs()));
        timeout(TIME, self.collect(body, has_ports)).await.map_err(late)?
    }

    /// Takes room for what has come, not for what is announced: who sends nothing takes nothing.
    async fn collect(&self, mut body: Incoming, has_ports: bool) -> Result<Body, Refusal> {
        let (mut bytes, mut room) = (BytesMut::new(), [None::<OwnedSemaphorePermit>, None]);
        let announced = body.size_hint().exact();
        let most = if has_ports { MAX_PORTS_BODY } else { MAX_BODY };
        while let Some(frame) = body.frame().await {
            let broken = |error| (StatusCode::BAD_REQUEST, format!("the body did not arrive: {error}"));
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if bytes.len() + data.len() > most {
                return Err((StatusCode::PAYLOAD_TOO_LARGE, too_large(has_ports, most, announced)));
            }
            let full = |_| (StatusCode::SERVICE_UNAVAILABLE, "too many large requests at once: try again".to_owned());
            // What begins below MAX_BODY is ordinary.
            let (semaphore, room) = match (&self.ordinary, &self.ports, &mut room) {
                (ordinary, _, [room, _]) if bytes.len() < MAX_BODY => (ordinary, room),
                (_, ports, [_, room]) => (ports, room),
            };
            // No more than MAX_PORTS_BODY, so it fits.
            let more = Arc::clone(semaphore).try_acquire_many_owned(data.len() as u32).map_err(full)?;
            match room {
                Some(room) => room.merge(more),
                None => *room = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Body { bytes: bytes.freeze(), _room: room })
    }
}

fn too_large(has_ports: bool, most: usize, announced: Option<u64>) -> String {
    if !has_ports {
        return format!("the body is larger than {most} bytes");
    }
    let ports = announced.map_or(most as u64, |bytes| bytes.max(most as u64)) / PORT as u64;
    format!("about {ports} published ports in one container, {} are the most: publish fewer", most / PORT)
}
