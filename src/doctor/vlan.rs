//! Checks of bridges of the user that networks with a VLAN use.

use std::collections::BTreeMap;

use super::{Facts, Finding, Level};
use crate::datapath::kind::vlan;

pub(super) fn bridges(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    let mut found = Vec::new();
    let networks = facts.status.networks.iter().filter_map(|network| Some(((&network.link, network.vlan?), network)));
    // Several networks may be in one VLAN.
    for ((link, vid), network) in networks.collect::<BTreeMap<_, _>>() {
        let Some(bridge) = host.bridges.iter().find(|bridge| bridge.name == *link) else { continue };
        if !bridge.filters_vlans {
            let title = format!("bridge {link} no longer filters VLANs: containers of VLAN {vid} reach all its ports");
            let finding = Finding::new(Level::Broken, title).seen(format!("network {}", network.id));
            found.push(finding.mended_by(format!(
                "{}   # changes its other ports, too: see `bridge vlan`",
                vlan::filtering_command(link)
            )));
        } else if !vlan::is_carried(vid, &bridge.ports) {
            let title =
                format!("no other port of bridge {link} carries VLAN {vid}: its containers reach only each other");
            let mut finding = Finding::new(Level::Degraded, title).seen(format!("network {}", network.id));
            for port in bridge.ports.iter().filter(|port| !port.ours) {
                finding = finding.seen(format!("{} carries {}", port.link, port.vlans.all()));
            }
            let [uplink, _] = vlan::carrying_commands(link, vid, &bridge.ports);
            found.push(finding.mended_by(uplink));
        }
    }
    if found.is_empty() { vec![Finding::ok("the VLANs of networks lead to other ports")] } else { found }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::datapath::BridgePort;
    use crate::datapath::host::HostBridge;
    use crate::doctor::Facts;
    use crate::model::{IfName, PortVlans, Vid};

    /// Puts the network into VLAN 40 of a bridge whose uplink carries this VLAN.
    pub fn on_vlan(facts: &mut Facts, filters_vlans: bool, carried: u16) {
        facts.status.networks[0].vlan = Some(Vid::new(40).unwrap());
        let (name, link) = (facts.status.networks[0].link.clone(), IfName::parse("eth0").unwrap());
        let vlans = PortVlans::of(Vid::new(1).unwrap(), Vid::new(carried).unwrap().into());
        let ports = vec![BridgePort { link, ours: false, vlans }];
        facts.host.as_mut().unwrap().bridges = vec![HostBridge { name, filters_vlans, ports }];
    }
}
