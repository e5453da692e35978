use proptest::prelude::*;

use super::*;
use crate::advertisement::FOR_EVER;
use crate::advertisement::tests::of;

const MAC: [u8; 6] = [2, 0x11, 0x22, 0x33, 0x44, 0x55];

fn client() -> Client {
    Client::new(Identity { hardware: Some(MAC), stable: 77 }, None, 5)
}

fn routers(said: &[(Time, &str, u32, u32)]) -> Routers {
    let mut routers = Routers::default();
    for (at, prefix, valid, preferred) in said {
        let mut advertisement = of(prefix, *valid, *preferred);
        // Each prefix has its router.
        advertisement.router = format!("fe80::{}", prefix.len()).parse().unwrap();
        routers.hear(advertisement, *at);
    }
    routers
}

fn address(client: &Client) -> String {
    client.held().map(|held| held.address.to_string()).unwrap_or_default()
}

#[test]
fn the_address_is_that_which_a_kernel_forms() {
    let mut client = client();
    assert_eq!((client.deadline(), client.poll(0)), (Time::MAX, (false, None)));
    client.start(0);
    assert_eq!(client.consider(&Routers::default(), 0), None);
    assert_eq!(client.poll(0), (true, None));
    assert_eq!(client.poll(1), (false, None));
    let routers = routers(&[(20, "2001:db8:1::", 7200, 3600)]);
    assert_eq!(client.consider(&routers, 20), Some(Notice::Granted));
    assert_eq!(address(&client), "2001:db8:1:0:11:22ff:fe33:4455");
    let held = client.held().unwrap();
    assert_eq!((held.expires, held.deprecates, held.mtu), (7_200_020, 3_600_020, Some(1400)));
    // The router is asked only when it has not said so by itself for long.
    assert_eq!(client.deadline(), 2_700_020);
    assert_eq!(client.consider(&routers, 30), None, "nothing new");
}

#[test]
fn solicitations_are_repeated_with_backoff_and_what_was_seen_is_told() {
    let mut client = client();
    client.start(0);
    let (mut now, mut times) = (0, Vec::new());
    while times.len() < 8 {
        now = client.deadline();
        assert_eq!(client.poll(now), (true, None));
        times.push(now);
    }
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses
            .iter()
            .zip([4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000])
            .all(|(is, of)| is.abs_diff(of) <= JITTER),
        "{pauses:?}"
    );
    let mut said = of("2001:db8:1::", 7200, 3600);
    (said.managed, said.prefixes) = (true, Vec::new());
    let mut routers = Routers::default();
    routers.hear(said, now);
    assert_eq!(client.consider(&routers, now), None);
    assert_eq!((client.seen.sent, client.seen.managed, client.seen.routers.len()), (8, true, 1));
    client.stop();
    assert!(client.is_idle() && client.deadline() == Time::MAX);
}

#[test]
fn a_remembered_prefix_comes_first_then_a_global_one() {
    let both = routers(&[(0, "fd00:1::", 90_000, 80_000), (0, "2001:db8:1::", 7200, 3600)]);
    let mut fresh = client();
    fresh.start(0);
    fresh.consider(&both, 0);
    assert!(address(&fresh).starts_with("2001:db8:1:"), "{}", address(&fresh));
    let wanted = "fd00:1::7".parse().unwrap();
    let mut known = Client::new(Identity { hardware: Some(MAC), stable: 77 }, Some(wanted), 5);
    known.start(0);
    known.consider(&both, 0);
    assert_eq!(known.held().unwrap().address, wanted, "whatever it was formed of");
}

#[test]
fn an_address_that_another_host_has_is_followed_by_another_one() {
    let said = routers(&[(0, "2001:db8:1::", 7200, 3600)]);
    let mut client = client();
    client.start(0);
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        assert_eq!(client.consider(&said, 10), Some(Notice::Granted));
        assert!(seen.insert(address(&client)), "{seen:?}");
        client.decline(10);
        assert_eq!(client.held(), None);
    }
    assert!(seen.iter().all(|address| address.starts_with("2001:db8:1:")), "{seen:?}");
    // Where hardware addresses are shared, clients differ by what is stable.
    let shared = |stable| {
        let mut client = Client::new(Identity { hardware: None, stable }, None, 5);
        client.start(0);
        client.consider(&said, 10);
        address(&client)
    };
    assert!(shared(1) != shared(2) && shared(1) == shared(1));
}

