mod any;

use std::collections::BTreeMap;

use super::*;
use crate::lease::FOR_EVER;

const SERVER: [u8; 6] = [6, 0, 0, 0, 0, 1];

pub(crate) fn identity(n: u8) -> Identity {
    let client_id = [0, b'n', n].to_vec();
    Identity { hardware: [2, 0, 0, 0, 0, n], client_id, vendor: "test".to_owned(), ..Identity::default() }
}

/// A server with the addresses 10.0.0.100 and following.
#[derive(Debug)]
pub(crate) struct Server {
    pub id: Ipv4Addr,
    pub duration: u32,
    pub leases: BTreeMap<[u8; 6], Ipv4Addr>,
}

impl Default for Server {
    fn default() -> Self {
        Self { id: [10, 0, 0, 1].into(), duration: 120, leases: BTreeMap::new() }
    }
}

impl Server {
    pub fn give(&mut self, hardware: [u8; 6]) -> Ipv4Addr {
        let next = Ipv4Addr::from(0x0a00_0064 + self.leases.len() as u32);
        *self.leases.entry(hardware).or_insert(next)
    }

    pub fn reply(&self, to: &Message, kind: Kind, address: Ipv4Addr) -> Message {
        let mut reply = Message::of_client(kind, to.xid, to.chaddr);
        (reply.is_reply, reply.yiaddr) = (true, address);
        reply.set(option::SERVER, self.id.octets());
        if kind != Kind::Nak {
            reply.set(option::LEASE_TIME, self.duration.to_be_bytes());
            reply.set(option::SUBNET_MASK, [255, 255, 255, 0]);
        }
        reply
    }

    pub fn answer(&mut self, message: &Message) -> Option<Message> {
        let asked = message.address(option::REQUESTED_ADDRESS);
        match message.kind()? {
            Kind::Discover => {
                let address = self.give(message.chaddr);
                Some(self.reply(message, Kind::Offer, address))
            }
            Kind::Request if message.address(option::SERVER).is_some_and(|server| server != self.id) => None,
            Kind::Request if self.leases.get(&message.chaddr) == asked.as_ref() => {
                Some(self.reply(message, Kind::Ack, asked?))
            }
            Kind::Request => Some(self.reply(message, Kind::Nak, Ipv4Addr::UNSPECIFIED)),
            _ => None,
        }
    }
}

fn sent(outputs: &[Output]) -> Message {
    let [Output::Send(message, Destination::Broadcast)] = outputs else { panic!("one broadcast: {outputs:?}") };
    assert!(message.ciaddr.is_unspecified(), "the answer would go to the client itself");
    (**message).clone()
}

fn granted(outputs: &[Output]) {
    assert_eq!(outputs, [Output::Notice(Notice::Granted)]);
}

/// A client that was granted a lease at the time 0.
fn bound(server: &mut Server) -> Client {
    let mut client = Client::new(identity(1), None, 7);
    client.start(0);
    let discover = sent(&client.take_turn(0));
    let request = sent(&client.receive(&server.answer(&discover).unwrap(), SERVER, 0));
    granted(&client.receive(&server.answer(&request).unwrap(), SERVER, 0));
    client
}

