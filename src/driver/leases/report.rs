//! What operators are told about the leases of running containers.

use std::sync::atomic::Ordering;

use dhcp::client::{Notice, Time};

use super::{LeaseState, Leases, Slot};
use crate::driver::history::{Happening, ShortId};

impl Leases {
    /// Reports a notice of a client. What is granted instead of a lost address is told once.
    pub(super) fn report(&self, slot: &mut Slot, notice: &Notice, now: Time) {
        let state = slot.state(now);
        let (key, network) = (&slot.record.key, &slot.record.network);
        let Some(endpoint) = &slot.record.endpoint else { return };
        let (link, source, giver) = (key.place(), key.source.word(), key.source.giver());
        let used = slot.record.used.map(|used| used.to_string()).unwrap_or_default();
        let event = |state| {
            let (network, endpoint) = (ShortId::of(network.as_str()), ShortId::of(endpoint.as_str()));
            self.history.record(Happening::Lease { network, endpoint, address: slot.record.used, state });
        };
        match notice {
            Notice::Granted if state == LeaseState::Lost && slot.told != slot.client.address() => {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
                event("lost");
                let granted = slot.client.address();
                slot.told = granted;
                let granted = granted.map(|granted| granted.to_string()).unwrap_or_default();
                tracing::warn!(%network, %endpoint, %link, source, %used, %granted, "the {giver} gave a running container another address: docker network disconnect and connect it, or restart it; the new address is kept for it");
            }
            Notice::Granted => tracing::debug!(%network, %endpoint, %link, source, "lease granted"),
            Notice::Refused { server, text } if slot.record.used.is_some() => {
                event("refused");
                tracing::warn!(%network, %endpoint, %link, %server, text = text.as_deref().unwrap_or(""), "the DHCP server refuses the address of a running container: asking for it again");
            }
            Notice::Refused { server, .. } => tracing::debug!(%network, %link, %server, "address refused"),
            Notice::Expired => {
                event("expired");
                tracing::warn!(%network, %endpoint, %link, source, address = %used, "the lease of a running container has ended because no {giver} answers: the container keeps its address, and Pontoon goes on asking");
            }
        }
    }
}
