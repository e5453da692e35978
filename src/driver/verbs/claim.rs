//! Reserves what a network needs before it is created (links, subnets, VNI) and runs the checks against the host
//! that these require.

use crate::datapath::kind::choice::Host;
use crate::datapath::{LinkInfo, kind};
use crate::driver::settings::Affected;
use crate::driver::{Driver, Error};
use crate::model::{GatewayMode, IfName, LinkRole, Network, NetworkKind, NetworkSpec, Overlay, options};
use crate::state::table::LinkOwner;

/// MTU in bytes, used when there is no default route to take it from.
const ETHERNET_MTU: u32 = 1500;

impl Driver {
    /// Reserves the resources that a network uses exclusively and completes its settings with those of the host.
    /// After an error nothing is reserved.
    pub(in crate::driver) fn claim(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        self.unusable.check(&[Affected::Networks], || format!("network {}", spec.id))?;
        let chosen = self.without_bridge(spec)?;
        let Some((kind, mtu)) = chosen else { return self.claim_bridge(spec) };
        self.networks.share_link(spec, &kind)?;
        self.networks
            .claim_subnets(spec)
            .inspect_err(|_| self.networks.table.release_link_of(kind.link(), &spec.id))?;
        Ok(Network { spec: spec.clone(), kind, mtu, stored: Default::default() })
    }

    /// The kind and the MTU of a network with a parent, on this host at present; `None` for one with a bridge.
    pub(in crate::driver) fn without_bridge(&self, spec: &NetworkSpec) -> Result<Option<(NetworkKind, u32)>, Error> {
        self.on_host(spec, &mut |host| kind::without_bridge(spec, host))
    }

