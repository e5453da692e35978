//! Applies the ledger to the kernel before the first request is answered.

use crate::datapath::KernelError;
use crate::driver::Driver;
use crate::driver::ports::Shortage;
use crate::model::{Endpoint, LeaseSource};

impl Driver {
    /// See the module documentation. Objects that the ledger does not know stay: [`crate::datapath::unknown`].
    pub fn start(&self) -> Result<(), KernelError> {
        self.overlays.record_settings();
        self.overlays.desire();
        self.choose_parents();
        self.restore_ports();
        self.restore_leases();
        self.applier.reconciler.find_host()?;
        let repaired = self.repair();
        self.protect_unknown(&repaired.plan.unknown);
        self.resume_flows();
        self.reap_leaks();
        repaired.whole().map(|_| ())
    }

    /// For a repair without the daemon, with the settings that the daemon left in the ledger. Tunnels that cannot
    /// leave this host stay unchanged.
    pub fn restore_tunnels(&self) -> Result<(), KernelError> {
        self.overlays.desire();
        let has_underlay = self.overlays.lock().underlay().is_some();
        if has_underlay { Ok(()) } else { self.applier.reconciler.protect_tunnels() }
    }

    fn restore_ports(&self) {
        let mut shortage = Shortage::default();
        self.networks.each(|held| {
            for endpoint in held.endpoints.values() {
                self.ports.restore(endpoint, &mut shortage);
            }
        });
        shortage.log();
    }

    fn restore_leases(&self) {
        let mut used = std::collections::BTreeMap::new();
        self.networks.each(|held| {
            let of =
                |endpoint: &Endpoint| ((endpoint.spec.network.clone(), endpoint.spec.id.clone()), endpoint.leased());
            used.extend(held.endpoints.values().map(of));
        });
        self.leases.settle(|network, endpoint, source| {
            let (v4, v6) = used.get(&(network.clone(), endpoint.clone()))?;
            let leased = match source {
                LeaseSource::Dhcp4 => v4,
                LeaseSource::Slaac => v6,
            };
            leased.map(|leased| leased.ip())
        });
    }

    fn resume_flows(&self) {
        self.flows.resume();
        let mut published = Vec::new();
        self.networks.each(|held| {
            published.extend(held.endpoints.values().flat_map(|endpoint| endpoint.published.iter().copied()));
        });
        self.flows.flush_stale(published);
    }
}
