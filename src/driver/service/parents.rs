//! Chooses the parent of a network again when the link that it has is gone, out of the candidates that the network names.
//! The containers of such a network lost their links together with the parent.
//!
//! A parent that exists is kept, even if an earlier candidate appears: its containers run on it.

use crate::datapath::kind;
use crate::driver::{Driver, Error};
use crate::model::Network;
use crate::state::record::Record;
use crate::state::table::Held;

impl Driver {
    /// See the module documentation. Skips networks with a verb under way: the next comparison tries again.
    pub(in crate::driver) fn choose_parents(&self) {
        self.networks.each_idle(|held| {
            if has_choice(&held.network)
                && let Err(error) = self.choose_parent(held)
            {
                tracing::debug!(network = %held.network.spec.id, %error, "no other parent");
            }
        });
    }

    /// Whether a link or an address that appears may give a network another parent: the one that it has is gone.
    pub fn lacks_parent(&self) -> bool {
        let mut lacks = false;
        self.networks.each_idle(|held| {
            // If the kernel does not answer, the next comparison reports that.
            lacks |= has_choice(&held.network) && !self.has_parent(&held.network).unwrap_or(true);
        });
        lacks
    }

    fn has_parent(&self, network: &Network) -> Result<bool, Error> {
        let link = network.kind.link();
        self.on_host(&network.spec, &mut |host| host.has(link))
    }

    fn choose_parent(&self, held: &mut Held) -> Result<(), Error> {
        let (old, id) = (held.network.clone(), held.network.spec.id.clone());
        if self.has_parent(&old)? {
            return Ok(());
        }
        let Some((kind, mtu)) = self.without_bridge(&old.spec)? else { return Ok(()) };
        if kind.link() == old.kind.link() {
            return Ok(());
        }
        let network = Network { kind, mtu, ..old.clone() };
        self.networks.share_link(&network.spec, &network.kind)?;
        let release = |unused: &Network| self.networks.table.release_link_of(unused.kind.link(), &id);
        let written = self.addresses.lock().commit(&[Record::Network(Box::new(network.clone()))]);
        written.inspect_err(|_| release(&network))?;
        release(&old);
        let reconciler = &self.applier.reconciler;
        reconciler.desire(&kind::network(&old), &kind::network(&network));
        for endpoint in held.endpoints.values() {
            reconciler.desire(&kind::endpoint(&old, endpoint), &kind::endpoint(&network, endpoint));
        }
        self.conflicts.remove_network(&id);
        self.conflicts.add_network(&network);
        for endpoint in held.endpoints.values() {
            self.conflicts.remove_endpoint(&endpoint.spec.id);
            self.conflicts.add_endpoint(&network, endpoint);
        }
        tracing::warn!(network = %id, former = %old.kind.link(), parent = %network.kind.link(), endpoints = held.endpoints.len(), "the parent of a network is gone, another candidate takes its place: restart its containers");
        held.network = network;
        Ok(())
    }
}

/// Whether its parent may be one link or another.
fn has_choice(network: &Network) -> bool {
    network.spec.options.kind.parent.as_ref().is_some_and(|choice| choice.fixed().is_none())
}
