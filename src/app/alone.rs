//! Runs a command without the daemon: takes the daemon's locks for the duration of the command, and refuses a
//! namespace or state directory that may be the wrong one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::AppError;
use super::begin::{boot_id, random_seed};
use super::inspect::InspectError;
use crate::cli::{LogFormat, LogLevel};
use crate::driver::{Driver, Events, OverlaySettings, Settings as DriverSettings};
use crate::installation::Roots;
use crate::linux::singleton::Singleton;
use crate::linux::{self, LinuxKernel};
use crate::resolvers::Resolvers;
use crate::state::Ledger;
use crate::telemetry;

/// How long a repair without a daemon waits for links that are deleted in the background.
const SETTLE: Duration = Duration::from_secs(10);

/// A driver without a socket, for when no daemon runs: it uses the namespace and the state directory exclusively
/// while it exists, and fails to start when another process uses them.
pub(super) struct Alone {
    pub driver: Driver,
    kernel: Arc<LinuxKernel>,
    _only_one: Singleton,
}

impl Alone {
    pub fn begin(state_dir: &Path) -> Result<Self, InspectError> {
        telemetry::start(LogLevel::Warn, LogFormat::Text, false);
        is_of_installation(state_dir)?;
        let only_one = Singleton::acquire().map_err(AppError::from)?;
        let opened = Ledger::open(state_dir, &boot_id()).map_err(AppError::from)?;
        let kernel = Arc::new(LinuxKernel::new(linux::Options::default())?);
        let overlay = OverlaySettings::of_records(&opened.records);
        let settings = DriverSettings { ula_seed: random_seed(), overlay, ..DriverSettings::default() };
        let resolvers = Resolvers::of_host();
        let for_driver = Arc::<LinuxKernel>::clone(&kernel);
        let driver = Driver::load(opened, for_driver, settings, Events::none(), move || resolvers.now());
        driver.restore_tunnels()?;
        Ok(Self { driver, kernel, _only_one: only_one })
    }

    pub fn end(self) {
        use crate::datapath::Kernel;
        if !self.kernel.settle(SETTLE) {
            tracing::warn!("links are still being deleted in the background");
        }
    }
}

/// Refuses a state directory other than that of an existing installation, whose links it would not know.
fn is_of_installation(state_dir: &Path) -> Result<(), InspectError> {
    let same = |other: &Path| match (state_dir.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => state_dir == other,
    };
    let found = Roots::of_host().installations()?;
    let managed: Vec<_> = found.iter().filter(|one| one.plugin.is_some()).collect();
    if managed.is_empty() || found.iter().any(|one| same(&one.state_dir)) {
        return Ok(());
    }
    let named: Vec<_> = managed
        .iter()
        .map(|one| format!("{} ({})", one.plugin.as_deref().unwrap_or_default(), one.state_dir.display()))
        .collect();
    Err(InspectError::Doubt(format!(
        "{} is not the state directory of {}, which is installed here: omit --state-dir, or add --plugin NAME",
        state_dir.display(),
        named.join(" and ")
    )))
}
