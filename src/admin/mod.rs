//! What operators see of the driver: the daemon's status, its published ports, the plan of a repair. Values and
//! their construction, from the driver or, without a daemon, from the records of a ledger; the doctor judges them.
//!
//! Reads the driver and changes nothing.

pub mod audit;
pub mod conflict;
pub mod events;
pub mod lease;
pub mod names;
pub mod objects;
pub mod offline;
pub mod overlay;
pub mod policy;
pub mod ports;
pub mod status;

pub use crate::driver::settings::{Affected, UnusableSetting};
