//! The status of overlay networks as the daemon or a reader of its ledger reports it: the underlay address and
//! port, the peers and the state of each.
//!
//! Values and their construction, as in `status`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::overlay::{Mesh, find_underlay};
use super::{Driver, OverlaySettings};
use crate::datapath::{Datapath, KernelError, Underlay};
use crate::model::{DataPath, IfName, Vni};
use crate::state::peers::Standing;
use crate::state::record::Record;

/// What makes a network an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayLine {
    /// Its VNI.
    pub vni: Vni,
    /// Its tunnel.
    pub link: IfName,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLine {
    /// Its address.
    pub address: IpAddr,
    /// Its standing; a peer that the operator configured is always present.
    pub standing: Standing,
}

/// The status of the overlay on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachLine {
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
    pub peers: Vec<PeerLine>,
    /// Addresses that are reported as peers but belong to this host.
    #[serde(default)]
    pub own: Vec<IpAddr>,
    /// Whether endpoints are announced to peers; `None` without a running daemon.
    pub announces: Option<bool>,
}

impl Mesh {
    fn line(&self, settings: &OverlaySettings) -> Option<ReachLine> {
        let named = self.named_by_networks();
        let known = self.peers.all().map(|(address, standing)| PeerLine { address, standing });
        let mut peers: Vec<_> = known.collect();
        let more = named.into_iter().filter(|address| peers.iter().all(|peer| peer.address != *address));
        let more: Vec<_> = more.map(|address| PeerLine { address, standing: Standing::Present }).collect();
        peers.extend(more);
        let local = self.underlay().map(|underlay| underlay.address);
        peers.retain(|peer| Some(peer.address) != local);
        let own: Vec<_> = peers.iter().map(|peer| peer.address).filter(|address| self.is_here(*address)).collect();
        peers.retain(|peer| !self.is_here(peer.address));
        let line = ReachLine {
            scope: None,
            port: settings.port,
            local,
            told: self.own().filter(|own| !self.is_here(*own)),
            peers,
            own,
            announces: None,
        };
        (!self.is_empty()).then_some(line)
    }
}

impl Driver {
    pub(super) fn reach(&self) -> Option<ReachLine> {
        let line = self.mesh().line(&self.overlay)?;
        let announces = Some(self.kernel().announces());
        Some(ReachLine { scope: Some(self.overlay.scope.word().to_owned()), announces, ..line })
    }
}

/// The tunnels that the records of a ledger ask for, and the underlay. Without an underlay address there are
/// none: the daemon then decides about existing tunnels.
///
/// # Errors
/// The lookup of the underlay address failed.
pub fn tunnels_of(
    records: &[Record],
    here: BTreeSet<IpAddr>,
    look: impl FnMut(&DataPath) -> Result<Option<Underlay>, KernelError>,
) -> Result<(Datapath, Option<ReachLine>), KernelError> {
    let settings = OverlaySettings::of_records(records);
    let mut mesh = Mesh::new(&settings);
    records.iter().for_each(|record| mesh.apply(record));
    mesh.set_here(here);
    mesh.set_underlay(find_underlay(&settings, mesh.own(), look)?);
    Ok((mesh.desired(settings.port), mesh.line(&settings)))
}
