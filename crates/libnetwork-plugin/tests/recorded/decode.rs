//! Decodes a body into the request type of its method, for tests and fuzzing.
//!
//! The match is exhaustive: a new method does not compile until it has a row.

use libnetwork_plugin::Method;
use libnetwork_plugin::ipam::{ReleaseAddressRequest, ReleasePoolRequest, RequestAddressRequest, RequestPoolRequest};
use libnetwork_plugin::network::{
    AllocateNetworkRequest, CreateEndpointRequest, CreateNetworkRequest, DiscoverRequest, EndpointRequest,
    GwAllocCheckRequest, JoinRequest, NetworkRequest, ProgramRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A decoded body.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// The method takes no body and got none.
    Nothing,
    /// No body where there should be one: the engine's retry after a lost connection.
    Retry,
    /// The request, encoded again.
    Request(Value),
}

/// Decodes `raw` into the request type of `method` and encodes the result again.
pub fn decode(method: Method, raw: &[u8]) -> serde_json::Result<Decoded> {
    match method {
        Method::Activate
        | Method::NetworkGetCapabilities
        | Method::IpamGetCapabilities
        | Method::GetDefaultAddressSpaces => match raw {
            [] => Ok(Decoded::Nothing),
            _ => Ok(Decoded::Request(serde_json::from_slice(raw)?)),
        },
        _ if raw.is_empty() => Ok(Decoded::Retry),
        Method::GwAllocCheck => through::<GwAllocCheckRequest>(raw),
        Method::CreateNetwork => through::<CreateNetworkRequest>(raw),
        Method::DeleteNetwork | Method::FreeNetwork => through::<NetworkRequest>(raw),
        Method::CreateEndpoint => through::<CreateEndpointRequest>(raw),
        Method::DeleteEndpoint | Method::EndpointOperInfo | Method::Leave | Method::RevokeExternalConnectivity => {
            through::<EndpointRequest>(raw)
        }
        Method::Join => through::<JoinRequest>(raw),
        Method::ProgramExternalConnectivity => through::<ProgramRequest>(raw),
        Method::DiscoverNew | Method::DiscoverDelete => through::<DiscoverRequest>(raw),
        Method::AllocateNetwork => through::<AllocateNetworkRequest>(raw),
        Method::RequestPool => through::<RequestPoolRequest>(raw),
        Method::ReleasePool => through::<ReleasePoolRequest>(raw),
        Method::RequestAddress => through::<RequestAddressRequest>(raw),
        Method::ReleaseAddress => through::<ReleaseAddressRequest>(raw),
    }
}

fn through<T: DeserializeOwned + Serialize>(raw: &[u8]) -> serde_json::Result<Decoded> {
    serde_json::to_value(serde_json::from_slice::<T>(raw)?).map(Decoded::Request)
}
