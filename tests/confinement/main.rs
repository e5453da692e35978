//! What the daemon gives up, shown from outside and from inside: what a running daemon's threads
//! may do, and what happens to a confined process that tries more. Needs root.

#[path = "../rig/daemon.rs"]
#[allow(dead_code)]
mod daemon;
#[path = "../rig/mod.rs"]
mod rig;

mod attempts;
mod process;
