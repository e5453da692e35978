//! The values that Pontoon works with: identifiers, names, addresses, options, and the networks and endpoints
//! built from them.
//!
//! A value of these types is valid by construction. This layer never does I/O and imports no other module of
//! Pontoon. Every other layer uses it.

pub mod access;
pub mod conflict;
pub mod dhcp;
pub(crate) mod digest;
pub mod endpoint;
pub mod host_access;
pub mod id;
pub mod ifname;
pub mod kind;
pub mod lease;
pub mod limits;
pub mod mac;
pub mod network;
pub mod options;
pub mod overlay;
pub mod parent;
pub mod port;
pub mod prefix;
pub mod vlan;

pub use access::{AccessOptions, AllowList};
pub use conflict::ConflictOptions;
pub use dhcp::{DhcpEndpointOptions, DhcpOptions};
pub use endpoint::{Endpoint, EndpointSpec, Phase};
pub use id::{EndpointId, NetworkId};
pub use ifname::{IfName, LinkRole};
pub use kind::{Attachment, KindOptions, NetworkKind};
pub use lease::{Held, LeaseKey, LeaseOwner, LeaseRecord, LeaseSource};
pub use limits::LimitOptions;
pub use mac::Mac;
pub use netlink::Family;
pub use network::{Network, NetworkSpec, Subnet};
pub use options::{EndpointOptions, GatewayMode, NetworkOptions};
pub use overlay::{DataPath, Overlay, Scope, Vni};
pub use port::{Binding, HostPort, Protocol, Published};
pub use prefix::overlap;
pub use vlan::{PortVlans, Vid, Vids};
