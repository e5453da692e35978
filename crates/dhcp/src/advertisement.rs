//! What routers say about their network (RFC 4861, 4.2; RFC 8106), and the question for it.

use std::net::Ipv6Addr;

use crate::ipv6;

const SOLICITATION: u8 = 133;
/// The type of an advertisement.
pub const ADVERTISEMENT: u8 = 134;
/// `ff02::2` and its Ethernet address (RFC 2464, 7).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_ROUTERS_ETHERNET: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];

/// Bytes before the options.
const HEADER: usize = 16;
/// Options.
const PREFIX: u8 = 3;
const MTU: u8 = 5;
const DNS: u8 = 25;
/// Flags of an advertisement: addresses by DHCPv6, and other settings by DHCPv6.
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
/// The flag of a prefix by which hosts form addresses.
const AUTONOMOUS: u8 = 0x40;

/// Most prefixes and name servers that are kept of an advertisement: as many as a kernel forms addresses of
/// (`net.ipv6.conf.*.max_addresses`).
const MOST: usize = 16;

/// The smallest MTU of IPv6, in bytes (RFC 8200, 5).
const SMALLEST_MTU: u32 = 1280;

/// A lifetime that never ends.
pub const FOR_EVER: u32 = u32::MAX;

/// A prefix with which hosts form addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The prefix, without the bits of a host.
    pub prefix: Ipv6Addr,
    /// Its length.
    pub length: u8,
    /// Whether hosts form addresses with it.
    pub autonomous: bool,
    /// How long addresses are valid, in seconds, or [`FOR_EVER`].
    pub valid: u32,
    /// How long they are preferred for new connections; not longer than they are valid.
    pub preferred: u32,
}

/// An advertisement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// The link-local address of the router.
    pub router: Ipv6Addr,
    /// How long it is a default router, in seconds; 0 if it is none.
    pub lifetime: u16,
    /// Whether there are addresses by DHCPv6.
    pub managed: bool,
    /// Whether there are other settings by DHCPv6.
    pub other: bool,
    /// The MTU of the network, in bytes.
    pub mtu: Option<u16>,
    /// The prefixes, whether or not hosts may form addresses with them.
    pub prefixes: Vec<Prefix>,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
}

/// The frame that asks all routers for an advertisement, sent by the link with the hardware address `from`. It has no
/// source, so that no router learns an address: the answer goes to all nodes.
pub fn solicitation(from: [u8; 6]) -> Vec<u8> {
    let message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    ipv6::to_neighbour((ALL_ROUTERS_ETHERNET, from), (Ipv6Addr::UNSPECIFIED, ALL_ROUTERS), message)
}

