//! Pontoon's state, in memory and on disk: networks, endpoints, pools and addresses, and what is known about
//! other hosts.

mod error;
mod facts;
mod line;
pub mod peers;
mod place;
pub mod ports;
pub mod record;
mod replay;
pub mod store;
pub mod table;
mod tail;
mod upgrade;
pub mod vnis;

pub use error::StoreError;
pub use place::make as make_directory;
pub use store::{Ledger, Opened, Outcome, Seen};