#[test]
fn an_address_is_discovered_and_requested() {
    let mut server = Server::default();
    let mut client = Client::new(identity(1), None, 7);
    assert_eq!((client.deadline(), client.waits(5)), (Time::MAX, None));
    client.start(5);
    assert_eq!(client.waits(5), Some((Turn::Discover, 5)));
    let discover = sent(&client.take_turn(10));
    assert_eq!((discover.kind(), discover.address(option::REQUESTED_ADDRESS)), (Some(Kind::Discover), None));
    assert!(discover.broadcast && discover.options.contains_key(&option::PARAMETERS));
    assert_eq!(discover.options[&option::CLIENT_ID], [0, b'n', 1]);
    let offer = server.answer(&discover).unwrap();
    let request = sent(&client.receive(&offer, SERVER, 20));
    assert_eq!((request.kind(), request.xid), (Some(Kind::Request), discover.xid));
    assert_eq!(request.address(option::REQUESTED_ADDRESS), Some(offer.yiaddr));
    assert_eq!(request.address(option::SERVER), Some(server.id));
    // The answer to a repeated DISCOVER is none to the REQUEST.
    assert!(client.receive(&offer, SERVER, 21).is_empty() && !client.is_bound());
    granted(&client.receive(&server.answer(&request).unwrap(), SERVER, 30));
    let held = client.held().unwrap();
    assert_eq!((held.lease.address, held.granted, held.hardware), (offer.yiaddr, 20, SERVER));
    assert!(client.is_bound() && (57_000..=60_020).contains(&client.deadline()), "{}", client.deadline());
}

#[test]
fn a_discover_is_repeated_later_and_later() {
    let mut client = Client::new(identity(1), None, 7);
    client.start(0);
    let first = sent(&client.take_turn(0));
    let (mut before, mut pauses) = (0, Vec::new());
    for _ in 0..7 {
        let at = client.deadline();
        assert!(client.poll(at - 1).is_empty());
        let again = sent(&client.poll(at));
        assert_eq!((again.xid, again.secs), (first.xid, (at / 1000) as u16));
        pauses.push((at - before + 1000) / 2000 * 2);
        before = at;
    }
    assert_eq!(pauses, [4, 8, 16, 32, 64, 64, 64]);
    assert_eq!(client.seen.sent, 8);
}

#[test]
fn a_lost_request_is_repeated_and_then_everything_begins_again() {
    let mut server = Server::default();
    let mut client = Client::new(identity(1), None, 7);
    client.start(0);
    let discover = sent(&client.take_turn(0));
    client.receive(&server.answer(&discover).unwrap(), SERVER, 0);
    for _ in 1..REQUEST_TRIES {
        assert_eq!(sent(&client.poll(client.deadline())).kind(), Some(Kind::Request));
    }
    let end = client.deadline();
    assert!(client.poll(end).is_empty());
    assert_eq!(client.waits(end), Some((Turn::Discover, end)));
}

#[test]
fn a_remembered_address_is_confirmed_or_asked_for_again() {
    let mut server = Server::default();
    let address = server.give(identity(1).hardware);
    let begin = || {
        let mut client = Client::new(identity(1), Some(address), 7);
        client.start(0);
        assert_eq!(client.waits(0), Some((Turn::Reboot, 0)));
        let request = sent(&client.take_turn(0));
        assert_eq!((request.kind(), request.address(option::SERVER)), (Some(Kind::Request), None));
        assert_eq!(request.address(option::REQUESTED_ADDRESS), Some(address));
        (client, request)
    };
    let (mut client, request) = begin();
    granted(&client.receive(&server.answer(&request).unwrap(), SERVER, 1));
    assert_eq!(client.held().unwrap().lease.address, address);
    // Refused.
    let (mut client, request) = begin();
    let mut nak = server.reply(&request, Kind::Nak, Ipv4Addr::UNSPECIFIED);
    nak.set(option::TEXT, *b"wrong network");
    let outputs = client.receive(&nak, SERVER, 1);
    let refused = Notice::Refused { server: server.id, text: Some("wrong network".to_owned()) };
    assert_eq!(outputs, [Output::Notice(refused)]);
    assert_eq!(client.waits(1), Some((Turn::Discover, 1)));
    // Silence.
    let (mut client, _) = begin();
    assert!(client.poll(REBOOT_PATIENCE).is_empty());
    let discover = sent(&client.take_turn(REBOOT_PATIENCE));
    assert_eq!(discover.address(option::REQUESTED_ADDRESS), Some(address));
}

