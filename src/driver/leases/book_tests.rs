use std::collections::BTreeSet;

use dhcp::Message;
use dhcp::wire::Outgoing;

use super::*;
use crate::driver::leases::LeaseState;
use crate::model::{DhcpEndpointOptions, DhcpOptions, Vid};

fn id(text: &str) -> EndpointId {
    EndpointId::parse(text).unwrap()
}

const NONE: DhcpEndpointOptions = DhcpEndpointOptions { id: None, hostname: None, request: None };

struct Place {
    network: NetworkId,
    link: IfName,
    vlan: Option<Vid>,
    network_options: DhcpOptions,
}

fn place() -> Place {
    let (network, link) = (NetworkId::parse("n1").unwrap(), IfName::parse("br-lan").unwrap());
    Place { network, link, vlan: None, network_options: DhcpOptions { v4: true, ..DhcpOptions::default() } }
}

fn assign(
    book: &mut Book,
    place: &Place,
    endpoint: &str,
    fingerprint: &str,
    now: Time,
) -> Result<(LeaseKey, Due), LeaseError> {
    let (keys, due) = assign_all(book, place, endpoint, fingerprint, now)?;
    Ok((keys[0].clone(), due))
}

fn assign_all(
    book: &mut Book,
    place: &Place,
    endpoint: &str,
    fingerprint: &str,
    now: Time,
) -> Result<(Vec<LeaseKey>, Due), LeaseError> {
    let options = DhcpEndpointOptions {
        id: fingerprint.strip_prefix("id ").map(str::to_owned),
        ..DhcpEndpointOptions::default()
    };
    let asked = Asked {
        network: &place.network,
        endpoint: &id(endpoint),
        link: &place.link,
        vlan: place.vlan,
        mac: None,
        shared: None,
        network_options: &place.network_options,
        options: &options,
        fingerprint: fingerprint.to_owned(),
    };
    book.assign(&asked, 7, now)
}

fn kinds(due: &Due) -> Vec<dhcp::Kind> {
    let kind = |message: &Outgoing| match message {
        Outgoing::Dhcp4(message, _) => message.kind(),
        Outgoing::Solicitation => None,
    };
    due.sends.iter().filter_map(|(_, message)| kind(message)).collect()
}

/// Answers what is sent: each client has an address of its own.
fn serve(book: &mut Book, place: &Place, now: Time) -> Due {
    let mut all = Due::default();
    for _ in 0..1000 {
        let due = book.poll(now);
        if due.sends.is_empty() {
            break;
        }
        let mut waiting = due.sends.clone();
        all.records.extend(due.records);
        while let Some((_, message)) = waiting.pop() {
            let Outgoing::Dhcp4(message, _) = message else { continue };
            let kind = match message.kind() {
                Some(dhcp::Kind::Discover) => dhcp::Kind::Offer,
                Some(dhcp::Kind::Request) => dhcp::Kind::Ack,
                _ => continue,
            };
            let mut answer = Message::of_client(kind, message.xid, message.chaddr);
            let [.., a, b] = message.chaddr;
            (answer.is_reply, answer.yiaddr) = (true, [10, 1, a, b | 1].into());
            answer.set(dhcp::message::option::SERVER, [10, 0, 0, 1]);
            answer.set(dhcp::message::option::SUBNET_MASK, [255, 0, 0, 0]);
            answer.set(dhcp::message::option::LEASE_TIME, 1000u32.to_be_bytes());
            let due = book.receive(&place.link, &Incoming::Dhcp4(Box::new(answer), [6; 6]), now);
            waiting.extend(due.sends);
            all.records.extend(due.records);
            all.notices.extend(due.notices);
        }
    }
    all
}

#[test]
fn containers_that_look_alike_have_one_identity_each_and_find_it_again() {
    let (mut book, place) = (Book::default(), place());
    let keys: Vec<_> = (0..3).map(|n| assign(&mut book, &place, &format!("e{n}"), "web", n).unwrap().0).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(assign(&mut book, &place, "e1", "web", 9).unwrap().0, keys[1], "a repeated request");
    // The one that stopped first is started first.
    for (endpoint, now) in [("e2", 20), ("e0", 21)] {
        book.park(&id(endpoint), now);
    }
    assert_eq!(assign(&mut book, &place, "f1", "data", 30).unwrap().0.owner.to_string(), "container data#1");
    assert_eq!(assign(&mut book, &place, "f2", "web", 30).unwrap().0, keys[2]);
    assert_eq!(assign(&mut book, &place, "f3", "web", 30).unwrap().0, keys[0]);
    let (fourth, _) = assign(&mut book, &place, "f4", "web", 30).unwrap();
    assert!(!keys.contains(&fourth));
}

