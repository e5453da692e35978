use std::net::IpAddr;

use proptest::prelude::*;

use crate::answer::{self, Answer, Code};
use crate::query::{Query, Received, receive};
use crate::{Name, flag, kind};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A message from numbers of its header and bytes behind them.
fn message(header: [u16; 6], rest: &[u8]) -> Vec<u8> {
    header.into_iter().flat_map(u16::to_be_bytes).chain(rest.iter().copied()).collect()
}

fn question(text: &str, kind: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    name(text).write(&mut bytes);
    bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
    bytes
}

fn query(text: &str, kind: u16) -> Query {
    match receive(&message([7, flag::RECURSION_DESIRED, 1, 0, 0, 0], &question(text, kind))) {
        Received::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

/// A record whose owner is a pointer or a name.
fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = owner.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn wire(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    name(text).write(&mut bytes);
    bytes
}

/// The name of the question.
const ASKED: [u8; 2] = [0xc0, 12];

fn reply(id: u16, flags: u16, text: &str, kind: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let header = [id, flag::RESPONSE | flags, 1, records.len() as u16, 0, 0];
    message(header, &[question(text, kind), records.concat()].concat())
}

fn read(message: &[u8]) -> Option<Vec<(String, u32)>> {
    let query = query("api.example.com", kind::A);
    let found = Answer::read(message, 9, &query.question)?;
    Some(found.addresses.into_iter().map(|(address, ttl)| (address.to_string(), ttl)).collect())
}

#[test]
fn names_are_the_same_in_both_cases_and_below_others_by_whole_labels() {
    assert_eq!(name("API.Example.COM."), name("api.example.com"));
    assert!(
        name("a.example.org").is_below(&name("example.org")) && name("a.b.example.org").is_below(&name("example.org"))
    );
    assert!(
        !name("example.org").is_below(&name("example.org")) && !name("badexample.org").is_below(&name("example.org"))
    );
    assert!(!name("org").is_below(&name("example.org")));
    for bad in ["a..b", ".a", &"a".repeat(64), &[&*"a".repeat(63); 4].join("."), "a.."] {
        assert_eq!(Name::parse(bad), None, "{bad}");
    }
    assert!(Name::parse(&[&*"a".repeat(63); 3].join(".")).is_some());
    // A dot within a label does not make two labels of it.
    let (odd, _) =
        Name::read(&[13, b'a', b'.', b'e', b'x', b'a', b'm', b'p', b'l', b'e', b'.', b'o', b'r', b'g', 0], 0).unwrap();
    assert!(!odd.is_below(&name("example.org")) && odd != name("a.example.org"));
    assert_eq!((odd.to_string().as_str(), name("").to_string().as_str()), ("a\\046example\\046org", "."));
}

#[test]
fn pointers_lead_backwards_only() {
    let at = |bytes: &[u8], at| Name::read(bytes, at).map(|(name, end)| (name.to_string(), end));
    assert_eq!(at(&[1, b'a', 0, 1, b'b', 0xc0, 0], 3), Some(("b.a".to_owned(), 7)));
    for bad in [&[0xc0, 0][..], &[0xc0, 2, 0], &[1, b'a', 0xc0, 0], &[1, b'a'], &[0x40, 0], &[0xc0], &[2, b'a'], &[]] {
        assert_eq!(at(bad, 0), None, "{bad:?}");
    }
    // A label, and a pointer to it that is followed without an end.
    assert_eq!(at(&[1, b'a', 0xc0, 0], 2), None);
}

#[test]
fn a_query_is_asked_without_what_else_the_client_sent() {
    let opt = record(&[0], kind::OPT, 0x0001_8000, &[0, 10, 0, 3, 1, 2, 3]);
    let mut bytes =
        message([0x1234, flag::RECURSION_DESIRED | 0x40, 1, 0, 0, 1], &question("A.example.com", kind::AAAA));
    bytes.extend(&opt);
    let Received::Query(query) = receive(&bytes) else { panic!() };
    assert_eq!((query.id, query.question.name.clone(), query.payload), (0x1234, name("a.example.com"), 512));
    let asked = query.ask(0xabcd);
    let Received::Query(again) = receive(&asked) else { panic!() };
    let mut same = query.clone();
    same.id = 0xabcd;
    assert_eq!(again, same);
    assert!(!asked.windows(3).any(|part| part == [1, 2, 3]), "the option of the client");
}

#[test]
fn what_is_no_query_is_refused_or_ignored() {
    let unusable = |header, rest: &[u8]| receive(&message(header, rest));
    assert_eq!(receive(b"short"), Received::Noise);
    assert_eq!(unusable([7, flag::RESPONSE, 1, 0, 0, 0], &question("a.b", 1)), Received::Noise);
    assert_eq!(unusable([7, 0x2800, 1, 0, 0, 0], &question("a.b", 1)), Received::Unusable(7, Code::NotImplemented));
    for header in [[7, 0, 0, 0, 0, 0], [7, 0, 2, 0, 0, 0], [7, 0, 1, 1, 0, 0], [7, 0, 1, 0, 1, 0], [7, 0, 1, 0, 0, 1]] {
        assert_eq!(unusable(header, &question("a.b", 1)), Received::Unusable(7, Code::Malformed), "{header:?}");
    }
    let refused = answer::refuse(&query("a.example.com", kind::A), Code::Refused);
    assert_eq!(refused[..4], [0, 7, 0x81, 0x85]);
    assert_eq!(refused[12..], question("a.example.com", kind::A));
    assert_eq!(answer::refuse_unusable(7, Code::Malformed), message([7, 0x8001, 0, 0, 0, 0], &[]));
}

#[test]
fn addresses_come_from_the_name_and_its_aliases_only() {
    let asked = "api.example.com";
    let a = |owner: &[u8], last: u8| record(owner, kind::A, 60, &[192, 0, 2, last]);
    let alias = |owner: &[u8], to: &str| record(owner, kind::CNAME, 5, &wire(to));
    let of = |records: &[Vec<u8>]| {
        let found = read(&reply(9, 0, asked, kind::A, records)).unwrap();
        found.into_iter().map(|(address, _)| address).collect::<Vec<_>>()
    };
    assert_eq!(of(&[a(&ASKED, 1), a(&ASKED, 2)]), ["192.0.2.1", "192.0.2.2"]);
    // In any order; and what belongs to another name is left out.
    let (edge, other) = (wire("edge.example.net"), wire("evil.example.net"));
    assert_eq!(
        of(&[a(&edge, 3), alias(&ASKED, "Mid.example.net"), alias(&wire("mid.example.net"), "edge.example.net")]),
        ["192.0.2.3"]
    );
    assert_eq!(of(&[a(&other, 4), a(&ASKED, 5)]), ["192.0.2.5"]);
    assert_eq!(of(&[alias(&other, asked), a(&other, 4)]), [""; 0]);
    // A circle ends.
    assert_eq!(
        of(&[alias(&ASKED, "b.example.net"), alias(&wire("b.example.net"), asked), a(&ASKED, 6)]),
        ["192.0.2.6"]
    );
    // Longer than any real chain.
    let long: Vec<_> = (0..40).map(|n| alias(&wire(&format!("c{n}.x")), &format!("c{}.x", n + 1))).collect();
    assert_eq!(of(&[vec![alias(&ASKED, "c0.x")], long, vec![a(&wire("c40.x"), 7)]].concat()), [""; 0]);
    let six = record(&ASKED, kind::AAAA, 0x8000_0001, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    let found = read(&reply(9, 0, asked, kind::A, &[six])).unwrap();
    assert_eq!(found, [("2001:db8::9".to_owned(), 0)]);
}

#[test]
fn the_answer_to_another_question_is_none() {
    let good = reply(9, 0, "api.example.com", kind::A, &[record(&ASKED, kind::A, 60, &[192, 0, 2, 1])]);
    assert_eq!(read(&good).unwrap().len(), 1);
    assert_eq!(read(&reply(9, 0, "API.EXAMPLE.com", kind::A, &[])).unwrap().len(), 0);
    assert_eq!(read(&reply(8, 0, "api.example.com", kind::A, &[])), None, "another id");
    assert_eq!(read(&reply(9, 0, "api.example.org", kind::A, &[])), None, "another name");
    assert_eq!(read(&reply(9, 0, "api.example.com", kind::AAAA, &[])), None, "another type");
    let mut query = good.clone();
    query[2] &= 0x7f;
    assert_eq!(read(&query), None, "a query");
    for end in 0..good.len() {
        assert_eq!(read(&good[..end]), None, "cut off at {end}");
    }
    // An answer that is marked as cut off may be.
    let cut = reply(9, flag::TRUNCATED, "api.example.com", kind::A, &[record(&ASKED, kind::A, 60, &[192, 0, 2, 1])]);
    assert_eq!(read(&cut[..cut.len() - 1]).unwrap().len(), 0);
    assert_eq!(read(&reply(9, 0, "api.example.com", kind::A, &[record(&ASKED, kind::A, 1, &[192])])), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), id: u16) {
        if let Received::Query(query) = receive(&bytes) {
            let Received::Query(again) = receive(&query.ask(id)) else { panic!("what is asked is a query") };
            prop_assert_eq!(&again.question, &query.question);
            prop_assert!(Answer::read(&answer::refuse(&query, Code::Refused), query.id, &query.question).is_some());
        }
        let _ = Answer::read(&bytes, id, &query("api.example.com", kind::A).question);
    }

    #[test]
    fn addresses_read_as_they_were_written(
        labels in proptest::collection::vec("[a-zA-Z0-9_-]{1,20}", 1..6),
        addresses in proptest::collection::vec((any::<[u8; 4]>(), 0..100_000u32), 0..40),
        id: u16,
    ) {
        let text = labels.join(".");
        let query = query(&text, kind::A);
        prop_assert_eq!(query.question.name.to_string(), text.to_ascii_lowercase());
        let records: Vec<_> = addresses.iter().map(|(bytes, ttl)| record(&ASKED, kind::A, *ttl, bytes)).collect();
        let found = Answer::read(&reply(id, 0, &text, kind::A, &records), id, &query.question).unwrap();
        let wanted: Vec<(IpAddr, u32)> = addresses.iter().map(|(bytes, ttl)| (IpAddr::from(*bytes), *ttl)).collect();
        prop_assert_eq!(found.addresses, wanted);
    }
}