impl Advertisement {
    /// The advertisement in a frame; `None` for every other frame.
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let (router, message) = ipv6::of_neighbour(frame)?;
        Self::decode(router, message)
    }

    /// Reads a message of ICMPv6. `None` if it is another one, does not come from a router of the link, or has an option
    /// that is longer than the message or has no length (RFC 4861, 6.1.2).
    pub fn decode(router: Ipv6Addr, message: &[u8]) -> Option<Self> {
        let (head, mut options) = message.split_first_chunk::<HEADER>()?;
        let [kind, code, _, _, _, flags, high, low, ..] = *head;
        if (kind, code) != (ADVERTISEMENT, 0) || !router.is_unicast_link_local() {
            return None;
        }
        let mut advertisement = Self {
            router,
            lifetime: u16::from_be_bytes([high, low]),
            managed: flags & MANAGED != 0,
            other: flags & OTHER != 0,
            mtu: None,
            prefixes: Vec::new(),
            dns: Vec::new(),
        };
        while let [kind, units, ..] = *options {
            let length = usize::from(units) * 8;
            let (option, rest) = options.split_at_checked(length).filter(|_| length > 0)?;
            advertisement.take(kind, option);
            options = rest;
        }
        options.is_empty().then_some(advertisement)
    }

    /// Takes an option; one that is malformed, unknown or one too many is skipped.
    fn take(&mut self, kind: u8, option: &[u8]) -> Option<()> {
        let four = |at: usize| Some(u32::from_be_bytes(*option.get(at..)?.first_chunk::<4>()?));
        let address = |at: usize| Some(Ipv6Addr::from(*option.get(at..)?.first_chunk::<16>()?));
        match kind {
            PREFIX if option.len() == 32 && self.prefixes.len() < MOST => {
                let (length, flags) = (*option.get(2)?, *option.get(3)?);
                let (valid, preferred) = (four(4)?, four(8)?);
                if length > 128 || preferred > valid {
                    return None;
                }
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                let prefix = Ipv6Addr::from(u128::from(address(16)?) & mask);
                // Those of the link itself are no router's (RFC 4862, 5.5.3).
                if !prefix.is_unicast_link_local() && !prefix.is_multicast() {
                    let autonomous = flags & AUTONOMOUS != 0;
                    self.prefixes.push(Prefix { prefix, length, autonomous, valid, preferred });
                }
            }
            MTU if option.len() == 8 => {
                self.mtu = u16::try_from(four(4)?).ok().filter(|mtu| u32::from(*mtu) >= SMALLEST_MTU);
            }
            // Two addresses at least, of which the first is that of the lifetime; a lifetime of 0 withdraws them.
            DNS if four(4)? > 0 => {
                let servers = option.get(8..)?.chunks_exact(16);
                let servers = servers.filter_map(|bytes| Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?)));
                let usable = servers.filter(|server| !server.is_unspecified() && !server.is_multicast());
                self.dns.extend(usable.take(MOST.saturating_sub(self.dns.len())));
            }
            _ => {}
        }
        Some(())
    }

    /// The frame that a router sends to all nodes: for tests.
    pub fn frame(&self, from: [u8; 6]) -> Vec<u8> {
        let flags = if self.managed { MANAGED } else { 0 } | if self.other { OTHER } else { 0 };
        let [high, low] = self.lifetime.to_be_bytes();
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, 64, flags, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
        for prefix in &self.prefixes {
            message.extend([PREFIX, 4, prefix.length, 0x80 | if prefix.autonomous { AUTONOMOUS } else { 0 }]);
            message.extend(prefix.valid.to_be_bytes());
            message.extend(prefix.preferred.to_be_bytes());
            message.extend([0; 4]);
            message.extend(prefix.prefix.octets());
        }
        if let Some(mtu) = self.mtu {
            message.extend([MTU, 1, 0, 0]);
            message.extend(u32::from(mtu).to_be_bytes());
        }
        for server in &self.dns {
            message.extend([DNS, 3, 0, 0, 0, 0, 1, 0]);
            message.extend(server.octets());
        }
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        ipv6::to_neighbour(([0x33, 0x33, 0, 0, 0, 1], from), (self.router, all_nodes), message)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An advertisement of a router with a prefix.
    pub fn of(prefix: &str, valid: u32, preferred: u32) -> Advertisement {
        let prefix = Prefix { prefix: prefix.parse().unwrap(), length: 64, autonomous: true, valid, preferred };
        Advertisement {
            router: "fe80::1".parse().unwrap(),
            lifetime: 1800,
            managed: false,
            other: false,
            mtu: Some(1400),
            prefixes: vec![prefix],
            dns: vec!["2001:db8::53".parse().unwrap()],
        }
    }

    #[test]
    fn what_a_router_says_is_read() {
        let mut said = of("2001:db8:1::", 7200, 3600);
        said.managed = true;
        said.prefixes.push(Prefix { length: 48, autonomous: false, ..said.prefixes[0] });
        assert_eq!(Advertisement::of_frame(&said.frame([6; 6])), Some(said));
    }

    #[test]
    fn what_no_router_of_the_link_says_is_not_read() {
        let whole = of("2001:db8:1::", 7200, 3600).frame([6; 6]);
        let message = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut message = whole[54..].to_vec();
            change(&mut message);
            Advertisement::decode("fe80::1".parse().unwrap(), &message)
        };
        assert!(message(&|_| {}).is_some());
        assert_eq!(message(&|bytes| bytes[0] = 133), None, "a solicitation");
        assert_eq!(message(&|bytes| bytes[1] = 1), None, "another code");
        assert_eq!(message(&|bytes| bytes[17] = 0), None, "an option without a length");
        assert_eq!(message(&|bytes| bytes[17] = 40), None, "an option that is too long");
        assert_eq!(message(&|bytes| bytes.push(1)), None, "half an option");
        assert_eq!(message(&|bytes| bytes.truncate(15)), None);
        assert_eq!(Advertisement::decode("2001:db8::1".parse().unwrap(), &whole[54..]), None, "from elsewhere");
        let prefixes = |change: &dyn Fn(&mut Vec<u8>)| message(change).unwrap().prefixes.len();
        assert_eq!(prefixes(&|bytes| bytes[24] = 0xff), 0, "preferred for longer than it is valid");
        assert_eq!(prefixes(&|bytes| bytes[18] = 129), 0);
        assert_eq!(prefixes(&|bytes| (bytes[32], bytes[33]) = (0xfe, 0x80)), 0, "that of the link itself");
        assert_eq!(prefixes(&|bytes| bytes[32] = 0xff), 0);
        let mtu = |bytes: [u8; 4]| message(&|message| message[52..56].copy_from_slice(&bytes)).unwrap().mtu;
        assert_eq!((mtu([0, 0, 5, 0]), mtu([0, 0, 4, 255]), mtu([0, 1, 0, 0])), (Some(1280), None, None));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut many = of("2001:db8:1::", 7200, 3600);
        many.prefixes = vec![many.prefixes[0]; 40];
        many.dns = vec![many.dns[0]; 40];
        let read = Advertisement::of_frame(&many.frame([6; 6])).unwrap();
        assert_eq!((read.prefixes.len(), read.dns.len()), (MOST, MOST));
    }

    #[test]
    fn a_solicitation_has_no_source() {
        let frame = solicitation([2, 0, 0, 0, 0, 7]);
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 0, 7, 0x86, 0xdd]);
        let (source, message) = ipv6::of_neighbour(&frame).unwrap();
        assert_eq!((source, message.len(), message[0]), (Ipv6Addr::UNSPECIFIED, 8, SOLICITATION));
        assert_eq!(Advertisement::of_frame(&frame), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let router = "fe80::1".parse().unwrap();
            let _ = Advertisement::decode(router, &bytes);
            let head = [ADVERTISEMENT, 0, 0, 0, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0];
            let _ = Advertisement::decode(router, &[&head[..], &bytes].concat());
        }
    }
}
