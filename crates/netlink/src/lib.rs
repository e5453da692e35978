//! Synchronous netlink: requests with a deadline, answers matched by sequence number, the kernel's own message
//! in errors, and listings that are never torn.
//!
//! Contains no messages of any family: requests and answers are bytes, with [`tlv`] for attributes and [`frame`]
//! for messages. All parsing is total: no input makes it panic.
//!
//! - A [`Socket`] sends requests and waits for their answers, on the calling thread.
//! - [`open_fd`] and [`receive`] are for receivers of notifications.

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

mod descriptor;
mod family;
pub mod frame;
mod socket;
pub mod tlv;

pub use descriptor::{Protocol, open_fd, receive};
pub use family::Family;
pub use socket::{
    ACK, APPEND, CREATE, DEADLINE, EXCLUSIVE, Failure, OwnPorts, REPLACE, Request, Socket, TRIES, retry_torn,
};
