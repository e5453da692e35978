//! Pontoon's state, in memory and on disk: networks, endpoints, pools and addresses, and what is known about
//! other hosts.

mod appender;
mod codec;
mod directory;
mod error;
pub mod peers;
pub mod ports;
pub mod record;
mod replay;
mod snapshot;
pub mod store;
pub mod table;
mod upgrade;
pub mod vnis;

pub use directory::make as make_directory;
pub use error::StoreError;
pub use store::{Ledger, Opened, Outcome, Seen};

/// The state directory of the daemon that systemd starts.
pub const DIRECTORY: &str = "/var/lib/pontoon";
