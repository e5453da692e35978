//! Matches and targets of iptables, as they are within rules of nf_tables and of iptables-legacy: structures of bytes
//! (include/uapi/linux/netfilter/xt_*.h). In host byte order unless noted.

use netlink::tlv::{Attributes, big32, native16, native32, text};

use crate::evaluate::{Subject, Verdict};
use crate::registers::Value;

/// `NFT_CT_STATE`, `NFT_CT_STATUS`.
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// Offsets in `struct xt_conntrack_mtinfo1` and later.
const MATCH_FLAGS: usize = 146;
const INVERT_FLAGS: usize = 148;
const STATE_MASK: usize = 150;
/// `XT_CONNTRACK_STATE`, and the bit for a translated destination among the states.
const BY_STATE: u16 = 1;
const STATE_DNAT: u16 = 128;
const STATE_SNAT: u16 = 64;
const DESTINATION_REWRITTEN: u32 = 1 << 5;
/// `NFT_META_MARK`, `NFT_META_L4PROTO`.
const META_MARK: u32 = 3;
const META_TRANSPORT: u32 = 16;
/// `NFT_META_PKTTYPE`.
const META_PACKET_TYPE: u32 = 19;
/// `NFT_FIB_RESULT_ADDRTYPE` with `NFTA_FIB_F_SADDR` and `NFTA_FIB_F_DADDR`.
const FIB_TYPE: u32 = 3;
const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;

/// Whether a match holds; `None` if that is not known.
pub fn matches(data: &Attributes<'_>, packet: &dyn Subject) -> Option<bool> {
    let revision = data.find(2).and_then(big32).unwrap_or_default();
    holds(data.find(1).and_then(text)?, revision, data.find(3).unwrap_or_default(), packet)
}

/// Whether the match of this name and revision holds.
pub fn holds(name: &str, revision: u32, info: &[u8], packet: &dyn Subject) -> Option<bool> {
    match name {
        "comment" => Some(true),
        "conntrack" if revision > 0 => conntrack(info, revision, packet),
        "state" => {
            let state = known32(packet.connection(CT_STATE))?;
            Some(state & info.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))? != 0)
        }
        "addrtype" if revision > 0 => address_type(info, packet),
        "tcp" => ports(info, TCP, packet, *info.get(11)?, 1, 2).map(|holds| holds && info.get(9) == Some(&0)),
        "udp" => ports(info, UDP, packet, *info.get(8)?, 1, 2),
        "multiport" if revision > 0 => multiport(info, packet),
        "icmp" => icmp(info, libc::IPPROTO_ICMP as u8, packet),
        "icmp6" => icmp(info, libc::IPPROTO_ICMPV6 as u8, packet),
        // Extension headers of IPv6, which no described packet has.
        "rt" | "ah" | "esp" | "frag" | "hbh" | "dst" | "mh" => transported(packet).map(|_| false),
        "pkttype" => {
            let (Value::Known(own), wanted) = (packet.meta(META_PACKET_TYPE), native32(info)?) else { return None };
            Some((u32::from(*own.first()?) == wanted) != (native32(info.get(4..)?)? != 0))
        }
        "mark" if revision > 0 => {
            let mark = known32(packet.meta(META_MARK))?;
            let (value, mask, inverted) = (native32(info)?, native32(info.get(4..)?)?, *info.get(8)? != 0);
            Some((mark & mask == value) != inverted)
        }
        _ => None,
    }
}

/// Number of the transport protocol, if it is known; 255 is no protocol.
fn transported(packet: &dyn Subject) -> Option<u8> {
    match packet.meta(META_TRANSPORT) {
        Value::Known(bytes) => bytes.first().copied(),
        Value::Missing => Some(u8::MAX),
        Value::Unknown(_) | Value::Partly(..) => None,
    }
}

fn known32(value: Value) -> Option<u32> {
    if let Value::Known(bytes) = value { native32(&bytes) } else { None }
}

fn conntrack(info: &[u8], revision: u32, packet: &dyn Subject) -> Option<bool> {
    let (by, inverted) = (native16(info.get(MATCH_FLAGS..)?)?, native16(info.get(INVERT_FLAGS..)?)?);
    if by != BY_STATE {
        return None;
    }
    // The first of these revisions has one byte for it.
    let mask = if revision == 1 { u16::from(*info.get(STATE_MASK)?) } else { native16(info.get(STATE_MASK..)?)? };
    let state = known32(packet.connection(CT_STATE))?;
    let rewritten = known32(packet.connection(CT_STATUS))? & DESTINATION_REWRITTEN != 0;
    let holds = state & u32::from(mask & 0x3f) != 0 || (mask & STATE_DNAT != 0 && rewritten);
    if mask & STATE_SNAT != 0 && !holds {
        return None;
    }
    Some(holds != (inverted & BY_STATE != 0))
}

