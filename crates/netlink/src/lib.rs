//! Synchronous netlink: requests with a deadline, answers matched by their sequence number, the
//! kernel's own message for an error, and listings that are never torn.
//!
//! Knows no message of any family: requests and answers are bytes, with [`tlv`] for attributes and
//! [`frame`] for messages. Everything that reads bytes is total: no input makes it panic.
//!
//! - A [`Socket`] sends requests and waits for their answers, on the thread that calls it.
//! - [`open_fd`] and [`receive`] are for those that wait for notifications.

#![deny(missing_docs)]

mod descriptor;
pub mod frame;
mod socket;
pub mod tlv;

pub use descriptor::{Protocol, open_fd, receive};
pub use socket::{ACK, APPEND, CREATE, DEADLINE, EXCLUSIVE, Failure, OwnPorts, Request, Socket, TRIES, retry_torn};
