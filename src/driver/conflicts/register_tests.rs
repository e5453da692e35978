use super::*;

const WAIT: Duration = Duration::from_millis(120);

fn link() -> IfName {
    IfName::parse("br-lan").unwrap()
}

fn place(text: &str) -> Place {
    (link(), text.parse().unwrap())
}

fn mac(n: u8) -> Mac {
    Mac::from_bytes([2, 0, 0, 0, 0, n])
}

fn sighting(address: &str, n: u8) -> Sighting {
    Sighting { link: link(), address: address.parse().unwrap(), mac: mac(n) }
}

fn defended(id: &str, n: u8) -> Defended {
    let (network, endpoint) = (NetworkId::parse("n").unwrap(), EndpointId::parse(id).unwrap());
    Defended { network, endpoint, mac: Some(mac(n)) }
}

#[test]
fn silence_is_known_after_the_wait_and_not_for_ever() {
    let (mut register, now, at) = (Register::default(), Instant::now(), place("10.0.0.9"));
    assert_eq!(register.known(&at, now), Known::Nothing);
    register.ask(&at, WAIT, now);
    assert_eq!(register.known(&at, now), Known::Asked(now + WAIT));
    assert_eq!(register.known(&at, now + WAIT), Known::Silent);
    // Asked again while it is known, it stays known.
    let again = now + FRESH / 2 + WAIT;
    assert!(!register.expires(&at, now + WAIT) && register.expires(&at, again));
    register.ask(&at, WAIT, again);
    assert_eq!([Duration::ZERO, WAIT, FRESH].map(|after| register.known(&at, again + after)), [Known::Silent; 3]);
    assert_eq!(register.known(&at, again + WAIT + FRESH), Known::Nothing);
}

#[test]
fn an_answer_counts_at_once_and_is_avoided_for_an_hour() {
    let (mut register, now, at) = (Register::default(), Instant::now(), place("10.0.0.9"));
    register.ask(&at, WAIT, now);
    assert_eq!(register.sight(&sighting("10.0.0.9", 7), now), (None, true));
    assert_eq!(register.known(&at, now), Known::Taken(mac(7)));
    assert!(register.avoids(&at, now + PARKED / 2) && !register.avoids(&at, now + PARKED));
    // A user who asks for the address has it asked for again, and no host answers this time.
    let later = now + Duration::from_secs(5);
    assert_eq!(register.known(&at, later), Known::Nothing);
    register.ask(&at, WAIT, later);
    assert!(register.avoids(&at, later), "not before others had the time to answer");
    assert_eq!(register.known(&at, later + WAIT), Known::Silent);
    assert!(!register.avoids(&at, later + WAIT));
    // What was silent can be taken at any time.
    register.sight(&sighting("10.0.0.9", 7), later + 2 * WAIT);
    assert_eq!(register.known(&at, later + 2 * WAIT), Known::Taken(mac(7)));
}

#[test]
fn a_question_is_repeated_once_unless_it_was_answered() {
    let (mut register, now) = (Register::default(), Instant::now());
    register.ask(&place("10.0.0.9"), WAIT, now);
    register.ask(&place("10.0.0.10"), WAIT, now);
    register.ask(&place("10.0.0.11"), Duration::ZERO, now);
    assert!(register.repeat(now).is_empty());
    assert_eq!(register.next_repeat(), Some(now + WAIT / 2));
    register.sight(&sighting("10.0.0.10", 7), now);
    assert_eq!(register.repeat(now + WAIT / 2), [(link(), vec!["10.0.0.9".parse().unwrap()])].into());
    assert!(register.repeat(now + WAIT).is_empty() && register.next_repeat().is_none());
}

#[test]
fn endpoints_conflict_with_other_hosts_and_not_with_each_other() {
    let (mut register, now, at) = (Register::default(), Instant::now(), place("10.0.0.9"));
    register.defend(at.clone(), defended("one", 1));
    register.defend(place("10.0.0.10"), defended("two", 2));
    for own in [1, 2] {
        assert_eq!(register.sight(&sighting("10.0.0.9", own), now), (None, false));
    }
    let (conflict, _) = register.sight(&sighting("10.0.0.9", 7), now);
    let conflict = conflict.expect("another host");
    assert_eq!((conflict.of.clone(), conflict.other), (defended("one", 1), mac(7)));
    assert_eq!(register.sight(&sighting("10.0.0.9", 7), now).0, None, "once");
    assert!(register.sight(&sighting("10.0.0.9", 8), now).0.is_some(), "yet another host");
    assert_eq!(register.conflicts(now).len(), 2);
    assert!(register.conflicts(now + PRESENT).is_empty());
    assert!(register.sight(&sighting("10.0.0.9", 7), now + PRESENT).0.is_some(), "again after a long time");
    // Frames of an endpoint that was just deleted are no conflict of the next one with its address.
    register.forget(&EndpointId::parse("one").unwrap(), now);
    assert!(register.conflicts(now).is_empty());
    register.defend(at, defended("three", 3));
    assert_eq!(register.sight(&sighting("10.0.0.9", 1), now).0, None);
    assert!(register.sight(&sighting("10.0.0.9", 1), now + LATE).0.is_some());
}

#[test]
fn other_hosts_cannot_make_it_grow() {
    let (mut register, now) = (Register::default(), Instant::now());
    for n in 0..10_000u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + n);
        assert_eq!(register.sight(&sighting(&address.to_string(), 7), now), (None, false));
    }
    assert!(register.asked.is_empty() && register.conflicts.is_empty());
    register.defend(place("10.0.0.9"), defended("one", 1));
    for n in 0..1000u32 {
        let [.., a, b] = n.to_be_bytes();
        let other = Sighting { mac: Mac::from_bytes([6, 0, 0, 0, a, b]), ..sighting("10.0.0.9", 0) };
        register.sight(&other, now);
    }
    assert_eq!(register.conflicts.len(), CONFLICTS);
    let lines = (0..1000).filter(|_| register.may_log(now)).count();
    assert_eq!(lines, LOG_LINES as usize);
    assert!(register.may_log(now + LOG_PERIOD));
    // Nor do requests: what is no longer known makes room.
    for n in 0..3 * ASKED as u32 {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string();
        register.ask(&place(&address), WAIT, now + n / 1000 * FRESH);
    }
    assert!(register.asked.len() <= ASKED);
}
