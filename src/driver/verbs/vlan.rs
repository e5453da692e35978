//! Checks before a network or an endpoint uses a VLAN of a bridge: the kernel and the bridge keep VLANs apart, and the
//! VLAN leads somewhere.

use crate::datapath::LinkInfo;
use crate::datapath::kind::vlan;
use crate::driver::{Driver, Error};
use crate::model::{EndpointSpec, IfName, Network, NetworkId, NetworkSpec, Vid, options};

impl Driver {
    /// Checks the bridge of a new network; `user_bridge` is `None` for one that Pontoon creates.
    pub(in crate::driver) fn check_vlan(
        &self,
        spec: &NetworkSpec,
        bridge: &IfName,
        user_bridge: Option<&LinkInfo>,
    ) -> Result<(), Error> {
        let Some(vid) = spec.options.vlan else { return Ok(()) };
        let Some(link) = user_bridge else {
            return Err(vlan::of_own_bridges(options::VLAN, &spec.id).into());
        };
        self.check_carried(&spec.id, bridge, link.filters_vlans, vid)
    }

    /// Checks the bridge again for a new port: its owner may have changed it. A VLAN that was carried when the network
    /// was created is not checked again, so that containers start while an uplink is down.
    pub(in crate::driver) fn check_port_vlans(&self, network: &Network, spec: &EndpointSpec) -> Result<(), Error> {
        let bridge = network.kind.bridge().filter(|_| vlan::of_port(network, &spec.options).is_some());
        let Some(bridge) = bridge else { return Ok(()) };
        let id = &network.spec.id;
        let link = self.kernel().link(bridge).map_err(|source| Error::of_network(id, source))?;
        let Some(link) = link else { return Ok(()) };
        match spec.options.vlan {
            Some(vid) => self.check_carried(id, bridge, link.filters_vlans, vid),
            None => Ok(vlan::check_filtering(id, bridge, link.filters_vlans)?),
        }
    }

    fn check_carried(&self, id: &NetworkId, bridge: &IfName, filters: bool, vid: Vid) -> Result<(), Error> {
        // First whether the kernel can filter at all: the command that turns it on would not help.
        let ports = self.kernel().bridge_ports(bridge).map_err(|source| Error::of_network(id, source))?;
        vlan::check_filtering(id, bridge, filters)?;
        Ok(vlan::check_carried(id, bridge, vid, &ports)?)
    }
}
