//! The parsers on bytes that no kernel would send: they return, whatever they are given.

use nft::element::parse_entries;
use nft::{Direction, Expressions, message};
use pontoon::linux::firewall::elements::{Set, decode, entries, set_of};
use pontoon::linux::firewall::forward_accept;
use pontoon::linux::frame::{Frames, Listing, verdict};
use pontoon::linux::tlv::{Attributes, Writer};
use pontoon::linux::{addr, conntrack, forward, link, route};

/// Everything that reads what the kernel sent.
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

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

#[test]
fn damaged_messages_never_make_a_parser_panic() {
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
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..30_000 {
        let mut bytes = seeds[dice.roll(seeds.len())].clone();
        for _ in 0..dice.roll(6) {
            let at = dice.roll(bytes.len());
            bytes[at] = dice.roll(256) as u8;
        }
        bytes.truncate(dice.roll(bytes.len() + 1));
        parse_all(&bytes);
        let noise: Vec<u8> = (0..dice.roll(64)).map(|_| dice.roll(48) as u8).collect();
        parse_all(&noise);
    }
}
