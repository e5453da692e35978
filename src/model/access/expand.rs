//! What an allow list means on a network: disjoint ranges of protocols, ports and addresses. The kernel's sets of
//! ranges reject overlapping ones.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::{AllowList, GroupName, Peer, Rule, Traffic};
use crate::model::{Family, NetworkSpec, prefix};

/// Maximum number of ranges of one list.
pub const MOST_RANGES: usize = 2048;

/// A range of protocols and one of ports. Of a protocol without ports all ports are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transport {
    /// First and last IANA number.
    pub protocols: (u8, u8),
    /// First and last port.
    pub ports: (u16, u16),
}

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// Peers by their address: first and last of each range.
    pub addresses: Vec<(Transport, IpAddr, IpAddr)>,
    /// Traffic with the host itself.
    pub host: Vec<Transport>,
}

/// First and last of ranges that do not overlap, sorted.
type Ranges = Vec<(u128, u128)>;

/// A range of protocols and one of ports, and for what.
type Regions = Vec<((u128, u128), (u128, u128), Ranges)>;

const PRIVATE4: [&str; 9] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
const PRIVATE6: [&str; 6] = ["::/127", "::ffff:0:0/96", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8"];
const DNS: (u16, u16) = (dns::PORT, dns::PORT);
const ALL_PORTS: (u16, u16) = (0, u16::MAX);
const ICMP: u8 = libc::IPPROTO_ICMP as u8;
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;

/// Expands a list for a network.
pub fn expand(list: &AllowList, network: &NetworkSpec) -> Expanded {
    expand_beyond(list, &AllowList::default(), network)
}

/// The same without what `base` allows.
pub fn expand_beyond(list: &AllowList, base: &AllowList, network: &NetworkSpec) -> Expanded {
    let mut addresses = Vec::new();
    for family in Family::ALL {
        let of = |list: &AllowList| regions(list, family, |peer| of_peer(peer, family, network));
        let found = disjoint(of(list), of(base));
        addresses.extend(
            found
                .into_iter()
                .map(|(transport, (first, last))| (transport, address(family, first), address(family, last))),
        );
    }
    // One list for both families: of ICMP and ICMPv6, the other one does no harm.
    let of_host = |peer: &Peer| if matches!(peer, Peer::Any | Peer::Host) { vec![(0, 0)] } else { Vec::new() };
    let both = |list: &AllowList| Family::ALL.into_iter().flat_map(|family| regions(list, family, of_host)).collect();
    let host = disjoint(both(list), both(base)).into_iter().map(|(transport, _)| transport).collect();
    Expanded { addresses, host }
}

/// What a list allows with the address of an endpoint because of its groups alone: not what the list allows with the
/// address anyway.
pub fn expand_member(
    list: &AllowList,
    groups: &BTreeSet<GroupName>,
    member: IpAddr,
    network: &NetworkSpec,
) -> Vec<Transport> {
    let family = Family::of(&member);
    let at = prefix::number(member);
    let by_group = regions(list, family, |peer| match peer {
        Peer::Group(name) if groups.contains(name) => vec![(at, at)],
        _ => Vec::new(),
    });
    let base = regions(list, family, |peer| of_peer(peer, family, network));
    disjoint(by_group, base).into_iter().map(|(transport, _)| transport).collect()
}

impl Expanded {
    /// Number of ranges.
    pub fn ranges(&self) -> usize {
        self.addresses.len() + self.host.len()
    }

    /// Whether a packet of this protocol to this port may be exchanged with the address, as far as addresses decide.
    pub fn allows(&self, protocol: u8, port: u16, peer: IpAddr) -> bool {
        let within = |(transport, first, last): &(Transport, IpAddr, IpAddr)| {
            transport.covers(protocol, port) && first.is_ipv4() == peer.is_ipv4() && *first <= peer && peer <= *last
        };
        self.addresses.iter().any(within)
    }

    /// The same for the host.
    pub fn allows_host(&self, protocol: u8, port: u16) -> bool {
        self.host.iter().any(|transport| transport.covers(protocol, port))
    }
}

impl Transport {
    fn covers(&self, protocol: u8, port: u16) -> bool {
        let (protocols, ports) = (self.protocols, self.ports);
        protocols.0 <= protocol && protocol <= protocols.1 && ports.0 <= port && port <= ports.1
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    family.choose(Ipv4Addr::from_bits(number as u32).into(), Ipv6Addr::from_bits(number).into())
}

/// What a rule is about: ICMP of both families.
pub fn transports(traffic: &Traffic) -> Vec<Transport> {
    let of = |number: u8, ports| Transport { protocols: (number, number), ports };
    match traffic {
        Traffic::Any => vec![Transport { protocols: (0, u8::MAX), ports: ALL_PORTS }],
        Traffic::Icmp => [ICMP, ICMPV6].map(|number| of(number, ALL_PORTS)).into(),
        Traffic::Ports(protocol, ports) => ports.ranges().iter().map(|range| of(protocol.number(), *range)).collect(),
    }
}

/// The protocols of a rule about ICMP that do not exist in a family.
fn other_icmp(family: Family) -> (u8, u8) {
    let number = family.choose(ICMPV6, ICMP);
    (number, number)
}

/// The regions of all rules in a family; `ranges` says which peers are meant.
fn regions(list: &AllowList, family: Family, ranges: impl Fn(&Peer) -> Ranges) -> Regions {
    let mut regions = Vec::new();
    let mut add = |protocols: (u8, u8), ports: (u16, u16), ranges: Ranges| {
        let wide = |(first, last): (u16, u16)| (u128::from(first), u128::from(last));
        if !ranges.is_empty() {
            regions.push(((protocols.0.into(), protocols.1.into()), wide(ports), ranges));
        }
    };
    for rule in list.rules() {
        match rule {
            Rule::Dns => {
                let anyone = ranges(&Peer::Any);
                add((6, 6), DNS, anyone.clone());
                add((17, 17), DNS, anyone);
            }
            Rule::Allow(traffic, peer) => {
                let found = transports(traffic).into_iter().filter(|one| one.protocols != other_icmp(family));
                found.for_each(|transport| add(transport.protocols, transport.ports, ranges(peer)));
            }
        }
    }
    regions
}

/// The addresses of a peer in a family.
fn of_peer(peer: &Peer, family: Family, network: &NetworkSpec) -> Ranges {
    let all = || vec![(0, family.choose(u128::from(u32::MAX), u128::MAX))];
    let own = || {
        let pools = network.subnets().map(|subnet| subnet.pool).filter(|pool| Family::of(&pool.ip()) == family);
        let mut own: Ranges = pools.map(|pool| prefix::span(&pool)).collect();
        if family.is_v6() && !own.is_empty() {
            own.extend(spans(&["fe80::/10"]));
        }
        own
    };
    match peer {
        Peer::Any => all(),
        Peer::Net => merged(own()),
        Peer::World => {
            let mut local = spans(family.choose(&PRIVATE4[..], &PRIVATE6[..]));
            local.extend(own());
            without(all(), merged(local))
        }
        Peer::Subnet(subnet) if Family::of(&subnet.net.ip()) == family => {
            without(vec![prefix::span(&subnet.net)], merged(subnet.except.iter().map(prefix::span).collect()))
        }
        Peer::Subnet(_) | Peer::Host | Peer::Group(_) | Peer::Name(_) => Vec::new(),
    }
}

fn spans(texts: &[&str]) -> Ranges {
    texts.iter().filter_map(|text| text.parse().ok()).map(|net: IpNetwork| prefix::span(&net)).collect()
}

fn merged(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut all: Ranges = Vec::new();
    for (first, last) in ranges {
        match all.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => all.push((first, last)),
        }
    }
    all
}

/// `from` without `less`; both are merged.
fn without(from: Ranges, less: Ranges) -> Ranges {
    let mut left = Vec::new();
    for (first, last) in from {
        let mut next = Some(first);
        for (start, end) in less.iter().copied().filter(|(start, end)| *start <= last && first <= *end) {
            if let Some(first) = next.filter(|first| start > *first) {
                left.push((first, start - 1));
            }
            next = end.checked_add(1).filter(|next| *next <= last);
        }
        left.extend(next.map(|first| (first, last)));
    }
    left
}

/// Cuts regions, without those of `base`, into disjoint ones, as few as possible: by protocols, then by ports, then by
/// ranges.
fn disjoint(regions: Regions, base: Regions) -> Vec<(Transport, (u128, u128))> {
    let (with, less) = (regions.iter().map(|region| (region, true)), base.iter().map(|region| (region, false)));
    let all: Vec<_> = with.chain(less).collect();
    let covers = |(from, to): (u128, u128), number: u128| from <= number && number <= to;
    let by_protocol = segments(all.iter().map(|((protocols, ..), _)| *protocols), |first| {
        let here: Vec<_> = all.iter().filter(|((protocols, ..), _)| covers(*protocols, first)).collect();
        segments(here.iter().map(|((_, ports, _), _)| *ports), |port| {
            let ranges = |wanted: bool| {
                let here = here.iter().filter(|((_, ports, _), of)| *of == wanted && covers(*ports, port));
                merged(here.flat_map(|((.., ranges), _)| ranges.iter().copied()).collect())
            };
            without(ranges(true), ranges(false))
        })
    });
    let mut all = Vec::new();
    for (protocols, by_port) in by_protocol {
        for (ports, ranges) in by_port {
            let transport = Transport {
                protocols: (protocols.0 as u8, protocols.1 as u8),
                ports: (ports.0 as u16, ports.1 as u16),
            };
            all.extend(ranges.into_iter().map(|range| (transport, range)));
        }
    }
    all
}

/// The segments between the ends of these ranges that have a value, with their values; adjacent segments with the same
/// value are one.
fn segments<T: PartialEq>(
    ranges: impl Iterator<Item = (u128, u128)>,
    value: impl Fn(u128) -> Vec<T>,
) -> Vec<((u128, u128), Vec<T>)> {
    let starts: BTreeSet<u128> = ranges.flat_map(|(first, last)| [first, last + 1]).collect();
    let starts: Vec<u128> = starts.into_iter().collect();
    let mut all: Vec<((u128, u128), Vec<T>)> = Vec::new();
    for pair in starts.windows(2) {
        let [first, next] = *pair else { continue };
        let found = value(first);
        if found.is_empty() {
            continue;
        }
        match all.last_mut() {
            Some(((_, last), before)) if *last + 1 == first && *before == found => *last = next - 1,
            _ => all.push(((first, next - 1), found)),
        }
    }
    all
}
