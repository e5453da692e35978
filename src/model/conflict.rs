//! Options against address conflicts: what happens when another host of the network already has the address of an
//! endpoint.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::table::{CONFLICT, CONFLICT_WAIT};
use super::options::{OptionError, OptionRow, refused};

/// How long the answer to a probe may take, unless the user says otherwise. A host with a cable answers in a tenth of
/// a millisecond; one that saves power on a wireless network may take a hundred.
const WAIT: Duration = Duration::from_millis(120);

/// Longest wait that a user may choose, in milliseconds: the engine waits as well.
const LONGEST_WAIT: u16 = 2000;

/// What happens when another host has the address of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictAction {
    /// The endpoint is refused, and Pontoon's IPAM skips the address.
    #[default]
    Refuse,
    /// The endpoint is created, and the conflict is reported.
    Report,
    /// Nothing: no address is probed, and Pontoon does not listen.
    Off,
}

/// The options of a network; `None` means the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConflictOptions {
    /// What happens when another host has the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ConflictAction>,
    /// How long to wait for the answer to a probe, in milliseconds; 0 does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u16>,
}

impl ConflictOptions {
    /// Takes one of these options of the table; false if `row` is another.
    ///
    /// # Errors
    /// The value does not have the form that the row requires.
    pub fn take(&mut self, row: &OptionRow, given: &str) -> Result<bool, OptionError> {
        let text = given.trim();
        match row.key {
            CONFLICT => {
                self.action = Some(match text {
                    "refuse" => ConflictAction::Refuse,
                    "report" => ConflictAction::Report,
                    "off" => ConflictAction::Off,
                    _ => return Err(refused(row, given, row.value)),
                });
            }
            CONFLICT_WAIT => {
                let wait = text.parse().ok().filter(|wait| *wait <= LONGEST_WAIT);
                self.wait = Some(wait.ok_or_else(|| refused(row, given, row.value))?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The first option that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [(self.action.is_some(), CONFLICT), (self.wait.is_some(), CONFLICT_WAIT)];
        given.into_iter().find_map(|(given, key)| given.then_some(key))
    }

    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        self.given().is_none()
    }

    /// What happens when another host has the address.
    pub fn action(&self) -> ConflictAction {
        self.action.unwrap_or_default()
    }

    /// How long to wait for the answer to a probe.
    pub fn wait(&self) -> Duration {
        self.wait.map_or(WAIT, |wait| Duration::from_millis(wait.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::NetworkOptions;

    fn parse(key: &str, value: &str) -> Result<ConflictOptions, OptionError> {
        NetworkOptions::parse(&BTreeMap::from([(key.to_owned(), value.to_owned())])).map(|options| options.conflict)
    }

    #[test]
    fn values_are_parsed_and_bounded() {
        assert_eq!(parse(CONFLICT, " report ").unwrap().action(), ConflictAction::Report);
        assert_eq!(parse(CONFLICT, "off").unwrap().given(), Some(CONFLICT));
        assert_eq!(parse(CONFLICT_WAIT, "0").unwrap().wait(), Duration::ZERO);
        assert_eq!(parse(CONFLICT_WAIT, "2000").unwrap().wait(), Duration::from_secs(2));
        for (key, value) in [(CONFLICT, "true"), (CONFLICT, ""), (CONFLICT_WAIT, "2001"), (CONFLICT_WAIT, "-1")] {
            assert!(matches!(parse(key, value), Err(OptionError::Value { .. })), "{key}={value}");
        }
        let default = ConflictOptions::default();
        assert_eq!((default.action(), default.wait(), default.given()), (ConflictAction::Refuse, WAIT, None));
    }
}
