//! Pontoon, a network and IPAM driver plugin for Docker.
//!
//! docs/architecture.md describes the layers and the allowed imports; tests/layers.rs enforces them. There is
//! one path for data: server -> driver -> state -> datapath -> linux.

pub mod admin;
pub mod announcer;
pub mod api;
pub mod app;
pub mod cli;
pub mod client;
pub mod confinement;
pub mod datapath;
pub mod doctor;
pub mod driver;
pub mod engine;
pub mod environment;
pub mod gc;
pub mod installation;
pub mod ipam;
pub mod linux;
pub mod malloc;
pub mod metrics;
pub mod model;
pub mod output;
pub mod ports;
pub mod resolvers;
pub mod server;
pub mod state;
pub mod telemetry;
pub mod upkeep;
pub mod vip;
