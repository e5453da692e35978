//! The methods of the protocol, in terms of the domain: any front end can call them. A verb changes the ledger and
//! the desired state of the kernel, and answers; it knows no HTTP, no JSON and no netlink.

mod allocation;
mod claim;
mod discovery;
mod endpoint;
mod external;
mod gateway;
mod ipam;
mod network;
mod sandbox;
mod vlan;

pub use allocation::Allocation;
pub use discovery::Node;
pub use endpoint::Created;
pub use external::Publication;
pub use gateway::without_gateway;
pub use ipam::Pool;
pub use sandbox::{JoinSpec, Joined};
