//! Announces endpoints of networks with other hosts, overlays and local networks, to neighbours that may hold a stale
//! entry for their address. Runs on the announcer's thread, never on the request path.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::datapath::{Announcement, Kernel, KernelError, kind};
use crate::driver::{Driver, Event};
use crate::model::{Endpoint, EndpointId, Network, NetworkId, Phase};
use crate::state::table::{Held, lock};

/// Who hears announcements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The other hosts of an overlay network.
    Overlay,
    /// The local network of a link.
    Lan,
}

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
        if audience(network).is_some() {
            self.events.send(Event::Arrival(network.spec.id.clone(), id.clone()));
        }
    }

    /// Announces one endpoint. Returns who was told; `None` if it no longer exists.
    ///
    /// Runs under the network's lock, so an endpoint that leaves concurrently is not announced after it left.
    pub fn announce(&self, network: &NetworkId, id: &EndpointId) -> Option<Audience> {
        let slot = self.networks.table.find(network)?;
        let place = lock(&slot);
        let held = place.as_ref()?;
        let endpoint = held.endpoints.get(id).filter(|endpoint| endpoint.phase == Phase::Joined)?;
        let audience = audience(&held.network)?;
        self.announcements.send(self.kernel(), &announcement(held, endpoint));
        Some(audience)
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

fn audience(network: &Network) -> Option<Audience> {
    let overlay = network.kind.overlay().map(|_| Audience::Overlay);
    overlay.or_else(|| kind::lan(network).map(|_| Audience::Lan))
}

fn announcement(held: &Held, endpoint: &Endpoint) -> Announcement {
    let addresses = endpoint.spec.addresses().collect();
    let port = endpoint.attachment.host().cloned();
    let mac = endpoint.attachment.has_mac().then_some(endpoint.mac);
    Announcement { link: held.network.kind.link().clone(), port, mac, addresses }
}
