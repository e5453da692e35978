//! Owns the reading of bodies: how long one may take, how large one may be, and how much memory
//! all of them take together.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Largest body taken, in bytes. The largest the engine sends (hundreds of published ports) is
/// some tens of kilobytes.
pub const MAX_BODY: usize = 1 << 20;

/// How long a body may take to arrive: the engine sends it with the headers.
const TIME: Duration = Duration::from_secs(10);

/// What all bodies of requests under way may take, in bytes. A thousand of the engine's fit in;
/// decoded, a body takes a few times its length, or twenty times if it is made for that.
const ROOM: usize = 8 << 20;

/// The room that is left.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

/// A body, and its part of the room for as long as it is kept.
#[derive(Debug)]
pub struct Body {
    /// All of it.
    pub bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// Why there is no body: a status and what to say.
pub type Refusal = (StatusCode, String);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

impl Room {
    /// Reads a body to its end.
    pub async fn read(&self, body: Incoming) -> Result<Body, Refusal> {
        let late = |_| (StatusCode::REQUEST_TIMEOUT, format!("the body took longer than {} s", TIME.as_secs()));
        timeout(TIME, self.collect(body)).await.map_err(late)?
    }

    /// Takes room for what has come, not for what is announced: who sends nothing takes nothing.
    async fn collect(&self, mut body: Incoming) -> Result<Body, Refusal> {
        let (mut bytes, mut room) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        while let Some(frame) = body.frame().await {
            let broken = |error| (StatusCode::BAD_REQUEST, format!("the body did not arrive: {error}"));
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if bytes.len() + data.len() > MAX_BODY {
                let message = format!("the body is larger than {MAX_BODY} bytes");
                return Err((StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            let full = |_| (StatusCode::SERVICE_UNAVAILABLE, "too many large requests at once: try again".to_owned());
            // No more than MAX_BODY, so it fits.
            let more = Arc::clone(&self.0).try_acquire_many_owned(data.len() as u32).map_err(full)?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Body { bytes: bytes.freeze(), _room: room })
    }
}
