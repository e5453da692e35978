//! Pontoon broken on purpose, in every place: the program as it is shipped, in a network namespace
//! of its own, on the real kernel. A tracer ends it or makes its system calls fail; an engine of
//! the tests' own repeats and rolls back as dockerd does; a witness compares what the ledger says,
//! what the kernel holds and what the engine believes.
//!
//! `make crash` runs all of it at length and prints the figures of docs/reliability.md.
#![cfg(target_arch = "x86_64")] // the tracer changes registers by their names
#![allow(dead_code)]

mod clients;
mod damage;
mod disk;
mod engine;
mod errors;
mod expected;
mod filter;
mod flows;
mod host;
mod kernel_view;
mod ledger;
mod oracle;
mod points;
mod random;
mod recovery;
mod sandbox;
mod second;
mod soak;
mod stage;
mod stories;
mod storm;
mod tracee;
mod tracer;
mod wire;

/// Whether this is the long run.
fn at_length() -> bool {
    std::env::var_os("CRASH_KILLS").is_some()
}

/// How much of something: what the environment says, or else what an everyday run takes.
fn wanted(variable: &str, everyday: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(everyday)
}
