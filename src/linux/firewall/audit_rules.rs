//! Rules about containers that are only audited: what their lists do not allow is recorded in sets, and passes.
//!
//! The chains exist only while a container is audited ([`CHAINS`]). They follow those of `access_rules`, which let these
//! containers pass as if they had no list, and drop nothing themselves: whatever is wrong with them, and with the sets of
//! this module, no list of another container is opened. What another rule drops does not get here, or is dropped later.
//!
//! A record is the link to or from the peer, which the host does not have, and the container's address, protocol, port, and
//! the address of the peer. It counts packets and ends a day after the first. Each container may have [`BURST`] new ones at
//! once in each direction and [`AN_HOUR`] more an hour, so that one does not fill the sets of all; the packets beyond are
//! counted for each container.
//!
//! Pure. Part of `parts`.

use nft::message::{BRIDGE, Chain};
use nft::{Direction, Expressions, Field, Side};

use super::access_rules::{
    EGRESS, ESTABLISHED, INGRESS, arp, dhcp_reply, dhcp_request, discovery, igmp, listener_report, listeners, of_family,
};
use super::bridge_flows::{self, allowed, echo_reply, error, is_later_fragment, tracked};
use super::name_rules;
use super::ruleset::{Rule, chain, rule};
use super::sets::Set;
use crate::datapath::access::Way;
use crate::model::Family::{self, V4, V6};

/// How many new records a container may have at once in a direction.
pub(super) const BURST: u32 = 512;
/// How many more an hour.
pub(super) const AN_HOUR: u32 = 12;

const ICMP: u8 = libc::IPPROTO_ICMP as u8;
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;

const OUT: Chain = chain(
    "forward_audit_egress",
    "filter",
    libc::NF_INET_FORWARD,
    libc::NF_IP_PRI_FILTER + 2,
    "record what audited containers reach and their egress list does not allow",
);
const INTO: Chain = chain(
    "forward_audit_ingress",
    "filter",
    libc::NF_INET_FORWARD,
    libc::NF_IP_PRI_FILTER + 3,
    "record what reaches audited containers and their ingress list does not allow",
);
const TO_HOST: Chain = chain(
    "input_audit",
    "filter",
    libc::NF_INET_LOCAL_IN,
    libc::NF_IP_PRI_FILTER + 2,
    "record what audited containers send to the host and their egress list does not allow",
);
const OF_HOST: Chain = chain(
    "output_audit",
    "filter",
    libc::NF_INET_LOCAL_OUT,
    libc::NF_IP_PRI_FILTER + 2,
    "record what the host sends to audited containers and their ingress list does not allow",
);
/// Before the chain that records flows: a flow is recorded here once.
const WITHIN_OUT: Chain = Chain {
    family: BRIDGE,
    name: "bridge_audit_egress",
    priority: bridge_flows::AFTER_LISTS,
    comment: "record what audited containers reach on their bridge and their egress list does not allow",
    ..bridge_flows::EGRESS
};
const WITHIN_INTO: Chain = Chain {
    name: "bridge_audit_ingress",
    priority: bridge_flows::AFTER_LISTS + 1,
    comment: "record what reaches audited containers on their bridge and their ingress list does not allow",
    ..WITHIN_OUT
};

/// All chains about audited containers, of both tables.
pub(super) static CHAINS: [Chain; 6] = [OUT, INTO, TO_HOST, OF_HOST, WITHIN_OUT, WITHIN_INTO];

/// The rules at the end of a chain, which record what got there.
macro_rules! records {
    ($chain:expr, $of:expr) => {
        [
            rule($chain, "recorded: ICMP", |rule| $of.known(rule, V4, true)),
            rule($chain, "record ICMP", |rule| $of.unknown(rule, V4, true)),
            rule($chain, "recorded: ICMPv6", |rule| $of.known(rule, V6, true)),
            rule($chain, "record ICMPv6", |rule| $of.unknown(rule, V6, true)),
            rule($chain, "recorded: IPv4", |rule| $of.known(rule, V4, false)),
            rule($chain, "record IPv4", |rule| $of.unknown(rule, V4, false)),
            rule($chain, "recorded: IPv6", |rule| $of.known(rule, V6, false)),
            rule($chain, "record IPv6", |rule| $of.unknown(rule, V6, false)),
            rule($chain, "too many to record: IPv4", |rule| $of.lost(rule, V4)),
            rule($chain, "too many to record: IPv6", |rule| $of.lost(rule, V6)),
        ]
    };
}

