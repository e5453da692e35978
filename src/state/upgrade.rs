//! Owns the format versions of the ledger and the way from an older one to today's.
//!
//! A change of the records' serialised form raises [`VERSION`] and adds one function to [`STEPS`];
//! the array's length ties the two together. Every version that was ever released keeps a frozen
//! ledger in tests/fixtures/state.

use serde_json::Value;

use super::line::Flaw;
use super::record::Record;

/// The format this release writes, and the newest it reads.
pub(super) const VERSION: u32 = 2;

/// Turns the records of one transaction into the next version's.
type Step = fn(Value) -> Value;

/// `STEPS[n]` turns version `n + 1` into `n + 2`.
const STEPS: [Step; VERSION as usize - 1] = [
    // 2 has records of other hosts, of overlay networks and of tracked connections; those of 1 mean what they meant.
    |records| records,
];

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
