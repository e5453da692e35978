//! An allow list of what an endpoint did: the traffic that was seen, by protocol, ports and peers, in few rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::parse::is_name;
use super::{AllowList, LONGEST, MOST_PARTS, MOST_RULES, Peer, Ports, Rule, SubnetPeer, Traffic};
use crate::model::{Protocol, prefix};

/// Traffic of an endpoint with one peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seen {
    /// IANA number of the protocol.
    pub protocol: u8,
    /// Port of the packets' destination, of TCP, UDP and SCTP.
    pub port: u16,
    /// The peer; `None` for the host.
    pub peer: Option<IpAddr>,
    /// Names that the endpoint looked up, and whose address the peer is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<String>,
}

/// Prefix lengths of the subnets that replace single addresses when there are too many, of IPv4 and IPv6.
const WIDER: [[u8; 2]; 6] = [[32, 128], [24, 64], [20, 56], [16, 48], [8, 32], [0, 0]];

/// Lookups of a name that nothing was sent to: there is no rule for them alone.
const LOOKUP: (u8, u16) = (libc::IPPROTO_UDP as u8, dns::PORT);

/// The list that allows all of it, and the lookup of `names`: names instead of addresses, addresses one by one, and only
/// if these are more rules than a list may have, subnets of them.
pub fn list(seen: &[Seen], names: &[String]) -> AllowList {
    let mut all: Vec<(Option<Protocol>, bool, u16, Peer)> = Vec::new();
    let mut addresses = BTreeSet::new();
    for one in seen {
        let (protocol, icmp) = traffic_of(one.protocol);
        let mut add = |peer| all.push((protocol, icmp, one.port, peer));
        let usable: Vec<&String> = one.names.iter().filter(|name| is_name(name)).collect();
        match one.peer {
            None => add(Peer::Host),
            Some(peer) if usable.is_empty() => drop(addresses.insert((protocol, icmp, one.port, peer))),
            Some(_) => usable.into_iter().for_each(|name| add(Peer::Name(name.clone()))),
        }
    }
    let (protocol, icmp) = traffic_of(LOOKUP.0);
    let lookups = names.iter().filter(|name| is_name(name));
    all.extend(lookups.map(|name| (protocol, icmp, LOOKUP.1, Peer::Name(name.clone()))));
    let mut list = AllowList::default();
    for prefixes in WIDER {
        let subnet = |peer: &IpAddr| Peer::Subnet(SubnetPeer { net: within(*peer, prefixes), except: Vec::new() });
        let wider = addresses.iter().map(|(protocol, icmp, port, peer)| (*protocol, *icmp, *port, subnet(peer)));
        list = of(all.iter().cloned().chain(wider));
        if list.rules().count() <= MOST_RULES && list.to_string().len() <= LONGEST {
            break;
        }
    }
    list
}

/// One rule for each kind of traffic with a peer.
fn of(all: impl Iterator<Item = (Option<Protocol>, bool, u16, Peer)>) -> AllowList {
    let mut ports: BTreeMap<(Option<Protocol>, bool, Peer), BTreeSet<u16>> = BTreeMap::new();
    for (protocol, icmp, port, peer) in all {
        ports.entry((protocol, icmp, peer)).or_default().insert(port);
    }
    let rule = |((protocol, icmp, peer), ports): ((Option<Protocol>, bool, Peer), BTreeSet<u16>)| {
        let traffic = match protocol {
            Some(protocol) => Traffic::Ports(protocol, few(&ports)),
            None if icmp => Traffic::Icmp,
            None => Traffic::Any,
        };
        Rule::Allow(traffic, peer)
    };
    AllowList(ports.into_iter().map(rule).collect())
}

/// Port 0 has no place in a list, nor have more ranges than a rule may have.
fn few(ports: &BTreeSet<u16>) -> Ports {
    let single = Ports::of(ports.iter().map(|port| (*port, *port)).collect());
    match (ports.first(), ports.last()) {
        (Some(0), _) | (None, _) => Ports::all(),
        (Some(first), Some(last)) if single.ranges().len() > MOST_PARTS => Ports::of(vec![(*first, *last)]),
        _ => single,
    }
}

/// Its protocol, if it has ports, and whether it is ICMP. Others are any traffic in a list.
fn traffic_of(number: u8) -> (Option<Protocol>, bool) {
    let is_icmp = [libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6].contains(&i32::from(number));
    (Protocol::from_number(number), is_icmp)
}

fn within(address: IpAddr, [four, six]: [u8; 2]) -> IpNetwork {
    let length = if address.is_ipv4() { four } else { six };
    prefix::trimmed(&IpNetwork::new(address, length).unwrap_or(IpNetwork::from(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(protocol: u8, port: u16, peer: &str) -> Seen {
        let names = peer.contains(".example").then(|| peer.to_owned()).into_iter().collect();
        let peer = if peer.contains(".example") { "192.0.2.9" } else { peer };
        Seen { protocol, port, peer: peer.parse().ok(), names }
    }

    #[test]
    fn what_was_seen_is_few_rules_with_names_where_they_are_known() {
        let all = [
            seen(6, 443, "api.example.com"),
            seen(6, 80, "192.0.2.1"),
            seen(6, 81, "192.0.2.1"),
            seen(17, 123, "2001:db8::1"),
            seen(1, 0, "192.0.2.1"),
            seen(58, 0, "host"),
            seen(47, 2048, "192.0.2.7"),
        ];
        let expected = "192.0.2.7+icmp@host+icmp@192.0.2.1+tcp:80-81@192.0.2.1+tcp:443@api.example.com\
            +udp:53@www.example.com+udp:123@2001:db8::1";
        let found = list(&all, &["www.example.com".into(), "single".into()]);
        assert_eq!(found, expected.parse().unwrap(), "{found}");
        assert_eq!(list(&[], &[]).to_string(), "");
    }

    /// However much was seen, the list is one that is accepted, and allows it.
    #[test]
    fn a_list_of_much_is_a_list() {
        let peers: Vec<Seen> = (0..3000u32)
            .map(|n| Seen {
                peer: Some(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n * 70_001).into()),
                ..seen(6, 443, "")
            })
            .collect();
        let ports: Vec<Seen> = (0..500u16).map(|n| seen(17, n * 7, "192.0.2.1")).collect();
        let names: Vec<Seen> = (0..3000).map(|n| seen(6, 443, &format!("{n}.example.com"))).collect();
        for all in [peers, ports] {
            let list = list(&all, &[]);
            assert_eq!(list.to_string().parse(), Ok(list.clone()));
            let network = crate::model::NetworkSpec {
                id: crate::model::NetworkId::parse("n").unwrap(),
                v4: None,
                v6: None,
                internal: false,
                options: Default::default(),
            };
            let expanded = super::super::expand::expand(&list, &network);
            assert!(all.iter().all(|one| expanded.allows(one.protocol, one.port, one.peer.unwrap())), "{list}");
        }
        // Names cannot be made fewer: see `pontoon policy audit`.
        assert_eq!(list(&names, &[]).rules().count(), 3000);
    }
}
