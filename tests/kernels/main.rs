//! The kernel features that Pontoon needs, with packets, on a kernel that has all of them; and Pontoon itself on it.
//!
//! The kernel of this machine may have none of them: the tests run in a shared guest ([`testkit::in_guest`]), and those
//! with an engine share an engine as well ([`engine::on_host`]), from all modules. Only `boot` starts its own guests.
//! `make kernel` builds the kernel.

mod boot;
mod dhcp;
mod engine;
mod filter;
mod ipvlan_host;
mod links;
mod vlan;
mod wire;
