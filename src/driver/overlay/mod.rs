//! Networks that span hosts: from which local address and to which peers. Updates ledger and kernel when any of
//! these changes.
//!
//! One lock, taken after that of a network and never before. A verb of an overlay network updates that network's
//! tunnel; a change of the peers or the local address updates every tunnel in one step.

mod settings;
mod state;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

pub use self::settings::OverlaySettings;
pub use self::state::OverlayState;
use super::applier::Applier;
use super::history::{Happening, History};
use super::journal::Journal;
use super::settings::UnusableSetting;
use super::{Error, now};
use crate::datapath::{Datapath, KernelError, Underlay};
use crate::model::{DataPath, IfName, Network, NetworkId, NetworkSpec, Overlay, Scope, overlay};
use crate::state::peers::Standing;
use crate::state::record::Record;
use crate::state::table::lock;

/// See the module documentation.
pub(super) struct Overlays {
    pub settings: OverlaySettings,
    state: Mutex<OverlayState>,
    journal: Arc<Journal>,
    applier: Arc<Applier>,
    history: Arc<History>,
}

impl Overlays {
    pub fn new(settings: OverlaySettings, journal: Arc<Journal>, applier: Arc<Applier>, history: Arc<History>) -> Self {
        Self { state: Mutex::new(OverlayState::new(&settings)), settings, journal, applier, history }
    }

