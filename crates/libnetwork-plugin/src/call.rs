//! Dispatches a method and its body to a driver's method, and encodes the result.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::{AddressAnswer, Given, InterfaceAnswer, JoinAnswer, PoolAnswer};
use crate::driver::{IpamDriver, NetworkDriver};
use crate::refusal::{Refusal, RefusalKind};
use crate::wire::network::{CreateEndpointRequest, EndpointRequest, OperInfoResponse};
use crate::wire::{Empty, Manifest, Method};

/// Decodes a request, runs the driver's method and encodes its answer: everything that a [`crate::Server`] does
/// with a request, except the connection and the deadline. For tests and fuzzing.
///
/// # Errors
/// Those of the driver; a body that cannot be decoded; a method of a driver that is not registered.
pub fn call(
    network: Option<&dyn NetworkDriver>,
    ipam: Option<&dyn IpamDriver>,
    method: Method,
    body: &[u8],
) -> Result<Vec<u8>, Refusal> {
    check_body(method, body)?;
    if method == Method::Activate {
        let implements = [network.map(|_| "NetworkDriver"), ipam.map(|_| "IpamDriver")];
        return encode(&Manifest { implements: implements.into_iter().flatten().map(str::to_owned).collect() });
    }
    match (method.is_ipam(), network, ipam) {
        (false, Some(driver), _) => call_network(driver, method, body),
        (true, _, Some(driver)) => call_ipam(driver, method, body),
        (false, None, _) => Err(Refusal::of(RefusalKind::NotFound, "this plugin has no network driver")),
        (true, _, None) => Err(Refusal::of(RefusalKind::NotFound, "this plugin has no IPAM driver")),
    }
}

/// Refuses the engine's retry after a lost connection, which has no body: the first attempt may have been
/// carried out.
pub(crate) fn check_body(method: Method, body: &[u8]) -> Result<(), Refusal> {
    if !body.is_empty() || method.has_no_body() {
        return Ok(());
    }
    let message = "the request has no body (a repetition after a lost connection), try again";
    Err(Refusal::of(RefusalKind::Undecodable, message))
}

fn call_network(driver: &dyn NetworkDriver, method: Method, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    match method {
        Method::NetworkGetCapabilities => encode(&driver.capabilities()),
        Method::GwAllocCheck => encode(&driver.gw_alloc_check(decode(body)?)?),
        Method::CreateNetwork => done(driver.create_network(decode(body)?)),
        Method::DeleteNetwork => done(driver.delete_network(decode(body)?)),
        Method::CreateEndpoint => {
            let request: CreateEndpointRequest = decode(body)?;
            let given = Given::of(&request.interface);
            encode(&InterfaceAnswer::response(driver.create_endpoint(request)?, given))
        }
        Method::DeleteEndpoint => done(driver.delete_endpoint(decode(body)?)),
        Method::EndpointOperInfo => {
            decode::<EndpointRequest>(body)?;
            encode(&OperInfoResponse::default())
        }
        Method::Join => encode(&JoinAnswer::response(driver.join(decode(body)?)?)),
        Method::Leave => done(driver.leave(decode(body)?)),
        Method::ProgramExternalConnectivity => done(driver.program_external_connectivity(decode(body)?)),
        Method::RevokeExternalConnectivity => done(driver.revoke_external_connectivity(decode(body)?)),
        Method::DiscoverNew => done(driver.discover_new(decode(body)?)),
        Method::DiscoverDelete => done(driver.discover_delete(decode(body)?)),
        Method::AllocateNetwork => encode(&driver.allocate_network(decode(body)?)?),
        Method::FreeNetwork => done(driver.free_network(decode(body)?)),
        Method::Activate
        | Method::IpamGetCapabilities
        | Method::GetDefaultAddressSpaces
        | Method::RequestPool
        | Method::ReleasePool
        | Method::RequestAddress
        | Method::ReleaseAddress => Err(misdirected(method)),
    }
}

fn call_ipam(driver: &dyn IpamDriver, method: Method, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    match method {
        Method::IpamGetCapabilities => encode(&driver.capabilities()),
        Method::GetDefaultAddressSpaces => encode(&driver.default_address_spaces()),
        Method::RequestPool => encode(&PoolAnswer::response(driver.request_pool(decode(body)?)?)),
        Method::ReleasePool => done(driver.release_pool(decode(body)?)),
        Method::RequestAddress => encode(&AddressAnswer::response(driver.request_address(decode(body)?)?)),
        Method::ReleaseAddress => done(driver.release_address(decode(body)?)),
        method => Err(misdirected(method)),
    }
}

fn misdirected(method: Method) -> Refusal {
    Refusal::of(RefusalKind::Internal, format!("internal error: {} belongs to the other driver", method.path()))
}

/// The engine expects an object even for an empty answer.
fn done(result: Result<(), Refusal>) -> Result<Vec<u8>, Refusal> {
    result?;
    encode(&Empty {})
}

fn decode<R: DeserializeOwned>(body: &[u8]) -> Result<R, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::of(RefusalKind::Undecodable, format!("the body is not what this method takes: {error}"))
    })
}

fn encode<A: Serialize>(answer: &A) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(answer).map_err(|error| {
        Refusal::of(RefusalKind::Internal, format!("internal error: the answer cannot be encoded: {error}"))
    })
}
