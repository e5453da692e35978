//! Owns the fuzzing of names: link names, hardware addresses, identifiers, and what derives from
//! identifiers.
//!
//! Whatever parses prints, and parses again, as itself, also through JSON; a derived value is
//! always one that parses.

#![no_main]

use std::fmt::{Debug, Display};

use libfuzzer_sys::fuzz_target;
use pontoon::model::{EndpointId, IfName, LinkRole, Mac, NetworkId};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn itself<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
}

fn printed<T: Display + PartialEq + Debug, E: Debug>(value: &T, parse: fn(&str) -> Result<T, E>) {
    assert_eq!(&parse(&value.to_string()).unwrap(), value);
}

/// Reading the ledger must refuse exactly what parsing refuses.
fn same_gate<T: DeserializeOwned>(text: &str, parses: bool) {
    let json = serde_json::to_string(text).unwrap();
    assert_eq!(serde_json::from_str::<T>(&json).is_ok(), parses, "{text:?}");
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };

    let name = IfName::parse(text);
    same_gate::<IfName>(text, name.is_ok());
    if let Ok(name) = &name {
        assert_eq!(name.as_str(), text);
        printed(name, IfName::parse);
        itself(name);
    }

    let mac = Mac::parse(text);
    same_gate::<Mac>(text, mac.is_ok());
    if let Ok(mac) = &mac {
        assert_eq!(mac.bytes()[0] & 1, 0);
        printed(mac, Mac::parse);
        itself(mac);
    }

    let (network, endpoint) = (NetworkId::parse(text), EndpointId::parse(text));
    assert_eq!(network.is_ok(), endpoint.is_ok());
    same_gate::<NetworkId>(text, network.is_ok());
    if let Ok(id) = &network {
        assert!(id.as_str() == text && text.starts_with(id.short()) && id.short().len() <= 12);
        itself(id);
    }

    for role in [LinkRole::Bridge, LinkRole::Host, LinkRole::Peer] {
        for attempt in [0, 1, u32::MAX] {
            let name = IfName::derive(role, text, attempt);
            assert!(name.has_prefix());
            printed(&name, IfName::parse);
        }
    }
    for salt in ["peer", "", text] {
        let mac = Mac::derive(salt, text);
        assert_eq!(mac.bytes()[0] & 3, 2);
        printed(&mac, Mac::parse);
    }
});
