//! Owns HTTP over a Unix socket: connections, bodies, deadlines, shutdown, and - alone in the
//! program - status codes. What a request means is the driver's business.
//!
//! Idle connections are not closed from this side unless others need their places: the engine's
//! next request would race with the close, fail half way and be repeated without its body
//! (protocol.md 1.6).

mod body;
mod crowd;
mod deadline;
mod route;
mod spare;
mod unserved;

pub use body::{MAX_BODY, MAX_PORTS_BODY};
pub use route::call_directly;
pub use unserved::Unserved;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method as HttpMethod, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use self::body::Room;
use self::crowd::{Crowd, Place};
use self::deadline::Deadline;
use self::spare::Spare;
use crate::api::Method;
use crate::driver::Driver;
use crate::metrics::Metrics;

/// Connections served at once; for a further one an idle one has to leave.
pub const MAX_CONNECTIONS: u32 = 1024;

/// Stack of a connection's thread, in bytes; what is not used takes no memory.
const STACK: usize = 1 << 20;

/// How long a verb may take before it is answered with an error. It goes on in the background;
/// the engine holds locks while it waits (protocol.md 1.7, 1.8).
pub const VERB_TIME: Duration = Duration::from_secs(10);

/// Time until what cannot be opened is tried again.
const PAUSE: Duration = Duration::from_millis(20);

const PLUGIN_JSON: &str = "application/vnd.docker.plugins.v1.2+json";

/// What every connection shares.
pub struct Service {
    /// The verbs.
    pub driver: Arc<Driver>,
    /// The counts.
    pub metrics: Arc<Metrics>,
    /// See [`VERB_TIME`]; shorter in tests.
    pub verb_time: Duration,
}

/// Serves until `stop` turns true, then waits for the requests under way.
pub async fn serve(listener: UnixListener, service: Arc<Service>, stop: watch::Receiver<bool>) {
    answer_all(listener, Answers::Service(service), stop).await;
}

/// The same for a daemon that cannot serve yet: each request is answered with the reason.
pub async fn refuse_all(listener: UnixListener, why: Unserved, stop: watch::Receiver<bool>) {
    answer_all(listener, Answers::Reason(Arc::new(why)), stop).await;
}

/// Who answers.
#[derive(Clone)]
enum Answers {
    Service(Arc<Service>),
    Reason(Arc<Unserved>),
}

impl Answers {
    fn time(&self) -> Duration {
        if let Answers::Service(service) = self { service.verb_time } else { VERB_TIME }
    }
}

async fn answer_all(listener: UnixListener, answers: Answers, mut stop: watch::Receiver<bool>) {
    let (crowd, room) = (Crowd::new(MAX_CONNECTIONS), Room::default());
    let (mut number, mut spare) = (0, Spare::default());
    loop {
        if !spare.fill(&listener) {
            // As many files are open as may be: who waits for nothing leaves, and the next one waits
            // in the queue meanwhile.
            crowd.dismiss();
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => continue,
                _ = stop.changed() => break,
            }
        }
        // Cancel-safe: accept loses no connection when it is not chosen (tokio documents it as
        // cancel-safe). One that still waits for its place at the end is not served.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let begun = match accepted {
            Ok((stream, _)) => {
                number += 1;
                spare.free();
                let place = tokio::select! {
                    place = crowd.admit(number) => place,
                    _ = stop.changed() => break,
                };
                let shared = Shared { answers: answers.clone(), room: room.clone(), stop: stop.clone() };
                place.map_or(Ok(()), |place| begin(stream, place, shared))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            // Not a reason to stop listening.
            tracing::warn!(%error, "a connection was not accepted");
            tokio::time::sleep(PAUSE).await;
        }
    }
    drop(listener);
    crowd.gone().await;
}

/// What a connection has of the others.
struct Shared {
    answers: Answers,
    room: Room,
    stop: watch::Receiver<bool>,
}

