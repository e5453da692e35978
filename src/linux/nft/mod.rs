//! Owns nf_tables: the encoding of its netlink messages, and the tables `inet pontoon`,
//! `bridge pontoon` and `netdev pontoon`.
//!
//! `message`, `part` and `expression` know the wire format, `set` which sets there are, `element` what is
//! in one, `ruleset`, `frames`, `sources` and `tunnels` the rules, `table` how all is written, `count` what was dropped, `shape` whether what is there is of
//! this release's shape; `shortcut` is all of the third table, whose chains come and go with links.
//! Nothing here runs a program.
//! Called by `LinuxKernel`, by `observe` and by `forward`.

pub mod accept;
pub mod count;
pub mod element;
pub mod expression;
mod frames;
pub mod message;
pub mod part;
mod range;
pub mod ruleset;
pub mod set;
mod shape;
pub mod shortcut;
mod sources;
pub mod table;
mod tunnels;
mod untranslated;
