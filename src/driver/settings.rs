//! The operator's settings, and those of them that cannot be used: the value, what is wrong with it, and which
//! requests are refused because of it. All other requests are served.

use serde::{Deserialize, Serialize};

use super::names::NameTimes;
use super::overlay::find_underlay;
use super::{Error, OverlaySettings};
use crate::datapath::Kernel;
use crate::ipam::DefaultPools;
use crate::model::DataPath;

/// The operator's settings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Pools for networks without `--subnet`.
    pub pools: DefaultPools,
    /// Seed for the IPv6 prefix of this host, used once in the lifetime of a ledger.
    pub ula_seed: [u8; 5],
    /// How networks span hosts.
    pub overlay: OverlaySettings,
    /// Settings that cannot be used.
    pub unusable: Vec<UnusableSetting>,
    /// How long addresses of DNS names stay reachable.
    pub names: NameTimes,
    /// Never turn on forwarding; that is left to the operator.
    pub leave_forwarding: bool,
}

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
pub struct UnusableSetting {
    /// The variable's name, which is also that of the flag.
    pub variable: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
    /// What is refused because of it.
    pub affected: Affected,
}

impl std::fmt::Display for UnusableSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}: {}", self.variable, self.value, self.why)
    }
}

impl UnusableSetting {
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

/// The settings that cannot be used.
pub(super) struct UnusableSettings(Vec<UnusableSetting>);

impl UnusableSettings {
    pub fn new(settings: Vec<UnusableSetting>) -> Self {
        Self(settings)
    }

    /// Refuses requests that depend on a setting that cannot be used. `object` is the requested object.
    pub fn check(&self, affected: &[Affected], object: impl Fn() -> String) -> Result<(), Error> {
        match self.0.iter().find(|one| affected.contains(&one.affected)) {
            Some(one) => Err(Error::Setting { object: object(), setting: one.to_string() }),
            None => Ok(()),
        }
    }

    /// All of them, with the data path if it does not exist at present.
    pub fn all(&self, overlay: &OverlaySettings, kernel: &dyn Kernel) -> Vec<UnusableSetting> {
        let mut all = self.0.clone();
        if all.iter().all(|one| one.variable != "PONTOON_DATA_PATH")
            && let Some(path) = &overlay.data_path
            && let Ok(None) = find_underlay(overlay, None, |path| kernel.underlay(path))
        {
            all.push(UnusableSetting::no_data_path(path));
        }
        all
    }
}
