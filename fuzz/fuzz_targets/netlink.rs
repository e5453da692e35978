//! Owns the fuzzing of what the kernel answers: a datagram goes through the framing, and every
//! payload, as well as the whole input, through every parser. None may panic; elements that are
//! recognised stand for the same entries when they are written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pontoon::linux::frame::{Frames, Listing, verdict};
use pontoon::linux::nft::{accept, element, message};
use pontoon::linux::tlv::{Attributes, text};
use pontoon::linux::{addr, conntrack, link, route};

fn parse(payload: &[u8]) {
    for (_, value) in Attributes::new(payload) {
        let _ = (text(value), Attributes::new(value).count());
    }
    let _ = link::parse_link(payload).map(|link| (link.ifname(), link.live(), link.dead(), link.info()));
    let _ = addr::parse_address(payload).map(|address| address.automatic_for(None));
    let _ = route::parse_route(payload);
    let _ = (message::comment(payload), accept::decode_accept(payload), conntrack::parse_flow(payload));

    let entries = element::parse_elements(payload);
    for set in element::Set::ALL {
        for element in element::decode(set, &entries).into_iter().flatten() {
            let again = element::decode(set, &element::entries(&element));
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
