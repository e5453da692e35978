//! Fuzzes what a router, real or forged, sends: a frame and its options are read without a panic and within bounds; what
//! was read is written so that it reads the same; and a client that hears any number of such advertisements has an
//! address of a prefix that one of them announced, which stays for two hours at least.

#![no_main]

use dhcp::Advertisement;
use dhcp::slaac::{Client, Identity, Routers};
use dhcp::wire::Incoming;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Incoming::of_frame(data);
    // Each part is a message, after a byte that moves the time on.
    let mut routers = Routers::default();
    let hardware = Some([2, 0, 0, 0, 0, 7]);
    let (mut client, mut now) = (Client::new(Identity { hardware, stable: 7 }, None, 7), 1);
    client.start(now);
    for part in data.split(|byte| *byte == 0xf7) {
        let [pause, router, message @ ..] = part else { continue };
        now += u64::from(*pause) * 1000;
        let router = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, (*router).into());
        let Some(said) = Advertisement::decode(router, message) else { continue };
        assert!(said.prefixes.len() <= 16 && said.dns.len() <= 16);
        assert!(said.prefixes.iter().all(|prefix| prefix.preferred <= prefix.valid && prefix.length <= 128));
        assert_eq!(Advertisement::of_frame(&said.frame([6; 6])), Some(said.clone()));
        routers.hear(said, now);
        let before = client.valid(now).cloned();
        client.consider(&routers, now);
        client.poll(now);
        let Some(held) = client.held() else { continue };
        assert!(held.deprecates <= held.expires && !held.address.is_unicast_link_local() && !held.address.is_multicast());
        if let Some(before) = before.filter(|before| before.address == held.address) {
            let two_hours = now + 7_200_000;
            assert!(held.expires >= before.expires.min(two_hours), "{before:?} {held:?}");
        }
    }
});
