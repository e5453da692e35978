//! An HTTP client for Unix sockets, with a deadline, JSON answers, and errors that name the socket and the flag
//! that chose it.
//!
//! For the operator's commands, which query the daemon and, if requested, the engine. The daemon itself sends no
//! requests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use hyperlocal::{UnixConnector, Uri};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::group;
use crate::output::visible;

/// The plugin socket of the daemon that systemd starts.
pub const SOCKET: &str = "/run/docker/plugins/pontoon.sock";

/// How messages of the system begin when this user may not use a socket.
const DENIED: &str = "Permission denied";

/// The flag that names the status socket.
pub const STATUS_FLAG: &str = "status-socket";

/// The status socket of that daemon.
pub const STATUS_SOCKET: &str = "/run/pontoon/status.sock";

/// How long an answer may take: a little more than the daemon's own deadline.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, no answer, or an answer in another format.
    #[error("{socket}: {what}; {}", reach_remedy(.what, .flag, .socket))]
    Unreachable {
        /// The socket.
        socket: String,
        /// The flag that names it.
        flag: &'static str,
        /// What went wrong.
        what: String,
    },
    /// The answer is an error.
    #[error("{socket}: {path}: {what} (status {status})")]
    Refused {
        /// The socket.
        socket: String,
        /// The requested path.
        path: String,
        /// The status code.
        status: u16,
        /// Its message.
        what: String,
    },
    /// An error of the runtime.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

fn reach_remedy(what: &str, flag: &str, socket: &str) -> String {
    if what.starts_with(DENIED) {
        let group = group::of_file(Path::new(socket)).filter(|_| flag == STATUS_FLAG);
        let member = group.map(|group| format!(", or as a member of group {group}: adduser USER {group}"));
        return format!("run this command as root{}", member.unwrap_or_default());
    }
    let whom = if flag == "docker" { "Docker" } else { "the daemon" };
    format!("check that {whom} is running and that --{flag} is its socket")
}

impl ClientError {
    /// Whether nothing listens on the socket, or it does not exist.
    pub fn is_absent(&self) -> bool {
        let absent = |what: &str| what.starts_with("No such file") || what.starts_with("Connection refused");
        matches!(self, ClientError::Unreachable { what, .. } if absent(what))
    }

    /// Whether this user may not use the socket.
    pub fn is_denied(&self) -> bool {
        matches!(self, ClientError::Unreachable { what, .. } if what.starts_with(DENIED))
    }

    /// Whether the error says that there is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ClientError::Refused { status: 404, .. })
    }
}

/// A client of one socket.
#[derive(Debug)]
pub struct Client {
    runtime: tokio::runtime::Runtime,
    socket: PathBuf,
    flag: &'static str,
    timeout: Duration,
}

impl Client {
    /// Creates a client without connecting. `flag` is the one that names the socket.
    ///
    /// # Errors
    /// The event loop could not be created.
    pub fn new(socket: &Path, flag: &'static str) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, socket: socket.to_owned(), flag, timeout: REQUEST_TIMEOUT })
    }

    /// The same client with another deadline for each answer.
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET path`.
    ///
    /// # Errors
    /// No answer within the deadline, an error, or an answer in another format.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, String::new())
    }

    /// `POST path` with a body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ClientError> {
        self.ask(Method::POST, path, body.to_string())
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: String) -> Result<T, ClientError> {
        let socket = || self.socket.display().to_string();
        let failed = |what: String| ClientError::Unreachable { socket: socket(), flag: self.flag, what };
        let uri: hyper::Uri = Uri::new(&self.socket, path).into();
        let request = Request::builder().method(method).uri(uri).header("Content-Type", "application/json");
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| failed(e.to_string()))?;
        let answer = async {
            let client: HttpClient<UnixConnector, Full<Bytes>> =
                HttpClient::builder(TokioExecutor::new()).build(UnixConnector);
            let response = client.request(request).await.map_err(|e| {
                let cause = std::error::Error::source(&e).map(ToString::to_string);
                failed(cause.unwrap_or_else(|| e.to_string()))
            })?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|e| failed(e.to_string()))?.to_bytes();
            if !status.is_success() {
                let (path, what) = (path.to_owned(), words(&body));
                return Err(ClientError::Refused { socket: socket(), path, status: status.as_u16(), what });
            }
            serde_json::from_slice(&body).map_err(|e| failed(format!("unexpected answer ({e})")))
        };
        let late = || failed(format!("no answer within {} s", self.timeout.as_secs_f32()));
        self.runtime.block_on(async { tokio::time::timeout(self.timeout, answer).await }).map_err(|_| late())?
    }
}

/// The message of an error body: Pontoon's `Err`, the engine's `message`, or the beginning of the body.
fn words(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = ["Err", "message"].iter().find_map(|key| json[*key].as_str());
    let said = said.map_or_else(|| String::from_utf8_lossy(body).chars().take(200).collect(), str::to_owned);
    visible(&said).into_owned()
}
