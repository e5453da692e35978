//! Attacks on Pontoon: the shipped program in its own network namespace, with namespaces as containers and without an
//! engine. Each test attacks, verifies that the attack fails, and that it succeeds once the guard is removed.

mod host;
mod isolation;
mod nat;
mod routed;

mod access;
mod baseline;
mod bridges;
mod claim;
mod discovery;
mod forwarding;
mod frames;
mod groups;
mod ledger;
mod many;
mod neighbours;
mod output;
mod overlay;
mod packet;
mod policy;
mod ports;
mod settings;
mod subnets;
mod uninstall;
