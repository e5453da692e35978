//! Any sequence of events.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Start,
    Turn,
    Poll,
    Answer,
    Refuse,
    Lose,
    Decline,
    Release,
    Confirm,
    Stop,
    Wait(u32),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        Just(Act::Start),
        Just(Act::Turn),
        Just(Act::Turn),
        Just(Act::Poll),
        Just(Act::Answer),
        Just(Act::Answer),
        Just(Act::Answer),
        Just(Act::Refuse),
        Just(Act::Lose),
        Just(Act::Decline),
        Just(Act::Release),
        Just(Act::Confirm),
        Just(Act::Stop),
        (0u32..200_000).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 0..80)
}

proptest! {
    /// Whatever happens: it sends nothing before its turn or its time, never more often than every second by itself, and
    /// has no lease that no server granted.
    #[test]
    fn any_sequence_of_events(acts in acts(), seed in any::<u64>()) {
        let mut server = Server::default();
        let mut client = Client::new(identity(1), None, seed);
        let (mut now, mut last, mut polled) = (0, None, None::<Time>);
        for act in acts {
            let outputs = match act {
                Act::Start => { client.start(now); Vec::new() }
                Act::Turn => client.take_turn(now),
                Act::Poll => {
                    let due = client.deadline();
                    let outputs = client.poll(now);
                    prop_assert!(outputs.is_empty() || due <= now);
                    let sends = outputs.iter().any(|output| matches!(output, Output::Send(..)));
                    if sends {
                        prop_assert!(client.deadline() > now, "it would send again at once");
                        polled = Some(now);
                    }
                    outputs
                }
                Act::Answer => last.take().and_then(|message| server.answer(&message)).map_or(Vec::new(), |answer| client.receive(&answer, SERVER, now)),
                Act::Refuse => last.take().map_or(Vec::new(), |message: Message| client.receive(&server.reply(&message, Kind::Nak, Ipv4Addr::UNSPECIFIED), SERVER, now)),
                Act::Lose => { last = None; Vec::new() }
                Act::Decline => { server.leases.clear(); client.decline(now) }
                Act::Release => client.release(now),
                Act::Confirm => { client.confirm(now); Vec::new() }
                Act::Stop => { client.stop(); Vec::new() }
                Act::Wait(time) => { now += Time::from(time); Vec::new() }
            };
            for output in outputs {
                match output {
                    Output::Send(message, _) => {
                        prop_assert_eq!(message.chaddr, identity(1).hardware);
                        prop_assert_eq!(Message::decode(&message.encode()), Some((*message).clone()));
                        last = Some(*message);
                    }
                    Output::Notice(Notice::Granted) => {
                        let held = client.held().unwrap();
                        prop_assert_eq!(server.leases.get(&identity(1).hardware), Some(&held.lease.address));
                        prop_assert!(held.granted <= now && client.is_bound());
                    }
                    Output::Notice(_) => {}
                }
            }
            prop_assert!(polled.is_none_or(|at| at <= now));
            prop_assert!(!client.is_idle() || client.deadline() == Time::MAX);
        }
    }
}
