//! DNS messages (RFC 1035, 6891) for a program that stands between clients and name servers: it reads the question of a
//! client, asks a server the same, and reads from the answer which addresses the name has. Nothing here does I/O or
//! reads a clock.
//!
//! - [`name`] has names and how messages contain them.
//! - [`query`] has questions: those of clients, and those that are sent to servers.
//! - [`answer`] has answers: those of servers, and refusals.
//!
//! Messages come from anybody: all parsing is bounded and total, no input makes it panic.

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

pub mod answer;
pub mod name;
pub mod query;
mod reader;

pub use answer::{Answer, Code};
pub use name::Name;
pub use query::{Query, Question};

/// Port of name servers.
pub const PORT: u16 = 53;

/// Longest message: TCP has two bytes for the length.
pub const LONGEST: usize = 65_535;

/// Largest UDP payload that every client takes (RFC 1035, 4.2.1).
pub const SMALLEST_PAYLOAD: u16 = 512;

/// Largest UDP payload that is asked for: it fits into a packet on any path (RFC 9715).
pub const PAYLOAD: u16 = 1232;

/// Bytes of the header.
const HEADER: usize = 12;

/// Bits of the header's flags.
mod flag {
    pub const RESPONSE: u16 = 0x8000;
    pub const OPCODE: u16 = 0x7800;
    pub const TRUNCATED: u16 = 0x0200;
    pub const RECURSION_DESIRED: u16 = 0x0100;
    pub const RECURSION_AVAILABLE: u16 = 0x0080;
    pub const CHECKING_DISABLED: u16 = 0x0010;
    pub const AUTHENTIC_DATA: u16 = 0x0020;
    pub const CODE: u16 = 0x000f;
}

/// Types of records (RFC 1035, 3596, 6891).
mod kind {
    pub const A: u16 = 1;
    pub const CNAME: u16 = 5;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
}

/// The class of the Internet.
const INTERNET: u16 = 1;

#[cfg(test)]
mod tests;
