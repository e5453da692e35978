//! Owns what Pontoon promised: networks, endpoints, pools and addresses, in memory and on disk.

mod error;
mod facts;
mod line;
mod place;
pub mod ports;
pub mod record;
mod replay;
pub mod store;
pub mod table;
mod tail;
mod upgrade;

pub use error::StoreError;
pub use place::make as make_directory;
pub use store::{Ledger, Opened, Outcome, Seen};
