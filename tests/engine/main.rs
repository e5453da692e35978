//! Real engines with Pontoon's networks, verified by packets.
//!
//! Each scenario takes its driver from a [`testkit::testbed::Testbed`]. Where behaviour should match it runs on the
//! engine's own bridge driver first, so that a wrong expectation fails there, and then on Pontoon. `PONTOON_ENGINE`
//! selects the engine.

mod activation;
mod agreement;
mod basics;
mod dhcp;
mod dhcp_servers;
mod doctor;
mod drift;
mod example;
mod firewall;
mod host_link;
mod ipam;
mod isolation;
mod lan;
mod limits;
mod macvlan;
mod managed;
mod names;
mod neighbours;
mod options;
mod outage;
mod packages;
mod pages;
mod plug;
mod policy;
mod restarts;
mod routes;
mod scale;
mod slaac;
mod storm;
mod stream;
mod uninstall;
