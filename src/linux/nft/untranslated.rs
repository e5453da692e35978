//! Rules for packets to a published port that are not translated as they are: broadcasts, which become
//! packets to the host, and everything else that would reach the socket that reserves the port, which is
//! refused.
//!
//! Pure. Part of `ruleset`.

use super::element::Set;
use super::expression::{CMP_EQUAL, Direction, Expressions, REGISTERS};
use super::message::Chain;
use super::part::{META_PACKET_TYPE, Part, Side};
use super::ruleset::{RAW, Rule, chain, rule};
use crate::linux::reserve::MARK;

/// After the filters of other programs: packets that those drop get no reply.
pub const REFUSE: Chain = chain(
    "input_refuse",
    "filter",
    libc::NF_INET_LOCAL_IN,
    libc::NF_IP_PRI_SECURITY,
    "packets to published ports that were not translated",
);

/// `PACKET_HOST` and `PACKET_BROADCAST` (include/uapi/linux/if_packet.h).
const FOR_HOST: u8 = 0;
const FOR_ALL: u8 = 1;

/// FIN, SYN, RST and ACK; the first segment of a connection has only SYN of these.
const STAGES: u8 = 0x17;
const FIRST: u8 = 0x02;

/// `NFT_SOCKET_MARK`.
const SOCKET_MARK: u32 = 1;

/// `NFT_REJECT_TCP_RST`, and `NFT_REJECT_ICMPX_UNREACH` with `NFT_REJECT_ICMPX_PORT_UNREACH`.
const RESET: u32 = 1;
const UNREACHABLE: u32 = 2;
const PORT_UNREACHABLE: u8 = 1;

impl Expressions {
    /// Matches when the socket that the packet would reach reserves a published port.
    fn for_reserving_socket(mut self) -> Self {
        self.push("socket", |data| {
            data.big(1, SOCKET_MARK).big(2, REGISTERS);
        });
        self.compare(CMP_EQUAL, &MARK.to_ne_bytes())
    }

    /// Sets the packet's destination to the address that the map has for its link and destination.
    fn destination_replaced_from(self, map: Set) -> Self {
        let address = Side::Destination.address(map.v6());
        let mut rule = self.load(&[Direction::In.name(), address]);
        rule.push("lookup", |data| {
            data.text(1, map.spec().name).big(2, REGISTERS).big(3, REGISTERS);
        });
        rule.write(address)
    }

    /// Marks the packet as received for this host alone: others are not forwarded.
    fn taken_for_host(mut self) -> Self {
        self.push("immediate", |data| {
            data.big(1, REGISTERS).nest(2, |value| {
                value.bytes(1, &[FOR_HOST]);
            });
        });
        self.push("meta", |data| {
            data.big(2, META_PACKET_TYPE).big(3, REGISTERS);
        });
        self
    }

    /// Refuses the packet as its protocol does.
    fn refuse(mut self, kind: u32, code: u8) -> Self {
        self.push("reject", |data| {
            data.big(1, kind).bytes(2, &[code]);
        });
        self
    }
}

/// Matches the first segment of a TCP connection.
fn first_segment(rule: Expressions) -> Expressions {
    let rule = rule.is(Part::TRANSPORT, &[libc::IPPROTO_TCP as u8]).load(&[Part::TCP_FLAGS]);
    rule.mask(&[STAGES]).compare(CMP_EQUAL, &[FIRST])
}

/// Connection tracking would send replies from the broadcast address: therefore the destination is replaced
/// before it, and everything else is as with a packet to the host's own address. A client that has no address
/// yet cannot receive replies either, and is excluded.
pub static BROADCASTS: [Rule; 1] = [rule(RAW, "deliver broadcasts to published ports", |rule| {
    let rule = rule.is(Part::PACKET_TYPE, &[FOR_ALL]).family(false);
    let rule = rule.is_not(Side::Source.address(false), &[0; 4]);
    let rule = rule
        .is(Part::TRANSPORT, &[libc::IPPROTO_UDP as u8])
        .key_in(&[Part::TRANSPORT, Part::PORT], Set::BroadcastPorts);
    rule.destination_replaced_from(Set::Broadcasts).taken_for_host()
})];

/// Replaces the silence of a socket that drops everything: the client may then try another address. Kernels
/// without these expressions (`nft_socket`, `nft_reject_inet`) stay silent.
///
/// Other TCP segments are excluded: while a flushed table is being repaired, those of established connections
/// come here too.
pub static REFUSALS: [Rule; 2] = [
    rule(REFUSE, "reset TCP connections", |rule| first_segment(rule).for_reserving_socket().counter().refuse(RESET, 0)),
    rule(REFUSE, "reject UDP datagrams", |rule| {
        let rule = rule.is(Part::TRANSPORT, &[libc::IPPROTO_UDP as u8]).is(Part::PACKET_TYPE, &[FOR_HOST]);
        rule.is_no_answer().for_reserving_socket().counter().refuse(UNREACHABLE, PORT_UNREACHABLE)
    }),
];
