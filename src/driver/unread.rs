//! Settings that cannot be used: the value, what is wrong with it, and which requests are refused because of it.
//! All other requests are served.

use serde::{Deserialize, Serialize};

use super::overlay::find_underlay;
use super::{Driver, Error};
use crate::model::DataPath;

/// What depends on a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affected {
    /// Nothing is refused: the default is used.
    Nothing,
    /// Subnets that Pontoon chooses.
    Subnets,
    /// New overlay networks.
    Overlays,
    /// New networks of any kind.
    Networks,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingLine {
    /// The variable's name, which is also that of the flag.
    pub variable: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
    /// What is refused because of it.
    pub affected: Affected,
}

impl std::fmt::Display for SettingLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}: {}", self.variable, self.value, self.why)
    }
}

impl SettingLine {
    /// The data path that is configured does not exist on this host.
    pub fn no_data_path(path: &DataPath) -> Self {
        let (value, why) = match path {
            DataPath::Address(address) => (address.to_string(), "this host has no such address"),
            DataPath::Link(link) => (link.to_string(), "this host has no such link, or it has no address"),
            DataPath::DefaultRoute => (String::new(), "this host has no default route"),
        };
        Self { variable: "PONTOON_DATA_PATH".to_owned(), value, why: why.to_owned(), affected: Affected::Overlays }
    }
}

impl Driver {
    /// Refuses requests that depend on a setting that cannot be used. `object` is the requested object.
    pub(super) fn check_settings(&self, affected: &[Affected], object: impl Fn() -> String) -> Result<(), Error> {
        match self.unread.iter().find(|line| affected.contains(&line.affected)) {
            Some(line) => Err(Error::Setting { object: object(), setting: line.to_string() }),
            None => Ok(()),
        }
    }

    /// Settings that cannot be used at present.
    pub(super) fn unusable_settings(&self) -> Vec<SettingLine> {
        let mut lines = self.unread.clone();
        if lines.iter().all(|line| line.variable != "PONTOON_DATA_PATH")
            && let Some(path) = &self.overlay.data_path
            && let Ok(None) = find_underlay(&self.overlay, None, |path| self.kernel().underlay(path))
        {
            lines.push(SettingLine::no_data_path(path));
        }
        lines
    }
}
