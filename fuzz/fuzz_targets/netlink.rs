//! Fuzzes what the kernel answers: a datagram goes through the framing, and every
//! payload, as well as the whole input, through every parser. None may panic; elements that are
//! recognised stand for the same entries when they are written. The same datagrams go to the
//! watcher, twice: what it knows by then is what they told it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nft::message;
use pontoon::linux::firewall::{elements, forward_accept};
use pontoon::linux::frame::{Frames, Listing, verdict};
use pontoon::linux::tlv::{Attributes, text};
use pontoon::linux::watch::{Event, Known};
use pontoon::linux::{addr, conntrack, forward, link, route};

fn parse(payload: &[u8]) {
    for (_, value) in Attributes::new(payload) {
        let _ = (text(value), Attributes::new(value).count());
    }
    let _ = link::parse_link(payload).map(|link| (link.ifname(), link.live(), link.dead(), link.info()));
    let _ = addr::parse_address(payload).map(|address| address.automatic_for(None));
    let _ = (route::parse_route(payload), forward::parse_forward_rule(payload));
    let _ = (message::comment(payload), forward_accept::decode_accept(payload), conntrack::parse_flow(payload));

    let entries = nft::element::parse_entries(payload);
    for set in elements::Set::ALL {
        for policy in elements::decode(set, &entries).into_iter().flatten() {
            let again = elements::decode(set, &elements::entries(&policy));
            assert_eq!(again, Some(vec![policy]));
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

    let mut known = Known::default();
    let frames = Frames::new(data).count();
    for _ in 0..2 {
        // At most the end of one name and the beginning of another for each message.
        let events = known.route_events(data);
        assert!(events.len() <= 2 * frames && !events.contains(&Event::Overrun), "{events:?}");
    }
    assert!(matches!(known.firewall_event(data), None | Some(Event::Firewall | Event::Rules)));
});
