//! Attacks on Pontoon: the program as it is shipped, in a network namespace of its own, with
//! namespaces as containers and no engine. Each test attacks, sees the attack fail, and sees it
//! succeed once the guard is removed.
#![allow(dead_code)]

#[path = "../rig/daemon.rs"]
mod daemon;
mod host;
mod isolation;
mod nat;
#[path = "../netns_support/mod.rs"]
mod netns_support;
#[path = "../rig/mod.rs"]
mod rig;
mod routed;
#[path = "../netns_linux/topology.rs"]
mod topology;

mod baseline;
mod bridges;
mod claim;
mod discovery;
mod forwarding;
mod frames;
mod ledger;
mod many;
mod output;
mod overlay;
mod packet;
mod ports;
mod settings;
mod subnets;
mod uninstall;
