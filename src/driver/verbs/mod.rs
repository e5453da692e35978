//! The methods of the protocol. A verb changes the ledger and the desired state of the kernel, and answers; it knows
//! no HTTP, no JSON and no netlink.

mod claim;
mod discovery;
mod endpoint;
mod external;
mod ipam;
mod network;
mod sandbox;

pub use ipam::address_spaces;
