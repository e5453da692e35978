//! Owns nf_tables: the encoding of its netlink messages, and table `inet pontoon`.
//!
//! `message` and `expression` know the wire format, `element` what is in a set, `ruleset` the
//! shape of the table, `table` how it is written and read back. Nothing here runs a program.
//! Called by `LinuxKernel`, by `observe` and by `forward`.

pub mod element;
pub mod expression;
pub mod message;
pub mod ruleset;
pub mod table;
