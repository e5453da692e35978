//! Which of many clients of one network may speak. Common servers test an address for seconds before they offer it, one
//! after the other, and test it again for each repeated DISCOVER: clients that all ask at once get nothing for a minute.
//! So one client at a time asks for a new address. To confirm a known address costs a server nothing, and is limited
//! only to keep bursts short.

use crate::client::{Client, Time, Turn};

/// Most clients that ask for their remembered address at the same time.
pub const REBOOTING: usize = 16;

/// How long a client keeps others waiting that does not get an answer to its DISCOVER, in milliseconds: longer than a
/// server needs to test an address.
pub const DISCOVERING: Time = 6_000;

/// The clients whose turn it is now, of those of one network. Each is given with whether a request waits for it: those
/// come first, then the ones that have waited longest.
pub fn turns<'a, K: Clone + 'a>(clients: impl Iterator<Item = (K, &'a Client, bool)> + Clone, now: Time) -> Vec<K> {
    let busy = |client: &Client| client.discovers().is_some_and(|since| now < since + DISCOVERING);
    let rebooting = clients.clone().filter(|(_, client, _)| client.is_rebooting()).count();
    let discovering = clients.clone().filter(|(_, client, _)| busy(client)).count();
    let mut waiting: Vec<_> = clients
        .filter_map(|(key, client, urgent)| client.waits(now).map(|(turn, since)| (!urgent, since, turn, key)))
        .collect();
    waiting.sort_by_key(|(patient, since, ..)| (*patient, *since));
    let of = |wanted: Turn, free: usize| {
        let those = waiting.iter().filter(move |(_, _, turn, _)| *turn == wanted);
        those.take(free).map(|(.., key)| key.clone()).collect::<Vec<_>>()
    };
    let reboots = of(Turn::Reboot, REBOOTING.saturating_sub(rebooting));
    let discovers = of(Turn::Discover, 1usize.saturating_sub(discovering));
    [reboots, discovers].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::client::tests::{Server, identity};
    use crate::client::{Notice, Output};

    /// Runs the clients against a server that works for `test` milliseconds on each new address, until all have one or
    /// the time is over. Returns that time, and the number of DISCOVERs.
    fn run(clients: &mut BTreeMap<u8, Client>, server: &mut Server, test: Time, until: Time) -> (Time, usize) {
        let (mut now, mut discovers, mut busy) = (0, 0, 0);
        let mut answers: Vec<(Time, u8, crate::Message)> = Vec::new();
        while now < until && clients.values().any(|client| !client.is_bound()) {
            let mut outputs = Vec::new();
            for key in turns(clients.iter().map(|(key, client)| (*key, client, false)), now) {
                outputs.push((key, clients.get_mut(&key).unwrap().take_turn(now)));
            }
            for (key, client) in clients.iter_mut() {
                outputs.push((*key, client.poll(now)));
            }
            for (key, output) in std::mem::take(&mut outputs) {
                for output in output {
                    let Output::Send(message, _) = output else { continue };
                    let is_discover = message.kind() == Some(crate::Kind::Discover);
                    discovers += usize::from(is_discover);
                    // One at a time, as a server does that waits for the answer of a ping.
                    busy = busy.max(now) + if is_discover { test } else { 0 };
                    answers.extend(server.answer(&message).map(|answer| (busy, key, answer)));
                }
            }
            let (due, later): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(at, ..)| *at <= now);
            answers = later;
            for (_, key, answer) in due {
                for output in clients.get_mut(&key).unwrap().receive(&answer, [6; 6], now) {
                    match output {
                        Output::Send(message, _) => {
                            answers.extend(server.answer(&message).map(|answer| (busy.max(now), key, answer)));
                        }
                        Output::Notice(notice) => assert_eq!(notice, Notice::Granted),
                    }
                }
            }
            now += 50;
        }
        (now, discovers)
    }

    #[test]
    fn a_hundred_new_clients_are_served_as_fast_as_the_server_is() {
        for test in [0, 1_000, 3_000] {
            let mut clients: BTreeMap<u8, Client> =
                (0..100).map(|n| (n, Client::new(identity(n), None, u64::from(n)))).collect();
            clients.values_mut().for_each(|client| client.start(0));
            let (took, discovers) = run(&mut clients, &mut Server::default(), test, 1_000_000);
            assert!(clients.values().all(Client::is_bound), "{test}");
            assert!(took <= 100 * (test + 150), "{took} ms with {test} ms each");
            assert_eq!(discovers, 100, "each asks once");
            let addresses: std::collections::BTreeSet<_> =
                clients.values().map(|client| client.held().unwrap().lease.address).collect();
            assert_eq!(addresses.len(), 100);
        }
    }

    #[test]
    fn known_clients_are_confirmed_in_groups() {
        let mut server = Server::default();
        let mut clients: BTreeMap<u8, Client> = (0..100)
            .map(|n| (n, Client::new(identity(n), Some(server.give(identity(n).hardware)), u64::from(n))))
            .collect();
        clients.values_mut().for_each(|client| client.start(0));
        let first = turns(clients.iter().map(|(key, client)| (*key, client, false)), 0);
        assert_eq!(first.len(), REBOOTING);
        let (took, discovers) = run(&mut clients, &mut server, 3_000, 100_000);
        assert_eq!(discovers, 0);
        assert!(clients.values().all(Client::is_bound) && took < 2_000, "{took} ms");
    }

    #[test]
    fn the_client_that_a_request_waits_for_comes_first_and_none_holds_up_the_others() {
        let mut clients: BTreeMap<u8, Client> = (0..3).map(|n| (n, Client::new(identity(n), None, 1))).collect();
        for (n, client) in &mut clients {
            client.start(u64::from(*n));
        }
        let of = |clients: &BTreeMap<u8, Client>, urgent: u8, now| {
            turns(clients.iter().map(|(key, client)| (*key, client, *key == urgent)), now)
        };
        assert_eq!((of(&clients, 9, 10), of(&clients, 2, 10)), (vec![0], vec![2]));
        clients.get_mut(&2).unwrap().take_turn(10);
        assert!(of(&clients, 2, 10 + DISCOVERING - 1).is_empty());
        assert_eq!(of(&clients, 2, 10 + DISCOVERING), [0]);
    }
}
