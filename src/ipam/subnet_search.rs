//! Chooses a subnet when the user names none: the lowest default pool without a conflict.
//!
//! Pure. Called by the decisions about pools, with all conflicting subnets.

use std::str::FromStr;

use ipnetwork::IpNetwork;

use super::IpamError;
use crate::model::prefix::{address, bits, span, trimmed};

/// A block that is divided into default pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultPool {
    base: IpNetwork,
    pub(super) size: u8,
}

impl DefaultPool {
    /// Pools of prefix length `size` from `base`, which must have no host bits and must not be smaller.
    pub fn new(base: IpNetwork, size: u8) -> Result<Self, IpamError> {
        let refused = |what: String| IpamError::DefaultPool { given: format!("base={base},size={size}"), what };
        if trimmed(&base) != base {
            return Err(refused(format!("the base has host bits, {} has not", trimmed(&base))));
        }
        if size < base.prefix() || size > bits(&base) {
            return Err(refused(format!("the size is not between {} and {}", base.prefix(), bits(&base))));
        }
        Ok(Self { base, size })
    }
}

impl FromStr for DefaultPool {
    type Err = IpamError;

    /// The format of the engine's own flag: `base=10.96.0.0/12,size=24`.
    fn from_str(text: &str) -> Result<Self, IpamError> {
        let refused = |what: &str| IpamError::DefaultPool { given: text.to_owned(), what: what.to_owned() };
        let (mut base, mut size) = (None, None);
        for part in text.split(',') {
            match part.trim().split_once('=') {
                Some(("base", value)) => {
                    base = Some(value.parse::<IpNetwork>().map_err(|_| refused("the base is not a network"))?);
                }
                Some(("size", value)) => {
                    size = Some(value.parse::<u8>().map_err(|_| refused("the size is not a prefix length"))?);
                }
                _ => return Err(refused("only base= and size= are known")),
            }
        }
        Self::new(base.ok_or_else(|| refused("base= is missing"))?, size.ok_or_else(|| refused("size= is missing"))?)
    }
}

/// The blocks, in order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultPools(Vec<DefaultPool>);

impl DefaultPools {
    /// Without an IPv6 block, IPv6 pools come from the host's own ULA prefix.
    pub fn new(pools: Vec<DefaultPool>) -> Self {
        Self(pools)
    }

    /// The blocks of a family.
    pub(super) fn of(&self, v6: bool) -> Vec<DefaultPool> {
        self.0.iter().filter(|pool| pool.base.is_ipv6() == v6).copied().collect()
    }
}

impl Default for DefaultPools {
    /// The engine's own defaults: fifteen /16 from 172.17.0.0 on, then sixteen /20 of 192.168.0.0/16.
    fn default() -> Self {
        let blocks = [
            ([172, 17, 0, 0], 16, 16),
            ([172, 18, 0, 0], 16, 16),
            ([172, 19, 0, 0], 16, 16),
            ([172, 20, 0, 0], 14, 16),
            ([172, 24, 0, 0], 14, 16),
            ([172, 28, 0, 0], 14, 16),
            ([192, 168, 0, 0], 16, 20),
        ];
        let pool = |(base, prefix, size): ([u8; 4], u8, u8)| {
            IpNetwork::new(base.into(), prefix).ok().map(|base| DefaultPool { base, size })
        };
        Self(blocks.into_iter().filter_map(pool).collect())
    }
}

/// The /64s of a ULA prefix.
pub(super) fn ula_block(prefix: IpNetwork) -> DefaultPool {
    DefaultPool { base: prefix, size: 64u8.max(prefix.prefix()) }
}

/// A ULA prefix (RFC 4193) from forty random bits.
pub(super) fn ula_prefix(seed: [u8; 5]) -> IpNetwork {
    let [a, b, c, d, e] = seed.map(u16::from);
    let net = std::net::Ipv6Addr::new(0xfd00 | a, b << 8 | c, d << 8 | e, 0, 0, 0, 0, 0);
    ipnetwork::Ipv6Network::new(net, 48).map_or_else(|_| IpNetwork::from(std::net::IpAddr::V6(net)), IpNetwork::V6)
}

/// Address ranges of one family that a choice must avoid, sorted and disjoint.
#[derive(Debug, Default)]
pub(super) struct Obstacles(Vec<(u128, u128)>);

impl Obstacles {
    pub fn new(mut spans: Vec<(u128, u128)>) -> Self {
        spans.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(spans.len());
        for (first, last) in spans {
            match apart.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => apart.push((first, last)),
            }
        }
        Self(apart)
    }

    /// The last address of the obstacle that overlaps `first..=last`.
    fn reach(&self, first: u128, last: u128) -> Option<u128> {
        let at = self.0.partition_point(|(_, end)| *end < first);
        self.0.get(at).filter(|(start, _)| *start <= last).map(|(_, end)| *end)
    }
}

/// The lowest subnet of prefix length `size` (or each block's own) without an obstacle in it. Skips over
/// obstacles, so it needs one search for each, however small the subnets are.
pub(super) fn choose(blocks: &[DefaultPool], size: Option<u8>, obstacles: &Obstacles) -> Option<IpNetwork> {
    blocks.iter().find_map(|block| choose_in(block, size.unwrap_or(block.size), obstacles))
}

