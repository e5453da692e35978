//! The overlay part of the running state: which networks span hosts, from which local address and to which
//! peers. Updates the kernel when any of these changes.
//!
//! One lock, taken after that of a network and never before. A verb of an overlay network updates that network's
//! tunnel; a change of the peers or the local address updates every tunnel in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::MutexGuard;

use super::unread::{Affected, SettingLine};
use super::{Driver, Error, now};
use crate::api::network::{self, CapabilitiesResponse};
use crate::datapath::{Datapath, KernelError, Object, Underlay, tunnel};
use crate::model::{DataPath, LinkRole, Network, NetworkId, NetworkSpec, Overlay, Scope, overlay};
use crate::state::peers::Peers;
use crate::state::record::{ReachRecord, Record};
use crate::state::table::{LinkOwner, lock};
use crate::state::vnis::Vnis;

/// The operator's settings for overlay networks.
#[derive(Debug, Clone)]
pub struct OverlaySettings {
    /// The scope of networks.
    pub scope: Scope,
    /// The scope of service discovery: names of containers and news of other hosts; see
    /// [`OverlaySettings::connectivity`].
    pub connectivity: Scope,
    /// UDP port.
    pub port: u16,
    /// The data path to other hosts; `None` uses that of the Swarm, or else the default route.
    pub data_path: Option<DataPath>,
    /// Other hosts besides those that the Swarm names.
    pub peers: Vec<IpAddr>,
}

impl Default for OverlaySettings {
    fn default() -> Self {
        let (scope, connectivity) = (Scope::Local, Scope::Local);
        Self { scope, connectivity, port: overlay::VXLAN_PORT, data_path: None, peers: Vec::new() }
    }
}

impl OverlaySettings {
    /// Whether the engine distributes discovery of nodes and names of containers: always for networks of the
    /// Swarm, for local networks when configured.
    pub(super) fn connectivity(&self) -> Scope {
        if self.scope == Scope::Global { Scope::Global } else { self.connectivity }
    }

    /// The answer to NetworkDriver.GetCapabilities.
    pub fn capabilities(&self) -> CapabilitiesResponse {
        let wire = |scope| if scope == Scope::Global { network::Scope::Global } else { network::Scope::Local };
        CapabilitiesResponse {
            scope: wire(self.scope),
            connectivity_scope: wire(self.connectivity()),
            gw_alloc_checker: true,
        }
    }

    /// The settings of the daemon that wrote these records.
    pub fn of_records(records: &[Record]) -> Self {
        let told = records.iter().rev().find_map(|record| match record {
            Record::Reach(reach) => Some(reach.clone()),
            _ => None,
        });
        let Some(ReachRecord { port, data_path, peers }) = told else { return Self::default() };
        Self { port, data_path, peers, ..Self::default() }
    }

