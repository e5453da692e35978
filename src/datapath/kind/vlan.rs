//! VLANs on a bridge of the user: the VLANs of a container's port, and what the bridge must provide for them. Pontoon
//! never changes the VLANs of other ports, nor whether the bridge filters VLANs: both would change the traffic of
//! others.

use super::Refusal;
use crate::datapath::BridgePort;
use crate::model::{EndpointOptions, EndpointSpec, IfName, Network, NetworkId, NetworkKind, PortVlans, Vid, options};

/// The VLANs of an endpoint's port; `None` for the bridge's default.
pub fn of_port(network: &Network, endpoint: &EndpointOptions) -> Option<PortVlans> {
    let access = endpoint.vlan.or(network.spec.options.vlan)?;
    Some(PortVlans::of(access, endpoint.trunk.clone()))
}

/// Refuses options of an endpoint that the network cannot honour.
pub(super) fn check_endpoint(network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
    let EndpointOptions { vlan, trunk, .. } = &endpoint.options;
    let given = match (vlan, trunk.is_empty()) {
        (_, false) => options::TRUNK,
        (Some(_), true) => options::VLAN,
        (None, true) => return Ok(()),
    };
    if !matches!(network.kind, NetworkKind::UserBridge { .. }) {
        return Err(of_own_bridges(given, &network.spec.id));
    }
    let Some(access) = vlan.or(network.spec.options.vlan).filter(|_| given == options::TRUNK) else {
        return if given == options::TRUNK { Err(no_untagged(endpoint)) } else { Ok(()) };
    };
    match trunk.contains(access) {
        true => Err(Refusal(format!(
            "endpoint {}: {}={trunk} contains {access}, which is its VLAN without tags: remove {access} from the list, \
             or choose another {}",
            endpoint.id,
            options::TRUNK,
            options::VLAN
        ))),
        false => Ok(()),
    }
}

fn no_untagged(endpoint: &EndpointSpec) -> Refusal {
    Refusal(format!(
        "endpoint {}: {} needs {}, the VLAN of frames without a tag: add it to the network or to this endpoint",
        endpoint.id,
        options::TRUNK,
        options::VLAN
    ))
}

/// The refusal of an option on a network whose bridge is not the user's.
pub fn of_own_bridges(option: &str, network: &NetworkId) -> Refusal {
    Refusal(format!(
        "network {network}: {option} needs a bridge of your own that filters VLANs and leads to other hosts: create it \
         (ip link add br-lan type bridge vlan_filtering 1), add its uplink, and name it with \
         -o com.docker.network.bridge.name=br-lan; for a single VLAN without a bridge use -o parent=LINK.VID"
    ))
}

/// Refuses a bridge that does not filter VLANs: its ports would be one segment.
///
/// # Errors
/// With the command that turns filtering on, and the warning that it concerns other ports.
pub fn check_filtering(network: &NetworkId, bridge: &IfName, filters: bool) -> Result<(), Refusal> {
    if filters {
        return Ok(());
    }
    Err(Refusal(format!(
        "network {network}: bridge {bridge} does not filter VLANs: {} (this changes its other ports, too: each then \
         carries only the VLANs that `bridge vlan` shows for it)",
        filtering_command(bridge)
    )))
}

/// Refuses a VLAN that leads nowhere.
///
/// # Errors
/// With the commands that add the VLAN to an uplink, or to the bridge itself for the host.
pub fn check_carried(network: &NetworkId, bridge: &IfName, vid: Vid, ports: &[BridgePort]) -> Result<(), Refusal> {
    if is_carried(vid, ports) {
        return Ok(());
    }
    let [uplink, host] = carrying_commands(bridge, vid, ports);
    Err(Refusal(format!(
        "network {network}: no other port of bridge {bridge} carries VLAN {vid}, so it leads nowhere: {uplink}; for this \
         host's own access: {host}"
    )))
}

/// Whether a VLAN leads anywhere: a port that is not a container's without tags has it.
pub fn is_carried(vid: Vid, ports: &[BridgePort]) -> bool {
    ports.iter().any(|port| port.vlans.carries(vid) && !(port.ours && port.vlans.untagged.contains(vid)))
}

/// The command that makes a bridge filter VLANs.
pub fn filtering_command(bridge: &IfName) -> String {
    format!("ip link set dev {bridge} type bridge vlan_filtering 1")
}

/// The commands that add a VLAN to the uplink, and to the bridge itself.
pub fn carrying_commands(bridge: &IfName, vid: Vid, ports: &[BridgePort]) -> [String; 2] {
    let mut others = ports.iter().filter(|port| !port.ours && port.link != *bridge).map(|port| port.link.as_str());
    let uplink = match (others.next(), others.next()) {
        (Some(only), None) => only,
        _ => "UPLINK",
    };
    [format!("bridge vlan add dev {uplink} vid {vid}"), format!("bridge vlan add dev {bridge} vid {vid} self")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IfName {
        IfName::parse(text).unwrap()
    }

    fn port(link: &str, ours: bool, untagged: u16, tagged: &str) -> BridgePort {
        let tagged = if tagged.is_empty() { Default::default() } else { tagged.parse().unwrap() };
        BridgePort { link: name(link), ours, vlans: PortVlans::of(Vid::new(untagged).unwrap(), tagged) }
    }

    #[test]
    fn a_vlan_is_carried_by_an_uplink_by_the_host_or_by_a_trunk_but_not_by_other_containers() {
        let vid = Vid::new(40).unwrap();
        for (others, carried) in [
            (vec![port("eth0", false, 1, "40-50")], true),
            (vec![port("eth0", false, 40, "")], true),
            (vec![port("br-lan", false, 1, "40")], true),
            (vec![port("pnth1", true, 50, "40")], true),
            (vec![port("pnth1", true, 40, ""), port("eth0", false, 1, "41-50")], false),
            (vec![], false),
        ] {
            assert_eq!(is_carried(vid, &others), carried, "{others:?}");
        }
    }

    #[test]
    fn refusals_have_the_exact_commands() {
        let (network, bridge, vid) = (NetworkId::parse("n").unwrap(), name("br-lan"), Vid::new(40).unwrap());
        let text = check_filtering(&network, &bridge, false).unwrap_err().to_string();
        assert!(text.contains("ip link set dev br-lan type bridge vlan_filtering 1") && text.contains("other ports"));
        let text = |ports: &[BridgePort]| check_carried(&network, &bridge, vid, ports).unwrap_err().to_string();
        let one = text(&[port("br-lan", false, 1, ""), port("eth0", false, 1, ""), port("pnth1", true, 40, "")]);
        assert!(one.contains("bridge vlan add dev eth0 vid 40;"), "{one}");
        assert!(one.contains("bridge vlan add dev br-lan vid 40 self"), "{one}");
        let several = text(&[port("eth0", false, 1, ""), port("eth1", false, 1, "")]);
        assert!(several.contains("bridge vlan add dev UPLINK vid 40"), "{several}");
    }
}
