//! Whether frames between containers bypass the bridge.

use serde::{Deserialize, Serialize};

use super::OptionError;
use super::table::OptionRow;
use super::value::flag;

/// What a user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub enum Shortcut {
    /// They do.
    On,
    /// They do not.
    Off,
    /// They do as long as no rule of another program could decide about them. Those of an overlay network do.
    Auto,
}

/// As the ledger has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Flag(bool),
    Word(String),
}

impl From<Stored> for Shortcut {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Flag(true) => Shortcut::On,
            Stored::Flag(false) => Shortcut::Off,
            Stored::Word(_) => Shortcut::Auto,
        }
    }
}

impl From<Shortcut> for Stored {
    fn from(chosen: Shortcut) -> Self {
        match chosen {
            Shortcut::On => Stored::Flag(true),
            Shortcut::Off => Stored::Flag(false),
            Shortcut::Auto => Stored::Word("auto".to_owned()),
        }
    }
}

impl Shortcut {
    pub(super) fn parse(row: &OptionRow, given: &str) -> Result<Self, OptionError> {
        match given.trim() {
            "auto" => Ok(Shortcut::Auto),
            _ => flag(row, given).map(|on| if on { Shortcut::On } else { Shortcut::Off }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_stored_and_read() {
        for (chosen, text) in [(Shortcut::On, "true"), (Shortcut::Off, "false"), (Shortcut::Auto, "\"auto\"")] {
            assert_eq!(serde_json::to_string(&chosen).unwrap(), text);
            assert_eq!(serde_json::from_str::<Shortcut>(text).unwrap(), chosen);
        }
    }
}
