//! Fuzzes what a DHCP server, real or forged, sends: a frame, a message and its options are read without a
//! panic; what was read is written so that it reads the same; a lease has an address that a host can have; and a client
//! that receives any number of such messages has no lease that none of them granted.

#![no_main]

use dhcp::client::{Client, Identity, Output};
use dhcp::message::option;
use dhcp::{Kind, Lease, Message, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((message, from)) = frame::for_clients(data) {
        let _ = Message::decode(message);
        assert!(data.len() >= message.len() && data[6..12] == from);
    }
    if let Some(message) = Message::decode(data) {
        assert_eq!(Message::decode(&message.encode()), Some(message.clone()));
        let framed = frame::to_clients(data, [6; 6], [192, 0, 2, 1].into());
        assert_eq!(frame::for_clients(&framed), Some((data, [6; 6])));
        if let Some(lease) = Lease::of(&message) {
            assert!(!lease.address.is_unspecified() && !lease.address.is_multicast() && !lease.address.is_loopback());
            assert!(lease.contains(lease.address) && (1..=32).contains(&lease.prefix));
            assert!(lease.renewal <= lease.rebinding && lease.rebinding <= lease.duration);
            assert!(lease.routes.iter().all(|route| (1..=32).contains(&route.prefix)));
        }
        converse(&message);
    }
});

/// Answers everything that a client sends with this message, made to fit.
fn converse(message: &Message) {
    let hardware = [2, 0, 0, 0, 0, 7];
    let mut client = Client::new(Identity { hardware, ..Identity::default() }, None, 7);
    client.start(0);
    let mut outputs = client.take_turn(0);
    for now in 0..20 {
        let Some(Output::Send(sent, _)) = outputs.pop() else { break };
        let mut answer = message.clone();
        (answer.is_reply, answer.xid, answer.chaddr) = (true, sent.xid, hardware);
        let kind = if sent.kind() == Some(Kind::Discover) { Kind::Offer } else { Kind::Ack };
        answer.set(option::KIND, [kind as u8]);
        outputs = client.receive(&answer, [6; 6], now);
    }
    if let Some(held) = client.held() {
        assert_eq!(Some(&held.lease), Lease::of(message).as_ref());
    }
}