    fn record(&self) -> ReachRecord {
        ReachRecord { port: self.port, data_path: self.data_path.clone(), peers: self.peers.clone() }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Mesh {
    pub peers: Peers,
    pub vnis: Vnis,
    /// The address of this host according to the Swarm.
    own: Option<IpAddr>,
    /// The local address of the tunnels; the last known one while there is none.
    underlay: Option<Underlay>,
    /// Every address of this host: none of them is a peer.
    here: BTreeSet<IpAddr>,
    /// The overlay settings according to the ledger.
    reach: Option<ReachRecord>,
    networks: BTreeMap<NetworkId, Network>,
}

impl Mesh {
    pub fn new(settings: &OverlaySettings) -> Self {
        Self {
            peers: Peers::new(settings.peers.iter().copied().collect(), now()),
            vnis: Vnis::default(),
            own: None,
            underlay: None,
            here: BTreeSet::new(),
            reach: None,
            networks: BTreeMap::new(),
        }
    }

    pub fn own(&self) -> Option<IpAddr> {
        self.own
    }

    /// Applies a record.
    pub fn apply(&mut self, record: &Record) {
        self.peers.apply(record);
        self.vnis.apply(record);
        match record {
            Record::OwnAddress { address } => self.own = Some(*address),
            Record::Reach(reach) => self.reach = Some(reach.clone()),
            Record::Network(network) if network.kind.overlay().is_some() => {
                self.networks.insert(network.spec.id.clone(), (**network).clone());
            }
            Record::Network(network) => drop(self.networks.remove(&network.spec.id)),
            Record::NoNetwork { id } => drop(self.networks.remove(id)),
            _ => {}
        }
    }

    pub fn underlay(&self) -> Option<Underlay> {
        self.underlay
    }

    pub fn set_underlay(&mut self, underlay: Option<Underlay>) {
        self.underlay = underlay;
    }

    /// Sets the addresses of this host.
    pub fn set_here(&mut self, here: BTreeSet<IpAddr>) {
        self.here = here;
    }

    /// Whether an address belongs to this host. A tunnel that floods to it would loop back each frame.
    pub fn is_here(&self, address: IpAddr) -> bool {
        self.here.contains(&address)
    }

    /// Whether no network spans hosts.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Peers that only certain networks name.
    pub fn named_by_networks(&self) -> BTreeSet<IpAddr> {
        self.networks.values().flat_map(|network| &network.spec.options.peers).copied().collect()
    }

    /// Every address that is reported as a peer.
    pub fn all_peers(&self) -> BTreeSet<IpAddr> {
        self.peers.accepted().into_iter().chain(self.named_by_networks()).collect()
    }

    fn tunnel(&self, network: &Network, port: u16) -> Datapath {
        let Some(underlay) = self.underlay else { return Datapath::empty() };
        let mut tunnel = tunnel::of(network, underlay.address, port, &self.peers.flooded());
        if let Some(Object::Vxlan(vxlan)) = tunnel.objects.values_mut().next() {
            vxlan.peers.retain(|peer| !self.is_here(*peer));
        }
        if network.kind.overlay().is_some() { tunnel } else { Datapath::empty() }
    }

    /// A host without peers and overlay networks needs no guard. A host that knows peers is known to them: they
    /// trust what it sends.
    fn guard(&self, port: u16) -> Datapath {
        let mut accepted = self.all_peers();
        accepted.retain(|peer| !self.is_here(*peer));
        if self.networks.is_empty() && accepted.is_empty() {
            return Datapath::empty();
        }
        tunnel::guard(port, &accepted, self.underlay.map(|underlay| underlay.address))
    }

    /// All tunnels, and the peers whose packets they accept.
    pub fn desired(&self, port: u16) -> Datapath {
        let mut all = self.guard(port);
        for network in self.networks.values() {
            all = united(all, self.tunnel(network, port));
        }
        all
    }
}

fn united(mut one: Datapath, other: Datapath) -> Datapath {
    one.objects.extend(other.objects);
    one.policy.get_or_insert_default().extend(other.policy.into_iter().flatten());
    one.fastpath.get_or_insert_default().extend(other.fastpath.into_iter().flatten());
    one
}

impl Driver {
    pub(super) fn mesh(&self) -> MutexGuard<'_, Mesh> {
        lock(&self.mesh)
    }

    /// Whether a network with these settings spans hosts.
    pub(super) fn spans_hosts(&self, spec: &NetworkSpec) -> Result<bool, Error> {
        let overlay = spec.options.vni.is_some() || self.overlay.scope == Scope::Global;
        match spec.options.of_overlays() {
            Some(option) if !overlay => Err(Error::WithoutVni { network: spec.id.clone(), option }),
            _ => Ok(overlay),
        }
    }

    /// Allocates VNI and link for an overlay network and determines its MTU. A network that already has a tunnel
    /// (`held`) keeps its link, and its VNI until the tunnel is changed. After an error nothing is allocated.
    pub(super) fn claim_overlay(&self, spec: &NetworkSpec, held: Option<&Overlay>) -> Result<(Overlay, u32), Error> {
        if held.is_none() {
            self.check_settings(&[Affected::Overlays], || format!("network {}", spec.id))?;
        }
        let mut mesh = self.mesh();
        if mesh.underlay.is_none() {
            mesh.underlay = self.find_underlay(mesh.own).map_err(|source| self.of_network(spec, source))?;
        }
        let underlay = mesh.underlay.ok_or_else(|| self.no_underlay(spec))?;
        let vni = spec.options.vni.unwrap_or_else(|| mesh.vnis.choose(&spec.id));
        if let Some(owner) = mesh.vnis.other_carrier(vni, &spec.id) {
            return Err(Error::VniTaken { vni, owner: owner.clone() });
        }
        let v6 = underlay.address.is_ipv6();
        let mtu = spec.options.mtu.unwrap_or(overlay::network_mtu(underlay.mtu, v6));
        if mtu.saturating_add(overlay::overhead(v6)) > underlay.mtu {
            tracing::warn!(network = %spec.id, mtu, link_mtu = underlay.mtu, "full packets of this network do not fit the link to other hosts: they are lost; choose a smaller com.docker.network.driver.mtu");
        }
        if mtu < if spec.v6.is_some() { 1280 } else { 68 } {
            return Err(Error::MtuTooSmall { network: spec.id.clone(), mtu, underlay: underlay.mtu });
        }
        let derived = || {
            let owner = LinkOwner::Network(spec.id.clone());
            self.table.claim_link(LinkRole::Vxlan, spec.id.as_str(), owner)
        };
        let link = held.map_or_else(derived, |held| held.link.clone());
        // Reserved from here on against other verbs; the tunnel is added with the record.
        mesh.vnis.carry(vni, &spec.id);
        Ok((Overlay { vni, link }, mtu))
    }

    /// Releases VNI and link of a network that has no tunnel (any more).
    pub(super) fn release_overlay(&self, network: &Network) {
        if let Some(overlay) = network.kind.overlay() {
            self.mesh().apply(&Record::NoNetwork { id: network.spec.id.clone() });
            self.table.release_link(&overlay.link);
        }
    }

    /// Creates the tunnel of an overlay network, whose bridge exists. Replaces an existing tunnel.
    pub(super) fn raise_tunnel(&self, network: &Network) -> Result<(), KernelError> {
        if network.kind.overlay().is_none() {
            return Ok(());
        }
        let mesh = &mut *self.mesh();
        self.change_mesh(mesh, Some(network), |mesh| mesh.apply(&Record::Network(Box::new(network.clone()))))
    }

    /// Removes the tunnel of a network. Kernel errors are left to the next reconciliation.
    pub(super) fn lower_tunnel(&self, network: &Network) {
        if network.kind.overlay().is_none() {
            return;
        }
        let mesh = &mut *self.mesh();
        let gone = Record::NoNetwork { id: network.spec.id.clone() };
        if let Err(error) = self.change_mesh(mesh, Some(network), |mesh| mesh.apply(&gone)) {
            tracing::warn!(%error, network = %network.spec.id, "the rest of a tunnel is left to the next comparison");
            self.call_attention();
        }
    }

    /// Persists records about peers, applies them, and updates the kernel.
    pub(super) fn tell_mesh(&self, mesh: &mut Mesh, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.ledger.append(records)?;
        self.change_mesh(mesh, None, |mesh| records.iter().for_each(|record| mesh.apply(record))).or_else(|error| {
            tracing::warn!(%error, "tunnels do not follow a change of the hosts, this is left to the next comparison");
            self.call_attention();
            Ok(())
        })
    }

    /// Determines this host's underlay address again and moves the tunnels to it. While there is none, they keep
    /// the last one: an address that vanished may come back.
    pub(super) fn refresh_underlay_of(&self, mesh: &mut Mesh) -> Result<(), KernelError> {
        let Some(found) = self.find_underlay(mesh.own)? else { return Ok(()) };
        if mesh.underlay == Some(found) {
            return Ok(());
        }
        tracing::info!(address = %found.address, mtu = found.mtu, "tunnels leave from this address");
        self.change_mesh(mesh, None, |mesh| mesh.underlay = Some(found))
    }

    /// Reads the addresses of this host again: they are neither flooded to nor trusted as peers.
    pub(super) fn refresh_here(&self, mesh: &mut Mesh) -> Result<(), KernelError> {
        let here = self.kernel().addresses()?;
        if mesh.here == here {
            return Ok(());
        }
        for own in mesh.all_peers().iter().filter(|peer| here.contains(peer) && !mesh.is_here(**peer)) {
            tracing::warn!(address = %own, "this address among the peers is this host's own: it is left out");
        }
        self.change_mesh(mesh, None, |mesh| mesh.here = here)
    }

    /// At start: sets the complete desired state before the first reconciliation.
    pub(super) fn desire_tunnels(&self) {
        let mesh = &mut *self.mesh();
        match self.kernel().addresses() {
            Ok(here) => mesh.here = here,
            Err(error) => tracing::warn!(%error, "peers may be this host itself until its addresses are known"),
        }
        match self.find_underlay(mesh.own) {
            Ok(found) => mesh.underlay = found,
            Err(error) => tracing::warn!(%error, "tunnels wait until their address is known"),
        }
        if mesh.underlay.is_none() && !mesh.networks.is_empty() {
            tracing::warn!("this host has no address for its tunnels yet: they wait for one, see PONTOON_DATA_PATH");
        }
        self.reconciler.desire(&Datapath::empty(), &mesh.desired(self.overlay.port));
    }

    /// For a repair without the daemon, with the settings that the daemon left in the ledger. Tunnels that
    /// cannot leave this host stay unchanged.
    pub fn take_up_tunnels(&self) -> Result<(), KernelError> {
        self.desire_tunnels();
        if self.mesh().underlay.is_none() { self.reconciler.protect_tunnels() } else { Ok(()) }
    }

    /// Persists the settings for such a repair. Hosts that have always used the defaults need no record.
    pub(super) fn remember_reach(&self) {
        let mesh = &mut *self.mesh();
        let now = self.overlay.record();
        let held = mesh.reach.clone().unwrap_or_else(|| OverlaySettings::default().record());
        if held != now
            && let Err(error) = self.tell_mesh(mesh, &[Record::Reach(now)])
        {
            tracing::warn!(%error, "pontoon plan and repair will not know how other hosts are reached");
        }
    }

    fn find_underlay(&self, own: Option<IpAddr>) -> Result<Option<Underlay>, KernelError> {
        find_underlay(&self.overlay, own, |path| self.kernel().underlay(path))
    }

    /// Changes the mesh and the desired state of the kernel with it: the part of one network, or all.
    fn change_mesh(
        &self,
        mesh: &mut Mesh,
        network: Option<&Network>,
        change: impl FnOnce(&mut Mesh),
    ) -> Result<(), KernelError> {
        let port = self.overlay.port;
        let only = network.is_some_and(|network| mesh.networks.keys().all(|id| *id == network.spec.id));
        let has_peers = |network: &Network| !network.spec.options.peers.is_empty();
        let had_peers = network.and_then(|network| mesh.networks.get(&network.spec.id)).is_some_and(has_peers);
        let desired = |mesh: &Mesh| match network {
            None => mesh.desired(port),
            Some(network) => {
                let tunnel =
                    mesh.networks.get(&network.spec.id).map_or_else(Datapath::empty, |held| mesh.tunnel(held, port));
                // Only the network's own peers can change with it; all do with the first and the last network.
                if only || had_peers || has_peers(network) { united(tunnel, mesh.guard(port)) } else { tunnel }
            }
        };
        let before = desired(mesh);
        change(mesh);
        let after = desired(mesh);
        if before == after { Ok(()) } else { self.realise(&before, &after) }
    }

    fn no_underlay(&self, spec: &NetworkSpec) -> Error {
        let Some(path) = &self.overlay.data_path else { return Error::NoUnderlay { network: spec.id.clone() } };
        Error::Setting { object: format!("network {}", spec.id), setting: SettingLine::no_data_path(path).to_string() }
    }

    fn of_network(&self, spec: &NetworkSpec, source: KernelError) -> Error {
        Error::Kernel { object: format!("network {}", spec.id), source }
    }
}

/// The underlay address of this host: as configured, else as the Swarm says, else that of the default route.
pub(super) fn find_underlay(
    settings: &OverlaySettings,
    own: Option<IpAddr>,
    mut look: impl FnMut(&DataPath) -> Result<Option<Underlay>, KernelError>,
) -> Result<Option<Underlay>, KernelError> {
    let path = settings.data_path.clone().or_else(|| own.map(DataPath::Address));
    match look(path.as_ref().unwrap_or(&DataPath::DefaultRoute))? {
        // The Swarm may know this host by an address that NAT translates.
        None if settings.data_path.is_none() => look(&DataPath::DefaultRoute),
        found => Ok(found),
    }
}