/// All rules of these chains, in order.
pub(super) static RULES: [&[Rule]; 8] = [
    &ROUTED,
    &BRIDGED,
    &records!(OUT, Recorder { way: Way::Egress, bridged: false }),
    &records!(INTO, Recorder { way: Way::Ingress, bridged: false }),
    &records!(TO_HOST, Recorder { way: Way::Egress, bridged: false }),
    &records!(OF_HOST, Recorder { way: Way::Ingress, bridged: false }),
    &records!(WITHIN_OUT, Recorder { way: Way::Egress, bridged: true }),
    &records!(WITHIN_INTO, Recorder { way: Way::Ingress, bridged: true }),
];

/// Writes the rules that record one direction, of packets that the host routes, sends or receives, or of frames within a
/// bridge.
struct Recorder {
    way: Way,
    bridged: bool,
}

/// Sets of one direction, each for IPv4 and IPv6: records, what is left of their rate, and what was not recorded.
type Sets = [[Set; 2]; 3];

const EGRESS_SETS: Sets = [
    [Set::EgressRecord4, Set::EgressRecord6],
    [Set::EgressRecordRate4, Set::EgressRecordRate6],
    [Set::EgressUnrecorded4, Set::EgressUnrecorded6],
];
const INGRESS_SETS: Sets = [
    [Set::IngressRecord4, Set::IngressRecord6],
    [Set::IngressRecordRate4, Set::IngressRecordRate6],
    [Set::IngressUnrecorded4, Set::IngressUnrecorded6],
];
const BRIDGE_EGRESS_SETS: Sets = [
    [Set::BridgeEgressRecord4, Set::BridgeEgressRecord6],
    [Set::BridgeEgressRecordRate4, Set::BridgeEgressRecordRate6],
    [Set::BridgeEgressUnrecorded4, Set::BridgeEgressUnrecorded6],
];
const BRIDGE_INGRESS_SETS: Sets = [
    [Set::BridgeIngressRecord4, Set::BridgeIngressRecord6],
    [Set::BridgeIngressRecordRate4, Set::BridgeIngressRecordRate6],
    [Set::BridgeIngressUnrecorded4, Set::BridgeIngressUnrecorded6],
];

/// The sets of a direction, of packets that the host routes or of frames within a bridge.
pub(super) const fn sets(way: Way, bridged: bool) -> Sets {
    match (way, bridged) {
        (Way::Egress, false) => EGRESS_SETS,
        (Way::Ingress, false) => INGRESS_SETS,
        (Way::Egress, true) => BRIDGE_EGRESS_SETS,
        (Way::Ingress, true) => BRIDGE_INGRESS_SETS,
    }
}

impl Recorder {
    fn own(&self, family: Family) -> Field {
        self.way.choose(Side::Source, Side::Destination).address(family)
    }

    fn key(&self, family: Family, icmp: bool) -> [Field; 5] {
        let link = self.way.choose(Direction::Out, Direction::In).index();
        let peer = self.way.choose(Side::Destination, Side::Source).address(family);
        [link, self.own(family), Field::TRANSPORT, if icmp { Field::SOURCE_PORT } else { Field::PORT }, peer]
    }

    fn set(&self, which: usize, family: Family) -> Set {
        sets(self.way, self.bridged)[which][family as usize]
    }

    fn of_family(&self, rule: Expressions, family: Family) -> Expressions {
        if self.bridged { of_family(rule, family) } else { rule.family(family) }
    }

    /// Where others have the destination port, ICMP has a checksum: its type and code, where others have the source port,
    /// are recorded.
    fn of(&self, rule: Expressions, family: Family, icmp: bool) -> Expressions {
        let number = [family.choose(ICMP, ICMPV6)];
        let rule = self.of_family(rule, family);
        if icmp { rule.is(Field::TRANSPORT, &number) } else { rule.is_not(Field::TRANSPORT, &number) }
    }

    /// Counts a packet that is recorded: the look-up does, since Linux 5.7.
    fn known(&self, rule: Expressions, family: Family, icmp: bool) -> Expressions {
        self.of(rule, family, icmp).key_in(&self.key(family, icmp), self.set(0, family)).accept()
    }

    fn unknown(&self, rule: Expressions, family: Family, icmp: bool) -> Expressions {
        let rule = self.of(rule, family, icmp).within_rate(&[self.own(family)], self.set(1, family), AN_HOUR, BURST);
        rule.count_in(&self.key(family, icmp), self.set(0, family)).accept()
    }

