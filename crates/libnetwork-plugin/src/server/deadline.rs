//! The deadline of the requests of one connection.
//!
//! A driver's method runs on its connection's own thread, which cannot answer while the method hangs. The
//! server's main thread polls each connection to learn when a request is due; if it is not done by then, the
//! main thread answers instead and closes the connection, and the engine opens another. A request that finishes
//! in time costs no system call for this.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;

/// The deadline of one connection, shared by its thread and the main thread.
pub(super) struct Deadline {
    client: UnixStream,
    timeout: Duration,
    running: Mutex<Option<Running>>,
}

/// When the request is due, and the answer to send if it is late.
struct Running {
    due: Instant,
    status: StatusCode,
    key: &'static str,
}

impl Deadline {
    /// `client` is a second, non-blocking descriptor of the connection; `timeout` applies to each of its
    /// requests.
    pub fn new(client: UnixStream, timeout: Duration) -> Self {
        Self { client, timeout, running: Mutex::new(None) }
    }

    /// Runs `work` on this thread, however long it takes. The second value is true when it took too long: the
    /// client then already has an answer, an object with `key` and this status, and reads no other.
    pub fn run<T>(&self, status: StatusCode, key: &'static str, work: impl FnOnce() -> T) -> (T, bool) {
        *self.running() = Some(Running { due: Instant::now() + self.timeout, status, key });
        let done = work();
        let late = self.running().take().is_none();
        (done, late)
    }

    /// Answers late requests, on the main thread, for as long as the connection lasts.
    pub async fn watch(&self) {
        loop {
            let due = self.running().as_ref().map(|running| running.due);
            // A request that begins while this sleeps is seen before it is due.
            let idle = || Instant::now() + self.timeout / 2;
            tokio::time::sleep_until(due.unwrap_or_else(idle).into()).await;
            // Locked while answering: if the work ends meanwhile, its own answer goes to a closed socket.
            let mut running = self.running();
            if let Some(late) = running.take_if(|running| running.due <= Instant::now()) {
                self.answer(&late);
            }
        }
    }

    fn answer(&self, late: &Running) {
        let seconds = self.timeout.as_secs();
        let message = format!("no result within {seconds} s, it goes on in the background: try again later");
        let body = serde_json::json!({ late.key: message }).to_string();
        let answer = format!(
            "HTTP/1.1 {}\r\ncontent-type: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            late.status,
            super::PLUGIN_JSON,
            body.len()
        );
        // Shorter than a socket's buffer: written at once, or the client has gone.
        let _ = (&self.client).write(answer.as_bytes());
        let _ = self.client.shutdown(Shutdown::Both);
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
