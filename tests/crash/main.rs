//! Fault injection at every point: the shipped program in its own network namespace, on the real kernel. A tracer kills
//! it or makes its system calls fail; a simulated engine retries and rolls back as dockerd does; an oracle compares the
//! ledger, the kernel state and the engine's view.
//!
//! `make crash` runs everything at length and prints the figures of docs/reliability.md.
#![cfg(target_arch = "x86_64")] // the tracer changes registers by their names

mod clients;
mod damage;
mod disk;
mod engine;
mod errors;
mod expected;
mod filter;
mod fixture;
mod flows;
mod host;
mod kernel_view;
mod lan;
mod oracle;
mod parts;
mod points;
mod recovery;
mod sandbox;
mod scenarios;
mod second;
mod soak;
mod storm;
mod tracee;
mod tracer;
mod wire;

/// Whether this is the long run.
fn long_run() -> bool {
    std::env::var_os("CRASH_KILLS").is_some()
}

/// The size of a test: an environment variable, or the default of a regular run.
fn size(variable: &str, everyday: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(everyday)
}
