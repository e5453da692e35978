use proptest::prelude::*;

use super::*;

/// An OFFER as dnsmasq 2.90 sends it, without padding: written down by hand from RFC 2131, figure 1.
fn offer() -> Vec<u8> {
    let mut bytes = vec![2, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 3, 0x80, 0];
    bytes.extend([0, 0, 0, 0, 192, 0, 2, 17, 192, 0, 2, 1, 0, 0, 0, 0]);
    bytes.extend([2, 0, 0, 0, 0, 7]);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99]);
    bytes.extend([
        53, 1, 2, 54, 4, 192, 0, 2, 1, 51, 4, 0, 0, 0x0e, 0x10, 0, 1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 254,
    ]);
    bytes.push(255);
    bytes
}

#[test]
fn an_offer_is_read() {
    let message = Message::decode(&offer()).unwrap();
    assert_eq!((message.is_reply, message.xid, message.secs, message.broadcast), (true, 0x1234_5678, 3, true));
    assert_eq!((message.yiaddr, message.chaddr), ([192, 0, 2, 17].into(), [2, 0, 0, 0, 0, 7]));
    assert_eq!((message.kind(), message.number(option::LEASE_TIME)), (Some(Kind::Offer), Some(3600)));
    assert_eq!(message.address(option::SERVER), Some([192, 0, 2, 1].into()));
    assert_eq!(message.addresses(option::ROUTERS), [Ipv4Addr::new(192, 0, 2, 254)]);
    assert_eq!(
        (message.address(option::MTU), message.number(option::MTU), message.text(option::DOMAIN)),
        (None, None, None)
    );
}

#[test]
fn what_is_cut_off_or_of_another_hardware_is_refused() {
    let whole = offer();
    // The last byte is the end of the options, which may be missing.
    for end in 0..whole.len() - 1 {
        let cut = Message::decode(&whole[..end]);
        assert!(end >= HEADER || cut.is_none(), "{end}");
        assert!(cut.is_none_or(|message| message.options.len() < 5), "{end}");
    }
    for (at, byte) in [(0, 3), (0, 0), (1, 6), (2, 8), (236, 0), (239, 0)] {
        let mut other = whole.clone();
        other[at] = byte;
        assert_eq!(Message::decode(&other), None, "{byte} at {at}");
    }
    let mut long = whole.clone();
    let last = long.len() - 6;
    long[last] = 200;
    assert_eq!(Message::decode(&long), None, "an option longer than the message");
}

#[test]
fn options_continue_in_other_fields_and_parts() {
    let mut bytes = offer();
    bytes.pop();
    bytes.extend([52, 1, 3, 15, 3, b'l', b'a', b'n', 255]);
    bytes[108..113].copy_from_slice(&[15, 2, b'.', b'x', 255]);
    bytes[44..50].copy_from_slice(&[6, 4, 192, 0, 2, 9]);
    let message = Message::decode(&bytes).unwrap();
    assert_eq!(message.text(option::DOMAIN).unwrap(), "lan.x");
    assert_eq!(message.addresses(option::DNS_SERVERS), [Ipv4Addr::new(192, 0, 2, 9)]);
    let mut long = Message::of_client(Kind::Request, 1, [2; 6]);
    long.set(option::CLIENT_ID, vec![7; 600]);
    assert_eq!(Message::decode(&long.encode()), Some(long));
}

#[test]
fn texts_cannot_control_a_terminal() {
    let mut message = Message::of_client(Kind::Nak, 1, [2; 6]);
    message.set(option::TEXT, b"no\x1b[2J\nway\0\xff".to_vec());
    assert_eq!(message.text(option::TEXT).unwrap(), "no[2Jway\u{fffd}");
    message.set(option::TEXT, b"\0".to_vec());
    assert_eq!(message.text(option::TEXT), None);
}

#[test]
fn messages_are_as_long_as_bootp_wants_and_begin_with_their_type() {
    let mut message = Message::of_client(Kind::Discover, 7, [2, 0, 0, 0, 0, 7]);
    message.set(option::SUBNET_MASK, [255; 4]);
    let bytes = message.encode();
    assert_eq!((bytes.len(), &bytes[HEADER..HEADER + 3]), (SHORTEST, &[53, 1, 1][..]));
    assert_eq!(bytes[10..12], [0x80, 0]);
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Message::decode(&bytes);
        let mut behind = offer();
        behind.truncate(HEADER);
        behind.extend(&bytes);
        if let Some(message) = Message::decode(&behind) {
            // What was read is written so that it is read the same.
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn every_message_is_read_as_it_was_written(
        head in (any::<bool>(), any::<u32>(), any::<u16>(), any::<bool>(), any::<[u32; 3]>(), any::<[u8; 6]>()),
        mut options in prop::collection::btree_map(1u8..255, prop::collection::vec(any::<u8>(), 0..300), 0..12),
    ) {
        let (is_reply, xid, secs, broadcast, addresses, chaddr) = head;
        let [ciaddr, yiaddr, giaddr] = addresses.map(Ipv4Addr::from);
        options.remove(&option::OVERLOAD);
        let message = Message { is_reply, xid, secs, broadcast, ciaddr, yiaddr, giaddr, chaddr, options };
        prop_assert_eq!(Message::decode(&message.encode()), Some(message));
    }
}
