//! Objects of the fake: how they are created, changed, renamed and deleted.

use super::{World, refused};
use crate::datapath::{BRIDGE_PORTS, Change, KernelError, Object, ObjectKind, Station, Vxlan};
use crate::model::IfName;

impl World {
    pub(super) fn create(&mut self, name: &IfName, object: &Object) -> Result<(), KernelError> {
        if let Some(bridge) = object.master() {
            self.port_of(bridge)?;
            let is_port = |(other, port): &(&IfName, &Object)| port.master() == Some(bridge) && *other != name;
            if self.datapath.objects.iter().filter(is_port).count() >= BRIDGE_PORTS {
                return Err(refused("create", name, libc::EXFULL));
            }
        }
        let taken = match object {
            Object::Vxlan(vxlan) => self.is_number_taken(name, vxlan),
            _ => false,
        };
        let other_kind = self.datapath.objects.get(name).is_some_and(|held| held.kind() != object.kind());
        if taken || other_kind || self.foreign.contains_key(name) {
            return Err(refused("create", name, libc::EEXIST));
        }
        self.datapath.objects.insert(name.clone(), object.clone());
        Ok(())
    }

    fn is_number_taken(&self, name: &IfName, vxlan: &Vxlan) -> bool {
        self.datapath.objects.iter().any(|(other, object)| match object {
            Object::Vxlan(held) => other != name && (held.vni, held.port) == (vxlan.vni, vxlan.port),
            _ => false,
        })
    }

    /// Changing a setting that this kind of object does not have fails as if the link did not exist.
    pub(super) fn change(&mut self, name: &IfName, change: &Change) -> Result<(), KernelError> {
        if let Change::Master(bridge) | Change::JoinVlans { bridge, .. } = change {
            self.port_of(bridge)?;
        }
        let missing = || refused("change", name, libc::ENODEV);
        let Some(object) = self.datapath.objects.get_mut(name) else {
            return if matches!(change, Change::RemoveAddress(_)) { Ok(()) } else { Err(missing()) };
        };
        if object.apply(change) { Ok(()) } else { Err(missing()) }
    }

    pub(super) fn delete(&mut self, name: &IfName, kind: ObjectKind) {
        if self.datapath.object(name, kind).is_none() {
            return;
        }
        self.datapath.objects.remove(name);
        self.datapath.stations.retain(|station| station.link != *name);
        for bridge in self.datapath.objects.values_mut().filter_map(Object::master_mut) {
            if bridge.as_ref() == Some(name) {
                *bridge = None;
            }
        }
    }

    /// An address has one entry on a link.
    pub(super) fn change_stations(&mut self, add: &[Station], remove: &[Station]) -> Result<(), KernelError> {
        let stations = &mut self.datapath.stations;
        stations.retain(|one| !remove.iter().any(|less| (&less.link, less.address) == (&one.link, one.address)));
        for station in add {
            if self.datapath.object(&station.link, ObjectKind::HostLink).is_none() {
                return Err(refused("find host link", &station.link, libc::ENODEV));
            }
            let stations = &mut self.datapath.stations;
            stations.retain(|one| (&one.link, one.address) != (&station.link, station.address));
            stations.insert(station.clone());
        }
        Ok(())
    }

    fn port_of(&self, bridge: &IfName) -> Result<(), KernelError> {
        let foreign = self.foreign.get(bridge).is_some_and(|link| link.kind == "bridge");
        if foreign || self.datapath.object(bridge, ObjectKind::Bridge).is_some() {
            Ok(())
        } else {
            Err(refused("find bridge", bridge, libc::ENODEV))
        }
    }

    /// A renamed bridge keeps its ports.
    pub(super) fn rename(&mut self, from: &IfName, to: &IfName) -> Result<(), KernelError> {
        let objects = &mut self.datapath.objects;
        match (objects.contains_key(from), objects.contains_key(to) || self.foreign.contains_key(to)) {
            (true, true) => return Err(refused("rename", to, libc::EEXIST)),
            (false, true) => return Ok(()),
            _ => {}
        }
        let object = objects.remove(from).ok_or_else(|| refused("rename", from, libc::ENODEV))?;
        objects.insert(to.clone(), object);
        self.datapath.bridge_renamed(from, to);
        Ok(())
    }
}
