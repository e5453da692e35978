//! Parsers of option values; each error states the expected form.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::table::OptionRow;
use super::{GatewayMode, OptionError};
use crate::model::vlan::VID_FORM;
use crate::model::{IfName, Vid};

pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= 100 { text.to_owned() } else { text.chars().take(100).chain("...".chars()).collect() }
}

pub(in crate::model) fn refused(row: &OptionRow, given: &str, expected: &str) -> OptionError {
    OptionError::Value { key: row.key, given: shorten(given), expected: expected.to_owned() }
}

/// The values of Go's `strconv.ParseBool`, which the built-in driver uses.
pub(in crate::model) fn flag(row: &OptionRow, given: &str) -> Result<bool, OptionError> {
    match given.trim() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(refused(row, given, row.value)),
    }
}

pub(super) fn mode(row: &OptionRow, given: &str) -> Result<GatewayMode, OptionError> {
    match given.trim() {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(refused(row, given, row.value)),
    }
}

pub(super) fn links(row: &OptionRow, given: &str) -> Result<Vec<IfName>, OptionError> {
    let names = given.split(':').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| IfName::parse(name).map_err(|e| refused(row, given, &e.to_string()))).collect()
}

/// Subnets or single addresses, without host bits.
pub(super) fn subnets(row: &OptionRow, given: &str) -> Result<Vec<IpNetwork>, OptionError> {
    let parsed: Result<Vec<IpNetwork>, _> = given.split(',').map(|text| text.trim().parse::<IpNetwork>()).collect();
    match parsed {
        Ok(subnets) if subnets.iter().all(|net| net.ip() == net.network()) => Ok(outermost(subnets)),
        _ => Err(refused(row, given, "subnets like 10.0.0.0/8 or fd00::/8, joined by ','")),
    }
}

/// Unicast addresses, sorted, without duplicates.
pub(super) fn addresses(row: &OptionRow, given: &str) -> Result<Vec<IpAddr>, OptionError> {
    let texts = given.split(',').map(str::trim).filter(|text| !text.is_empty());
    let parsed: Result<Vec<IpAddr>, _> = texts.map(str::parse).collect();
    match parsed {
        Ok(mut addresses) if addresses.iter().all(|ip| crate::model::overlay::no_host(*ip).is_none()) => {
            addresses.sort();
            addresses.dedup();
            Ok(addresses)
        }
        _ => Err(refused(row, given, "addresses of other hosts like 192.0.2.1 or fd00::1, joined by ','")),
    }
}

/// Leaves out subnets that another one covers: the kernel's interval sets cannot hold nested ranges.
fn outermost(mut subnets: Vec<IpNetwork>) -> Vec<IpNetwork> {
    subnets.sort_by_key(|net| (net.prefix(), net.network()));
    let mut kept: Vec<IpNetwork> = Vec::new();
    for net in subnets {
        if !kept.iter().any(|outer| outer.is_ipv4() == net.is_ipv4() && outer.contains(net.ip())) {
            kept.push(net);
        }
    }
    kept
}

pub(super) fn iface_prefix(row: &OptionRow, given: &str) -> Result<String, OptionError> {
    // The engine appends a number; three digits must fit.
    match IfName::parse(given.trim()) {
        Ok(name) if name.as_str().len() <= 12 => Ok(name.into()),
        Ok(_) => Err(refused(row, given, row.value)),
        Err(e) => Err(refused(row, given, &e.to_string())),
    }
}

pub(super) fn vid(row: &OptionRow, given: &str) -> Result<Vid, OptionError> {
    given.parse().map_err(|_| refused(row, given, VID_FORM))
}
