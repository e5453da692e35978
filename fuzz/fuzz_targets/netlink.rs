//! Owns the fuzzing of what the kernel answers: a datagram goes through the framing, and every
//! payload, as well as the whole input, through every parser. None may panic; elements that are
//! recognised stand for the same keys when they are written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pontoon::linux::frame::{Frames, Listing, verdict};
use pontoon::linux::nft::{element, expression, message};
use pontoon::linux::tlv::{Attributes, text};
use pontoon::linux::{addr, link, route};

const SETS: [element::Set; 6] = [
    element::Set::Bridges,
    element::Set::Internal,
    element::Set::Engine,
    element::Set::Intra,
    element::Set::Masq4,
    element::Set::Masq6,
];

fn parse(payload: &[u8]) {
    for (_, value) in Attributes::new(payload) {
        let _ = (text(value), Attributes::new(value).count());
    }
    let _ = link::parse_link(payload).map(|link| (link.ifname(), link.live(), link.dead(), link.info()));
    let _ = addr::parse_address(payload).map(|address| address.automatic_for(None));
    let _ = route::parse_route(payload);
    let _ = (message::comment(payload), expression::decode_accept(payload));

    let keys = element::parse_elements(payload);
    for set in SETS {
        for element in element::decode(set, &keys).into_iter().flatten() {
            let again = element::decode(set, &element::keys(&element));
            assert_eq!(again, Some(vec![element]));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    parse(data);
    let mut sequence = 1;
    for frame in Frames::new(data) {
        sequence = frame.sequence;
        let _ = verdict(&frame);
        parse(frame.payload);
    }
    let _ = Listing::new(sequence).feed(data, &mut |_, payload| parse(payload));
});
