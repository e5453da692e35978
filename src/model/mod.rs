//! The values that Pontoon works with: identifiers, names, addresses, options, and the networks and endpoints
//! built from them.
//!
//! A value of these types is valid by construction. This layer never does I/O and imports no other module of
//! Pontoon. Every other layer uses it.

mod digest;
pub mod endpoint;
pub mod family;
pub mod id;
pub mod ifname;
pub mod kind;
pub mod mac;
pub mod network;
pub mod options;
pub mod overlay;
pub mod port;
pub mod prefix;

pub use endpoint::{Endpoint, EndpointSpec, Phase};
pub use family::Family;
pub use id::{EndpointId, NetworkId};
pub use ifname::{IfName, LinkRole};
pub use kind::{Attachment, KindOptions, NetworkKind};
pub use mac::Mac;
pub use network::{Network, NetworkSpec, Subnet};
pub use options::{EndpointOptions, GatewayMode, NetworkOptions};
pub use overlay::{DataPath, Overlay, Scope, Vni};
pub use port::{Binding, HostPort, Protocol, Published};
pub use prefix::overlap;
