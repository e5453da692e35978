//! The addresses that a question is about, and the words for both ends.

use crate::model::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Look;
use super::party::{Party, member_at};
use super::walk::Walk;

/// Whether an address is the host's own.
pub(super) fn local(look: &dyn Look, address: IpAddr) -> bool {
    look.route(None, address).ok().flatten().is_some_and(|route| route.local)
}

/// Name, address, port and network of one end.
pub(super) fn described(walk: &Walk<'_>, name: &str, address: IpAddr, port: Option<u16>) -> String {
    let mut text = name.to_owned();
    if name != address.to_string() && !address.is_unspecified() {
        text += &format!(" {address}");
    }
    if let Some(port) = port {
        let protocol = protocol(walk.packet.protocol);
        text += &if text.ends_with(&address.to_string()) && address.is_ipv6() {
            format!(" port {port}/{protocol}")
        } else {
            format!(":{port}/{protocol}")
        };
    }
    if let Some(member) = member_at(&walk.known, address) {
        text += &format!(" ({})", walk.known.names.network(member.network.id.as_str()));
    }
    text
}

/// Name of a transport protocol.
pub(super) fn protocol(number: u8) -> &'static str {
    match i32::from(number) {
        libc::IPPROTO_TCP => "tcp",
        libc::IPPROTO_UDP => "udp",
        libc::IPPROTO_SCTP => "sctp",
        _ => "icmp",
    }
}

/// The family of the question: the wanted one, unless only of the other both have addresses.
pub(super) fn family(from: &Party<'_>, to: &Party<'_>, wanted: Family) -> Family {
    let has = |party: &Party<'_>, family: Family| match party {
        Party::Host => true,
        Party::Address(..) => party.address(family).is_some(),
        Party::Container(_, members) => members.iter().any(|member| member.address(family).is_some()),
    };
    let both = |family| has(from, family) && has(to, family);
    let other = wanted.choose(Family::V6, Family::V4);
    if !both(wanted) && both(other) { other } else { wanted }
}

/// The address that the sender uses.
pub(super) fn destination(from: &Party<'_>, to: &Party<'_>, family: Family, look: &dyn Look) -> Option<IpAddr> {
    match to {
        Party::Address(..) => to.address(family),
        Party::Container(_, members) => {
            let shared = members.iter().find(|member| {
                from.members().iter().any(|other| other.network.id == member.network.id)
                    && member.address(family).is_some()
            });
            shared.or_else(|| members.iter().find(|member| member.address(family).is_some()))?.address(family)
        }
        Party::Host => match from {
            Party::Host if family.is_v6() => Some(Ipv6Addr::LOCALHOST.into()),
            Party::Host => Some(Ipv4Addr::LOCALHOST.into()),
            Party::Address(..) => look.route(None, from.address(family)?).ok().flatten()?.source,
            Party::Container(_, members) => {
                let gateways = members.iter().flat_map(|member| &member.network.detail.gateways);
                let own = gateways.copied().find(|gateway| Family::of(gateway) == family && local(look, *gateway));
                let address = || members.iter().find_map(|member| member.address(family));
                own.or_else(|| look.route(None, address()?).ok().flatten()?.source)
            }
        },
    }
}
