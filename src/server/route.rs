//! Owns the way from a method and a body to a verb and back: decoding, which verbs have a
//! deadline, and the form of an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::deadline::Deadline;
use super::{Service, refuse, reply};
use crate::api::{Manifest, Method};
use crate::driver::{Driver, Error};

/// What a verb gave, ready to be sent: a body, or the message of its error.
enum Outcome {
    Answer(Vec<u8>),
    Failed(String),
    /// The body was not of the method's form.
    Undecodable(String),
}

/// Runs the verb on this thread. It finishes even when the engine hangs up or the deadline passes:
/// what it began is never left half done because nobody listens any more.
pub(super) fn call(service: &Service, deadline: &Deadline, method: Method, body: &[u8]) -> Response<Full<Bytes>> {
    let began = Instant::now();
    let key = if method.is_ipam() { "Error" } else { "Err" };
    let work = || {
        let done = catch_unwind(AssertUnwindSafe(|| run(&service.driver, method, body)));
        let panicked = "internal error: the verb panicked, please report Pontoon's log";
        done.unwrap_or_else(|_| Outcome::Failed(panicked.to_owned()))
    };
    let (outcome, late) = match is_light(method) {
        true => (work(), false),
        false => deadline.run(StatusCode::OK, key, work),
    };
    if late {
        tracing::warn!(method = method.name(), took = ?began.elapsed(), "answered before it was done");
    }
    let failed = late || !matches!(outcome, Outcome::Answer(_));
    let took = began.elapsed();
    service.metrics.verb(method, failed, took);
    tracing::debug!(method = method.name(), ?took, failed, "done");
    match outcome {
        Outcome::Answer(body) => reply(StatusCode::OK, body.into()),
        Outcome::Failed(message) => {
            tracing::warn!(method = method.name(), error = %message, "refused");
            reply(StatusCode::OK, serde_json::json!({ key: message }).to_string().into())
        }
        Outcome::Undecodable(message) => {
            tracing::warn!(method = method.name(), error = %message, "not understood");
            refuse(StatusCode::BAD_REQUEST, &format!("{}: {message}", method.path()))
        }
    }
}

/// The published ports, for `pontoon ports`.
pub(super) fn ports(service: &Service, deadline: &Deadline) -> Response<Full<Bytes>> {
    let listed = || serde_json::to_vec(&service.driver.ports());
    match deadline.run(StatusCode::INTERNAL_SERVER_ERROR, "Err", listed) {
        (Ok(body), _) => reply(StatusCode::OK, body.into()),
        (Err(_), _) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the published ports could not be listed: try again"),
    }
}

/// What the daemon is and holds, for `pontoon doctor`, `plan` and `gc`.
pub(super) fn status(service: &Service, deadline: &Deadline) -> Response<Full<Bytes>> {
    let told = || serde_json::to_vec(&service.driver.status());
    match deadline.run(StatusCode::INTERNAL_SERVER_ERROR, "Err", told) {
        (Ok(body), _) => reply(StatusCode::OK, body.into()),
        (Err(_), _) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the status could not be told: try again"),
    }
}

/// A repair now, for `pontoon repair`, after the links in `remove` were given up. It goes on when
/// nobody waits for it any more.
pub(super) fn repair(service: &Service, deadline: &Deadline, body: &[u8]) -> Response<Full<Bytes>> {
    #[derive(Default, serde::Deserialize)]
    struct Repair {
        #[serde(default)]
        remove: Vec<String>,
    }
    let asked: Repair = match body {
        [] => Repair::default(),
        body => match serde_json::from_slice(body) {
            Ok(asked) => asked,
            Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("/repair: {error}")),
        },
    };
    let repair = || service.driver.remove_unknown(&asked.remove).and_then(|()| service.driver.repair_all());
    match deadline.run(StatusCode::INTERNAL_SERVER_ERROR, "Err", repair) {
        (Ok(plan), _) => reply(StatusCode::OK, serde_json::json!(plan).to_string().into()),
        (Err(error), _) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Verbs that touch neither ledger nor kernel nor a network's lock need no deadline.
fn is_light(method: Method) -> bool {
    matches!(
        method,
        Method::Activate
            | Method::NetworkGetCapabilities
            | Method::IpamGetCapabilities
            | Method::GetDefaultAddressSpaces
            | Method::EndpointOperInfo
            | Method::DiscoverNew
            | Method::DiscoverDelete
    )
}

fn run(driver: &Driver, method: Method, body: &[u8]) -> Outcome {
    match method {
        Method::Activate => encode(&Manifest::of_both()),
        Method::NetworkGetCapabilities => encode(&driver.get_capabilities()),
        Method::GwAllocCheck => verb(driver, body, |r| driver.gw_alloc_check(r)),
        Method::CreateNetwork => verb(driver, body, |r| driver.create_network(r)),
        Method::DeleteNetwork => verb(driver, body, |r| driver.delete_network(r)),
        Method::CreateEndpoint => verb(driver, body, |r| driver.create_endpoint(r)),
        Method::DeleteEndpoint => verb(driver, body, |r| driver.delete_endpoint(r)),
        Method::EndpointOperInfo => verb(driver, body, |r| Ok(driver.endpoint_oper_info(r))),
        Method::Join => verb(driver, body, |r| driver.join(r)),
        Method::Leave => verb(driver, body, |r| driver.leave(r)),
        Method::ProgramExternalConnectivity => verb(driver, body, |r| driver.program_external_connectivity(r)),
        Method::RevokeExternalConnectivity => verb(driver, body, |r| driver.revoke_external_connectivity(r)),
        Method::DiscoverNew => verb(driver, body, |r| driver.discover_new(r)),
        Method::DiscoverDelete => verb(driver, body, |r| driver.discover_delete(r)),
        Method::AllocateNetwork => verb(driver, body, |r| driver.allocate_network(r)),
        Method::FreeNetwork => verb(driver, body, |r| driver.free_network(r)),
        Method::IpamGetCapabilities => encode(&driver.ipam_get_capabilities()),
        Method::GetDefaultAddressSpaces => encode(&driver.get_default_address_spaces()),
        Method::RequestPool => verb(driver, body, |r| driver.request_pool(r)),
        Method::ReleasePool => verb(driver, body, |r| driver.release_pool(r)),
        Method::RequestAddress => verb(driver, body, |r| driver.request_address(r)),
        Method::ReleaseAddress => verb(driver, body, |r| driver.release_address(r)),
    }
}

fn verb<R: DeserializeOwned, A: Serialize>(
    driver: &Driver,
    body: &[u8],
    verb: impl FnOnce(R) -> Result<A, Error>,
) -> Outcome {
    match serde_json::from_slice(body) {
        Ok(request) => match verb(request) {
            Ok(answer) => encode(&answer),
            Err(error) => Outcome::Failed(driver.explain(error).to_string()),
        },
        Err(error) => Outcome::Undecodable(format!("the body is not what this method takes: {error}")),
    }
}

fn encode<A: Serialize>(answer: &A) -> Outcome {
    match serde_json::to_vec(answer) {
        Ok(body) => Outcome::Answer(body),
        Err(error) => Outcome::Failed(format!("internal error: the answer cannot be written: {error}")),
    }
}

/// Decodes and runs one request without a connection: what fuzzing drives.
pub fn call_directly(driver: &Driver, method: Method, body: &[u8]) -> bool {
    matches!(run(driver, method, body), Outcome::Answer(_))
}
