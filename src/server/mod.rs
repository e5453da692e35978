//! Owns HTTP over a Unix socket: connections, bodies, deadlines, shutdown, and - alone in the
//! program - status codes. What a request means is the driver's business.
//!
//! Idle connections are never closed from this side: the engine's next request would race with
//! the close, fail half way and be repeated without its body (protocol.md 1.6).

mod route;

pub use route::call_directly;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method as HttpMethod, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::api::Method;
use crate::driver::Driver;
use crate::metrics::Metrics;

/// Largest body taken, in bytes. The largest the engine sends (hundreds of published ports) is
/// some tens of kilobytes.
pub const MAX_BODY: usize = 1 << 20;

/// How long a body may take to arrive: the engine sends it with the headers.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Connections served at once; further ones wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 1024;

/// How long a verb may take before it is answered with an error. It goes on in the background;
/// the engine holds locks while it waits (protocol.md 1.7, 1.8).
pub const VERB_TIME: Duration = Duration::from_secs(10);

const PLUGIN_JSON: HeaderValue = HeaderValue::from_static("application/vnd.docker.plugins.v1.2+json");

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
pub async fn serve(listener: UnixListener, service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Cancel-safe: a place that was taken and not used is given back on drop; accept loses
        // no connection when it is not chosen (tokio documents it as cancel-safe).
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((stream, place)) => {
                let (service, stop) = (Arc::clone(&service), stop.clone());
                connections.spawn(async move {
                    connection(stream, service, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Usually "too many open files": not a reason to stop listening.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?.0, place))
}

async fn connection(stream: UnixStream, service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let answer = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(respond(&service, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.max_buf_size(64 * 1024);
    let served = http.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(served);
    loop {
        tokio::select! {
            done = served.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                return;
            }
            // The request under way is answered, then the connection ends.
            _ = stop.changed() => served.as_mut().graceful_shutdown(),
        }
    }
}

async fn respond(service: &Arc<Service>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if request.method() == HttpMethod::GET && path == "/metrics" {
        let mut response = reply(StatusCode::OK, service.metrics.render(&service.driver).into());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
        return response;
    }
    if request.method() == HttpMethod::GET && path == "/ports" {
        return route::ports(service).await;
    }
    if request.method() == HttpMethod::GET && path == "/status" {
        return route::status(service).await;
    }
    if request.method() == HttpMethod::POST && path == "/repair" {
        return route::repair(service).await;
    }
    let Some(method) = Method::parse(&path) else {
        let shown: String = path.chars().take(80).collect();
        return refuse(StatusCode::NOT_FOUND, &format!("no method {shown:?}: this is Pontoon's plugin socket"));
    };
    if request.method() != HttpMethod::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, &format!("{path} is called with POST"));
    }
    let body = match body(request).await {
        Ok(body) => body,
        Err((status, message)) => return refuse(status, &format!("{path}: {message}")),
    };
    if body.is_empty() && !method.has_no_body() {
        // The engine's retry after a lost connection: its first attempt may have been carried out.
        let message = format!("{path}: the request has no body (a repetition after a lost connection), try again");
        return refuse(StatusCode::BAD_REQUEST, &message);
    }
    route::call(service, method, body).await
}

async fn body(request: Request<Incoming>) -> Result<Bytes, (StatusCode, String)> {
    let limited = Limited::new(request.into_body(), MAX_BODY).collect();
    match timeout(BODY_TIME, limited).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {MAX_BODY} bytes")))
        }
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("the body did not arrive: {error}"))),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, format!("the body took longer than {} s", BODY_TIME.as_secs()))),
    }
}

fn reply(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLUGIN_JSON);
    response
}

/// An answer that is not a result. The engine reads `Err` of any such body, for either half of
/// the protocol (protocol.md 1.5).
fn refuse(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    reply(status, serde_json::json!({ "Err": message }).to_string().into())
}
