//! Converts an HTTP request to an HTTP response.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method as HttpMethod, Request, Response, StatusCode};

use super::PLUGIN_JSON;
use super::body::{Arriving, BodyBudget};
use super::connections::Connection;
use super::deadline::Deadline;
use crate::call::{call, check_body};
use crate::driver::{IpamDriver, NetworkDriver};
use crate::observer::{Observer, Outcome};
use crate::refusal::{Refusal, RefusalKind};
use crate::routes::{RouteAnswer, RouteRequest, Routes};
use crate::wire::Method;

/// The handlers of requests.
#[derive(Clone, Default)]
pub(super) struct Handlers {
    pub network: Option<Arc<dyn NetworkDriver>>,
    pub ipam: Option<Arc<dyn IpamDriver>>,
    pub observer: Option<Arc<dyn Observer>>,
    pub routes: Option<Arc<dyn Routes>>,
    /// Whether the protocol is not served, and nothing but GET.
    pub read_only: bool,
}

impl Handlers {
    pub async fn respond(
        &self,
        budget: &BodyBudget,
        connection: &Connection,
        deadline: &Deadline,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let mut body = Arriving::new(body);
        let path = head.uri.path();
        let answered = match Method::parse(path).filter(|_| !self.read_only) {
            _ if self.read_only && head.method != HttpMethod::GET => {
                Err(Refusal::of(RefusalKind::NotGet, "this socket only answers GET"))
            }
            Some(method) => self.method(method, budget, connection, deadline, &head, &mut body).await,
            None => self.route(budget, connection, deadline, &head, &mut body).await,
        };
        match answered {
            Ok(answer) => answer,
            Err(refusal) => {
                Box::pin(body.discard()).await;
                refuse(&refusal)
            }
        }
    }

    async fn method(
        &self,
        method: Method,
        budget: &BodyBudget,
        connection: &Connection,
        deadline: &Deadline,
        head: &Parts,
        body: &mut Arriving,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let path = method.path();
        if head.method != HttpMethod::POST {
            return Err(Refusal::of(RefusalKind::NotPost, format!("{path} is called with POST")));
        }
        let body = budget.read(body, method.has_ports()).await.map_err(|refusal| refusal.about(path))?;
        // Not earlier: a client that never sends its complete body may be evicted.
        let _busy = connection.busy();
        check_body(method, &body.bytes).map_err(|refusal| refusal.about(path))?;
        Ok(self.call(deadline, method, &body.bytes))
    }

    /// Runs the driver's method on this thread. It runs to its end even if the engine disconnects or the
    /// deadline passes: nothing is left half done.
    fn call(&self, deadline: &Deadline, method: Method, body: &[u8]) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let work = || {
            let called = || call(self.network.as_deref(), self.ipam.as_deref(), method, body);
            catch_unwind(AssertUnwindSafe(called)).unwrap_or_else(|_| {
                let message = "internal error: the driver panicked, please report the plugin's log";
                Err(Refusal::of(RefusalKind::Internal, message))
            })
        };
        let key = if method.is_ipam() { "Error" } else { "Err" };
        // The engine sends no body to methods that cannot block.
        let (result, late) =
            if method.has_no_body() { (work(), false) } else { deadline.run(StatusCode::OK, key, work) };
        let outcome = match &result {
            _ if late => Outcome::Late,
            Ok(_) => Outcome::Answered,
            Err(refusal) if refusal.kind() == RefusalKind::Undecodable => Outcome::Undecodable,
            Err(_) => Outcome::Refused,
        };
        self.report(method, began.elapsed(), outcome, result.as_ref().err());
        match result {
            Ok(body) => reply(StatusCode::OK, PLUGIN_JSON, body),
            // The engine reads the method's error key from an answer with status 200, and `Err` from others.
            Err(refusal) if refusal.status() == StatusCode::OK => {
                let body = serde_json::json!({ key: refusal.message() }).to_string();
                reply(StatusCode::OK, PLUGIN_JSON, body.into())
            }
            Err(refusal) => refuse(&refusal.about(method.path())),
        }
    }

    fn report(&self, method: Method, duration: Duration, outcome: Outcome, refusal: Option<&Refusal>) {
        let name = method.name();
        if outcome == Outcome::Late {
            tracing::warn!(method = name, ?duration, "request answered before it was done");
        }
        match refusal {
            Some(refusal) => tracing::warn!(method = name, ?duration, error = %refusal, "request refused"),
            None => tracing::debug!(method = name, ?duration, "request answered"),
        }
        if let Some(observer) = &self.observer {
            observer.request_ended(method, duration, outcome);
        }
    }

    /// A path outside the protocol.
    async fn route(
        &self,
        budget: &BodyBudget,
        connection: &Connection,
        deadline: &Deadline,
        head: &Parts,
        body: &mut Arriving,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let (method, path) = (head.method.as_str(), head.uri.path());
        let Some(routes) = self.routes.as_ref().filter(|routes| routes.has(method, path)) else {
            let shown: String = path.chars().take(80).collect();
            let what = if self.read_only { "no path" } else { "no method" };
            let of = if self.read_only { "this socket is for operators" } else { "this is a plugin socket" };
            return Err(Refusal::of(RefusalKind::NotFound, format!("{what} {shown:?}: {of}")));
        };
        let query = head.uri.query().unwrap_or_default();
        let body = budget.read(body, false).await.map_err(|refusal| refusal.about(path))?;
        let _busy = connection.busy();
        let work = || {
            let request = RouteRequest { method, path, query, body: &body.bytes };
            let responded = || routes.respond(request);
            let panicked = |_| RouteAnswer::error(500, "internal error: please report the plugin's log");
            catch_unwind(AssertUnwindSafe(responded)).unwrap_or_else(panicked)
        };
        let (answer, _) = deadline.run(StatusCode::INTERNAL_SERVER_ERROR, "Err", work);
        let RouteAnswer { status, content_type, body } = answer;
        Ok(reply(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), content_type, body))
    }
}

/// The engine reads `Err` from any answer without status 200, for both drivers.
fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "Err": refusal.message() }).to_string();
    reply(refusal.status(), PLUGIN_JSON, body.into())
}

fn reply(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