/// Gives a connection a thread of its own. Verbs run there: each change of thread on the way of a
/// request costs as much as a good part of the kernel's work, and the engine keeps few connections.
fn begin(stream: UnixStream, place: Place, shared: Shared) -> io::Result<()> {
    // All that it needs is opened here, and not on its thread: see `spare`.
    let stream = stream.into_std()?;
    let events = Events::new()?;
    let deadline = Arc::new(Deadline::new(stream.try_clone()?, shared.answers.time()));
    let kept = Arc::clone(&deadline);
    let keeper = tokio::spawn(async move { kept.keep().await }).abort_handle();
    let ended = keeper.clone();
    let work = move || {
        let served = events.run(connection(stream, place, shared, deadline));
        if let Err(error) = served {
            tracing::warn!(%error, "a connection was not served");
        }
        ended.abort();
    };
    let thread = std::thread::Builder::new().name("connection".to_owned()).stack_size(STACK).spawn(work);
    thread.map(drop).inspect_err(|_| keeper.abort())
}

/// The event loop of a connection, which may be dropped anywhere: a runtime by itself panics when
/// it is dropped on another's thread.
struct Events(Option<tokio::runtime::Runtime>);

impl Events {
    fn new() -> io::Result<Self> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    fn run(&self, connection: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |runtime| runtime.block_on(connection))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connection(
    stream: std::os::unix::net::UnixStream,
    place: Place,
    shared: Shared,
    deadline: Arc<Deadline>,
) -> io::Result<()> {
    let stream = UnixStream::from_std(stream)?;
    let Shared { answers, room, mut stop } = shared;
    let place = Arc::new(place);
    let seat = Arc::clone(&place);
    let answer = service_fn(move |request| {
        let (answers, room) = (answers.clone(), room.clone());
        let (seat, deadline) = (Arc::clone(&seat), Arc::clone(&deadline));
        async move {
            Ok::<_, Infallible>(match &answers {
                Answers::Service(service) => respond(service, &room, &seat, &deadline, request).await,
                Answers::Reason(why) => why.respond(&room, request).await,
            })
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // Who has said all that it wants to say may still want to hear, and who has hung up must not
    // keep its verb from being carried out.
    http.max_buf_size(64 * 1024).half_close(true);
    let served = http.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(served);
    loop {
        tokio::select! {
            done = served.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                return Ok(());
            }
            idle = place.dismissed() => {
                if idle {
                    return Ok(());
                }
                served.as_mut().graceful_shutdown();
            }
            // The request under way is answered, then the connection ends.
            _ = stop.changed() => served.as_mut().graceful_shutdown(),
        }
    }
}

async fn respond(
    service: &Service,
    room: &Room,
    place: &Place,
    deadline: &Deadline,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if request.method() == HttpMethod::GET && path == "/metrics" {
        let mut response = reply(StatusCode::OK, service.metrics.render(&service.driver).into());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
        return response;
    }
    if request.method() == HttpMethod::GET && path == "/ports" {
        return route::ports(service, deadline);
    }
    if request.method() == HttpMethod::GET && path == "/status" {
        return route::status(service, deadline);
    }
    if request.method() == HttpMethod::POST && path == "/repair" {
        return match room.read(request.into_body(), false).await {
            Ok(body) => route::repair(service, deadline, &body.bytes),
            Err((status, message)) => refuse(status, &format!("{path}: {message}")),
        };
    }
    let Some(method) = Method::parse(&path) else {
        let shown: String = path.chars().take(80).collect();
        return refuse(StatusCode::NOT_FOUND, &format!("no method {shown:?}: this is Pontoon's plugin socket"));
    };
    if request.method() != HttpMethod::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, &format!("{path} is called with POST"));
    }
    let body = match room.read(request.into_body(), method.has_ports()).await {
        Ok(body) => body,
        Err((status, message)) => return refuse(status, &format!("{path}: {message}")),
    };
    // Not before: who never sends the whole of its body may have to leave.
    let _busy = place.busy();
    if body.bytes.is_empty() && !method.has_no_body() {
        // The engine's retry after a lost connection: its first attempt may have been carried out.
        let message = format!("{path}: the request has no body (a repetition after a lost connection), try again");
        return refuse(StatusCode::BAD_REQUEST, &message);
    }
    route::call(service, deadline, method, &body.bytes)
}

fn reply(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PLUGIN_JSON));
    response
}

/// An answer that is not a result. The engine reads `Err` of any such body, for either half of
/// the protocol (protocol.md 1.5).
fn refuse(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    reply(status, serde_json::json!({ "Err": message }).to_string().into())
}
