//! Identities that a container can claim: other addresses, another MAC, the gateway.
//!
//! Each attack succeeds without validation, on the built-in driver and with `pontoon.spoofcheck=false`, which shows
//! that it is effective.

use std::thread;
use std::time::Duration;

use crate::{
    probe::From::In,
    topology::{Scenario, on_both, on_pontoon},
};

const OFF: &str = "pontoon.spoofcheck=false";

/// A victim and an attacker on a network 10.170.N.0/24, fd70:N::/64.
struct Actors<'a> {
    scenario: &'a Scenario<'a>,
    n: u8,
    victim: String,
    evil: String,
}

impl<'a> Actors<'a> {
    #[track_caller]
    fn on(scenario: &'a Scenario<'a>, n: u8, network: &[&str], evil_on: &str) -> Self {
        let subnets = [format!("10.170.{n}.0/24"), format!("fd70:{n}::/64")];
        let name = format!("net{n}");
        scenario.network(&name, &[&["--subnet", &subnets[0], "--ipv6", "--subnet", &subnets[1]][..], network].concat());
        let (victim, evil) = (format!("victim{n}"), format!("evil{n}"));
        let at = [format!("10.170.{n}.10"), format!("fd70:{n}::10")];
        scenario.serve(&victim, &["udp:53", "tcp:80"], &["--network", &name, "--ip", &at[0], "--ip6", &at[1]]);
        let evil_on = if evil_on.is_empty() { name } else { format!("name={name},driver-opt={evil_on}") };
        let caps = ["--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"];
        scenario.serve(&evil, &["tcp:80"], &[&["--network", &evil_on][..], &caps].concat());
        Self { scenario, n, victim, evil }
    }

    fn v4(&self, host: u8) -> String {
        format!("10.170.{}.{host}", self.n)
    }

    fn v6(&self, host: &str) -> String {
        format!("fd70:{}::{host}", self.n)
    }

    /// Runs a tool of the node in the attacker's network namespace.
    #[track_caller]
    fn evil(&self, command: &str) -> String {
        self.scenario.exec_beside(&self.evil, &["bash", "-c", command]).ok()
    }

    #[track_caller]
    fn victim(&self, command: &str) -> String {
        self.scenario.exec_beside(&self.victim, &["bash", "-c", command]).ok()
    }

    fn asks(&self, probes: &[String]) -> Vec<bool> {
        let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
        let answers = self.scenario.ask(In(&self.evil), &probes);
        answers.iter().map(|answer| answer == "pong" || answer.starts_with("victim")).collect()
    }

    fn to_victim(&self) -> Vec<String> {
        let (v4, v6) = (self.v4(10), self.v6("10"));
        vec![format!("udp,{v4},53"), format!("tcp,{v4},80"), format!("udp,{v6},53"), format!("icmp,{v6},56")]
    }

    /// Sends from foreign addresses that are configured on the attacker's link.
    fn other_addresses(&self) -> Vec<bool> {
        let (a4, a6) = (self.v4(99), self.v6("99"));
        self.evil(&format!("ip address add {a4}/24 dev eth0; ip -6 address add {a6}/64 dev eth0 nodad"));
        let probes: Vec<_> = self
            .to_victim()
            .into_iter()
            .filter(|probe| !probe.starts_with("icmp"))
            .map(|probe| format!("{probe},{}", if probe.contains("fd70") { &a6 } else { &a4 }))
            .collect();
        let open = self.asks(&probes);
        self.evil(&format!("ip address del {a4}/24 dev eth0; ip -6 address del {a6}/64 dev eth0"));
        open
    }

    /// The gateway's address, and one of an unknown network: there can be no answer, so arrivals count.
    fn blind(&self) -> bool {
        let before = self.scenario.docker(&["logs", &self.victim]).ok().len();
        let to = self.v4(10);
        let probes = [format!("udp,{to},53,192.0.2.1"), format!("udp,{to},53,{}", self.v4(1))];
        let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
        let answers = self.scenario.ask(In(&self.evil), &probes);
        assert!(answers.iter().all(|answer| answer == "timeout"), "no answer to spoofed datagrams: {answers:?}");
        let text = self.scenario.docker(&["logs", &self.victim]).ok();
        text[before..].contains("got 53")
    }

    /// Sends from another MAC.
    fn other_mac(&self) -> Vec<bool> {
        let own = self.evil("cat /sys/class/net/eth0/address 2>/dev/null; ip -o link show eth0");
        let own = own.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a MAC").to_owned();
        self.evil("ip link set dev eth0 address 02:66:66:66:66:66");
        let open = self.asks(&self.to_victim());
        self.evil(&format!("ip link set dev eth0 address {own}"));
        open
    }