    fn lost(&self, rule: Expressions, family: Family) -> Expressions {
        self.of_family(rule, family).count_in(&[self.own(family)], self.set(2, family)).accept()
    }
}

/// What is not recorded of routed packets and those of the host: the rules of `access_rules` that accept.
static ROUTED: [Rule; 46] = [
    rule(OUT, ESTABLISHED, |rule| rule.is_reply().accept()),
    rule(OUT, "IPv4 of containers that are not audited", |rule| EGRESS.not_audited(rule, V4)),
    rule(OUT, "IPv6 of containers that are not audited", |rule| EGRESS.not_audited(rule, V6)),
    rule(OUT, "neighbour discovery", |rule| discovery(rule.family(V6))),
    rule(OUT, "listener discovery", |rule| listeners(rule.family(V6))),
    rule(OUT, "listener reports", |rule| listener_report(rule.family(V6))),
    rule(OUT, "IGMP", |rule| igmp(rule.family(V4))),
    rule(OUT, "DHCP", |rule| dhcp_request(rule.family(V4), V4)),
    rule(OUT, "DHCPv6", |rule| dhcp_request(rule.family(V6), V6)),
    rule(OUT, "allowed IPv4 addresses", |rule| EGRESS.allowed(rule, V4)),
    rule(OUT, "allowed IPv6 addresses", |rule| EGRESS.allowed(rule, V6)),
    rule(OUT, "IPv4 addresses of allowed names", |rule| name_rules::allowed(rule, V4)),
    rule(OUT, "IPv6 addresses of allowed names", |rule| name_rules::allowed(rule, V6)),
    rule(INTO, ESTABLISHED, |rule| rule.is_reply().accept()),
    rule(INTO, "IPv4 to containers that are not audited", |rule| INGRESS.not_audited(rule, V4)),
    rule(INTO, "IPv6 to containers that are not audited", |rule| INGRESS.not_audited(rule, V6)),
    rule(INTO, "neighbour discovery", |rule| discovery(rule.family(V6))),
    rule(INTO, "listener discovery", |rule| listeners(rule.family(V6))),
    rule(INTO, "listener reports", |rule| listener_report(rule.family(V6))),
    rule(INTO, "IGMP", |rule| igmp(rule.family(V4))),
    rule(INTO, "DHCP", |rule| dhcp_reply(rule.family(V4), V4)),
    rule(INTO, "DHCPv6", |rule| dhcp_reply(rule.family(V6), V6)),
    rule(INTO, "allowed IPv4 addresses", |rule| INGRESS.allowed(rule, V4)),
    rule(INTO, "allowed IPv6 addresses", |rule| INGRESS.allowed(rule, V6)),
    rule(TO_HOST, ESTABLISHED, |rule| rule.is_reply().accept()),
    rule(TO_HOST, "IPv4 of containers that are not audited", |rule| EGRESS.not_audited(rule, V4)),
    rule(TO_HOST, "IPv6 of containers that are not audited", |rule| EGRESS.not_audited(rule, V6)),
    rule(TO_HOST, "DNS queries to Pontoon, UDP", |rule| name_rules::at_port(rule, UDP).accept()),
    rule(TO_HOST, "DNS queries to Pontoon, TCP", |rule| name_rules::at_port(rule, TCP).accept()),
    rule(TO_HOST, "neighbour discovery", |rule| discovery(rule.family(V6))),
    rule(TO_HOST, "listener discovery", |rule| listeners(rule.family(V6))),
    rule(TO_HOST, "listener reports", |rule| listener_report(rule.family(V6))),
    rule(TO_HOST, "DHCP", |rule| dhcp_request(rule.family(V4), V4)),
    rule(TO_HOST, "DHCPv6", |rule| dhcp_request(rule.family(V6), V6)),
    rule(TO_HOST, "allowed by IPv4", |rule| EGRESS.allowed_host(rule, V4)),
    rule(TO_HOST, "allowed by IPv6", |rule| EGRESS.allowed_host(rule, V6)),
    rule(OF_HOST, ESTABLISHED, |rule| rule.is_reply().accept()),
    rule(OF_HOST, "IPv4 to containers that are not audited", |rule| INGRESS.not_audited(rule, V4)),
    rule(OF_HOST, "IPv6 to containers that are not audited", |rule| INGRESS.not_audited(rule, V6)),
    rule(OF_HOST, "neighbour discovery", |rule| discovery(rule.family(V6))),
    rule(OF_HOST, "listener discovery", |rule| listeners(rule.family(V6))),
    rule(OF_HOST, "listener reports", |rule| listener_report(rule.family(V6))),
    rule(OF_HOST, "DHCP", |rule| dhcp_reply(rule.family(V4), V4)),
    rule(OF_HOST, "DHCPv6", |rule| dhcp_reply(rule.family(V6), V6)),
    rule(OF_HOST, "allowed by IPv4", |rule| INGRESS.allowed_host(rule, V4)),
    rule(OF_HOST, "allowed by IPv6", |rule| INGRESS.allowed_host(rule, V6)),
];

