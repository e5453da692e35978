//! Rules of other programs that could decide about frames between containers of one bridge: reads them, and what decides
//! about such frames without being a rule of nf_tables.
//!
//! Reads only. Called by `LinuxKernel` and `survey`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::iptables_legacy;
use super::netlink::{Explain as _, OwnPorts, Protocol, Socket};
use super::ruleset::Ruleset;
use super::sysctl::Sysctls;
use crate::datapath::KernelError;
use crate::model::{Family, IfName};

/// Modules of the tables of ebtables-legacy.
const LEGACY_BRIDGE_TABLES: [&str; 3] = ["ebtable_filter", "ebtable_nat", "ebtable_broute"];

/// See [`crate::datapath::Kernel::opposition`].
pub fn find(
    ports: Arc<OwnPorts>,
    sysctls: &Sysctls,
    bridges: &BTreeMap<IfName, Vec<IpNetwork>>,
) -> Result<BTreeMap<IfName, String>, KernelError> {
    let outright = outright();
    if let Some(what) = outright.first() {
        return Ok(bridges.keys().map(|bridge| (bridge.clone(), what.clone())).collect());
    }
    let socket = Socket::open(Protocol::Netfilter, ports).map_err(|f| f.of("open the kernel's", "sockets"))?;
    let ruleset = Ruleset::read(socket, BTreeSet::new()).map_err(|f| f.of("list", "the rules of the firewall"))?;
    let called = sysctls.has_bridge_netfilter();
    let opposed = bridges
        .iter()
        .filter_map(|(bridge, subnets)| ruleset.opposes(bridge, subnets, called).map(|rule| (bridge.clone(), rule)));
    Ok(opposed.collect())
}

/// See [`crate::datapath::Kernel::unannounced`]. Whether bridges call iptables can change at any time once the kernel has
/// that function, so rules of routed packets count as soon as it does.
pub fn unannounced(sysctls: &Sysctls) -> Vec<String> {
    let called = sysctls.has_bridge_netfilter().then(|| "br_netfilter".to_owned());
    outright().into_iter().chain(called).collect()
}

/// Tables whose changes the kernel does not announce: whatever is in them.
fn outright() -> Vec<String> {
    let named = |family: Family, program: &str| match iptables_legacy::names(family) {
        Ok(names) => names.into_iter().map(|name| format!("table {name} of {program}")).collect::<Vec<_>>(),
        Err(error) => vec![format!("tables of {program}, which cannot be listed: {error}")],
    };
    let modules = LEGACY_BRIDGE_TABLES.iter().filter(|name| Path::new("/sys/module").join(name).exists());
    let bridged = modules.map(|name| format!("module {name} of ebtables-legacy"));
    let routed = [(Family::V4, "iptables-legacy"), (Family::V6, "ip6tables-legacy")];
    routed.into_iter().flat_map(|(family, program)| named(family, program)).chain(bridged).collect()
}
