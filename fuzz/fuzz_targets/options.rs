//! Owns the fuzzing of options: each line of the input is `key=value`.
//!
//! A refusal is one line of bounded length however long and strange the option; what parses
//! survives the ledger.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use pontoon::model::options::OptionError;
use pontoon::model::{EndpointOptions, IfName, NetworkOptions};

/// Key and value are cut to 100 characters each; a control character is shown as up to 10.
const LONGEST_MESSAGE: usize = 2500;

/// Lines read: an unknown key costs an edit distance to every known one, and four of them show
/// whatever forty would.
const MOST: usize = 4;

fn readable(refusal: &OptionError) {
    let text = refusal.to_string();
    assert!(text.len() < LONGEST_MESSAGE && !text.contains(char::is_control), "{text}");
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        (key.to_owned(), value.to_owned())
    };
    let options: BTreeMap<String, String> = text.split('\n').take(MOST).map(pair).collect();
    let mut endpoint = EndpointOptions::default();
    for (key, value) in &options {
        if let Err(refusal) = endpoint.take(key, value) {
            readable(&refusal);
        }
    }
    let ledger = serde_json::to_string(&endpoint).unwrap();
    assert_eq!(serde_json::from_str::<EndpointOptions>(&ledger).unwrap(), endpoint);
    // One at a time as well: a refused option must not hide the others from the fuzzer.
    for (key, value) in &options {
        let _ = NetworkOptions::parse(&BTreeMap::from([(key.clone(), value.clone())]));
    }
    match NetworkOptions::parse(&options) {
        Err(refusal) => readable(&refusal),
        Ok(parsed) => {
            assert!(parsed.mtu.is_none_or(|mtu| (68..=65535).contains(&mtu)));
            assert!(IfName::parse(&format!("{}999", parsed.iface_prefix)).is_ok());
            let ledger = serde_json::to_string(&parsed).unwrap();
            assert_eq!(serde_json::from_str::<NetworkOptions>(&ledger).unwrap(), parsed);
        }
    }
});
