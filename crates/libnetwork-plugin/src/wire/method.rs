//! The methods of the protocol.

/// A method of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the engine's own name")]
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
    /// All methods, each with its path and with a name for logs and metrics.
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

    /// The method for a request's path.
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

    /// A name for logs and metrics, in snake case.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Whether the method belongs to the IPAM driver. Its errors have the key `Error`, not `Err`.
    pub fn is_ipam(self) -> bool {
        self.path().starts_with("/IpamDriver.")
    }

    /// Whether the request contains the list of a container's published ports, and so may be large.
    pub fn has_ports(self) -> bool {
        matches!(self, Method::CreateEndpoint | Method::Join | Method::ProgramExternalConnectivity)
    }

    /// Whether the engine sends no body. For all others an empty body marks the engine's retry after a lost
    /// connection, which must not be treated as a request (moby pkg/plugins/client.go, callWithRetry).
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
