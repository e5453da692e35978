use nft::element::parse_entries;

use super::*;
use crate::datapath::LinkProperty;
use crate::datapath::access::{Access, Place, Way};
use crate::model::Family;
use crate::model::access::Transport;

fn masquerade(text: &str) -> Policy {
    Policy::Masquerade(text.parse().unwrap())
}

fn link(text: &str) -> IfName {
    IfName::parse(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn port(host: &str, container: &str) -> Policy {
    let host = HostPort { protocol: Protocol::Udp, address: ip(host), port: 8080 };
    Policy::Published(Published { host, container: ip(container), container_port: 80 })
}

#[test]
fn elements_read_back_whatever_their_neighbours() {
    let subnets = ["0.0.0.0/1", "128.0.0.0/9", "255.0.0.0/8", "10.0.0.0/24", "10.0.1.0/24", "192.0.2.7/32"];
    let mut all: Vec<Policy> = subnets.map(masquerade).into();
    all.extend(["0.0.0.0/0", "::/0", "fd00::/64", "ffff::/16", "::1/128"].map(masquerade));
    let (one, two) = (|| link("pntbadec5e726bb"), || link("eth0"));
    all.extend([
        Policy::Link(LinkProperty::ProtectedBridge, one()),
        Policy::IntraNetwork(one()),
        Policy::Link(LinkProperty::EngineBridge, one()),
        Policy::Link(LinkProperty::Internal, two()),
    ]);
    all.extend([Policy::Isolated(one()), Policy::Link(LinkProperty::ContainerBridge, two())]);
    all.extend([port("0.0.0.0", "10.0.0.2"), port("::", "fd00::2"), port("127.0.0.1", "10.0.0.2")]);
    all.extend([
        port("::1", "fd00::2"),
        Policy::TrustedLink(two(), one()),
        Policy::Link(LinkProperty::SpoofChecked, one()),
        Policy::Link(LinkProperty::NoRouterAdvertisements, one()),
    ]);
    all.push(Policy::SourceMac(one(), Mac::derive("peer", "x")));
    for (address, subnet) in [("10.0.0.2", "192.0.2.0/24"), ("fd00::2", "2001:db8::/33")] {
        let family = Family::of(&ip(address));
        all.extend([
            Policy::Unprotected(one(), family),
            Policy::Routed(one(), family),
            Policy::SourceFiltered(ip(address)),
        ]);
        all.push(Policy::OpenPort(Protocol::Sctp, ip(address), 443));
        all.push(Policy::AllowedSource(ip(address), subnet.parse().unwrap()));
        all.push(Policy::SourceNat(subnet.parse().unwrap(), ip(address)));
        all.push(Policy::SourceAddress(one(), ip(address)));
        all.push(Policy::Source(one(), Mac::derive("peer", "x"), ip(address)));
        all.push(Policy::SourceAddress(one(), unspecified(family)));
        all.push(Policy::TunnelAddress(ip(address)));
        all.extend([Policy::Peer(ip(address)), Policy::GatewayAddress(one(), ip(address))]);
        all.extend([Policy::BridgeAddress(ip(address)), Policy::UserBridgeContainer(ip(address))]);
        all.push(Policy::Station(ip(address)));
    }
    all.extend([Policy::TunnelPort(4789), Policy::Tunnel(Vni::MAX), Policy::Tunnel(Vni::new(1).unwrap())]);
    all.extend([Policy::Gateway(one(), Mac::derive("bridge", "x")), Policy::Link(LinkProperty::NoMulticast, one())]);
    let v4 = |text: &str| text.parse().unwrap();
    all.push(Policy::BroadcastPort(8080));
    all.push(Policy::TrunkVlan(one(), Vid::new(4094).unwrap()));
    all.push(Policy::Broadcast(two(), v4("192.0.2.255"), v4("192.0.2.1")));
    for family in Family::ALL {
        all.extend([
            Policy::LimitedForwarding(family),
            Policy::ForwardingLink(two(), family),
            Policy::UserBridgeContainer(unspecified(family)),
        ]);
    }
    all.push(Policy::Access(Access::TrackedPort(one())));
    for way in Way::ALL {
        all.extend([Access::RestrictedPort(way, one()), Access::AuditedPort(way, one())].map(Policy::Access));
        for (first, last) in [("10.0.0.0", "10.0.0.255"), ("10.0.0.2", "10.0.0.2"), ("fd00::", "fd00::9")] {
            let (own, all_ports) = ((ip(first), ip(last)), Transport { protocols: (0, 255), ports: (0, 65535) });
            if way == Way::Egress {
                all.push(Policy::Access(Access::Redirected(one(), own.1, own.0)));
            }
            all.push(Policy::Access(Access::Audited(way, own.0)));
            all.extend([Access::Restricted(way, own.0), Access::AllowedHost(way, own, all_ports)].map(Policy::Access));
            for place in Place::ALL {
                let transport = Transport { protocols: (6, 6), ports: (80, 90) };
                let any = if own.0.is_ipv4() { ("0.0.0.0", "255.255.255.255") } else { ("::", "ffff::1") };
                let any = (ip(any.0), ip(any.1));
                all.extend([transport, all_ports].map(|t| Policy::Access(Access::Allowed(place, way, own, t, any))));
            }
        }
    }
    for address in ["10.0.0.2", "fd00::2"].map(ip) {
        all.push(Policy::Limited(address, Limit::Connections(500)));
        all.push(Policy::Limited(address, Limit::ConnectionRate { rate: 50, burst: 7 }));
    }
    let sets: BTreeSet<Set> = all.iter().map(set_of).collect();
    let held = Set::ALL.iter().filter(|set| set.spec().dynamic.is_none());
    assert_eq!(sets.len(), held.count(), "every set has an element here");
    for element in all {
        let (set, entries) = (set_of(&element), entries(&element));
        assert!(entries.iter().all(|entry| entry.key.len() == set.spec().key_size()), "{element:?}");
        assert!(entries.iter().all(|entry| entry.end || entry.value.len() == set.spec().value_size()), "{element:?}");
        assert_eq!(decode(set, &entries), Some(vec![element]));
    }
    let mut all: Vec<Entry> = subnets.iter().skip(1).flat_map(|s| entries(&masquerade(s))).collect();
    all.reverse();
    let read: BTreeSet<_> = decode(Set::Masq4, &all).unwrap().into_iter().collect();
    assert_eq!(read, subnets.iter().skip(1).map(|s| masquerade(s)).collect());
}

#[test]
fn what_pontoon_would_never_write_is_not_an_element() {
    let entry = |key: &[u8], end| Entry { key: key.to_vec(), end, ..Entry::default() };
    assert_eq!(decode(Set::Masq4, &[entry(&[10, 0, 0, 1], false), entry(&[10, 0, 0, 9], true)]), None);
    assert_eq!(decode(Set::Masq4, &[entry(&[10, 0], false)]), None);
    assert_eq!(decode(Set::IntraNetwork, &[entry(b"a", false)]), None);
    assert_eq!(decode(Set::Isolated, &[entry(b"a", false)]), None);
    assert_eq!(decode(Set::Bridges, &[entry(b"", false)]), None);
    assert!(parse_entries(&[1, 2, 3]).is_empty());
    let (any, at) = (entries(&port("0.0.0.0", "10.0.0.2")).remove(0), entries(&port("10.9.9.9", "10.0.0.2")).remove(0));
    let strange = |entry: &Entry, change: fn(&mut Entry)| {
        let mut entry = entry.clone();
        change(&mut entry);
        entry
    };
    assert_eq!(decode(Set::Published4, &[strange(&any, |e| e.key[0] = 1)]), None, "a protocol without ports");
    assert_eq!(decode(Set::Published4, &[strange(&any, |e| e.value.truncate(4))]), None, "no port");
    assert_eq!(decode(Set::Published4, &[strange(&any, |e| e.value.push(0))]), None, "too long");
    assert_eq!(decode(Set::PublishedAt4, &[strange(&at, |e| e.key[..4].fill(0))]), None, "belongs to port4");
}

#[test]
fn only_the_widest_subnets_are_written() {
    let all = ["10.0.0.0/16", "10.0.0.0/24", "10.0.3.0/24", "10.1.0.0/24", "::/0", "fd00::/64"];
    let kept: BTreeSet<_> = ["10.0.0.0/16", "10.1.0.0/24", "::/0"].into_iter().map(masquerade).collect();
    assert_eq!(outermost(&all.into_iter().map(masquerade).collect()), kept);
    let allow = |of: &str, source: &str| Policy::AllowedSource(ip(of), source.parse().unwrap());
    let all = [allow("10.0.0.2", "10.0.0.0/8"), allow("10.0.0.2", "10.1.0.0/16"), allow("10.0.0.3", "10.1.0.0/16")];
    let kept: BTreeSet<_> = [all[0].clone(), all[2].clone()].into();
    assert_eq!(outermost(&all.into()), kept, "each container by itself");
}