#[test]
fn vlans_of_a_bridge_are_places_of_their_own() {
    let (mut book, place) = (Book::default(), place());
    let other = Place { vlan: Some(Vid::new(40).unwrap()), ..self::place() };
    let (one, _) = assign(&mut book, &place, "e1", "id printer", 0).unwrap();
    let (two, _) = assign(&mut book, &other, "e2", "id printer", 0).unwrap();
    assert!(one != two && spoken(&one) == place.link && spoken(&two) != place.link);
    assert_eq!((book.links().len(), book.poll(0).sends.len()), (2, 2), "one at a time in each");
    let refused = assign(&mut book, &other, "e3", "id printer", 1).unwrap_err().to_string();
    assert!(refused.contains("br-lan in VLAN 40"), "{refused}");
}

#[test]
fn an_engine_that_repeats_the_hardware_address_changes_no_identity() {
    let (mut book, place) = (Book::default(), place());
    let (key, _) = assign(&mut book, &place, "e1", "web", 0).unwrap();
    let mac = book.slot(&key).unwrap().record.mac;
    let asked = |endpoint, mac| Asked {
        network: &place.network,
        endpoint,
        link: &place.link,
        vlan: None,
        mac: Some(mac),
        shared: None,
        network_options: &place.network_options,
        options: &NONE,
        fingerprint: String::new(),
    };
    let (e2, e3) = (id("e2"), id("e3"));
    assert_eq!(book.assign(&asked(&e2, mac), 7, 1).unwrap().0[0].owner, LeaseOwner::Mac(mac), "the other one runs");
    book.park(&id("e1"), 2);
    book.park(&e2, 2);
    assert_eq!(assign(&mut book, &place, "e4", "web", 3).unwrap().0, key);
    book.park(&id("e4"), 4);
    assert_eq!(book.assign(&asked(&e3, mac), 7, 5).unwrap().0, [key], "the one that was used last");
    let other = Mac::derive("x", "y");
    assert_eq!(book.assign(&asked(&e2, other), 7, 6).unwrap().0[0].owner, LeaseOwner::Mac(other));
}

#[test]
fn an_identity_has_one_endpoint() {
    let (mut book, place) = (Book::default(), place());
    assign(&mut book, &place, "e1", "id printer", 0).unwrap();
    let refused = assign(&mut book, &place, "e2", "id printer", 1);
    assert!(matches!(refused, Err(LeaseError::InUse { ref other, .. }) if *other == id("e1")), "{refused:?}");
    book.park(&id("e1"), 2);
    assign(&mut book, &place, "e2", "id printer", 3).unwrap();
}

#[test]
fn a_parked_lease_is_there_at_once_and_given_back_in_the_end() {
    let (mut book, place) = (Book::default(), place());
    let (key, due) = assign(&mut book, &place, "e1", "web", 0).unwrap();
    assert_eq!((due.records.len(), due.sends.len()), (1, 0), "recorded before anything is sent");
    let served = serve(&mut book, &place, 0);
    assert!(served.notices.contains(&(key.clone(), Notice::Granted)));
    assert!(matches!(&served.records[..], [Record::Lease(lease)] if lease.held.is_some()));
    let address = book.lease(&key, 0).unwrap().1.address();
    book.use_address(&key, address);
    assert_eq!(book.slot(&key).unwrap().state(0), LeaseState::Bound);
    book.park(&id("e1"), 1_000);
    assert_eq!(book.slot(&key).unwrap().state(1_000), LeaseState::Parked);
    assert_eq!(book.next(1_000), book.slot(&key).unwrap().client.deadline(1_000));
    let (again, due) = assign(&mut book, &place, "e2", "web", 2_000).unwrap();
    assert_eq!((&again, book.lease(&key, 2_000).unwrap().1.address(), due.sends.len()), (&key, address, 0));
    assert_eq!(serve(&mut book, &place, 2_000).notices, [(key.clone(), Notice::Granted)], "confirmed meanwhile");
    book.park(&id("e2"), 3_000);
    serve(&mut book, &place, 600_000);
    assert!(book.poll(602_999).sends.is_empty());
    let due = book.poll(603_000);
    assert_eq!(kinds(&due), [dhcp::Kind::Release]);
    let slot = book.slot(&key).unwrap();
    assert_eq!((slot.state(603_000), slot.record.address), (LeaseState::Remembered, Some(address)));
    assert_eq!(book.next(603_000), Time::MAX);
}

#[test]
fn a_search_that_nobody_waits_for_ends() {
    let (mut book, place) = (Book::default(), place());
    let (key, _) = assign(&mut book, &place, "e1", "web", 0).unwrap();
    assert_eq!(book.poll(0).sends.len(), 1);
    book.park(&id("e1"), 8_000);
    let mut now = 8_000;
    while book.next(now) != Time::MAX {
        now = book.next(now);
        book.poll(now);
        assert!(now <= 8_000 + PERSISTENCE, "{now}");
    }
    assert!(book.slot(&key).unwrap().client.is_idle() && book.links().is_empty());
}

