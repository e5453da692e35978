//! Rules for packets to a published port that are not translated as they are: broadcasts, which become
//! packets to the host, and everything else that would reach the socket that reserves the port, which is
//! refused.
//!
//! Pure. Part of `ruleset`.

use nft::expression::CMP_EQUAL;
use nft::message::Chain;
use nft::{Expressions, Field, Side};

use super::ruleset::{RAW, Rule, chain, rule};
use super::sets::Set;
use crate::linux::reserve::MARK;
use crate::model::Family;

/// After the filters of other programs: packets that those drop get no reply.
pub const CHAIN: Chain = chain(
    "input_reject",
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

/// `NFT_REJECT_TCP_RST`, and `NFT_REJECT_ICMPX_UNREACH` with `NFT_REJECT_ICMPX_PORT_UNREACH`.
const RESET: u32 = 1;
const UNREACHABLE: u32 = 2;
const PORT_UNREACHABLE: u8 = 1;

/// Matches the first segment of a TCP connection.
fn first_segment(rule: Expressions) -> Expressions {
    let rule = rule.is(Field::TRANSPORT, &[libc::IPPROTO_TCP as u8]).load(&[Field::TCP_FLAGS]);
    rule.mask(&[STAGES]).compare(CMP_EQUAL, &[FIRST])
}

/// Connection tracking would send replies from the broadcast address: therefore the destination is replaced
/// before it, and everything else is as with a packet to the host's own address. A client that has no address
/// yet cannot receive replies either, and is excluded.
pub static BROADCASTS: [Rule; 1] = [rule(RAW, "deliver broadcasts to published ports", |rule| {
    let rule = rule.is(Field::PACKET_TYPE, &[FOR_ALL]).family(Family::V4);
    let rule = rule.is_not(Side::Source.address(Family::V4), &[0; 4]);
    let rule = rule
        .is(Field::TRANSPORT, &[libc::IPPROTO_UDP as u8])
        .key_in(&[Field::TRANSPORT, Field::PORT], Set::BroadcastPorts);
    rule.set_destination_from(Set::Broadcasts).set_packet_type_host()
})];

/// Replaces the silence of a socket that drops everything: the client may then try another address. Kernels
/// without these expressions (`nft_socket`, `nft_reject_inet`) stay silent.
///
/// Other TCP segments are excluded: while a flushed table is being repaired, those of established connections
/// come here too.
pub static RULES: [Rule; 2] = [
    rule(CHAIN, "reset TCP connections", |rule| first_segment(rule).socket_mark_is(MARK).counter().reject(RESET, 0)),
    rule(CHAIN, "reject UDP datagrams", |rule| {
        let rule = rule.is(Field::TRANSPORT, &[libc::IPPROTO_UDP as u8]).is(Field::PACKET_TYPE, &[FOR_HOST]);
        rule.is_not_reply().socket_mark_is(MARK).counter().reject(UNREACHABLE, PORT_UNREACHABLE)
    }),
];
