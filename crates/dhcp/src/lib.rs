//! DHCPv4 (RFC 2131) and stateless autoconfiguration (RFC 4862) for programs that obtain addresses on behalf of others:
//! the messages, the frames around them, and the clients. Nothing here does I/O or reads a clock: the caller passes frames
//! and the time in, and sends what it gets.
//!
//! - [`message`] has the messages and their options, [`lease`] what a server grants.
//! - [`frame`] puts a message into an Ethernet frame and takes it out again.
//! - [`wire`] is what all of them send and hear.
//! - [`client`] is the state machine of one client, [`pace`] decides which of many clients may speak.
//! - [`advertisement`] has the messages of routers, [`slaac`] the client that forms an address with their prefixes, and
//!   [`ipv6`] the frames.
//!
//! Frames come from anybody on the network: all parsing is bounded and total, no input makes it panic.

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
#![deny(missing_docs)]

pub mod advertisement;
pub mod client;
pub mod frame;
pub mod ipv6;
pub mod lease;
pub mod message;
pub mod pace;
pub mod slaac;
pub mod wire;

pub use advertisement::Advertisement;
pub use client::{Client, Identity, Notice, Output, Time};
pub use lease::{Lease, Route};
pub use message::{Kind, Message};
