//! What happens without a request: the start, upkeep, announcements, and what a crash of the engine leaves behind.
//! Runs on background threads, except where a verb calls it.

pub(super) mod announce;
mod parents;
mod start;
mod swarm;
pub mod unknown;
mod upkeep;
