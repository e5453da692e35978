//! The format versions of the ledger and the conversion of older ones.
//!
//! A change of the records' serialised form increments [`VERSION`] and adds one function to [`STEPS`]; the
//! array's length ties the two together. Every released version has a frozen ledger in tests/fixtures/state.

use serde_json::{Map, Value, json};

use super::codec::Flaw;
use super::record::Record;

/// The format that this release writes, and the newest that it reads.
pub(super) const VERSION: u32 = 3;

/// Converts the records of one transaction to the next version.
type Step = fn(Value) -> Value;

/// `STEPS[n]` converts version `n + 1` to `n + 2`.
const STEPS: [Step; VERSION as usize - 1] = [
    // 2 adds records of other hosts, overlay networks and conntrack entries; records of 1 keep their meaning.
    |records| records,
    // 3 adds kinds of networks and of attachments; up to 2 all were bridges and veth pairs.
    kinds,
];

fn kinds(mut records: Value) -> Value {
    for record in records.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        let mut take = |key: &str| record.remove(key);
        match take("put") {
            Some(put) if put == "network" => {
                let (bridge, owned, overlay) = (take("bridge"), take("owns_bridge"), take("overlay"));
                let mut kind = Map::from_iter([("bridge".to_owned(), bridge.unwrap_or_default())]);
                let name = match overlay {
                    Some(Value::Object(overlay)) => {
                        kind.extend(overlay);
                        "overlay"
                    }
                    _ if owned == Some(Value::Bool(false)) => "user_bridge",
                    _ => "bridge",
                };
                record.insert("kind".to_owned(), json!({ name: kind }));
                record.insert("put".to_owned(), put);
            }
            Some(put) if put == "endpoint" => {
                let (host, peer) = (take("host").unwrap_or_default(), take("peer").unwrap_or_default());
                record.insert("attachment".to_owned(), json!({ "veth": { "host": host, "peer": peer } }));
                record.insert("put".to_owned(), put);
            }
            Some(put) => drop(record.insert("put".to_owned(), put)),
            None => {}
        }
    }
    records
}

/// The records of one transaction written in format `version`.
pub(super) fn records(version: u32, json: &str) -> Result<Vec<Record>, Flaw> {
    let flaw = |error: serde_json::Error| Flaw::Content(error.to_string());
    if version == VERSION {
        return serde_json::from_str(json).map_err(flaw);
    }
    let old = serde_json::from_str(json).map_err(flaw)?;
    serde_json::from_value(upgrade(&STEPS, version, old)).map_err(flaw)
}

fn upgrade(steps: &[Step], version: u32, value: Value) -> Value {
    steps.iter().skip(version.saturating_sub(1) as usize).fold(value, |value, step| step(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_through_every_later_step_in_order() {
        let steps: [Step; 3] = [
            |v| format!("{}2", v.as_str().unwrap()).into(),
            |v| format!("{}3", v.as_str().unwrap()).into(),
            |v| format!("{}4", v.as_str().unwrap()).into(),
        ];
        assert_eq!(upgrade(&steps, 1, "1".into()), "1234");
        assert_eq!(upgrade(&steps, 3, "3".into()), "34");
        assert_eq!(upgrade(&steps, 4, "4".into()), "4");
    }
}
