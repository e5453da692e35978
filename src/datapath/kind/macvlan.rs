//! Networks whose containers are attached to a link of the host by macvlan: they are directly on that link's
//! network, and the host's firewall does not see their packets.

use super::{FindLink, Kind, Refusal, links};
use crate::datapath::Datapath;
use crate::datapath::object::Macvlan;
use crate::model::kind::MacvlanMode;
use crate::model::{Attachment, Endpoint, EndpointSpec, IfName, LinkRole, Network, NetworkKind, NetworkSpec, options};

/// See the module documentation.
pub struct Children;

impl Kind for Children {
    fn network(&self, _: &Network) -> Datapath {
        Datapath::empty()
    }

    fn endpoint(&self, network: &Network, endpoint: &Endpoint) -> Datapath {
        let (NetworkKind::Macvlan { parent, mode }, Attachment::Macvlan { link }) =
            (&network.kind, &endpoint.attachment)
        else {
            return Datapath::empty();
        };
        let child = Macvlan { parent: parent.clone(), mode: *mode, mac: endpoint.mac, mtu: network.mtu };
        links(endpoint, [(link.clone(), child.into())])
    }

    fn attach(&self, name: &mut dyn FnMut(LinkRole) -> IfName) -> Attachment {
        Attachment::Macvlan { link: name(LinkRole::Peer) }
    }

    fn capacity(&self, network: &Network) -> usize {
        match network.kind {
            NetworkKind::Macvlan { mode: MacvlanMode::Passthru, .. } => 1,
            _ => usize::MAX,
        }
    }

    fn check_endpoint(&self, network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
        let without_effect = [
            (endpoint.options.allow.is_some(), options::ALLOW),
            (endpoint.options.spoofcheck == Some(true), options::SPOOFCHECK),
        ];
        let given = without_effect.iter().find_map(|(given, option)| given.then_some(*option));
        given.map_or(Ok(()), |option| Err(no_effect(&network.spec, option)))
    }

    fn check_published(&self, network: &Network) -> Result<(), Refusal> {
        Err(Refusal(format!(
            "network {} is a macvlan network, which publishes no ports: its containers are reached at their own \
             addresses on {}; remove -p, or connect the container to a bridge network as well",
            network.spec.id,
            network.kind.link()
        )))
    }
}

fn no_effect(spec: &NetworkSpec, option: &str) -> Refusal {
    let id = &spec.id;
    Refusal(format!(
        "{option} has no effect on {id}, a macvlan network, whose frames the host's firewall does not see: remove it"
    ))
}

/// The kind and the MTU of a network with a parent link, see [`super::without_bridge`].
pub(super) fn chosen<E: From<Refusal>>(
    spec: &NetworkSpec,
    parent: Option<&IfName>,
    mode: MacvlanMode,
    find: FindLink<'_, E>,
) -> Result<(NetworkKind, u32), E> {
    let refuse = |text: String| Err(E::from(Refusal(format!("network {}: {text}", spec.id))));
    let Some(parent) = parent else {
        return refuse("macvlan_mode needs a parent: add -o parent=LINK, a link of this host".to_owned());
    };
    if let Some(option) = spec.options.of_bridges() {
        return Err(no_effect(spec, option).into());
    }
    let Some(link) = find(parent)? else {
        let how = match parent.as_str().rsplit_once('.') {
            Some((below, vlan)) => format!(
                "create it first (ip link add link {below} name {parent} type vlan id {vlan}), Pontoon creates no VLAN links"
            ),
            None => "name one that `ip link` shows".to_owned(),
        };
        return refuse(format!("this host has no link {parent} to be the parent: {how}"));
    };
    if link.is_ours() {
        return refuse(format!("{parent} is a link of Pontoon's own: choose another parent"));
    }
    if link.mac.is_none() || parent.as_str() == "lo" {
        return refuse(format!("{parent} is not an Ethernet link: choose another parent"));
    }
    let mtu = spec.options.mtu.unwrap_or(link.mtu);
    if mtu > link.mtu {
        return refuse(format!(
            "{}={mtu} is more than the MTU of its parent {parent}, {}: choose at most that",
            options::MTU,
            link.mtu
        ));
    }
    Ok((NetworkKind::Macvlan { parent: parent.clone(), mode }, mtu))
}
