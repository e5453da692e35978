//! Shared code of Pontoon's tests and benchmarks, compiled once.
//!
//! - Hosts with a real Docker engine, each in its own namespaces: [`Node`] is a host, [`Segment`] a switch between
//!   hosts, [`Process`] a command that runs in a host, [`testbed`] a host with a network driver under test. The script
//!   `lab` in this crate's directory implements them.
//! - Other kernels, in which a test runs as if it ran here: [`Guest`].
//! - Network namespaces for tests of the kernel layer: [`netns`], with containers and servers [`topology`], and how much
//!   passes between them [`throughput`].
//! - Pontoon itself: [`harness`] runs it in the test's process on the fake kernel, [`daemon`] runs the program.
//! - An independent parser of the ledger ([`ledger`]), repeatable random numbers ([`random`]), texts that are compared
//!   with the repository ([`golden`]), and the source tree for tests of the coding rules ([`source`]).
//!
//! Nodes, switches and processes end when their value is dropped, and at the latest when the test's process ends. A
//! test that lacks a prerequisite fails, with a line that names the remedy.

pub mod daemon;
pub mod golden;
pub mod harness;
pub mod ledger;
pub mod name_server;
pub mod netns;
pub mod random;
pub mod source;
pub mod testbed;
pub mod throughput;
pub mod topology;

mod command;
mod enter;
mod guest;
mod node;
mod options;
mod poll;
mod pontoon_in_node;
mod process;
mod segment;

use std::path::{Path, PathBuf};

pub use self::{
    command::{Output, lab, run},
    guest::{Guest, KERNEL, in_guest, run_in},
    node::{Address, Node, Signal},
    options::Options,
    poll::{wait_for, wait_until},
    pontoon_in_node::{SOCKET, STATE},
    process::Process,
    segment::Segment,
};

/// The root of the repository.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate is two directories below the root")
}

/// The program `pontoon` of the build that the calling test belongs to. Cargo builds it with every integration test of
/// the package.
///
/// # Panics
/// If there is none beside the test's executable.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test's executable");
    // target/debug/deps/TEST-HASH and target/debug/pontoon
    let found = test.ancestors().skip(1).take(2).map(|dir| dir.join("pontoon")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no program pontoon beside {}: run cargo build", test.display()))
}
