//! The lab for tests: hosts with a real Docker engine, each in namespaces of its own, and other kernels ([`Guest`]).
//!
//! [`Node`] is a host, [`Segment`] a switch between hosts, [`Process`] something that runs in a host. All of them end
//! with their value, and with the test's process however that ends. The work is done by the script `lab` beside this
//! file. A test that cannot have its lab fails, with a line that says what to do about it.

#![allow(dead_code, reason = "each test uses a part of it")]

mod command;
mod guest;
mod node;
mod options;
mod poll;
mod pontoon;
mod process;
mod segment;

#[allow(unused_imports, reason = "each test uses a part of it")]
pub use self::{
    command::Output,
    guest::{Guest, KERNEL, in_guest, run_in},
    node::{Address, Node, Signal},
    options::Options,
    poll::{wait_for, wait_until},
    pontoon::{SOCKET, STATE},
    process::Process,
    segment::Segment,
};
