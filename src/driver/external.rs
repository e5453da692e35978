//! Owns the verbs of published ports: program_external_connectivity and
//! revoke_external_connectivity. This release publishes nothing, and says so when asked to.

use super::endpoint::ids;
use super::{Driver, Error};
use crate::api::Empty;
use crate::api::network::{EndpointRequest, PortBinding, ProgramRequest, key};
use crate::model::{EndpointId, NetworkId};

impl Driver {
    /// ProgramExternalConnectivity: this endpoint is the sandbox's way out and would publish its
    /// ports. Without any it is success; a port is refused rather than dropped in silence.
    pub fn program_external_connectivity(&self, request: ProgramRequest) -> Result<Empty, Error> {
        NetworkId::parse(&request.network_id)?;
        let endpoint = EndpointId::parse(&request.endpoint_id)?;
        let bindings = request.options.get(key::PORT_MAP).cloned().unwrap_or_default();
        // A list that cannot be read is as good a reason to refuse as one that can.
        let ports = match serde_json::from_value::<Option<Vec<PortBinding>>>(bindings) {
            Ok(bindings) => bindings.unwrap_or_default().iter().take(5).map(show).collect::<Vec<_>>().join(", "),
            Err(_) => "in an unknown form".to_owned(),
        };
        if ports.is_empty() { Ok(Empty {}) } else { Err(Error::Publishing { endpoint, ports }) }
    }

    /// RevokeExternalConnectivity: nothing is published, so nothing is to revoke.
    pub fn revoke_external_connectivity(&self, request: EndpointRequest) -> Result<Empty, Error> {
        ids(&request).map(|_| Empty {})
    }
}

/// A binding as the user wrote it after `-p`.
fn show(binding: &PortBinding) -> String {
    let host = match (binding.host_ip.as_str(), binding.host_port) {
        ("", 0) => String::new(),
        ("", port) => format!("{port}:"),
        (ip, 0) => format!("{ip}::"),
        (ip, port) => format!("{ip}:{port}:"),
    };
    let proto = match binding.proto {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    };
    format!("{host}{}/{proto}", binding.port)
}
