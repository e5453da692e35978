//! What Pontoon's features need of a kernel, with packets, on a kernel that has it all; and Pontoon itself on it.
//!
//! This machine's kernel may have none of it: each test runs in a guest (`support/guest.rs`). `make kernel` builds the
//! kernel.

#[path = "../netns_support/mod.rs"]
mod netns_support;
#[path = "../support/mod.rs"]
mod support;

mod boot;
mod engine;
mod filter;
mod links;
mod wire;