#[test]
fn a_renumbering_moves_to_the_preferred_prefix_and_no_flood_moves_it_again_at_once() {
    let mut client = client();
    client.start(0);
    client.consider(&routers(&[(0, "2001:db8:1::", 90_000, 80_000)]), 0);
    let first = address(&client);
    // The old prefix is withdrawn.
    let said = routers(&[(70_000, "2001:db8:1::", 90_000, 0), (70_000, "2001:db8:22::", 90_000, 80_000)]);
    assert_eq!(client.consider(&said, 70_000), Some(Notice::Granted));
    assert!(address(&client).starts_with("2001:db8:22:"), "{}", address(&client));
    let back = routers(&[(71_000, "2001:db8:1::", 90_000, 80_000), (71_000, "2001:db8:22::", 90_000, 0)]);
    assert_eq!(client.consider(&back, 71_000), None);
    assert_ne!(address(&client), first);
    // A client that gave its address up is not held up.
    let mut again = client.clone();
    again.release();
    again.start(72_000);
    assert_eq!((again.consider(&back, 72_000), address(&again)), (Some(Notice::Granted), first.clone()));
    let back = routers(&[(140_000, "2001:db8:1::", 90_000, 80_000), (140_000, "2001:db8:22::", 90_000, 0)]);
    assert_eq!(client.consider(&back, 140_000), Some(Notice::Granted));
    assert_eq!(address(&client), first);
    // Without another prefix it stays.
    let none = routers(&[(210_000, "2001:db8:1::", 90_000, 0)]);
    client.consider(&none, 210_000);
    assert_eq!(address(&client), first);
}

#[test]
fn an_advertisement_cannot_end_an_address_within_two_hours() {
    let valid = |before: u32, said: u32| {
        let mut client = client();
        client.start(0);
        client.consider(&routers(&[(0, "2001:db8:1::", before, before)]), 0);
        client.consider(&routers(&[(100_000, "2001:db8:1::", said, 0)]), 100_000);
        (client.held().unwrap().expires - 100_000) / 1000
    };
    assert_eq!(
        [valid(90_000, 80_000), valid(90_000, 7_201), valid(7_300, 7_250)],
        [80_000, 7_201, 7_250],
        "as it says"
    );
    assert_eq!([valid(90_000, 0), valid(90_000, 10), valid(FOR_EVER, 0)], [7_200; 3]);
    assert_eq!([valid(1_000, 0), valid(1_000, 899)], [900; 2], "what was left");
    assert_eq!(valid(1_000, 901), 901);
}

#[test]
fn without_confirmation_it_ends_once_and_comes_back() {
    let mut client = client();
    client.start(0);
    client.consider(&routers(&[(0, "2001:db8:1::", 200, 100)]), 0);
    let (mut now, mut asked, mut ended) = (0, 0, Vec::new());
    while now < 400_000 {
        now = client.deadline();
        let (ask, notice) = client.poll(now);
        asked += u32::from(ask);
        ended.extend(notice.map(|notice| (now, notice)));
    }
    assert_eq!(ended, [(200_000, Notice::Expired)]);
    assert!(asked > 4 && client.valid(now).is_none() && client.held().is_some(), "{asked}");
    let again = routers(&[(now, "2001:db8:1::", 200, 100)]);
    assert_eq!(client.consider(&again, now), Some(Notice::Granted));
    assert!(client.valid(now).is_some());
}

#[test]
fn recorded_terms_are_resumed_and_frequent_advertisements_are_not_recorded() {
    let mut client = client();
    client.start(0);
    client.consider(&routers(&[(0, "2001:db8:1::", 86_400, 14_400)]), 0);
    let mut next = Client::resume(Identity::default(), client.held().unwrap().clone(), 9);
    assert_eq!((next.is_idle(), next.poll(10)), (false, (false, None)), "nothing is due");
    let recorded = (1..3600).filter(|second| {
        let now = second * 1000;
        // Forged ones change the terms each time.
        next.consider(&routers(&[(now, "2001:db8:1::", 86_400 - *second as u32, 14_400)]), now).is_some()
    });
    assert_eq!(recorded.count(), 59, "once a minute");
    next.release();
    assert!(next.is_idle() && next.held().is_none());
}

proptest! {
    /// The pause in milliseconds, the prefix, and how long it is valid and preferred, of each advertisement.
    #[test]
    fn no_series_of_advertisements_ends_an_address_within_two_hours(
        said in prop::collection::vec((0..5_000u64, 1..4u16, 0..10_000u32, 0..10_000u32), 1..200)
    ) {
        let (mut client, mut routers, mut now) = (client(), Routers::default(), 0);
        client.start(now);
        for (pause, prefix, valid, preferred) in said {
            now += pause;
            let before = client.valid(now).cloned();
            routers.hear(of(&format!("2001:db8:{prefix}::"), valid, preferred.min(valid)), now);
            client.consider(&routers, now);
            let Some(held) = client.held() else { continue };
            prop_assert!(held.deprecates <= held.expires);
            let least = before.filter(|before| before.address == held.address).map(|before| before.expires);
            prop_assert!(least.is_none_or(|least| held.expires >= least.min(now + TWO_HOURS)));
        }
    }
}
