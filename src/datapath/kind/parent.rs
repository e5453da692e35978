//! What networks on a parent link of the host have in common: the choice of the parent and of the kind, the VLAN link
//! that Pontoon creates to be a parent, and what the host's firewall cannot do for them.

use super::{FindLink, Refusal};
use crate::datapath::object::Vlan;
use crate::datapath::{Datapath, LinkInfo};
use crate::model::kind::{KindOptions, ParentVlan};
use crate::model::{EndpointSpec, IfName, Network, NetworkKind, NetworkSpec, options};

/// The kind and the MTU of a network with a parent link, see [`super::without_bridge`].
pub(super) fn chosen<E: From<Refusal>>(
    spec: &NetworkSpec,
    chosen: &KindOptions,
    find: FindLink<'_, E>,
) -> Result<(NetworkKind, u32), E> {
    let refuse = |text: String| Err(E::from(Refusal(format!("network {}: {text}", spec.id))));
    let ipvlan = chosen.ipvlan_mode.is_some() || chosen.ipvlan_flag.is_some();
    if ipvlan && chosen.macvlan_mode.is_some() {
        return refuse("macvlan_mode and ipvlan_mode exclude each other: remove one of them".to_owned());
    }
    let word = if ipvlan { "ipvlan" } else { "macvlan" };
    let Some(parent) = &chosen.parent else {
        return refuse(format!("{word}_mode needs a parent: add -o parent=LINK, a link of this host"));
    };
    if let Some(option) = spec.options.of_bridges() {
        return Err(no_effect(spec, option, word).into());
    }
    let (vlan, link) = match find_parent(spec, parent, find)? {
        (vlan, link) if link.mac.is_some() && parent.as_str() != "lo" => (vlan, link),
        _ => return refuse(format!("{parent} is not an Ethernet link: choose another parent")),
    };
    let mtu = spec.options.mtu.unwrap_or(link.mtu);
    if mtu > link.mtu {
        return refuse(format!(
            "{}={mtu} is more than the MTU of its parent {parent}, {}: choose at most that",
            options::MTU,
            link.mtu
        ));
    }
    let parent = parent.clone();
    let kind = match ipvlan {
        true => {
            let (mode, flag) = (chosen.ipvlan_mode.unwrap_or_default(), chosen.ipvlan_flag.unwrap_or_default());
            NetworkKind::Ipvlan { parent, mode, flag, vlan }
        }
        false => NetworkKind::Macvlan { parent, mode: chosen.macvlan_mode.unwrap_or_default(), vlan },
    };
    Ok((kind, mtu))
}

/// The parent, or the link below it if Pontoon creates the parent.
fn find_parent<E: From<Refusal>>(
    spec: &NetworkSpec,
    parent: &IfName,
    find: FindLink<'_, E>,
) -> Result<(Option<ParentVlan>, LinkInfo), E> {
    let refuse = |text: String| Err(E::from(Refusal(format!("network {}: {text}", spec.id))));
    let found = find(parent)?;
    if let Some(link) = found {
        return match (link.is_ours(), ParentVlan::of(parent)) {
            (false, _) => Ok((None, link)),
            (true, Some(vlan)) if link.kind == "vlan" => Ok((Some(vlan), link)),
            (true, _) => refuse(format!("{parent} is a link of Pontoon's own: choose another parent")),
        };
    }
    let Some(vlan) = ParentVlan::of(parent) else {
        return refuse(format!(
            "this host has no link {parent} to be the parent: name one that `ip link` shows, or NAME.VID for a VLAN"
        ));
    };
    match find(&vlan.below)? {
        Some(below) => Ok((Some(vlan), below)),
        None => refuse(format!(
            "this host has no link {parent} to be the parent, and no link {} to create it on: name one that \
             `ip link` shows",
            vlan.below
        )),
    }
}

/// The VLAN link that the network needs as parent, if Pontoon creates it.
pub(super) fn network(network: &Network) -> Datapath {
    let (NetworkKind::Macvlan { parent, vlan: Some(vlan), .. } | NetworkKind::Ipvlan { parent, vlan: Some(vlan), .. }) =
        &network.kind
    else {
        return Datapath::empty();
    };
    let link = Vlan { below: vlan.below.clone(), vid: vlan.vid, up: true };
    Datapath { objects: [(parent.clone(), link.into())].into(), ..Datapath::empty() }
}

/// Refuses options of an endpoint that need the host's firewall.
pub(super) fn check_endpoint(network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
    let without_effect = [
        (endpoint.options.allow.is_some(), options::ALLOW),
        (endpoint.options.spoofcheck == Some(true), options::SPOOFCHECK),
    ];
    let given = without_effect.iter().find_map(|(given, option)| given.then_some(*option));
    given.map_or(Ok(()), |option| Err(no_effect(&network.spec, option, network.kind.word())))
}

/// Why the network publishes no ports.
pub(super) fn publishes_nothing(network: &Network) -> Refusal {
    Refusal(format!(
        "network {} is {} network, which publishes no ports: its containers are reached at their own addresses on \
         {}; remove -p, or connect the container to a bridge network as well",
        network.spec.id,
        with_article(network.kind.word()),
        network.kind.link()
    ))
}

fn no_effect(spec: &NetworkSpec, option: &str, word: &str) -> Refusal {
    let (id, which) = (&spec.id, with_article(word));
    Refusal(format!(
        "{option} has no effect on {id}, {which} network, whose frames the host's firewall does not see: remove it"
    ))
}

fn with_article(word: &str) -> String {
    format!("{} {word}", if word.starts_with('i') { "an" } else { "a" })
}
