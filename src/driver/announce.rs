//! Announces endpoints of overlay networks to neighbours that may hold a stale entry for their address. Runs on
//! the announcer's thread, never on the request path.

use super::{Driver, Event};
use crate::datapath::{Announcement, KernelError};
use crate::model::{Endpoint, EndpointId, Network, NetworkId, Phase};
use crate::state::table::{Held, lock};

impl Driver {
    /// Reports that an endpoint arrived in its sandbox.
    pub(super) fn arrived(&self, network: &Network, id: &EndpointId) {
        if network.kind.overlay().is_some() {
            self.events.send(Event::Arrival(network.spec.id.clone(), id.clone()));
        }
    }

    /// Announces one endpoint; returns false if it no longer exists.
    ///
    /// Runs under the network's lock, so an endpoint that leaves concurrently is not announced after it left.
    pub fn announce(&self, network: &NetworkId, id: &EndpointId) -> bool {
        let Some(slot) = self.table.find(network) else { return false };
        let place = lock(&slot);
        let Some(held) = place.as_ref() else { return false };
        let Some(endpoint) = held.endpoints.get(id).filter(|endpoint| endpoint.phase == Phase::Joined) else {
            return false;
        };
        self.tell(held, endpoint);
        true
    }

    /// Endpoints of overlay networks that are in their sandboxes now.
    pub fn announced(&self) -> Vec<(NetworkId, EndpointId)> {
        let mut all = Vec::new();
        for id in self.table.ids() {
            let Some(slot) = self.table.find(&id) else { continue };
            let place = lock(&slot);
            let Some(held) = place.as_ref().filter(|held| held.network.kind.overlay().is_some()) else { continue };
            let joined = held.endpoints.values().filter(|endpoint| endpoint.phase == Phase::Joined);
            all.extend(joined.map(|endpoint| (id.clone(), endpoint.spec.id.clone())));
        }
        all
    }

    fn tell(&self, held: &Held, endpoint: &Endpoint) {
        let addresses = [endpoint.spec.v4, endpoint.spec.v6].into_iter().flatten().map(|net| net.ip()).collect();
        let (Some(bridge), Some(host)) = (held.network.kind.bridge(), endpoint.attachment.host()) else { return };
        let announcement = Announcement { bridge: bridge.clone(), host: host.clone(), mac: endpoint.mac, addresses };
        match self.kernel().announce(&announcement) {
            Ok(()) => {}
            // The sandbox has just ended; upkeep removes the endpoint.
            Err(error) if error.errno() == Some(libc::ENODEV) => {}
            Err(error) => self.complain_once(&error),
        }
    }

    /// Logs the failure once: a missing privilege would otherwise be logged twice a minute.
    fn complain_once(&self, error: &KernelError) {
        if self.announce_failure_logged.swap(true, std::sync::atomic::Ordering::Relaxed) {
            tracing::debug!(%error, "an endpoint was not announced");
        } else {
            tracing::warn!(%error, "an endpoint was not announced: neighbours may look for it elsewhere for a while; said once");
        }
    }
}
