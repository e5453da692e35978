//! What networks on a parent link of the host have in common: the choice of the parent and of the kind, the VLAN link
//! that Pontoon creates to be a parent, and what the host's firewall cannot do for them.

use super::choice::Host;
use super::{Refusal, host_access};
use crate::datapath::object::Vlan;
use crate::datapath::{Datapath, LinkInfo};
use crate::model::kind::{KindOptions, ParentVlan};
use crate::model::{EndpointSpec, IfName, Network, NetworkKind, NetworkSpec, options};

/// The kind and the MTU of a network with a parent link, see [`super::without_bridge`].
pub(super) fn chosen<E: From<Refusal>>(
    spec: &NetworkSpec,
    chosen: &KindOptions,
    host: &mut Host<'_, E>,
) -> Result<(NetworkKind, u32), E> {
    let refuse = |text: String| Err(E::from(Refusal(format!("network {}: {text}", spec.id))));
    let ipvlan = chosen.ipvlan_mode.is_some() || chosen.ipvlan_flag.is_some();
    if ipvlan && chosen.macvlan_mode.is_some() {
        return refuse("macvlan_mode and ipvlan_mode exclude each other: remove one of them".to_owned());
    }
    let word = if ipvlan { "ipvlan" } else { "macvlan" };
    let Some(choice) = &chosen.parent else {
        if !ipvlan && chosen.macvlan_mode.is_none() {
            return refuse(format!(
                "{} is for networks with a parent, and this host reaches the containers on a bridge: remove it, or add \
                 -o parent=LINK",
                options::HOST
            ));
        }
        return refuse(format!("{word}_mode needs a parent: add -o parent=LINK, a link of this host"));
    };
    if let Some(option) = spec.options.of_bridges() {
        return Err(no_effect(spec, option, word).into());
    }
    let parent = &host.choose(spec, choice)?;
    let (vlan, link) = match find_parent(spec, parent, host)? {
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
    let kind = if ipvlan {
        let (mode, flag) = (chosen.ipvlan_mode.unwrap_or_default(), chosen.ipvlan_flag.unwrap_or_default());
        let host = host_access::of_ipvlan(spec, mode, flag)?;
        NetworkKind::Ipvlan { parent, mode, flag, vlan, host }
    } else {
        let mode = chosen.macvlan_mode.unwrap_or_default();
        let host = host_access::of_macvlan(spec, mode, &parent, link.mac)?;
        NetworkKind::Macvlan { parent, mode, vlan, host }
    };
    Ok((kind, mtu))
}

/// The parent, or the link below it if Pontoon creates the parent.
fn find_parent<E: From<Refusal>>(
    spec: &NetworkSpec,
    parent: &IfName,
    host: &mut Host<'_, E>,
) -> Result<(Option<ParentVlan>, LinkInfo), E> {
    let refuse = |text: String| Err(E::from(Refusal(format!("network {}: {text}", spec.id))));
    let found = (host.find)(parent)?;
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
    match (host.find)(&vlan.below)? {
        Some(below) => Ok((Some(vlan), below)),
        None => refuse(format!(
            "this host has no link {parent} to be the parent, and no link {} to create it on: name one that \
             `ip link` shows",
            vlan.below
        )),
    }
}

/// The VLAN link that the network needs as parent, if Pontoon creates it, and the host link.
pub(super) fn network(network: &Network) -> Datapath {
    let (parent, vlan) = match &network.kind {
        NetworkKind::Macvlan { parent, vlan, .. } | NetworkKind::Ipvlan { parent, vlan, .. } => (parent, vlan),
        _ => return Datapath::empty(),
    };
    let mut needs = host_access::network(network);
    if let Some(ParentVlan { below, vid }) = vlan {
        let link = Vlan { below: below.clone(), vid: *vid, up: true };
        needs.objects.insert(parent.clone(), link.into());
    }
    needs
}

/// Refuses options of an endpoint that need the host's firewall.
pub(super) fn check_endpoint(network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
    let without_effect = [
        (endpoint.options.allow.is_some(), options::ALLOW),
        (endpoint.options.spoofcheck == Some(true), options::SPOOFCHECK),
        (endpoint.options.vlan.is_some(), options::VLAN),
        (!endpoint.options.trunk.is_empty(), options::TRUNK),
    ];
    let given = without_effect.iter().find_map(|(given, option)| given.then_some(*option));
    match given.or(endpoint.options.access.given()).or(endpoint.options.limits.given()) {
        Some(option) => Err(no_effect(&network.spec, option, network.kind.word())),
        None => host_access::check_endpoint(network, endpoint),
    }
}

fn no_effect(spec: &NetworkSpec, option: &str, word: &str) -> Refusal {
    let (id, which) = (&spec.id, with_article(word));
    Refusal(format!(
        "{option} has no effect on {id}, {which} network, whose frames the host's firewall does not see: remove it"
    ))
}

/// A word with its indefinite article.
pub(super) fn with_article(word: &str) -> String {
    format!("{} {word}", if word.starts_with('i') { "an" } else { "a" })
}