    /// The MACs that the victim learns for an address while the attacker claims it.
    fn learns(&self, address: &str) -> Vec<String> {
        let mut learnt = Vec::new();
        for _ in 0..3 {
            self.victim(&format!("ip neigh flush dev eth0; ping -c1 -W1 {address} >/dev/null || true"));
            thread::sleep(Duration::from_millis(50));
            let text = self.victim(&format!("ip neigh show {address} dev eth0"));
            learnt.extend(text.split("lladdr ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned));
        }
        learnt.sort();
        learnt.dedup();
        learnt
    }

    /// Claims the gateway's addresses by answers and by gratuitous ARP; returns whether the victim learns the
    /// attacker's MAC, per family.
    fn gateway(&self) -> [bool; 2] {
        let mac =
            |text: &str| text.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned);
        let own = mac(&self.evil("ip -o link show eth0")).expect("a MAC");
        let (g4, g6) = (self.v4(1), self.v6("1"));
        self.evil(&format!("ip address add {g4}/24 dev eth0; ip -6 address add {g6}/64 dev eth0 nodad"));
        // Any answer other than the gateway's is forged.
        let bridge =
            self.scenario.network_info(&format!("net{}", self.n))["Id"].as_str().unwrap_or_default().to_owned();
        let mut learned = [false; 2];
        for (at, address) in [&g4, &g6].into_iter().enumerate() {
            learned[at] = self.learns(address).contains(&own);
        }
        // Gratuitous ARP.
        self.victim(&format!("ping -c1 -W1 {g4} >/dev/null || true"));
        self.scenario.exec_in(&self.evil, &["arping", "-U", "-c", "2", "-I", "eth0", "-s", &g4, &g4]);
        self.scenario.exec_in(&self.evil, &["arping", "-A", "-c", "2", "-I", "eth0", "-s", &g4, &g4]);
        let table = self.victim(&format!("ip neigh show {g4} dev eth0"));
        learned[0] |= table.contains(&own);
        self.evil(&format!("ip address del {g4}/24 dev eth0; ip -6 address del {g6}/64 dev eth0"));
        println!("{} net{} ({bridge:.12}): attacker learned as the gateway: {learned:?}", self.scenario.driver, self.n);
        learned
    }

    /// The attacker as a regular container.
    #[track_caller]
    fn assert_regular_traffic(&self) {
        let mut open = Vec::new();
        for _ in 0..3 {
            self.victim("ip neigh flush dev eth0");
            self.evil("ip neigh flush dev eth0");
            open = self.asks(&self.to_victim());
            if open.iter().all(|open| *open) {
                return;
            }
        }
        panic!("with {} a regular container of net{} is cut off: {open:?}", self.scenario.driver, self.n);
    }
}

#[test]
fn a_container_cannot_claim_another_identity() {
    on_both(itself);
}

fn itself(scenario: &Scenario) {
    let actors = Actors::on(scenario, 1, &[], "");
    actors.assert_regular_traffic();
    let unchecked = !scenario.is_pontoon();
    assert!(actors.other_addresses().iter().all(|open| *open == unchecked), "an address that is not its own");
    assert_eq!(actors.blind(), unchecked, "an address that cannot be answered");
    actors.assert_regular_traffic();
    let open = actors.other_mac();
    // The IPv4 answers to a changed MAC need only ARP.
    assert!(open[..2].iter().all(|open| *open == unchecked), "a MAC that is not its own: {open:?}");
    assert!(unchecked || !open[2] && !open[3], "a MAC that is not its own: {open:?}");
    actors.gateway_is_safe(unchecked);
    actors.assert_regular_traffic();
}

impl Actors<'_> {
    #[track_caller]
    fn gateway_is_safe(&self, unchecked: bool) {
        if unchecked {
            // The first answer counts, which may be the gateway's.
            assert!((0..6).any(|_| self.gateway()[0]), "the attack is not effective");
        } else {
            assert_eq!(self.gateway(), [false, false], "the gateway is impersonated");
        }
    }
}

#[test]
fn source_validation_can_be_disabled() {
    on_pontoon(off);
}

fn off(scenario: &Scenario) {
    let network = Actors::on(scenario, 2, &["-o", OFF], "");
    network.assert_regular_traffic();
    assert!(network.other_addresses().iter().all(|open| *open), "the network does not validate");
    assert!(network.blind());
    assert!(network.other_mac()[..2].iter().all(|open| *open));
    network.gateway_is_safe(true);
    // One container of a network with validation.
    let endpoint = Actors::on(scenario, 3, &[], OFF);
    endpoint.assert_regular_traffic();
    assert!(endpoint.other_addresses().iter().all(|open| *open), "the endpoint is not validated");
    assert!(endpoint.blind());
    // And one with validation on a network without.
    let strict = Actors::on(scenario, 4, &["-o", OFF], "pontoon.spoofcheck=true");
    strict.assert_regular_traffic();
    assert!(strict.other_addresses().iter().all(|open| !*open), "the endpoint is validated");
    assert!(!strict.blind());
    strict.gateway_is_safe(false);
    let wrong = scenario.try_network("bad", &["-o", "pontoon.spoofcheck=perhaps"]).err();
    assert!(wrong.contains("pontoon.spoofcheck"), "{wrong}");
}