#[test]
fn an_address_that_it_never_had_is_only_wished_for() {
    let mut client = Client::new(identity(1), None, 7);
    client.prefer([10, 0, 0, 77].into());
    client.start(0);
    let discover = sent(&client.take_turn(0));
    assert_eq!(discover.kind(), Some(Kind::Discover));
    assert_eq!(discover.address(option::REQUESTED_ADDRESS), Some([10, 0, 0, 77].into()));
}

#[test]
fn a_lease_is_renewed_in_time_by_broadcast() {
    let mut server = Server::default();
    let mut client = bound(&mut server);
    let mut now = 0;
    for _ in 0..10 {
        let due = client.deadline();
        assert!((now + 57_000..=now + 60_000).contains(&due), "{due} after {now}");
        now = due;
        let request = sent(&client.poll(now));
        assert_eq!((request.kind(), request.address(option::SERVER)), (Some(Kind::Request), None));
        granted(&client.receive(&server.answer(&request).unwrap(), SERVER, now + 3));
        assert_eq!(client.held().unwrap().granted, now, "from when it asked");
    }
}

#[test]
fn renewal_is_repeated_until_the_lease_ends_and_then_any_address_is_asked_for() {
    let mut client = bound(&mut Server::default());
    let address = client.held().unwrap().lease.address;
    let (mut tries, mut last) = (0, 0);
    let end = loop {
        let now = client.deadline();
        match client.poll(now).as_slice() {
            [Output::Send(message, _)] => {
                assert!(now >= last + RENEW_SHORTEST, "{now} after {last}");
                last = now;
                assert_eq!(message.address(option::REQUESTED_ADDRESS), Some(address));
                tries += 1;
            }
            [Output::Notice(Notice::Expired)] => break now,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((end, client.valid(end), client.valid(end - 1).is_some()), (120_000, None, true));
    assert!((4..12).contains(&tries), "{tries}");
    let discover = sent(&client.take_turn(end));
    assert_eq!((discover.kind(), discover.address(option::REQUESTED_ADDRESS)), (Some(Kind::Discover), Some(address)));
    // The server is back, and gives it again.
    let mut server = Server::default();
    let request = sent(&client.receive(&server.answer(&discover).unwrap(), SERVER, end));
    granted(&client.receive(&server.answer(&request).unwrap(), SERVER, end));
    assert_eq!(client.valid(end).unwrap().lease.address, address);
}

#[test]
fn a_lease_that_ended_while_nobody_looked_is_not_renewed() {
    let mut client = bound(&mut Server::default());
    // The host was suspended.
    assert_eq!(client.poll(120_000), [Output::Notice(Notice::Expired)]);
    assert_eq!(client.waits(120_000), Some((Turn::Discover, 120_000)));
}

#[test]
fn only_its_own_server_can_refuse_a_lease_before_any_server_is_asked() {
    let mut server = Server::default();
    let other = Server { id: [10, 0, 0, 2].into(), ..Server::default() };
    let mut client = bound(&mut server);
    let now = client.deadline();
    let request = sent(&client.poll(now));
    let nak = other.reply(&request, Kind::Nak, Ipv4Addr::UNSPECIFIED);
    assert!(client.receive(&nak, SERVER, now).is_empty() && client.valid(now).is_some());
    let rebinds = client.held().unwrap().rebinds();
    assert!(matches!(client.receive(&nak, SERVER, rebinds)[..], [Output::Notice(Notice::Refused { .. })]));
    let mut client = bound(&mut server);
    let request = sent(&client.poll(client.deadline()));
    let nak = server.reply(&request, Kind::Nak, Ipv4Addr::UNSPECIFIED);
    client.receive(&nak, SERVER, now);
    assert_eq!((client.held(), client.waits(now)), (None, Some((Turn::Discover, now))));
}

#[test]
fn what_is_not_for_it_is_ignored() {
    let mut server = Server::default();
    let mut client = Client::new(Identity { servers: vec![server.id], ..identity(1) }, None, 7);
    client.start(0);
    let discover = sent(&client.take_turn(0));
    let offer = server.answer(&discover).unwrap();
    let changed: [&dyn Fn(&mut Message); 7] = [
        &|message| message.xid ^= 1,
        &|message| message.chaddr[5] ^= 1,
        &|message| message.is_reply = false,
        &|message| message.set(option::SERVER, [10, 0, 0, 9]),
        &|message| drop(message.options.remove(&option::SERVER)),
        &|message| message.set(option::KIND, [Kind::Ack as u8]),
        &|message| message.yiaddr = Ipv4Addr::BROADCAST,
    ];
    for change in changed {
        let mut wrong = offer.clone();
        change(&mut wrong);
        assert!(client.receive(&wrong, SERVER, 0).is_empty(), "{wrong:?}");
    }
    assert_eq!((client.seen.ignored.len(), client.seen.offers.len()), (1, 0));
    let request = sent(&client.receive(&offer, SERVER, 0));
    // A server that did not offer it.
    let stranger = Server { id: [10, 0, 0, 9].into(), ..Server::default() };
    for kind in [Kind::Ack, Kind::Nak] {
        assert!(client.receive(&stranger.reply(&request, kind, offer.yiaddr), SERVER, 0).is_empty());
    }
    granted(&client.receive(&server.answer(&request).unwrap(), SERVER, 0));
    // Nothing was asked.
    assert!(client.receive(&server.answer(&request).unwrap(), SERVER, 0).is_empty());
}

#[test]
fn a_declined_address_is_told_to_the_server_and_another_is_asked_for() {
    let mut server = Server::default();
    let mut client = bound(&mut server);
    let address = client.held().unwrap().lease.address;
    let decline = sent(&client.decline(5));
    assert_eq!((decline.kind(), decline.address(option::REQUESTED_ADDRESS)), (Some(Kind::Decline), Some(address)));
    assert_eq!(decline.address(option::SERVER), Some(server.id));
    assert_eq!((client.waits(5), client.seen.declined), (Some((Turn::Discover, 5)), Some(address)));
    let discover = sent(&client.take_turn(5));
    assert_eq!(discover.address(option::REQUESTED_ADDRESS), None);
    let request = sent(&client.receive(&server.answer(&discover).unwrap(), SERVER, 6));
    client.receive(&server.answer(&request).unwrap(), SERVER, 7);
    client.decline(8);
    assert_eq!((client.waits(9), client.deadline()), (None, 8 + DECLINE_PAUSE), "it does not empty the pool");
}

#[test]
fn a_released_address_is_told_to_its_server_and_remembered() {
    let mut server = Server::default();
    let mut client = bound(&mut server);
    let address = client.held().unwrap().lease.address;
    let outputs = client.release(5);
    let [Output::Send(message, to)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(*to, Destination::Server { hardware: SERVER, server: server.id, client: address });
    assert_eq!((message.kind(), message.ciaddr), (Some(Kind::Release), address));
    assert!(client.is_idle() && client.held().is_none() && client.release(6).is_empty());
    client.start(7);
    assert_eq!(sent(&client.take_turn(7)).address(option::REQUESTED_ADDRESS), Some(address));
}

#[test]
fn a_lease_of_an_earlier_process_is_kept_without_a_word_until_it_is_due() {
    let held = bound(&mut Server::default()).held().unwrap().clone();
    let mut client = Client::resume(identity(1), held, 9);
    assert!(client.poll(50_000).is_empty() && client.is_bound());
    assert!(client.deadline() <= 60_000);
    client.confirm(1_000);
    assert_eq!(sent(&client.poll(1_000)).kind(), Some(Kind::Request));
}

#[test]
fn a_lease_for_ever_is_never_renewed() {
    let mut server = Server { duration: FOR_EVER, ..Server::default() };
    let client = bound(&mut server);
    assert!(client.deadline() > Time::MAX / 2 && client.valid(Time::MAX - 1).is_some());
}
