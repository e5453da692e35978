//! Owns the way from a method and a body to a verb and back: decoding, the thread the verb runs
//! on, its deadline, and the form of its error.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

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

/// Runs the verb on a thread that may block. The verb finishes even when the engine hangs up or
/// the deadline passes: what it began is never left half done because nobody listens any more.
pub(super) async fn call(service: &Arc<Service>, method: Method, body: Bytes) -> Response<Full<Bytes>> {
    let began = Instant::now();
    let outcome = if is_light(method) {
        run(&service.driver, method, &body)
    } else {
        let driver = Arc::clone(&service.driver);
        let verb = tokio::task::spawn_blocking(move || run(&driver, method, &body));
        match timeout(service.verb_time, verb).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Failed("internal error: the verb panicked, please report Pontoon's log".to_owned()),
            Err(_) => {
                let seconds = service.verb_time.as_secs();
                Outcome::Failed(format!("no result within {seconds} s, it goes on in the background: try again later"))
            }
        }
    };
    let failed = !matches!(outcome, Outcome::Answer(_));
    service.metrics.verb(method, failed, began.elapsed());
    match outcome {
        Outcome::Answer(body) => reply(StatusCode::OK, body.into()),
        Outcome::Failed(message) => {
            tracing::warn!(method = method.name(), error = %message, "refused");
            let key = if method.is_ipam() { "Error" } else { "Err" };
            reply(StatusCode::OK, serde_json::json!({ key: message }).to_string().into())
        }
        Outcome::Undecodable(message) => {
            tracing::warn!(method = method.name(), error = %message, "not understood");
            refuse(StatusCode::BAD_REQUEST, &format!("{}: {message}", method.path()))
        }
    }
}

/// The published ports, for `pontoon ports`.
pub(super) async fn ports(service: &Arc<Service>) -> Response<Full<Bytes>> {
    let driver = Arc::clone(&service.driver);
    let listed = tokio::task::spawn_blocking(move || serde_json::to_vec(&driver.ports()));
    match timeout(service.verb_time, listed).await {
        Ok(Ok(Ok(body))) => reply(StatusCode::OK, body.into()),
        _ => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the published ports could not be listed: try again"),
    }
}

/// Verbs that touch neither ledger nor kernel nor a network's lock run where they are.
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
        Method::Activate => {
            let implements = vec!["NetworkDriver".to_owned(), "IpamDriver".to_owned()];
            encode(&Manifest { implements })
        }
        Method::NetworkGetCapabilities => encode(&driver.get_capabilities()),
        Method::GwAllocCheck => verb(body, |r| driver.gw_alloc_check(r)),
        Method::CreateNetwork => verb(body, |r| driver.create_network(r)),
        Method::DeleteNetwork => verb(body, |r| driver.delete_network(r)),
        Method::CreateEndpoint => verb(body, |r| driver.create_endpoint(r)),
        Method::DeleteEndpoint => verb(body, |r| driver.delete_endpoint(r)),
        Method::EndpointOperInfo => verb(body, |r| Ok(driver.endpoint_oper_info(r))),
        Method::Join => verb(body, |r| driver.join(r)),
        Method::Leave => verb(body, |r| driver.leave(r)),
        Method::ProgramExternalConnectivity => verb(body, |r| driver.program_external_connectivity(r)),
        Method::RevokeExternalConnectivity => verb(body, |r| driver.revoke_external_connectivity(r)),
        Method::DiscoverNew => verb(body, |r| driver.discover_new(r)),
        Method::DiscoverDelete => verb(body, |r| driver.discover_delete(r)),
        Method::AllocateNetwork => verb(body, |r| driver.allocate_network(r)),
        Method::FreeNetwork => verb(body, |r| driver.free_network(r)),
        Method::IpamGetCapabilities => encode(&driver.ipam_get_capabilities()),
        Method::GetDefaultAddressSpaces => encode(&driver.get_default_address_spaces()),
        Method::RequestPool => verb(body, |r| driver.request_pool(r)),
        Method::ReleasePool => verb(body, |r| driver.release_pool(r)),
        Method::RequestAddress => verb(body, |r| driver.request_address(r)),
        Method::ReleaseAddress => verb(body, |r| driver.release_address(r)),
    }
}

fn verb<R: DeserializeOwned, A: Serialize>(body: &[u8], verb: impl FnOnce(R) -> Result<A, Error>) -> Outcome {
    match serde_json::from_slice(body) {
        Ok(request) => match verb(request) {
            Ok(answer) => encode(&answer),
            Err(error) => Outcome::Failed(error.to_string()),
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
