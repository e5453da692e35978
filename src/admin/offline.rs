//! The status without a daemon, from the records of a ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::overlay::{self, OverlayStatus};
use super::status::{LedgerStatus, Status, network_lines, pool_lines};
use crate::datapath::companion::{self, Companion, Companions};
use crate::datapath::groups::Parties;
use crate::datapath::{Datapath, EngineBridges, KernelError, Policy, Underlay, kind};
use crate::driver::overlay::{OverlayState, find_underlay};
use crate::driver::{OverlaySettings, now};
use crate::model::{DataPath, NetworkId};
use crate::state::record::Record;
use crate::state::table::Held;

/// The status according to the records of a ledger, without a running daemon.
pub fn status_of(records: &[Record], state: LedgerStatus) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state,
        networks: network_lines(&held_of(records), now()),
        pools: pool_lines(records, now()),
        ..Status::default()
    }
}

/// The kernel state that the records of a ledger ask for, given the engine's bridges and the host's broadcast
/// addresses.
pub fn desired_of(records: &[Record], engine: &EngineBridges, broadcasts: BTreeSet<Policy>) -> Datapath {
    let mut want = kind::base();
    let mut sandboxes: BTreeMap<String, Companions> = BTreeMap::new();
    for held in held_of(records) {
        kind::add(&mut want, kind::network(&held.network));
        let mut parties = Parties::default();
        for endpoint in held.endpoints.values() {
            kind::add(&mut want, kind::endpoint(&held.network, endpoint));
            kind::add(&mut want, parties.add(&held.network, endpoint));
            if let Some(companion) = Companion::of(&held.network, endpoint) {
                let all = sandboxes.entry(endpoint.sandbox.clone()).or_default();
                all.insert(endpoint.spec.id.clone(), companion);
                kind::add(&mut want, companion::between(&endpoint.spec.id, all));
            }
        }
    }
    for policy in [kind::engine_bridges(engine), broadcasts] {
        kind::add(&mut want, Datapath { policy: Some(policy), ..Datapath::default() });
    }
    want
}

/// The tunnels that the records of a ledger ask for, and the underlay. Without an underlay address there are
/// none: the daemon then decides about existing tunnels.
///
/// # Errors
/// The lookup of the underlay address failed.
pub fn tunnels_of(
    records: &[Record],
    local: BTreeSet<IpAddr>,
    lookup: impl FnMut(&DataPath) -> Result<Option<Underlay>, KernelError>,
) -> Result<(Datapath, Option<OverlayStatus>), KernelError> {
    let settings = OverlaySettings::of_records(records);
    let mut state = OverlayState::new(&settings);
    records.iter().for_each(|record| state.apply(record));
    state.set_local(local);
    state.set_underlay(find_underlay(&settings, state.advertised(), lookup)?);
    Ok((state.desired(), overlay::of_state(&state, &settings)))
}

fn held_of(records: &[Record]) -> Vec<Held> {
    let mut held: BTreeMap<NetworkId, Held> = BTreeMap::new();
    for record in records {
        match record {
            Record::Network(network) => {
                let new = Held { network: (**network).clone(), endpoints: BTreeMap::new() };
                held.insert(network.spec.id.clone(), new);
            }
            Record::Endpoint(endpoint) => {
                if let Some(held) = held.get_mut(&endpoint.spec.network) {
                    held.endpoints.insert(endpoint.spec.id.clone(), (**endpoint).clone());
                }
            }
            _ => {}
        }
    }
    held.into_values().collect()
}
