//! The nf_tables part of the kernel: encodes its netlink messages, and manages the tables `inet pontoon`,
//! `bridge pontoon` and `netdev pontoon`.
//!
//! `message`, `part` and `expression` implement the wire format; `set` defines the sets and `element` their
//! elements; `ruleset`, `frames`, `sources` and `tunnels` define the rules; `table` writes and reads the
//! tables; `count` reads drop counters; `shape` checks whether the tables have this release's schema;
//! `shortcut` manages the third table, whose chains depend on links. Nothing here runs a program. Called by
//! `LinuxKernel`, by `observe` and by `forward`.

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
