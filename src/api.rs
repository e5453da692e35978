//! The protocol's bodies, as the driver sees them: those of `libnetwork-plugin`.

pub use libnetwork_plugin::{Empty, Manifest, Method, ipam, network, options};
