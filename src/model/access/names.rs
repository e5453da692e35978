//! The rules about DNS names of an allow list: which names an endpoint may look up, and what it may send to their
//! addresses.

use std::collections::BTreeSet;

use dns::Name;

use super::expand::{Transport, transports};
use super::{AllowList, Peer, Rule};

/// Most pieces that the protocols and ports of all rules about names of a list may have: each address of a name takes an
/// element of the firewall for each piece that its rules cover.
pub const MOST_PIECES: usize = 64;

/// Which names are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    One(Name),
    Below(Name),
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(above) => Name::parse(above).map(Pattern::Below),
            None => Name::parse(text).map(Pattern::One),
        }
    }

    fn covers(&self, name: &Name) -> bool {
        match self {
            Pattern::One(one) => one == name,
            Pattern::Below(above) => name.is_below(above),
        }
    }
}

/// See the module documentation. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRules {
    rules: Vec<(Pattern, Vec<Transport>)>,
    /// Disjoint pieces, of which every rule covers some as a whole: the elements of different names with the same address
    /// are equal or do not overlap.
    pieces: Vec<Transport>,
}

impl NameRules {
    /// The rules of a list about names; `None` without any.
    pub fn of(list: &AllowList) -> Option<Self> {
        let about = list.rules().filter_map(|rule| match rule {
            Rule::Allow(traffic, Peer::Name(name)) => Some((Pattern::parse(name)?, transports(traffic))),
            _ => None,
        });
        let rules: Vec<_> = about.collect();
        let pieces = pieces(rules.iter().flat_map(|(_, transports)| transports));
        (!rules.is_empty()).then_some(Self { rules, pieces })
    }

    /// Number of pieces: see [`MOST_PIECES`].
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// What may be sent to the addresses of a name; `None` if no rule is about the name.
    pub fn transports(&self, name: &Name) -> Option<Vec<Transport>> {
        let about: Vec<_> = self.rules.iter().filter(|(pattern, _)| pattern.covers(name)).collect();
        let covered = |piece: &&Transport| about.iter().flat_map(|(_, all)| all).any(|one| contains(one, piece));
        (!about.is_empty()).then(|| self.pieces.iter().filter(covered).copied().collect())
    }
}

fn contains(outer: &Transport, inner: &Transport) -> bool {
    let within = |outer: (u16, u16), inner: (u16, u16)| outer.0 <= inner.0 && inner.1 <= outer.1;
    let wide = |(first, last): (u8, u8)| (u16::from(first), u16::from(last));
    within(wide(outer.protocols), wide(inner.protocols)) && within(outer.ports, inner.ports)
}

/// Cuts at every end: by protocols, and within them by ports.
fn pieces<'a>(all: impl Iterator<Item = &'a Transport>) -> Vec<Transport> {
    let all: Vec<&Transport> = all.collect();
    let mut pieces = Vec::new();
    for (first, last) in cuts(all.iter().map(|one| (one.protocols.0.into(), one.protocols.1.into()))) {
        let here = all.iter().filter(|one| u32::from(one.protocols.0) <= first && last <= u32::from(one.protocols.1));
        let here: Vec<_> = here.collect();
        for (from, to) in cuts(here.iter().map(|one| (one.ports.0.into(), one.ports.1.into()))) {
            if here.iter().any(|one| u32::from(one.ports.0) <= from && to <= u32::from(one.ports.1)) {
                pieces.push(Transport { protocols: (first as u8, last as u8), ports: (from as u16, to as u16) });
            }
        }
    }
    pieces
}

/// The ranges between neighbouring ends.
fn cuts(ranges: impl Iterator<Item = (u32, u32)>) -> Vec<(u32, u32)> {
    let starts: BTreeSet<u32> = ranges.flat_map(|(first, last)| [first, last + 1]).collect();
    let starts: Vec<u32> = starts.into_iter().collect();
    starts
        .windows(2)
        .filter_map(|pair| if let [first, next] = *pair { Some((first, next - 1)) } else { None })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> NameRules {
        NameRules::of(&text.parse().unwrap()).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// First and last protocol, and port.
    type Range = ((u8, u8), (u16, u16));

    /// Protocols and ports of a name.
    fn of(rules: &NameRules, text: &str) -> Option<Vec<Range>> {
        Some(rules.transports(&name(text))?.into_iter().map(|one| (one.protocols, one.ports)).collect())
    }

    #[test]
    fn names_are_meant_as_a_whole_and_with_a_star_those_below() {
        let rules = rules("tcp:443@api.example.com+tcp:80@*.example.org+10.0.0.0/8+dns");
        assert_eq!(of(&rules, "API.example.com"), Some(vec![((6, 6), (443, 443))]));
        assert_eq!(of(&rules, "a.b.example.org"), Some(vec![((6, 6), (80, 80))]));
        for other in
            ["example.com", "x.api.example.com", "example.org", "badexample.org", "api.example.com.evil.net", ""]
        {
            assert_eq!(of(&rules, other), None, "{other}");
        }
        assert_eq!(NameRules::of(&"tcp:443@any+dns".parse().unwrap()), None);
    }

    #[test]
    fn what_names_with_the_same_address_allow_never_overlaps_in_part() {
        let list =
            "tcp:443@a.example.com+tcp:400-500@b.example.com+c.example.com+udp:443@a.example.com+icmp@d.example.com";
        let rules = rules(list);
        let all: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .flat_map(|host| rules.transports(&name(&format!("{host}.example.com"))).unwrap())
            .collect();
        let meets = |(a, b): (u16, u16), (c, d): (u16, u16)| a <= d && c <= b;
        let wide = |(first, last): (u8, u8)| (u16::from(first), u16::from(last));
        for one in &all {
            for other in &all {
                let overlap = meets(one.ports, other.ports) && meets(wide(one.protocols), wide(other.protocols));
                assert!(one == other || !overlap, "{one:?} {other:?}");
            }
        }
        let tcp = |ports| ((6, 6), ports);
        assert_eq!(of(&rules, "a.example.com"), Some(vec![tcp((443, 443)), ((17, 17), (443, 443))]));
        assert_eq!(of(&rules, "b.example.com"), Some(vec![tcp((400, 442)), tcp((443, 443)), tcp((444, 500))]));
        let any = rules.transports(&name("c.example.com")).unwrap();
        let covers = |protocol: u8, port: u16| {
            any.iter().any(|one| contains(one, &Transport { protocols: (protocol, protocol), ports: (port, port) }))
        };
        assert!(
            [0, 1, 6, 17, 58, 132, 255]
                .iter()
                .all(|protocol| [0, 442, 443, 65535].iter().all(|port| covers(*protocol, *port)))
        );
        assert!(rules.pieces() < 20, "{}", rules.pieces());
    }
}
