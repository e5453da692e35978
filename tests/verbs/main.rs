//! The verbs over a real Unix socket on the fake kernel: what they answer, what they leave in the
//! kernel and in the ledger, and that each may be repeated, lost or come in any order.

#[path = "../rig/mod.rs"]
mod rig;

mod again;
mod backlog;
mod bad_input;
mod endpoints;
mod failures;
mod ipam;
mod lives;
mod macvlan;
mod networks;
mod overlay;
mod parents;
mod policy;
mod ports;
mod status;
