//! The plugin's methods over a real Unix socket on the fake kernel: their answers, their effect on kernel and ledger,
//! and their behaviour when repeated, lost or reordered.

mod again;
mod backlog;
mod bad_input;
mod choice;
mod conflicts;
mod dhcp;
mod endpoints;
mod events;
mod failures;
mod groups;
mod host_link;
mod ipam;
mod limits;
mod macvlan;
mod neighbours;
mod networks;
mod overlay;
mod parents;
mod policy;
mod ports;
mod restarts;
mod slaac;
mod status;
mod stored;
mod vlan;
