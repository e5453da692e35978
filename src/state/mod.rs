//! Owns what Pontoon promised: networks, endpoints, pools and addresses, in memory and on disk.

pub mod record;
