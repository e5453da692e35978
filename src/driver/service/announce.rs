//! Announces endpoints of overlay networks to neighbours that may hold a stale entry for their address. Runs on
//! the announcer's thread, never on the request path.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::datapath::{Announcement, Kernel, KernelError};
use crate::driver::{Driver, Event};
use crate::model::{Endpoint, EndpointId, Network, NetworkId, Phase};
use crate::state::table::{Held, lock};

/// The failures of announcements.
#[derive(Default)]
pub(in crate::driver) struct Announcements {
    /// A missing privilege would otherwise be logged twice a minute.
    failure_logged: AtomicBool,
}

impl Announcements {
    fn send(&self, kernel: &dyn Kernel, announcement: &Announcement) {
        match kernel.announce(announcement) {
            Ok(()) => {}
            // The sandbox has just ended; upkeep removes the endpoint.
            Err(error) if error.errno() == Some(libc::ENODEV) => {}
            Err(error) => self.log(&error),
        }
    }

    fn log(&self, error: &KernelError) {
        if self.failure_logged.swap(true, Ordering::Relaxed) {
            tracing::debug!(%error, "cannot announce an endpoint");
        } else {
            tracing::warn!(%error, "cannot announce an endpoint: neighbours may send to its old location for a while; logged once");
        }
    }
}

impl Driver {
    /// Requests announcements of an endpoint that joined its sandbox.
    pub(in crate::driver) fn request_announcement(&self, network: &Network, id: &EndpointId) {
        if network.kind.overlay().is_some() {
            self.events.send(Event::Arrival(network.spec.id.clone(), id.clone()));
        }
    }

    /// Announces one endpoint; returns false if it no longer exists.
    ///
    /// Runs under the network's lock, so an endpoint that leaves concurrently is not announced after it left.
    pub fn announce(&self, network: &NetworkId, id: &EndpointId) -> bool {
        let Some(slot) = self.networks.table.find(network) else { return false };
        let place = lock(&slot);
        let Some(held) = place.as_ref() else { return false };
        let Some(endpoint) = held.endpoints.get(id).filter(|endpoint| endpoint.phase == Phase::Joined) else {
            return false;
        };
        if let Some(announcement) = announcement(held, endpoint) {
            self.announcements.send(self.kernel(), &announcement);
        }
        true
    }

    /// Endpoints of overlay networks that are in their sandboxes now.
    pub fn announced(&self) -> Vec<(NetworkId, EndpointId)> {
        let mut all = Vec::new();
        self.networks.each(|held| {
            if held.network.kind.overlay().is_some() {
                let joined = held.endpoints.values().filter(|endpoint| endpoint.phase == Phase::Joined);
                all.extend(joined.map(|endpoint| (held.network.spec.id.clone(), endpoint.spec.id.clone())));
            }
        });
        all
    }
}

fn announcement(held: &Held, endpoint: &Endpoint) -> Option<Announcement> {
    let addresses = endpoint.spec.addresses().collect();
    let (bridge, host) = (held.network.kind.bridge()?.clone(), endpoint.attachment.host()?.clone());
    Some(Announcement { bridge, host, mac: endpoint.mac, addresses })
}