/// The same of frames within a bridge. Which flow a later fragment belongs to cannot be recorded.
static BRIDGED: [Rule; 34] = [
    rule(WITHIN_OUT, "from containers that are not audited", |rule| {
        rule.link_not_in(Direction::In, Set::AuditedEgressPorts).accept()
    }),
    rule(WITHIN_OUT, "ARP", arp),
    rule(WITHIN_OUT, "later fragments", |rule| {
        Recorder { way: Way::Egress, bridged: true }.lost(is_later_fragment(rule), V4)
    }),
    rule(WITHIN_OUT, "tracked IPv4 flows", |rule| tracked(rule, V4)),
    rule(WITHIN_OUT, "tracked IPv6 flows", |rule| tracked(rule, V6)),
    rule(WITHIN_OUT, "replies to IPv4 echo requests", |rule| echo_reply(rule, V4)),
    rule(WITHIN_OUT, "replies to IPv6 echo requests", |rule| echo_reply(rule, V6)),
    rule(WITHIN_OUT, "IPv4 errors", |rule| error(rule, V4)),
    rule(WITHIN_OUT, "IPv6 errors", |rule| error(rule, V6)),
    rule(WITHIN_OUT, "neighbour discovery", |rule| discovery(of_family(rule, V6))),
    rule(WITHIN_OUT, "listener discovery", |rule| listeners(of_family(rule, V6))),
    rule(WITHIN_OUT, "listener reports", |rule| listener_report(of_family(rule, V6))),
    rule(WITHIN_OUT, "IGMP", |rule| igmp(of_family(rule, V4))),
    rule(WITHIN_OUT, "DHCP", |rule| dhcp_request(of_family(rule, V4), V4)),
    rule(WITHIN_OUT, "DHCPv6", |rule| dhcp_request(of_family(rule, V6), V6)),
    rule(WITHIN_OUT, "allowed IPv4 addresses", |rule| allowed(rule, true, V4)),
    rule(WITHIN_OUT, "allowed IPv6 addresses", |rule| allowed(rule, true, V6)),
    rule(WITHIN_INTO, "to containers that are not audited", |rule| {
        rule.link_not_in(Direction::Out, Set::AuditedIngressPorts).accept()
    }),
    rule(WITHIN_INTO, "ARP", arp),
    rule(WITHIN_INTO, "later fragments", |rule| {
        Recorder { way: Way::Ingress, bridged: true }.lost(is_later_fragment(rule), V4)
    }),
    rule(WITHIN_INTO, "tracked IPv4 flows", |rule| tracked(rule, V4)),
    rule(WITHIN_INTO, "tracked IPv6 flows", |rule| tracked(rule, V6)),
    rule(WITHIN_INTO, "replies to IPv4 echo requests", |rule| echo_reply(rule, V4)),
    rule(WITHIN_INTO, "replies to IPv6 echo requests", |rule| echo_reply(rule, V6)),
    rule(WITHIN_INTO, "IPv4 errors", |rule| error(rule, V4)),
    rule(WITHIN_INTO, "IPv6 errors", |rule| error(rule, V6)),
    rule(WITHIN_INTO, "neighbour discovery", |rule| discovery(of_family(rule, V6))),
    rule(WITHIN_INTO, "listener discovery", |rule| listeners(of_family(rule, V6))),
    rule(WITHIN_INTO, "listener reports", |rule| listener_report(of_family(rule, V6))),
    rule(WITHIN_INTO, "IGMP", |rule| igmp(of_family(rule, V4))),
    rule(WITHIN_INTO, "DHCP", |rule| dhcp_reply(of_family(rule, V4), V4)),
    rule(WITHIN_INTO, "DHCPv6", |rule| dhcp_reply(of_family(rule, V6), V6)),
    rule(WITHIN_INTO, "allowed IPv4 addresses", |rule| allowed(rule, false, V4)),
    rule(WITHIN_INTO, "allowed IPv6 addresses", |rule| allowed(rule, false, V6)),
];
