//! Converts the daemon's settings to those of the driver, and determines what is refused because of an
//! unreadable one.

use crate::cli::Serve;
use crate::driver::settings::{Affected, UnusableSetting};
use crate::driver::{OverlaySettings, Settings};
use crate::environment::Unreadable;
use crate::ipam::DefaultPools;
use crate::state::record::Record;

/// The driver's settings. If a setting about the way to other hosts cannot be read, the settings of the previous
/// process remain in force, so that running networks continue to work.
pub(super) fn of_driver(options: &Serve, records: &[Record], seed: [u8; 5]) -> Settings {
    let pools = match options.default_address_pools.as_slice() {
        [] => DefaultPools::default(),
        pools => DefaultPools::new(pools.to_vec()),
    };
    let last = OverlaySettings::of_records(records);
    let unreadable = |variable: &str| options.unreadable.iter().any(|one| one.variable == variable);
    let mut overlay = overlay(options);
    if unreadable("PONTOON_VXLAN_PORT") {
        overlay.port = last.port;
    }
    if unreadable("PONTOON_DATA_PATH") {
        overlay.data_path = last.data_path;
    }
    if unreadable("PONTOON_PEERS") {
        overlay.peers = last.peers;
    }
    // An unreadable value was probably meant to differ from the default.
    let leave_forwarding = !options.ip_forward || unreadable("PONTOON_IP_FORWARD");
    let unusable = options.unreadable.iter().map(line).chain(no_sysctls(options)).collect();
    Settings { pools, ula_seed: seed, overlay, leave_forwarding, unusable, ..Settings::default() }
}

/// The overlay settings, regardless of unreadable values.
pub(super) fn overlay(options: &Serve) -> OverlaySettings {
    OverlaySettings {
        scope: options.scope.into(),
        connectivity: options.connectivity.into(),
        port: options.vxlan_port,
        data_path: options.data_path.clone(),
        peers: options.peers.clone(),
    }
}

/// At start, logs which settings cannot be read.
pub(super) fn report(unreadable: &[Unreadable]) {
    for one in unreadable {
        let line = line(one);
        tracing::error!(refused = ?line.affected, "invalid setting: {line}");
    }
}

/// Without the kernel's settings directory, no network can be created.
fn no_sysctls(options: &Serve) -> Option<UnusableSetting> {
    if options.sysctl_root.join("ipv4").is_dir() {
        return None;
    }
    let line = UnusableSetting {
        variable: "PONTOON_SYSCTL_ROOT".to_owned(),
        value: options.sysctl_root.display().to_string(),
        why: "this directory is not the host's /proc/sys/net".to_owned(),
        affected: Affected::Networks,
    };
    tracing::error!(refused = ?line.affected, "{line}");
    Some(line)
}

fn line(unreadable: &Unreadable) -> UnusableSetting {
    let affected = match unreadable.variable.as_str() {
        "PONTOON_DEFAULT_ADDRESS_POOLS" => Affected::Subnets,
        "PONTOON_VXLAN_PORT" | "PONTOON_DATA_PATH" | "PONTOON_PEERS" => Affected::Overlays,
        "PONTOON_SCOPE" | "PONTOON_CONNECTIVITY" | "PONTOON_IP_FORWARD" => Affected::Networks,
        _ => Affected::Nothing,
    };
    let Unreadable { variable, value, why } = unreadable.clone();
    UnusableSetting { variable, value, why, affected }
}
