//! Reserves what a network needs before it is created (links, subnets, VNI) and runs the checks against the host
//! that these require.

use super::unread::Affected;
use super::{Driver, Error};
use crate::datapath::{LinkInfo, kind};
use crate::model::{GatewayMode, IfName, LinkRole, Network, NetworkKind, NetworkSpec, options};
use crate::state::table::{LinkOwner, NotShared, Terms};

/// MTU in bytes, used when there is no default route to take it from.
const ETHERNET_MTU: u32 = 1500;

impl Driver {
    /// Reserves the resources that a network uses exclusively and completes its settings with those of the host.
    /// After an error nothing is reserved.
    pub(super) fn claim(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        self.check_settings(&[Affected::Networks], || format!("network {}", spec.id))?;
        let kernel = |source| Error::Kernel { object: format!("network {}", spec.id), source };
        let chosen = kind::without_bridge(spec, &mut |name| self.kernel().link(name).map_err(kernel))?;
        let Some((kind, mtu)) = chosen else { return self.claim_bridge(spec) };
        self.claim_subnets(spec)?;
        Ok(Network { spec: spec.clone(), kind, mtu })
    }

    fn claim_subnets(&self, spec: &NetworkSpec) -> Result<(), Error> {
        let pools: Vec<_> = spec.subnets().map(|subnet| subnet.pool).collect();
        let claimed = self.table.claim_subnets(&spec.id, &pools);
        claimed.map_err(|(subnet, held, owner)| Error::SubnetOverlap { subnet, held, owner })
    }

    fn claim_bridge(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        let kernel = |source| Error::Kernel { object: format!("network {}", spec.id), source };
        let owner = LinkOwner::Network(spec.id.clone());
        let (bridge, found) = match &spec.options.bridge_name {
            None => (self.table.claim_link(LinkRole::Bridge, spec.id.as_str(), owner), None),
            Some(name) => {
                let found = self.kernel().link(name).map_err(kernel)?;
                if let Some(link) = &found
                    && link.kind != "bridge"
                {
                    let kind = if link.kind.is_empty() { "physical".to_owned() } else { link.kind.clone() };
                    return Err(Error::NotABridge { name: name.clone(), kind });
                }
                self.claim_bridge_name(spec, name, found.as_ref())?;
                (name.clone(), found)
            }
        };
        // A bridge in our link group is left over from an earlier process whose ledger is lost: Pontoon may
        // configure it.
        let owns_bridge = found.as_ref().is_none_or(LinkInfo::is_ours);
        let release = |error| {
            self.table.release_link_of(&bridge, &spec.id);
            Err(error)
        };
        if let Some(option) = spec.options.needs_rules().filter(|_| !owns_bridge) {
            return release(Error::ForeignBridge { bridge: bridge.clone(), option });
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
        if let Err(error) = self.claim_subnets(spec) {
            return release(error);
        }
        let overlay = self.spans_hosts(spec).and_then(|spans| match spans {
            true if !owns_bridge => Err(Error::ForeignBridge { bridge: bridge.clone(), option: options::VNI }),
            true => self.claim_overlay(spec, None).map(Some),
            false => Ok(None),
        });
        let overlay = overlay.inspect_err(|_| {
            self.table.release_subnets(&spec.id);
            self.table.release_link_of(&bridge, &spec.id);
        })?;
        if let Some((overlay, mtu)) = overlay {
            return Ok(Network { spec: spec.clone(), kind: NetworkKind::Overlay { bridge, overlay }, mtu });
        }
        if let Some(link) = found.filter(|_| !owns_bridge) {
            let mtu = spec.options.mtu.unwrap_or(link.mtu);
            let bridge_mtu = (mtu < link.mtu).then_some(link.mtu);
            return Ok(Network { spec: spec.clone(), kind: NetworkKind::UserBridge { bridge, bridge_mtu }, mtu });
        }
        let mtu = match spec.options.mtu {
            Some(mtu) => mtu,
            None => match self.kernel().uplink_mtu() {
                Ok(mtu) => mtu.unwrap_or(ETHERNET_MTU).clamp(68, 65535),
                Err(error) => {
                    self.table.release_subnets(&spec.id);
                    return release(kernel(error));
                }
            },
        };
        Ok(Network { spec: spec.clone(), kind: NetworkKind::Bridge { bridge }, mtu })
    }

    /// Reserves the name of a bridge that the user chose: for one network if Pontoon creates the bridge, together
    /// with other networks if it is the user's.
    fn claim_bridge_name(&self, spec: &NetworkSpec, name: &IfName, found: Option<&LinkInfo>) -> Result<(), Error> {
        let taken = |other: LinkOwner| {
            let (LinkOwner::Network(owner) | LinkOwner::Endpoint(owner, _)) = other;
            Error::BridgeTaken { bridge: name.clone(), owner }
        };
        let Some(link) = found.filter(|link| !link.is_ours()) else {
            let claimed = self.table.claim_named_link(name, LinkOwner::Network(spec.id.clone()));
            return claimed.map_err(|other| match other {
                // Pontoon would create the bridge, which belongs to the user as long as networks use it.
                LinkOwner::Network(owner) if found.is_none() && self.table.link_owner(name).is_none() => {
                    Error::BridgeMissing { bridge: name.clone(), owner }
                }
                other => taken(other),
            });
        };
        if let Some(mtu) = spec.options.mtu.filter(|mtu| *mtu > link.mtu) {
            return Err(Error::MtuOfBridge { bridge: name.clone(), mtu, limit: link.mtu });
        }
        self.share_bridge(spec, name).map_err(|error| match error {
            NotShared::Owned(other) => taken(other),
            NotShared::Terms(owner) => Error::BridgeTerms { bridge: name.clone(), owner },
        })
    }

    /// Records that a network uses a bridge of the user.
    pub(super) fn share_bridge(&self, spec: &NetworkSpec, name: &IfName) -> Result<(), NotShared> {
        self.table.share_link(name, &spec.id, Terms { icc: spec.options.icc })
    }

    /// The error for a network that needs forwarding while forwarding is off and must stay off.
    fn unforwarded(&self, spec: &NetworkSpec) -> Option<Error> {
        if self.reconciler.opens() {
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
        let kernel = |source| Error::Kernel { object: format!("network {}", spec.id), source };
        let around = self.kernel().surroundings().map_err(kernel)?;
        let resolvers = if self.is_of_swarm(&spec.id) { (self.resolvers)() } else { Vec::new() };
        let found =
            routed.iter().find_map(|subnet| Some((subnet.pool, around.endangered_by(&subnet.pool, &resolvers)?)));
        Ok(found.map(|(subnet, what)| Error::Endangers { network: spec.id.clone(), subnet, what }))
    }

    pub(super) fn release(&self, network: &Network) {
        self.table.release_subnets(&network.spec.id);
        let bridge = network.kind.bridge().into_iter();
        bridge.for_each(|bridge| self.table.release_link_of(bridge, &network.spec.id));
        self.release_overlay(network);
    }
}
