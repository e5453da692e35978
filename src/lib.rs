//! Pontoon, a network and IPAM driver plugin for Docker.
//!
//! The layers, and who may import whom, are in docs/architecture.md; tests/layers.rs holds the
//! code to it. One path for data: server -> driver -> state -> datapath -> linux.

pub mod datapath;
pub mod linux;
pub mod model;
pub mod state;