#[test]
fn a_later_process_knows_everything_and_parks_what_has_no_endpoint() {
    let (mut book, place) = (Book::default(), place());
    let mut records = BTreeMap::new();
    for (endpoint, of) in [("e1", "web"), ("e2", "id printer"), ("e3", "data")] {
        let (_, due) = assign(&mut book, &place, endpoint, of, 0).unwrap();
        for record in due.records.into_iter().chain(serve(&mut book, &place, 0).records) {
            let Record::Lease(lease) = record else { panic!("{record:?}") };
            records.insert(lease.key.clone(), lease);
        }
    }
    let mut next = Book::default();
    for record in records.values() {
        let json = serde_json::to_string(record).unwrap();
        next.restore(serde_json::from_str(&json).unwrap(), 9);
    }
    let used = |_: &NetworkId, endpoint: &EndpointId, _: LeaseSource| {
        let key = records.iter().find(|(_, record)| record.endpoint.as_ref() == Some(endpoint))?.0;
        (*endpoint != id("e3")).then(|| records[key].address).flatten()
    };
    assert_eq!(next.settle(used, 100).len(), 1);
    assert!(next.poll(100).sends.is_empty(), "nothing is due");
    let states: Vec<_> = next.slots().map(|slot| slot.state(100)).collect();
    let expected = records.values().map(|record| match &record.endpoint {
        Some(endpoint) if *endpoint == id("e3") => LeaseState::Parked,
        _ => LeaseState::Bound,
    });
    assert_eq!(states, expected.collect::<Vec<_>>());
    // After a reboot the addresses are all that is left.
    let mut rebooted = Book::default();
    for record in records.values() {
        let mut record = (**record).clone();
        record.reboot();
        rebooted.restore(record, 9);
    }
    assert!(rebooted.settle(|_, _, _| None, 100).is_empty() && rebooted.poll(100).sends.is_empty());
    let (key, _) = assign(&mut rebooted, &place, "g1", "id printer", 100).unwrap();
    let due = rebooted.poll(100);
    let [(_, Outgoing::Dhcp4(message, _))] = &due.sends[..] else { panic!("{due:?}") };
    assert_eq!(message.kind(), Some(dhcp::Kind::Request));
    assert_eq!(message.address(dhcp::message::option::REQUESTED_ADDRESS).map(IpAddr::V4), records[&key].address);
}

#[test]
fn identities_are_bounded() {
    let (mut book, place) = (Book::default(), place());
    for n in 0..MOST as u64 + 10 {
        let (key, due) = assign(&mut book, &place, &format!("e{n}"), &format!("f{n}"), n).unwrap();
        book.slot(&key).unwrap().client.stop();
        book.park(&id(&format!("e{n}")), n);
        let forgotten = due.records.iter().any(|record| matches!(record, Record::NoLease { .. }));
        assert_eq!(forgotten, n >= MOST as u64);
    }
    assert_eq!(book.slots().count(), MOST);
}

#[test]
fn what_routers_said_is_known_as_long_as_a_client_listens() {
    let network_options = DhcpOptions { v4: true, slaac: true, ..DhcpOptions::default() };
    let (mut book, place) = (Book::default(), Place { network_options, ..place() });
    let (keys, _) = assign_all(&mut book, &place, "e1", "id printer", 0).unwrap();
    assert_eq!(keys.iter().map(|key| key.source).collect::<Vec<_>>(), LeaseSource::ALL);
    let solicitations = |due: &Due| due.sends.iter().filter(|(_, sent)| *sent == Outgoing::Solicitation).count();
    assign_all(&mut book, &place, "e2", "id other", 0).unwrap();
    assert_eq!(solicitations(&book.poll(0)), 1, "one for both");
    let said = dhcp::Advertisement {
        router: "fe80::1".parse().unwrap(),
        lifetime: 1800,
        managed: false,
        other: false,
        mtu: None,
        prefixes: vec![dhcp::advertisement::Prefix {
            prefix: "2001:db8::".parse().unwrap(),
            length: 64,
            autonomous: true,
            valid: 9000,
            preferred: 9000,
        }],
        dns: Vec::new(),
    };
    let due = book.receive(&place.link, &Incoming::Router(Box::new(said)), 10);
    assert_eq!((due.notices.len(), due.records.len()), (2, 2));
    assert!(
        assign_all(&mut book, &place, "e3", "id third", 20)
            .unwrap()
            .1
            .notices
            .contains(&(LeaseKey { owner: LeaseOwner::Id("third".to_owned()), ..keys[1].clone() }, Notice::Granted))
    );
    // An identity is used as a whole: neither of its leases goes to another endpoint.
    let only_v4 = self::place();
    let refused = assign(&mut book, &only_v4, "e4", "id printer", 30);
    assert!(matches!(refused, Err(LeaseError::InUse { .. })), "{refused:?}");
    ["e1", "e2", "e3"].iter().for_each(|endpoint| assert_eq!(book.park(&id(endpoint), 40).len(), 2));
    let (hardware, _) = book.lease(&keys[1], 40).unwrap();
    assert_eq!(book.slot(&keys[0]).unwrap().record.mac, hardware);
    book.end_network(&place.network, 50);
    book.slots.values_mut().for_each(|slot| slot.client.stop());
    let (keys, due) = assign_all(&mut book, &place, "e5", "id printer", 60).unwrap();
    assert!(due.notices.is_empty() && book.lease(&keys[1], 60).is_none(), "{due:?}");
}