fn address_type(info: &[u8], packet: &dyn Subject) -> Option<bool> {
    let (source, destination, flags) = (native16(info)?, native16(info.get(2..)?)?, native32(info.get(4..)?)?);
    if flags & 0xc != 0 {
        return None;
    }
    let one = |mask: u16, side: u32, inverted: bool| {
        if mask == 0 {
            return Some(true);
        }
        let kind = known32(packet.fib(FIB_TYPE, side))?;
        Some((mask & 1u16.checked_shl(kind)? != 0) != inverted)
    };
    Some(one(source, 1, flags & 1 != 0)? && one(destination, 2, flags & 2 != 0)?)
}

/// A type of ICMP messages and a range of its codes; type 255 of ICMP stands for all.
fn icmp(info: &[u8], protocol: u8, packet: &dyn Subject) -> Option<bool> {
    if transported(packet)? != protocol {
        return Some(false);
    }
    let (wanted, first, last, inverted) = (*info.first()?, *info.get(1)?, *info.get(2)?, *info.get(3)? != 0);
    let Value::Known(own) = packet.payload(2, 0, 2) else { return None };
    let (kind, code) = (*own.first()?, *own.get(1)?);
    let any = wanted == u8::MAX && protocol == libc::IPPROTO_ICMP as u8;
    Some((any || kind == wanted && (first..=last).contains(&code)) != inverted)
}

/// Two ranges of ports, source and destination, each inverted by a flag.
fn ports(info: &[u8], protocol: u8, packet: &dyn Subject, flags: u8, source: u8, target: u8) -> Option<bool> {
    if transported(packet)? != protocol {
        return Some(false);
    }
    let range = |at: usize| Some(native16(info.get(at..)?)?..=native16(info.get(at + 2..)?)?);
    let within = |at: usize, offset: u32, inverted: bool| {
        let range = range(at)?;
        if range == (0..=u16::MAX) {
            return Some(!inverted);
        }
        Some(range.contains(&port(packet, offset)?) != inverted)
    };
    Some(within(0, 0, flags & source != 0)? && within(4, 2, flags & target != 0)?)
}

fn port(packet: &dyn Subject, offset: u32) -> Option<u16> {
    match packet.payload(2, offset, 2) {
        Value::Known(bytes) => bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)),
        _ => None,
    }
}

/// `struct xt_multiport_v1`: a list of ports, where one with a flag begins a range that the next ends.
fn multiport(info: &[u8], packet: &dyn Subject) -> Option<bool> {
    let (side, count, inverted) = (*info.first()?, usize::from(*info.get(1)?), *info.get(47)? != 0);
    let at = |index: usize| native16(info.get(2 + 2 * index..)?);
    let listed = |port: u16| {
        let mut index = 0;
        while index < count {
            let first = at(index)?;
            let begins = *info.get(32 + index)? != 0;
            index += usize::from(begins);
            if (first..=at(index)?).contains(&port) {
                return Some(true);
            }
            index += 1;
        }
        Some(false)
    };
    let (source, target) = (listed(port(packet, 0)?)?, listed(port(packet, 2)?)?);
    let holds = match side {
        0 => source,
        1 => target,
        _ => source || target,
    };
    Some(holds != inverted)
}

/// What a target does; `None` for one that lets the next rule be evaluated.
pub fn target(data: &Attributes<'_>) -> Option<Verdict> {
    let revision = data.find(2).and_then(big32).unwrap_or_default();
    does(data.find(1).and_then(text).unwrap_or("?"), revision, data.find(3).unwrap_or_default())
}

/// What the target of this name and revision does.
pub fn does(name: &str, revision: u32, info: &[u8]) -> Option<Verdict> {
    match name {
        "REJECT" => Some(Verdict::Reject),
        "MASQUERADE" | "SNAT" => Some(Verdict::Source),
        "DNAT" => Some(destination(revision, info).unwrap_or_else(|| Verdict::Unknown("DNAT".to_owned()))),
        "LOG" | "NFLOG" | "ULOG" | "TRACE" | "CHECKSUM" | "TCPMSS" | "MARK" | "CONNMARK" | "CT" | "NOTRACK"
        | "CLASSIFY" | "DSCP" | "TTL" | "HL" | "SECMARK" | "CONNSECMARK" | "AUDIT" | "SET" | "RATEEST" | "TOS" => None,
        other => Some(Verdict::Unknown(format!("-j {other}"))),
    }
}

/// Address and port of a target DNAT: of IPv4 alone (revision 0), or 16 bytes for both families.
fn destination(revision: u32, info: &[u8]) -> Option<Verdict> {
    let (flags, address, port) = match revision {
        0 => (4, info.get(8..12)?, info.get(16..18)?),
        _ => (0, info.get(4..20)?, info.get(36..38)?),
    };
    let flags = native32(info.get(flags..)?)?;
    // `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED`.
    let address = (flags & 1 != 0).then(|| address.to_vec());
    let port = (flags & 2 != 0).then(|| port.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))).flatten();
    Some(Verdict::Destination(address, port))
}