fn choose_in(block: &DefaultPool, size: u8, obstacles: &Obstacles) -> Option<IpNetwork> {
    if size < block.base.prefix() || size > bits(&block.base) {
        return None;
    }
    let (mut first, end) = span(&block.base);
    // All but the lowest bits of a subnet; in u128 even a /0 has its mask.
    let inside = u128::MAX.checked_shr(128 - u32::from(bits(&block.base) - size)).unwrap_or(0);
    loop {
        let last = first | inside;
        let Some(reach) = obstacles.reach(first, last) else {
            return IpNetwork::new(address(&block.base, first), size).ok();
        };
        first = (reach | inside).checked_add(1).filter(|next| *next <= end)?;
    }
}

/// The number of subnets of `size` (or each block's own) in the blocks.
pub(super) fn count(blocks: &[DefaultPool], size: Option<u8>) -> u128 {
    let of = |block: &DefaultPool| match size.unwrap_or(block.size).checked_sub(block.base.prefix()) {
        Some(room) if size.unwrap_or(block.size) <= bits(&block.base) => {
            1u128.checked_shl(room.into()).unwrap_or(u128::MAX)
        }
        _ => 0,
    };
    blocks.iter().map(of).fold(0, u128::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn choose_among(blocks: &[&str], size: Option<u8>, ways: &[&str]) -> Option<String> {
        let blocks: Vec<DefaultPool> = blocks.iter().map(|text| text.parse().unwrap()).collect();
        let obstacles = Obstacles::new(ways.iter().map(|way| span(&net(way))).collect());
        choose(&blocks, size, &obstacles).map(|net| net.to_string())
    }

    #[test]
    fn the_default_blocks_are_the_engines() {
        let pools = DefaultPools::default();
        let (mut ways, mut found) = (Vec::new(), Vec::new());
        while let Some(next) = choose(&pools.of(false), None, &Obstacles::new(ways.clone())) {
            ways.push(span(&next));
            found.push(next.to_string());
        }
        let sixteens = (17..32).map(|n| format!("172.{n}.0.0/16"));
        let expected: Vec<String> = sixteens.chain((0..16).map(|n| format!("192.168.{}.0/20", n * 16))).collect();
        assert_eq!(found, expected);
        assert_eq!(count(&pools.of(false), None), 31);
        assert!(pools.of(true).is_empty());
    }

    #[test]
    fn jumps_over_what_is_in_the_way() {
        let block = ["base=10.0.0.0/8,size=24"];
        let cases: [(&[&str], Option<u8>, Option<&str>); 7] = [
            (&[], None, Some("10.0.0.0/24")),
            (&["10.0.0.7/32", "10.0.1.128/25"], None, Some("10.0.2.0/24")),
            (&["10.0.0.0/9", "10.128.0.0/24"], None, Some("10.128.1.0/24")),
            (&["10.0.0.0/24", "10.0.0.128/25", "9.0.0.0/8"], None, Some("10.0.1.0/24")),
            (&["10.0.0.0/24"], Some(30), Some("10.0.1.0/30")),
            (&["10.0.0.0/24"], Some(8), None),
            (&["0.0.0.0/1"], None, None),
        ];
        for (ways, size, expected) in cases {
            assert_eq!(choose_among(&block, size, ways).as_deref(), expected, "{ways:?} {size:?}");
        }
        assert_eq!(choose_among(&block, Some(33), &[]), None);
        assert_eq!(choose_among(&["base=0.0.0.0/0,size=0"], None, &[]).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(choose_among(&["base=::/0,size=0"], None, &[]).as_deref(), Some("::/0"));
        assert_eq!(choose_among(&["base=255.255.255.0/24,size=32"], None, &["255.255.255.0/24"]), None);
        assert_eq!(
            choose_among(&["base=fd00::/48,size=64"], Some(128), &["fd00::/64"]).as_deref(),
            Some("fd00:0:0:1::/128")
        );
        let second = ["base=10.0.0.0/24,size=24", "base=10.9.0.0/16,size=20"];
        assert_eq!(choose_among(&second, None, &["10.0.0.1/32"]).as_deref(), Some("10.9.0.0/20"));
    }

    #[test]
    fn parses_the_engines_form() {
        assert_eq!("base=10.0.0.0/8,size=24".parse(), DefaultPool::new(net("10.0.0.0/8"), 24));
        for bad in [
            "",
            "base=10.0.0.0/8",
            "size=24",
            "base=x,size=24",
            "base=10.0.0.0/8,size=x",
            "10.0.0.0/8,24",
            "base=10.0.0.1/8,size=24",
            "base=10.0.0.0/8,size=7",
            "base=10.0.0.0/8,size=33",
            "base=fd00::/8,size=129",
        ] {
            let text = bad.parse::<DefaultPool>().unwrap_err().to_string();
            assert!(text.contains("write base=10.96.0.0/12,size=24"), "{text}");
        }
    }

    #[test]
    fn the_ula_prefix_is_the_seed() {
        assert_eq!(ula_prefix([0x12, 0x34, 0x56, 0x78, 0x9a]), net("fd12:3456:789a::/48"));
        assert_eq!(
            choose(&[ula_block(net("fd12:3456:789a::/48"))], None, &Obstacles::default()),
            Some(net("fd12:3456:789a::/64"))
        );
    }
}
