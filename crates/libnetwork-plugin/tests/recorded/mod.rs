//! Recorded requests of real engines, and their decoding. Also used by Pontoon's own tests.
//!
//! `fixtures/<version>.jsonl` has one request a line, selected by `fixtures/collect.py`.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod decode;

use std::fs;
use std::path::Path;

use decode::{Decoded, decode};
use libnetwork_plugin::Method;
use serde_json::Value;

/// The recorded engines, oldest first, and whether the recording includes a Swarm.
pub const ENGINES: [(&str, bool); 8] = [
    ("20.10.24+dfsg1", true),
    ("24.0.9", false),
    ("25.0.13", false),
    ("26.1.5+dfsg1", true),
    ("27.5.1", false),
    ("28.5.2+dfsg4", true),
    ("29.7.2", true),
    ("head-b985e2313a", true),
];

/// One recorded request.
pub struct Sent {
    /// File and line.
    pub from: String,
    pub path: String,
    /// The body as it was sent.
    pub raw: String,
}

impl Sent {
    pub fn method(&self) -> Method {
        Method::parse(&self.path).unwrap_or_else(|| panic!("{}: no method has the path {}", self.from, self.path))
    }

    pub fn decoded(&self) -> Decoded {
        decode(self.method(), self.raw.as_bytes())
            .unwrap_or_else(|e| panic!("{}: {} does not decode: {e}\n{}", self.from, self.path, self.raw))
    }

    /// The decoded body, null if there is none.
    pub fn body(&self) -> Value {
        if self.raw.is_empty() { Value::Null } else { serde_json::from_str(&self.raw).unwrap() }
    }
}

/// The request lines of a file; other lines of a capture (commands, events) are skipped.
pub fn requests(file: &Path) -> Vec<Sent> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.lines()
        .enumerate()
        .filter_map(|(at, line)| {
            let entry: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| entry[key].as_str().map(str::to_owned);
            Some(Sent { from: format!("{}:{}", file.display(), at + 1), path: text("path")?, raw: text("raw")? })
        })
        .collect()
}

pub fn fixtures_of(version: &str) -> Vec<Sent> {
    // Relative to this file, which is compiled as part of two packages.
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = if dir.join("crates").exists() { dir.join("crates/libnetwork-plugin") } else { dir.to_owned() };
    requests(&dir.join(format!("tests/fixtures/{version}.jsonl")))
}

pub fn fixtures() -> Vec<Sent> {
    ENGINES.iter().flat_map(|(version, _)| fixtures_of(version)).collect()
}
