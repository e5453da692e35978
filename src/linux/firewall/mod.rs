//! The firewall: tables `inet pontoon`, `bridge pontoon` and `netdev pontoon`, in the messages of the crate `nft`.
//!
//! `sets` defines the sets and `elements` translates the policy into their elements; `ruleset`, `source_nat`,
//! `reject`, `isolation_rules`, `tunnel_rules`, `access_rules`, `audit_rules`, `name_rules`, `bridge_flows` and `bridge_rules` define the
//! rules, and `parts` says which of their chains exist only once they are needed; `names` has the addresses of DNS names,
//! `records` what audited containers did,
//! and `expiring` removes what expires; `tables` writes and reads the first two tables;
//! `schema` checks whether they are those of this release; `counters` reads what the rules counted; `fastpath`
//! manages the third table, whose chains depend on links; `forward_accept` parses rules of other programs. Nothing
//! here runs a program. Called by `LinuxKernel`, by `observe` and by `forward`.

mod access_elements;
mod access_rules;
mod audit_rules;
mod bridge_flows;
mod bridge_rules;
pub mod counters;
pub mod cut_flows;
pub mod elements;
pub mod expiring;
pub mod fastpath;
pub mod forward_accept;
mod isolation_rules;
pub(super) mod limit_rules;
mod name_rules;
pub mod names;
pub(super) mod parts;
pub mod records;
mod reject;
pub mod ruleset;
mod schema;
pub mod sets;
mod source_nat;
pub mod tables;
mod tunnel_rules;
