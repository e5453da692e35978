//! Fuzzes what other hosts on a network send: a frame of ARP or neighbour discovery is read without a panic, and an
//! address and a hardware address that it claims are ones that a host can have; announced again, they are read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pontoon::linux::packet::frame::{announcement, claim};

fuzz_target!(|data: &[u8]| {
    if let Some((address, mac)) = claim(data) {
        assert!(!address.is_unspecified() && !address.is_multicast());
        assert_eq!(mac.bytes()[0] & 1, 0);
        assert_eq!(claim(&announcement(mac, address)), Some((address, mac)));
    }
});
