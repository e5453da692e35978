//! Owns the answers of a daemon that cannot serve yet: what the engine has to know of a plugin, and
//! for everything else the reason. An engine that is told the reason shows it to the user; one that
//! finds no socket says "not found", after 15 seconds.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;

use super::body::Room;
use super::{refuse, reply};
use crate::api::network::CapabilitiesResponse;
use crate::api::{Manifest, Method, ipam};

/// Why nothing is served, and what is answered all the same.
#[derive(Debug, Clone)]
pub struct Unserved {
    /// One line, which names the remedy.
    pub reason: String,
    /// What the driver can do, once it serves. An engine that saw this fail would not register the
    /// driver until it is restarted (protocol.md 1.3).
    pub capabilities: CapabilitiesResponse,
}

impl Unserved {
    pub(super) async fn respond(&self, room: &Room, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        // Read, so that the client is done with sending when it is answered.
        if let Err((status, message)) =
            room.read(request.into_body(), Method::parse(&path).is_some_and(Method::has_ports)).await
        {
            return refuse(status, &format!("{path}: {message}"));
        }
        match Method::parse(&path) {
            Some(Method::Activate) => answer(&Manifest::of_both()),
            Some(Method::NetworkGetCapabilities) => answer(&self.capabilities),
            Some(Method::IpamGetCapabilities) => answer(&ipam::CapabilitiesResponse::ours()),
            Some(Method::GetDefaultAddressSpaces) => answer(&crate::driver::address_spaces()),
            Some(method) => {
                tracing::warn!(method = method.name(), error = %self.reason, "refused");
                let key = if method.is_ipam() { "Error" } else { "Err" };
                answer(&serde_json::json!({ key: self.reason }))
            }
            None => refuse(StatusCode::SERVICE_UNAVAILABLE, &self.reason),
        }
    }
}

fn answer<A: Serialize>(answer: &A) -> Response<Full<Bytes>> {
    match serde_json::to_vec(answer) {
        Ok(body) => reply(StatusCode::OK, body.into()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("internal error: {error}")),
    }
}
