//! The protocol's bodies: the engine's requests and the expected answers.
//!
//! Decoding is as lenient as the engine's own decoder: unknown keys are ignored, and `null` and missing values
//! are the zero value. Values are strings here as on the wire; the driver interprets them.
//!
//! Field names follow moby's `daemon/libnetwork/drivers/remote/api` and `ipams/remote/api`.

pub mod ipam;
mod method;
pub mod network;
pub mod options;

pub use method::Method;

use serde::{Deserialize, Deserializer, Serialize};

/// Decodes `null` and a missing key as the zero value, as Go does.
pub(crate) fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// The answer of methods that return nothing: the engine expects an object, not an empty body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The answer to Plugin.Activate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Manifest {
    /// Kinds of plugin behind this socket.
    pub implements: Vec<String>,
}
