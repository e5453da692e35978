//! The status of overlay networks as the daemon or a reader of its ledger reports it: the underlay address and
//! port, the peers and the state of each.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::driver::overlay::OverlayState;
use crate::driver::{Driver, OverlaySettings};
use crate::model::{IfName, Vni};
use crate::state::peers::Standing;

/// What makes a network an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayNetworkStatus {
    /// Its VNI.
    pub vni: Vni,
    /// Its tunnel.
    pub link: IfName,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its address.
    pub address: IpAddr,
    /// Its standing; a peer that the operator configured is always present.
    pub standing: Standing,
}

/// The status of the overlay on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayStatus {
    /// `local` or `global`; `None` without a running daemon.
    pub scope: Option<String>,
    /// UDP port.
    pub port: u16,
    /// The underlay address of this host, while there is one.
    pub local: Option<IpAddr>,
    /// The address by which the Swarm knows this host, if the host does not have it.
    #[serde(default)]
    pub told: Option<IpAddr>,
    /// The peers.
    pub peers: Vec<PeerStatus>,
    /// Addresses that are reported as peers but belong to this host.
    #[serde(default)]
    pub own: Vec<IpAddr>,
    /// Whether endpoints are announced to peers; `None` without a running daemon.
    pub announces: Option<bool>,
}

/// The status of the overlay on this host; `None` without overlay networks.
pub fn of_daemon(driver: &Driver) -> Option<OverlayStatus> {
    let settings = driver.overlay_settings();
    let status = driver.read_overlays(|state| of_state(state, settings))?;
    let announces = Some(driver.reconciler().kernel().announces());
    Some(OverlayStatus { scope: Some(settings.scope.word().to_owned()), announces, ..status })
}

pub(super) fn of_state(state: &OverlayState, settings: &OverlaySettings) -> Option<OverlayStatus> {
    let named = state.peers_of_networks();
    let known = state.peers.all().map(|(address, standing)| PeerStatus { address, standing });
    let mut peers: Vec<_> = known.collect();
    let more = named.into_iter().filter(|address| peers.iter().all(|peer| peer.address != *address));
    let more: Vec<_> = more.map(|address| PeerStatus { address, standing: Standing::Present }).collect();
    peers.extend(more);
    let local = state.underlay().map(|underlay| underlay.address);
    peers.retain(|peer| Some(peer.address) != local);
    let own: Vec<_> = peers.iter().map(|peer| peer.address).filter(|address| state.is_local(*address)).collect();
    peers.retain(|peer| !state.is_local(peer.address));
    let status = OverlayStatus {
        scope: None,
        port: settings.port,
        local,
        told: state.advertised().filter(|own| !state.is_local(*own)),
        peers,
        own,
        announces: None,
    };
    (!state.is_empty()).then_some(status)
}
