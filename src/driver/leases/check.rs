//! What networks and endpoints cannot have together with addresses from the local network.

use super::{LeaseError, Leases};
use crate::datapath::kind;
use crate::model::{DhcpOptions, EndpointSpec, LeaseSource, Network, NetworkKind, options};

/// The value of the option that gives others an effect.
const ANY: &str = "4 or slaac";

impl Leases {
    /// Refuses a network whose options cannot be honoured.
    pub fn check_network(&self, network: &Network) -> Result<(), LeaseError> {
        let (id, options) = (&network.spec.id, &network.spec.options);
        let no_effect = |option, needs| Err(LeaseError::NoEffect { network: id.clone(), option, needs });
        if !options.dhcp.is_on() {
            return options.dhcp.detail().map_or(Ok(()), |option| no_effect(option, ANY));
        }
        if !options.dhcp.v4 && !options.dhcp.servers.is_empty() {
            return no_effect(options::DHCP_SERVER, LeaseSource::Dhcp4.word());
        }
        let link = network.kind.link();
        let why = match &network.kind {
            NetworkKind::Overlay { .. } => {
                "is not possible on an overlay network, whose containers are on no local network: remove it".to_owned()
            }
            NetworkKind::Bridge { .. } => format!(
                "needs a local network: add -o com.docker.network.bridge.name=BRIDGE, a bridge of yours with an uplink, or -o parent=LINK ({link} has no other hosts)"
            ),
            _ if network.spec.subnets().next().is_some() => {
                "excludes a subnet of another IPAM driver: create the network with --ipam-driver null and no --subnet"
                    .to_owned()
            }
            _ if kind::lan(network).is_none() && options.vlan.is_none() => {
                "is not possible in the modes l3 and l3s of ipvlan, which have no broadcasts: use ipvlan_mode=l2"
                    .to_owned()
            }
            _ if network.spec.internal && options.dhcp.slaac => {
                "is not possible with --internal, because containers take their default route from the router: use 4 alone"
                    .to_owned()
            }
            _ if options.refuses_ra && options.dhcp.slaac => {
                "excludes pontoon.ra=refuse, because containers take their default route from the router: remove it"
                    .to_owned()
            }
            _ if !self.kernel.probes() => {
                "is not possible without packet sockets: give Pontoon CAP_NET_RAW when it starts".to_owned()
            }
            _ => return Ok(()),
        };
        Err(LeaseError::Impossible { network: id.clone(), words: options.dhcp.words(), why })
    }

    /// Refuses an endpoint whose options cannot be honoured: servers and routers are asked in the VLAN of the link alone.
    pub fn check_endpoint(&self, options: &DhcpOptions, spec: &EndpointSpec) -> Result<(), LeaseError> {
        let (given, network) = (&spec.options.dhcp, spec.network.clone());
        let without_effect = match (options.is_on(), options.v4) {
            (false, _) => given.given().map(|option| (option, ANY)),
            (true, false) => given.of_dhcp4().map(|option| (option, LeaseSource::Dhcp4.word())),
            (true, true) => None,
        };
        if let Some((option, needs)) = without_effect {
            return Err(LeaseError::NoEffect { network, option, needs });
        }
        let why = "excludes pontoon.vlan for a single container: create a network with -o parent=LINK.VID for it";
        if options.is_on() && spec.options.vlan.is_some() {
            return Err(LeaseError::Impossible { network, words: options.words(), why: why.to_owned() });
        }
        Ok(())
    }
}
