//! The parsers on bytes that no kernel would send: they return for any input.

use nft::element::parse_entries;
use nft::{Direction, Expressions, message};
use pontoon::linux::firewall::elements::{Set, decode, entries, set_of};
use pontoon::linux::firewall::forward_accept;
use pontoon::linux::frame::{Frames, Listing, verdict};
use pontoon::linux::tlv::{Attributes, Writer};
use pontoon::linux::{addr, conntrack, forward, link, route};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// All parsers of kernel messages.
fn parse_all(bytes: &[u8]) {
    for frame in Frames::new(bytes) {
        let _ = verdict(&frame);
    }
    let _ = Listing::new(1).feed(bytes, &mut |_, payload| drop(link::parse_link(payload)));
    let _ = Attributes::new(bytes).count();
    let _ = link::parse_link(bytes);
    let _ = addr::parse_address(bytes);
    let _ = route::parse_route(bytes);
    let _ = forward_accept::decode_accept(bytes);
    let _ = message::comment(bytes);
    let _ = forward::parse_forward_rule(bytes);
    let _ = conntrack::parse_flow(bytes);
    let entries = parse_entries(bytes);
    for set in Set::ALL {
        let _ = decode(set, &entries);
    }
}

/// Messages as written by the kernel and by Pontoon.
fn messages() -> Vec<Vec<u8>> {
    let mut whole = Writer::with_header(&[0, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    whole.text(3, "pnthx").native(4, 1450).bytes(1, &[2, 0, 0, 0, 0, 1]).nest(18, |info| {
        info.text(1, "veth").text(4, "bridge").nest(5, |port| {
            port.bytes(33, &[1]);
        });
    });
    let mut seeds = vec![whole.finish()];
    let rule = Expressions::default().link_name_starts(Direction::In, b"pnt").counter().accept();
    seeds.push(message::new_rule(2, "filter", "FORWARD", rule, "pontoon").body);
    for text in ["10.0.0.0/24", "fd00::/64", "0.0.0.0/0"] {
        let policy = pontoon::datapath::Policy::Masquerade(text.parse().unwrap());
        let (set, entries) = (set_of(&policy).spec(), entries(&policy));
        seeds.extend(message::elements("pontoon", &set, &entries, true).into_iter().map(|r| r.body));
    }
    seeds
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn damaged_messages_never_make_a_parser_panic(
        mut bytes in select(messages()),
        damage in vec((any::<Index>(), any::<u8>()), 0..6),
        end in any::<Index>(),
    ) {
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len() + 1));
        parse_all(&bytes);
    }

    #[test]
    fn noise_never_makes_a_parser_panic(bytes in vec(0..48u8, 0..64)) {
        parse_all(&bytes);
    }
}
