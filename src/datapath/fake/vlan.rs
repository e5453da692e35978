//! VLANs of the fake's bridges.

use std::collections::BTreeMap;

use super::{FakeKernel, World, refused};
use crate::datapath::{BridgePort, KernelError, Object};
use crate::model::{IfName, PortVlans};

impl FakeKernel {
    /// Makes a bridge of the host filter VLANs, or not.
    pub fn filter_vlans(&self, bridge: &IfName, on: bool) {
        let mut world = self.world();
        world.vlans.get_or_insert_with(BTreeMap::new);
        if let Some(link) = world.foreign.get_mut(bridge) {
            link.filters_vlans = on;
        }
        if let Some(Object::Bridge(own)) = world.datapath.objects.get_mut(bridge) {
            own.filters_vlans = on;
        }
    }

    /// Gives a port of another program, or the bridge itself, these VLANs.
    pub fn set_vlans(&self, bridge: &IfName, port: &IfName, vlans: PortVlans) {
        let mut world = self.world();
        world.vlans.get_or_insert_with(BTreeMap::new).insert((bridge.clone(), port.clone()), vlans);
    }
}

impl World {
    pub(super) fn bridge_ports(&self, bridge: &IfName) -> Result<Vec<BridgePort>, KernelError> {
        let Some(vlans) = &self.vlans else {
            return Err(refused("list the VLANs of bridge", bridge, libc::EOPNOTSUPP));
        };
        let theirs = vlans.iter().filter(|((of, _), _)| of == bridge);
        let theirs =
            theirs.map(|((_, port), vlans)| BridgePort { link: port.clone(), ours: false, vlans: vlans.clone() });
        let veths = self.datapath.veths();
        let ours = veths.into_iter().filter(|(_, veth)| veth.bridge.as_ref() == Some(bridge));
        let ours = ours.map(|(link, veth)| BridgePort { link, ours: true, vlans: veth.vlans.unwrap_or_default() });
        Ok(theirs.chain(ours).collect())
    }
}