    /// Looks at this host for a network with a parent.
    pub(in crate::driver) fn on_host<T>(
        &self,
        spec: &NetworkSpec,
        look: &mut dyn FnMut(&mut Host<'_, Error>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let kernel = |source| Error::of_network(&spec.id, source);
        let mut find = |name: &IfName| self.kernel().link(name).map_err(kernel);
        let mut around = || self.kernel().surroundings().map_err(kernel);
        look(&mut Host { find: &mut find, around: &mut around })
    }

    fn claim_bridge(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        let kernel = |source| Error::of_network(&spec.id, source);
        let owner = LinkOwner::Network(spec.id.clone());
        let (bridge, found) = match &spec.options.bridge_name {
            None => (self.networks.table.claim_link(LinkRole::Bridge, spec.id.as_str(), owner), None),
            Some(name) => {
                let found = self.kernel().link(name).map_err(kernel)?;
                if let Some(link) = &found
                    && link.kind != "bridge"
                {
                    let kind = if link.kind.is_empty() { "physical".to_owned() } else { link.kind.clone() };
                    return Err(Error::NotABridge { name: name.clone(), kind });
                }
                self.networks.claim_bridge_name(spec, name, found.as_ref())?;
                (name.clone(), found)
            }
        };
        // A bridge in our link group is left over from an earlier process whose ledger is lost: Pontoon may
        // configure it.
        let owns_bridge = found.as_ref().is_none_or(LinkInfo::is_ours);
        let release = |error| {
            self.networks.table.release_link_of(&bridge, &spec.id);
            Err(error)
        };
        if let Some(option) = spec.options.needs_rules().filter(|_| !owns_bridge) {
            return release(Error::ForeignBridge { bridge: bridge.clone(), option });
        }
        if let Err(error) = self.check_vlan(spec, &bridge, found.as_ref().filter(|_| !owns_bridge)) {
            return release(error);
        }
        if let Some(error) = self.unforwarded(spec).filter(|_| owns_bridge) {
            return release(error);
        }
        if let Err(error) = self.check_unknown(spec) {
            return release(error);
        }
        if let Some(error) = if owns_bridge { self.endangers_host(spec).unwrap_or_else(Some) } else { None } {
            return release(error);
        }
        if let Err(error) = self.networks.claim_subnets(spec) {
            return release(error);
        }
        let overlay = self.overlays.spans_hosts(spec).and_then(|spans| match spans {
            true if !owns_bridge => Err(Error::ForeignBridge { bridge: bridge.clone(), option: options::VNI }),
            true => self.claim_overlay(spec, None).map(Some),
            false => Ok(None),
        });
        let overlay = overlay.inspect_err(|_| {
            self.networks.table.release_subnets(&spec.id);
            self.networks.table.release_link_of(&bridge, &spec.id);
        })?;
        if let Some((overlay, mtu)) = overlay {
            return Ok(Network {
                spec: spec.clone(),
                kind: NetworkKind::Overlay { bridge, overlay },
                mtu,
                stored: Default::default(),
            });
        }
        if let Some(link) = found.filter(|_| !owns_bridge) {
            let mtu = spec.options.mtu.unwrap_or(link.mtu);
            let bridge_mtu = (mtu < link.mtu).then_some(link.mtu);
            return Ok(Network {
                spec: spec.clone(),
                kind: NetworkKind::UserBridge { bridge, bridge_mtu },
                mtu,
                stored: Default::default(),
            });
        }
        let mtu = match spec.options.mtu {
            Some(mtu) => mtu,
            None => match self.kernel().uplink_mtu() {
                Ok(mtu) => mtu.unwrap_or(ETHERNET_MTU).clamp(68, 65535),
                Err(error) => {
                    self.networks.table.release_subnets(&spec.id);
                    return release(kernel(error));
                }
            },
        };
        Ok(Network { spec: spec.clone(), kind: NetworkKind::Bridge { bridge }, mtu, stored: Default::default() })
    }

    /// The error for a network that needs forwarding while forwarding is off and must stay off.
    fn unforwarded(&self, spec: &NetworkSpec) -> Option<Error> {
        if self.applier.reconciler.opens() {
            return None;
        }
        let (need, (have, _)) = (kind::forwarding(spec), self.kernel().forwarding());
        let families = [
            (need.v4 && !have.v4, "IPv4", "net.ipv4.ip_forward"),
            (need.v6 && !have.v6, "IPv6", "net.ipv6.conf.all.forwarding"),
        ];
        let (_, family, setting) = families.into_iter().find(|(missing, ..)| *missing)?;
        Some(Error::Unforwarded { network: spec.id.clone(), family, setting })
    }

    /// The error for a subnet whose bridge would cut the host off. This also applies to a subnet that the user
    /// did not choose: a Swarm allocates subnets without checking its hosts. A user may choose a subnet that
    /// contains a name server, because the server may be a container of the network; a subnet that a Swarm chose
    /// must not contain one.
    fn endangers_host(&self, spec: &NetworkSpec) -> Result<Option<Error>, Error> {
        let options = &spec.options;
        let v4 = spec.v4.iter().filter(|_| !options.inhibit_ipv4 && options.mode4 != GatewayMode::Isolated);
        let v6 = spec.v6.iter().filter(|_| options.mode6 != GatewayMode::Isolated);
        let routed: Vec<_> = v4.chain(v6).filter(|subnet| subnet.gateway_net().is_some()).collect();
        if routed.is_empty() {
            return Ok(None);
        }
        let kernel = |source| Error::of_network(&spec.id, source);
        let around = self.kernel().surroundings().map_err(kernel)?;
        let resolvers = if self.overlays.is_of_swarm(&spec.id) { (self.resolvers)() } else { Vec::new() };
        let found =
            routed.iter().find_map(|subnet| Some((subnet.pool, around.endangered_by(&subnet.pool, &resolvers)?)));
        Ok(found.map(|(subnet, what)| Error::Endangers { network: spec.id.clone(), subnet, what }))
    }

    /// Allocates VNI and link for an overlay network and determines its MTU; a network that already has a tunnel
    /// keeps its link. After an error nothing is allocated.
    pub(in crate::driver) fn claim_overlay(
        &self,
        spec: &NetworkSpec,
        held: Option<&Overlay>,
    ) -> Result<(Overlay, u32), Error> {
        if held.is_none() {
            self.unusable.check(&[Affected::Overlays], || format!("network {}", spec.id))?;
        }
        self.overlays.claim(spec, held, || {
            let owner = LinkOwner::Network(spec.id.clone());
            self.networks.table.claim_link(LinkRole::Vxlan, spec.id.as_str(), owner)
        })
    }

    /// Releases what a network reserved.
    pub(in crate::driver) fn release(&self, network: &Network) {
        self.networks.table.release_subnets(&network.spec.id);
        let (table, id) = (&self.networks.table, &network.spec.id);
        table.release_link_of(network.kind.link(), id);
        self.release_overlay(network);
    }

    /// Releases VNI and link of a network that has no tunnel (any more).
    pub(in crate::driver) fn release_overlay(&self, network: &Network) {
        if let Some(overlay) = network.kind.overlay() {
            self.overlays.release(network);
            self.networks.table.release_link(&overlay.link);
        }
    }
}
