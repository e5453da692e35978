//! Owns the wire types of libnetwork's remote driver protocol: what the engine sends and what it
//! takes. Decoding is as lenient as the engine's own decoder (unknown keys ignored, `null` and
//! missing are the zero value); meaning is given to the values by the driver.
//!
//! Field names follow moby's `daemon/libnetwork/drivers/remote/api` and `ipams/remote/api`.

pub mod ipam;
pub mod network;
pub mod options;

use serde::{Deserialize, Deserializer, Serialize};

/// Every method of the protocol: the closed list of what a request can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // each is the engine's own name, described in protocol.md
pub enum Method {
    Activate,
    NetworkGetCapabilities,
    GwAllocCheck,
    CreateNetwork,
    DeleteNetwork,
    CreateEndpoint,
    DeleteEndpoint,
    EndpointOperInfo,
    Join,
    Leave,
    ProgramExternalConnectivity,
    RevokeExternalConnectivity,
    DiscoverNew,
    DiscoverDelete,
    AllocateNetwork,
    FreeNetwork,
    IpamGetCapabilities,
    GetDefaultAddressSpaces,
    RequestPool,
    ReleasePool,
    RequestAddress,
    ReleaseAddress,
}

impl Method {
    /// All methods with their paths and with the name that logs and metrics use.
    pub const ALL: [(Method, &'static str, &'static str); 22] = [
        (Method::Activate, "/Plugin.Activate", "activate"),
        (Method::NetworkGetCapabilities, "/NetworkDriver.GetCapabilities", "get_capabilities"),
        (Method::GwAllocCheck, "/NetworkDriver.GwAllocCheck", "gw_alloc_check"),
        (Method::CreateNetwork, "/NetworkDriver.CreateNetwork", "create_network"),
        (Method::DeleteNetwork, "/NetworkDriver.DeleteNetwork", "delete_network"),
        (Method::CreateEndpoint, "/NetworkDriver.CreateEndpoint", "create_endpoint"),
        (Method::DeleteEndpoint, "/NetworkDriver.DeleteEndpoint", "delete_endpoint"),
        (Method::EndpointOperInfo, "/NetworkDriver.EndpointOperInfo", "endpoint_oper_info"),
        (Method::Join, "/NetworkDriver.Join", "join"),
        (Method::Leave, "/NetworkDriver.Leave", "leave"),
        (
            Method::ProgramExternalConnectivity,
            "/NetworkDriver.ProgramExternalConnectivity",
            "program_external_connectivity",
        ),
        (
            Method::RevokeExternalConnectivity,
            "/NetworkDriver.RevokeExternalConnectivity",
            "revoke_external_connectivity",
        ),
        (Method::DiscoverNew, "/NetworkDriver.DiscoverNew", "discover_new"),
        (Method::DiscoverDelete, "/NetworkDriver.DiscoverDelete", "discover_delete"),
        (Method::AllocateNetwork, "/NetworkDriver.AllocateNetwork", "allocate_network"),
        (Method::FreeNetwork, "/NetworkDriver.FreeNetwork", "free_network"),
        (Method::IpamGetCapabilities, "/IpamDriver.GetCapabilities", "ipam_get_capabilities"),
        (Method::GetDefaultAddressSpaces, "/IpamDriver.GetDefaultAddressSpaces", "get_default_address_spaces"),
        (Method::RequestPool, "/IpamDriver.RequestPool", "request_pool"),
        (Method::ReleasePool, "/IpamDriver.ReleasePool", "release_pool"),
        (Method::RequestAddress, "/IpamDriver.RequestAddress", "request_address"),
        (Method::ReleaseAddress, "/IpamDriver.ReleaseAddress", "release_address"),
    ];

    /// The method behind a request's path.
    pub fn parse(path: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, p, _)| *p == path).map(|(method, _, _)| *method)
    }

    fn row(self) -> (&'static str, &'static str) {
        Self::ALL.iter().find(|(m, _, _)| *m == self).map_or(("", ""), |(_, path, name)| (path, name))
    }

    /// The request's path.
    pub fn path(self) -> &'static str {
        self.row().0
    }

    /// The name in code, logs and metrics.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Whether the method belongs to the IPAM half, whose errors stand under `Error`, not `Err`.
    pub fn is_ipam(self) -> bool {
        self.path().starts_with("/IpamDriver.")
    }

    /// Whether the request has the published ports of a container.
    pub fn has_ports(self) -> bool {
        matches!(self, Method::CreateEndpoint | Method::Join | Method::ProgramExternalConnectivity)
    }

    /// Whether the engine sends no body. For all others an empty body is the mark of the
    /// engine's retry after a lost connection, and must not be taken for a request
    /// (protocol.md 1.6; moby pkg/plugins/client.go, callWithRetry).
    pub fn has_no_body(self) -> bool {
        matches!(
            self,
            Method::Activate
                | Method::NetworkGetCapabilities
                | Method::IpamGetCapabilities
                | Method::GetDefaultAddressSpaces
        )
    }
}

/// Takes `null` and a missing key for the zero value, as Go does.
pub(crate) fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// The answer of methods that return nothing: the engine wants an object, not an empty body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The answer to Plugin.Activate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Manifest {
    /// Kinds of plugin behind this socket.
    pub implements: Vec<String>,
}

impl Manifest {
    /// A network driver and an IPAM driver.
    pub fn of_both() -> Self {
        Self { implements: vec!["NetworkDriver".to_owned(), "IpamDriver".to_owned()] }
    }
}

#[cfg(test)]
mod tests {
    use super::Method;

    #[test]
    fn paths_and_names_are_one_to_one() {
        for (method, path, name) in Method::ALL {
            assert_eq!(Method::parse(path), Some(method));
            assert_eq!((method.path(), method.name()), (path, name));
        }
        let names: std::collections::BTreeSet<_> = Method::ALL.iter().map(|row| row.2).collect();
        assert_eq!(names.len(), Method::ALL.len());
        for path in ["", "/", "/NetworkDriver.createNetwork", "/NetworkDriver.CreateNetwork/", "NetworkDriver.Join"] {
            assert_eq!(Method::parse(path), None, "{path}");
        }
    }
}
