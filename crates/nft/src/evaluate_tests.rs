use netlink::Family;

use super::*;
use crate::{DataType, Direction, Expressions, Field, Set, Side};

/// A packet to 10.0.0.2:80/tcp that comes in by eth0, with an unknown mark.
struct Packet;

impl Subject for Packet {
    fn meta(&self, key: u32) -> Value {
        match key {
            3 => Value::Unknown("mark".to_owned()),
            6 => Value::Known(b"eth0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
            15 => Value::Known(vec![2]),
            16 => Value::Known(vec![6]),
            _ => Value::Missing,
        }
    }

    fn payload(&self, base: u32, offset: u32, len: u32) -> Value {
        let header: &[u8] = match base {
            1 => &[0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 7, 10, 0, 0, 2],
            _ => &[0xc3, 0x50, 0, 80],
        };
        header.get(offset as usize..(offset + len) as usize).map_or(Value::Missing, |part| Value::Known(part.to_vec()))
    }

    fn connection(&self, key: u32) -> Value {
        Value::Known(if key == 0 { 8u32 } else { 0 }.to_ne_bytes().to_vec())
    }

    fn fib(&self, _: u32, flags: u32) -> Value {
        Value::Known(if flags & 2 != 0 { 2u32 } else { 1 }.to_ne_bytes().to_vec())
    }

    fn socket(&self, _: u32) -> Value {
        Value::Missing
    }

    fn key_length(&self, set: &str) -> Option<usize> {
        match set {
            "links" => Some(16),
            "ports" => Some(8),
            _ => None,
        }
    }

    fn lookup(&self, set: &str, key: &[u8]) -> Lookup {
        match (set, key) {
            ("links", key) if key.starts_with(b"eth0\0") => Lookup::Found(Vec::new()),
            ("ports", [6, 0, 0, 0, 0, 80, 0, 0]) => Lookup::Found(vec![10, 0, 0, 3, 0x1f, 0x90, 0, 0]),
            _ => Lookup::Missing,
        }
    }
}

const LINKS: Set<'static> = Set::new("links", &[DataType::Link], "");
const UNREADABLE: Set<'static> = Set::new("other", &[DataType::Link], "");
const PORTS: Set<'static> =
    Set::new("ports", &[DataType::Protocol, DataType::Port], "").to(&[DataType::V4, DataType::Port]);

fn of(rule: Expressions) -> Evaluation {
    let bytes = rule.finish().finish();
    for end in 0..bytes.len() {
        // Nothing makes it panic.
        let _ = evaluate(&bytes[..end], &Packet);
    }
    evaluate(&bytes, &Packet)
}

fn rule() -> Expressions {
    Expressions::default()
}

#[test]
fn a_rule_applies_when_all_its_conditions_hold() {
    let matched = |rule: Expressions| {
        let done = of(rule.drop());
        assert_eq!(done.undecided, None);
        !done.fails && done.verdict == Some(Verdict::Drop)
    };
    assert!(matched(rule().link_in(Direction::In, LINKS)));
    assert!(!matched(rule().link_not_in(Direction::In, LINKS)));
    assert!(matched(rule().link_name_starts(Direction::In, b"eth")));
    assert!(!matched(rule().link_name_starts(Direction::In, b"pnt")));
    assert!(matched(rule().family(Family::V4).within(Side::Destination.address(Family::V4), &[10, 0, 0, 0], 8)));
    assert!(!matched(rule().family(Family::V4).outside(Side::Destination.address(Family::V4), &[10, 0, 0, 0], 8)));
    assert!(matched(rule().local(Side::Destination, true)) && !matched(rule().local(Side::Source, true)));
    assert!(matched(rule().is_not_reply().is_not_dnat()) && !matched(rule().is_reply()) && !matched(rule().is_dnat()));
    assert!(matched(rule().below(Field::PORT, &81u16.to_be_bytes()).at_least(Field::PORT, &80u16.to_be_bytes())));
    // What the packet does not have, no condition matches.
    assert!(!matched(rule().is_not(Field::USER, &[0; 4])));
}

#[test]
fn a_translation_takes_its_destination_from_the_map() {
    let done = of(rule().dnat_to(&[Field::TRANSPORT, Field::PORT], PORTS));
    assert_eq!(done.verdict, Some(Verdict::Destination(Some(vec![10, 0, 0, 3]), Some(8080))));
    let done = of(rule().dnat_to(&[Field::TRANSPORT, Field::SOURCE_PORT], PORTS));
    assert!(done.fails, "{done:?}");
}

#[test]
fn what_cannot_be_known_is_not_guessed() {
    let mark = [0x80, 0, 0, 0];
    let mut marked = rule();
    marked.push("meta", |data| {
        data.big(2, 3).big(1, crate::expression::REGISTERS);
    });
    let done = of(marked.compare(crate::expression::CMP_EQUAL, &mark).drop());
    assert_eq!((done.fails, done.undecided.as_deref()), (false, Some("mark")));
    let done = of(rule().link_in(Direction::In, UNREADABLE).drop());
    assert_eq!((done.fails, done.undecided.as_deref()), (false, Some("@other")));
    // Another condition is false anyway.
    let done = of(rule().link_in(Direction::In, UNREADABLE).is_reply().drop());
    assert!(done.fails);
    let mut strange = rule();
    strange.push("teleport", |_| {});
    assert_eq!(of(strange).verdict, Some(Verdict::Unknown("teleport".to_owned())));
}

fn iptables(name: &str, revision: u32, info: &[u8]) -> Option<bool> {
    for end in 0..info.len() {
        let _ = extension::holds(name, revision, &info[..end], &Packet);
    }
    extension::holds(name, revision, info, &Packet)
}

#[test]
fn matches_of_iptables_are_understood() {
    let conntrack = |states: u16, inverted: u16| {
        let mut info = vec![0; 160];
        for (at, value) in [(146, 1), (148, inverted), (150, states)] {
            info[at..at + 2].copy_from_slice(&u16::to_ne_bytes(value));
        }
        iptables("conntrack", 3, &info)
    };
    // New is 8, established and related are 2 and 4.
    assert_eq!(
        [conntrack(8, 0), conntrack(6, 0), conntrack(6, 1), conntrack(128, 0)],
        [true, false, true, false].map(Some)
    );
    let kind = |source: u16, destination: u16, flags: u32| {
        iptables("addrtype", 1, &[&source.to_ne_bytes()[..], &destination.to_ne_bytes(), &flags.to_ne_bytes()].concat())
    };
    assert_eq!(
        [kind(0, 4, 0), kind(0, 4, 2), kind(4, 0, 0), kind(0, 4, 4)],
        [Some(true), Some(false), Some(false), None]
    );
    let tcp = |first: u16, last: u16, inverted: u8| {
        let ports = [0, u16::MAX, first, last].map(u16::to_ne_bytes).concat();
        iptables("tcp", 0, &[&ports[..], &[0, 0, 0, inverted]].concat())
    };
    assert_eq!([tcp(80, 80, 0), tcp(81, 90, 0), tcp(80, 80, 2)], [true, false, false].map(Some));
    let multiport = |ports: [u16; 2], range: bool| {
        let mut info = vec![1, 2];
        info.extend(ports.iter().flat_map(|port| port.to_ne_bytes()));
        info.resize(48, 0);
        info[32] = u8::from(range);
        iptables("multiport", 1, &info)
    };
    assert_eq!(
        [multiport([22, 80], false), multiport([79, 90], true), multiport([79, 90], false)],
        [true, true, false].map(Some)
    );
    // The packet is TCP, and has no extension headers.
    assert_eq!([iptables("icmp", 0, &[255, 0, 255, 0]), iptables("rt", 0, &[0; 64])], [Some(false); 2]);
    assert_eq!(iptables("string", 1, &[0; 64]), None);
}

#[test]
fn targets_of_iptables_are_understood() {
    let range = [1u32.to_ne_bytes(), 3u32.to_ne_bytes(), [10, 0, 0, 3], [10, 0, 0, 3], [0, 80, 0, 80]].concat();
    let to = extension::does("DNAT", 0, &range);
    assert_eq!(to, Some(Verdict::Destination(Some(vec![10, 0, 0, 3]), Some(80))));
    assert_eq!(extension::does("REJECT", 0, &[]), Some(Verdict::Reject));
    assert_eq!(extension::does("LOG", 0, &[]), None);
    assert!(matches!(extension::does("TPROXY", 0, &[]), Some(Verdict::Unknown(_))));
}
