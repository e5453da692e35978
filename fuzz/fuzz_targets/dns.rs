//! Fuzzes what a container or a name server, real or forged, sends: it is read without a panic; what is asked for a client
//! is its question and nothing else; and an answer is accepted for no other question.

#![no_main]

use dns::answer::{self, Answer, Code};
use dns::query::{Received, receive};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [high, low, message @ ..] = data else { return };
    let id = u16::from_be_bytes([*high, *low]);
    let Received::Query(query) = receive(message) else { return };
    let asked = query.ask(id);
    let Received::Query(again) = receive(&asked) else { panic!("what is asked is a query") };
    assert!(again.question == query.question && again.id == id && asked.len() <= 512);
    let refused = answer::refuse(&query, Code::Refused);
    assert!(Answer::read(&refused, query.id, &query.question).is_some_and(|answer| answer.addresses.is_empty()));
    // The same bytes as an answer, to this question and to another.
    let mut reply = message.to_vec();
    reply[2] |= 0x80;
    if let Some(found) = Answer::read(&reply, query.id, &query.question) {
        assert!(found.addresses.len() <= 512);
    }
    assert_eq!(Answer::read(&reply, query.id.wrapping_add(1), &query.question), None);
    let _ = Answer::read(&answer::for_client(reply, id), id, &query.question);
});
