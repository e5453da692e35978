//! Owns the fuzzing of what is about ports, name servers and pools in other people's words: a port
//! map in a request, resolv.conf(5), `--default-address-pools`.
//!
//! The first byte picks. A port map is published by the real driver: all of it or nothing, and
//! what is taken on the host is what is listed, no more and no less.

#![no_main]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clap::Parser;
use libfuzzer_sys::fuzz_target;
use pontoon::api::Method;
use pontoon::cli::Cli;
use pontoon::datapath::fake::FakeKernel;
use pontoon::driver::{Driver, Events, Settings};
use pontoon::resolvers;
use pontoon::server::call_directly;
use pontoon::state::Ledger;

const NETWORK: &str = r#"{"NetworkID":"aa","Options":{"com.docker.network.enable_ipv4":true,"com.docker.network.enable_ipv6":true},"IPv4Data":[{"AddressSpace":"x","Pool":"10.1.0.0/24","Gateway":"10.1.0.1/24"}],"IPv6Data":[{"AddressSpace":"x","Pool":"fd01::/64","Gateway":"fd01::1/64"}]}"#;
const ENDPOINT: &str = r#"{"NetworkID":"aa","EndpointID":"e1","Interface":{"Address":"10.1.0.2/24","AddressIPv6":"fd01::2/64","MacAddress":""},"Options":{}}"#;
const JOIN: &str = r#"{"NetworkID":"aa","EndpointID":"e1","SandboxKey":"/var/run/docker/netns/1","Options":{}}"#;
const REVOKE: &str = r#"{"NetworkID":"aa","EndpointID":"e1"}"#;

fn host() -> &'static (Driver, Arc<FakeKernel>) {
    static HOST: OnceLock<(Driver, Arc<FakeKernel>)> = OnceLock::new();
    HOST.get_or_init(|| {
        let dir = PathBuf::from(format!("/dev/shm/pontoon-fuzz-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let opened = Ledger::open(&dir, "boot").expect("a ledger");
        let kernel = Arc::new(FakeKernel::new());
        let driver = Driver::load(opened, Arc::<FakeKernel>::clone(&kernel), Settings::default(), Events::none(), Vec::new);
        driver.start().expect("the fake kernel does not fail");
        for (method, body) in
            [(Method::CreateNetwork, NETWORK), (Method::CreateEndpoint, ENDPOINT), (Method::Join, JOIN)]
        {
            assert!(call_directly(&driver, method, body.as_bytes()), "{method:?}");
        }
        (driver, kernel)
    })
}

fn port_map(map: &[u8]) {
    let (driver, kernel) = host();
    let head = br#"{"NetworkID":"aa","EndpointID":"e1","Options":{"com.docker.network.portmap":"#;
    let body = [head, map, b"}}"].concat();
    let agree = || {
        let listed: BTreeSet<_> = pontoon::admin::ports::of_daemon(driver).into_iter().map(|line| line.at).collect();
        assert_eq!(listed, kernel.reserved());
    };
    let before = kernel.reserved();
    let done = call_directly(driver, Method::ProgramExternalConnectivity, &body);
    agree();
    if done {
        // The same again changes nothing, the ports that were chosen included.
        let taken = kernel.reserved();
        assert!(call_directly(driver, Method::ProgramExternalConnectivity, &body));
        assert_eq!(kernel.reserved(), taken);
    } else {
        assert_eq!(kernel.reserved(), before);
    }
    assert!(call_directly(driver, Method::RevokeExternalConnectivity, REVOKE.as_bytes()));
    assert!(kernel.reserved().is_empty());
    kernel.take_steps();
    kernel.take_flushed();
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    match first % 4 {
        0 | 1 => port_map(rest),
        2 => drop(resolvers::parse(&String::from_utf8_lossy(rest))),
        _ => {
            let pools = String::from_utf8_lossy(rest);
            if let Err(refusal) = Cli::try_parse_from(["pontoon", "serve", "--default-address-pools", &pools]) {
                assert!(!refusal.to_string().is_empty());
            }
        }
    }
});