    pub fn lock(&self) -> MutexGuard<'_, OverlayState> {
        lock(&self.state)
    }

    /// Whether a network belongs to the Swarm, so that its engine persists nothing of it.
    pub fn is_of_swarm(&self, id: &NetworkId) -> bool {
        self.settings.scope == Scope::Global || id.is_of_swarm()
    }

    /// Whether a network with these settings spans hosts.
    pub fn spans_hosts(&self, spec: &NetworkSpec) -> Result<bool, Error> {
        // A VLAN is one of a bridge that leads to the other hosts by itself.
        let global = self.settings.scope == Scope::Global && spec.options.vlan.is_none();
        let overlay = spec.options.vni.is_some() || global;
        match spec.options.of_overlays() {
            Some(option) if !overlay => Err(Error::WithoutVni { network: spec.id.clone(), option }),
            _ => Ok(overlay),
        }
    }

    /// Allocates VNI and link for an overlay network and determines its MTU. A network that already has a tunnel
    /// (`held`) keeps its link, and its VNI until the tunnel is changed; `new_link` reserves a link otherwise. After
    /// an error nothing is allocated.
    pub fn claim(
        &self,
        spec: &NetworkSpec,
        held: Option<&Overlay>,
        new_link: impl FnOnce() -> IfName,
    ) -> Result<(Overlay, u32), Error> {
        let mut state = self.lock();
        if state.underlay().is_none() {
            let found = self.find_underlay(state.advertised());
            state.set_underlay(found.map_err(|source| Error::of_network(&spec.id, source))?);
        }
        let underlay = state.underlay().ok_or_else(|| self.no_underlay(spec))?;
        let vni = spec.options.vni.unwrap_or_else(|| state.vnis.choose(&spec.id));
        if let Some(owner) = state.vnis.other_carrier(vni, &spec.id) {
            return Err(Error::VniTaken { vni, owner: owner.clone() });
        }
        let v6 = underlay.address.is_ipv6();
        let mtu = spec.options.mtu.unwrap_or(overlay::network_mtu(underlay.mtu, v6));
        if mtu.saturating_add(overlay::overhead(v6)) > underlay.mtu {
            tracing::warn!(network = %spec.id, mtu, link_mtu = underlay.mtu, "full packets of this network exceed the MTU of the link to other hosts and are lost: choose a smaller com.docker.network.driver.mtu");
        }
        if mtu < if spec.v6.is_some() { 1280 } else { 68 } {
            return Err(Error::MtuTooSmall { network: spec.id.clone(), mtu, underlay: underlay.mtu });
        }
        let link = held.map_or_else(new_link, |held| held.link.clone());
        // Reserved from here on against other verbs; the tunnel is added with the record.
        state.vnis.carry(vni, &spec.id);
        Ok((Overlay { vni, link }, mtu))
    }

    /// Releases the VNI of a network that has no tunnel (any more).
    pub fn release(&self, network: &Network) {
        if network.kind.overlay().is_some() {
            self.lock().apply(&Record::NoNetwork { id: network.spec.id.clone() });
        }
    }

    /// Creates the tunnel of an overlay network, whose bridge exists. Replaces an existing tunnel.
    pub fn create_tunnel(&self, network: &Network) -> Result<(), KernelError> {
        if network.kind.overlay().is_none() {
            return Ok(());
        }
        let state = &mut *self.lock();
        self.change(state, Some(network), |state| state.apply(&Record::Network(Box::new(network.clone()))))
    }

    /// Deletes the tunnel of a network. Kernel errors are left to the next reconciliation.
    pub fn delete_tunnel(&self, network: &Network) {
        if network.kind.overlay().is_none() {
            return;
        }
        let state = &mut *self.lock();
        let gone = Record::NoNetwork { id: network.spec.id.clone() };
        if let Err(error) = self.change(state, Some(network), |state| state.apply(&gone)) {
            self.applier.defer(&error, "delete the tunnel", format_args!("network {}", network.spec.id));
        }
    }

    /// Persists records about other hosts, applies them, and updates the kernel; its errors are left to the next
    /// reconciliation.
    pub fn record(&self, state: &mut OverlayState, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.journal.write(records)?;
        records.iter().filter_map(peer_event).for_each(|event| self.history.record(event));
        let changed = self.change(state, None, |state| records.iter().for_each(|record| state.apply(record)));
        if let Err(error) = changed {
            self.applier.defer(&error, "update the tunnels", "overlay networks");
        }
        Ok(())
    }

    /// Determines this host's underlay address again and moves the tunnels to it. While there is none, they keep
    /// the last one: an address that vanished may come back.
    pub fn refresh_underlay(&self, state: &mut OverlayState) -> Result<(), KernelError> {
        let Some(found) = self.find_underlay(state.advertised())? else { return Ok(()) };
        if state.underlay() == Some(found) {
            return Ok(());
        }
        tracing::info!(address = %found.address, mtu = found.mtu, "tunnels use this local address");
        self.change(state, None, |state| state.set_underlay(Some(found)))
    }

    /// Reads the addresses of this host again: they are neither flooded to nor trusted as peers.
    fn refresh_local(&self, state: &mut OverlayState) -> Result<(), KernelError> {
        let local = self.applier.kernel().addresses()?;
        if *state.local() == local {
            return Ok(());
        }
        for own in state.all_peers().iter().filter(|peer| local.contains(peer) && !state.is_local(**peer)) {
            tracing::warn!(address = %own, "ignoring a peer: its address belongs to this host");
        }
        self.change(state, None, |state| state.set_local(local))
    }

    /// At start: sets the complete desired state before the first reconciliation.
    pub fn desire(&self) {
        let state = &mut *self.lock();
        match self.applier.kernel().addresses() {
            Ok(local) => state.set_local(local),
            Err(error) => {
                tracing::warn!(%error, "cannot read the addresses of this host: it may be among its own peers until the next tick")
            }
        }
        match self.find_underlay(state.advertised()) {
            Ok(found) => state.set_underlay(found),
            Err(error) => tracing::warn!(%error, "cannot determine the local address of tunnels: they wait for it"),
        }
        if state.underlay().is_none() && !state.is_empty() {
            tracing::warn!("this host has no address for its tunnels: they wait for one, see PONTOON_DATA_PATH");
        }
        self.applier.reconciler.desire(&Datapath::empty(), &state.desired());
    }

    /// Persists the settings for a repair without the daemon. Hosts that have always used the defaults need no
    /// record.
    pub fn record_settings(&self) {
        let state = &mut *self.lock();
        let current = self.settings.record();
        let recorded = state.recorded().cloned().unwrap_or_else(|| OverlaySettings::default().record());
        if recorded != current
            && let Err(error) = self.record(state, &[Record::Reach(current)])
        {
            tracing::warn!(%error, "cannot record the overlay settings: pontoon plan and repair use the earlier ones");
        }
    }

    /// Periodic upkeep: addresses of this host, peers and VNIs that expired.
    pub fn tick(&self) -> Result<(), Error> {
        let kernel = |source: KernelError| Error::Kernel { object: "overlay networks".to_owned(), source };
        let state = &mut *self.lock();
        self.refresh_local(state).map_err(kernel)?;
        self.refresh_underlay(state).map_err(kernel)?;
        let mut records = state.vnis.rested(now());
        if state.peers.unsettled() {
            records.extend(state.peers.look(&self.applier.kernel().heard().map_err(kernel)?, now()));
        }
        for record in &records {
            if let Record::Peer(peer) = record {
                tracing::info!(peer = %peer.address, state = ?peer.standing, "the state of a peer changed");
            }
        }
        self.record(state, &records)
    }

    fn find_underlay(&self, advertised: Option<IpAddr>) -> Result<Option<Underlay>, KernelError> {
        find_underlay(&self.settings, advertised, |path| self.applier.kernel().underlay(path))
    }

    /// Changes the state and the desired state of the kernel with it: the part of one network, or all.
    fn change(
        &self,
        state: &mut OverlayState,
        network: Option<&Network>,
        change: impl FnOnce(&mut OverlayState),
    ) -> Result<(), KernelError> {
        let (before, after) = state.change(network, change);
        if before == after { Ok(()) } else { self.applier.apply_desired(&before, &after) }
    }

    fn no_underlay(&self, spec: &NetworkSpec) -> Error {
        let Some(path) = &self.settings.data_path else { return Error::NoUnderlay { network: spec.id.clone() } };
        let setting = UnusableSetting::no_data_path(path).to_string();
        Error::Setting { object: format!("network {}", spec.id), setting }
    }
}

fn peer_event(record: &Record) -> Option<Happening> {
    let (address, state) = match record {
        Record::NoPeer { address } => (*address, "gone"),
        Record::Peer(peer) => (
            peer.address,
            match peer.standing {
                Standing::Present => "present",
                Standing::Doubted { .. } => "doubted",
                Standing::Former { .. } => "former",
            },
        ),
        _ => return None,
    };
    Some(Happening::Peer { address, state })
}

/// The underlay address of this host: as configured, else as the Swarm says, else that of the default route.
///
/// # Errors
/// Those of `lookup`.
pub fn find_underlay(
    settings: &OverlaySettings,
    advertised: Option<IpAddr>,
    mut lookup: impl FnMut(&DataPath) -> Result<Option<Underlay>, KernelError>,
) -> Result<Option<Underlay>, KernelError> {
    let path = settings.data_path.clone().or_else(|| advertised.map(DataPath::Address));
    match lookup(path.as_ref().unwrap_or(&DataPath::DefaultRoute))? {
        // The Swarm may know this host by an address that NAT translates.
        None if settings.data_path.is_none() => lookup(&DataPath::DefaultRoute),
        found => Ok(found),
    }
}
