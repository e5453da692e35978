//! Real engines over Pontoon's networks: packets decide.
//!
//! Each scenario takes its driver from a [`testbed::Testbed`]. Where behaviour should match it runs on the engine's own bridge
//! driver first, so that a wrong expectation fails there, and then on Pontoon. `PONTOON_ENGINE` selects the engine.

#[path = "../support/mod.rs"]
mod support;

mod activation;
mod agreement;
mod basics;
mod doctor;
mod drift;
mod example;
mod firewall;
mod ipam;
mod isolation;
mod lan;
#[path = "../crash/ledger.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod ledger;
mod macvlan;
mod managed;
mod options;
mod outage;
mod pages;
mod plug;
#[path = "../crash/random.rs"]
mod random;
mod restarts;
mod routes;
mod scale;
mod storm;
mod stream;
mod testbed;
mod uninstall;
