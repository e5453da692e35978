//! Pontoon, a network and IPAM driver plugin for Docker.
//!
//! docs/architecture.md describes the layers and the allowed imports; tests/layers.rs enforces them. There is
//! one path for data: server -> driver -> state -> datapath -> linux.

// Messages name the object and the remedy instead; clippy.toml lists the methods.
#![cfg_attr(
    not(test),
    warn(
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unwrap_used
    )
)]

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
pub mod explain;
pub mod gc;
pub mod group;
pub mod installation;
pub mod ipam;
pub mod linux;
pub mod malloc;
pub mod metrics;
pub mod model;
pub mod names;
pub mod output;
pub mod ports;
pub mod resolver;
pub mod resolvers;
pub mod rounds;
pub mod server;
pub mod show;
pub mod state;
pub mod telemetry;
pub mod terminal;
pub mod upkeep;
pub mod vip;
pub mod yaml;
