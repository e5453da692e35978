//! nf_tables over netlink, without the program `nft`: encodes tables, chains, sets, elements and rules in exactly
//! the form that nft and iptables write, so that they can list them, and runs them as transactions.
//!
//! Contains no table of any program. Sets are described by a [`Set`], rules are written with [`Expressions`], and
//! all changes go through [`batch::commit`], which the kernel applies as a whole or not at all. All parsing is
//! total: no input makes it panic.
//!
//! - [`message`] has the messages, [`element`] the elements of sets, [`table`] reads tables.
//! - [`evaluate`] evaluates rules for a packet, with [`registers`], and [`extension`] for those of iptables.
//! - [`field`] names the fields of a packet that an expression can load.

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

mod attribute;
pub mod batch;
pub mod element;
pub mod evaluate;
pub mod expression;
pub mod extension;
pub mod field;
mod frame;
pub mod message;
pub mod registers;
mod set;
mod stateful;
pub mod table;

pub use element::{Element, Value, Values};
pub use expression::Expressions;
pub use field::{Direction, Field, Side};
pub use frame::Update;
pub use set::{DataType, Set};
pub use stateful::Stateful;
