//! What a container may claim to be: other addresses, another MAC, the gateway.
//!
//! Each attack works where nobody checks: on the built-in driver, and with `pontoon.spoofcheck=false`. So it is known
//! to be one.

use std::thread;
use std::time::Duration;

use crate::{
    probe::From::In,
    topology::{Scenario, on_both, on_pontoon},
};

const OFF: &str = "pontoon.spoofcheck=false";

/// A victim and an attacker on a network 10.170.N.0/24, fd70:N::/64.
struct Cast<'a> {
    scenario: &'a Scenario<'a>,
    n: u8,
    victim: String,
    evil: String,
}

impl<'a> Cast<'a> {
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

    /// In the attacker's network namespace, with the node's tools.
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

    /// Sends from addresses that are not its own, set on its link as if they were.
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

    /// The victim's own address, and one of nobody's network: what arrives counts, nobody can answer.
    fn blind(&self) -> bool {
        let before = self.scenario.docker(&["logs", &self.victim]).ok().len();
        let to = self.v4(10);
        let probes = [format!("udp,{to},53,192.0.2.1"), format!("udp,{to},53,{}", self.v4(1))];
        let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
        let answers = self.scenario.ask(In(&self.evil), &probes);
        assert!(answers.iter().all(|answer| answer == "timeout"), "they are sent: {answers:?}");
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

    /// Takes the gateway's addresses, answers for them and says so unasked; whether the victim believes it.
    fn gateway(&self) -> [bool; 2] {
        let mac =
            |text: &str| text.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned);
        let own = mac(&self.evil("ip -o link show eth0")).expect("a MAC");
        let (g4, g6) = (self.v4(1), self.v6("1"));
        self.evil(&format!("ip address add {g4}/24 dev eth0; ip -6 address add {g6}/64 dev eth0 nodad"));
        // the real gateway is silent for a moment: only a liar could answer now
        let bridge =
            self.scenario.network_info(&format!("net{}", self.n))["Id"].as_str().unwrap_or_default().to_owned();
        let mut believed = [false; 2];
        for (at, address) in [&g4, &g6].into_iter().enumerate() {
            believed[at] = self.learns(address).contains(&own);
        }
        // unasked
        self.victim(&format!("ping -c1 -W1 {g4} >/dev/null || true"));
        self.scenario.exec_in(&self.evil, &["arping", "-U", "-c", "2", "-I", "eth0", "-s", &g4, &g4]);
        self.scenario.exec_in(&self.evil, &["arping", "-A", "-c", "2", "-I", "eth0", "-s", &g4, &g4]);
        let told = self.victim(&format!("ip neigh show {g4} dev eth0"));
        believed[0] |= told.contains(&own);
        self.evil(&format!("ip address del {g4}/24 dev eth0; ip -6 address del {g6}/64 dev eth0"));
        println!(
            "{} net{} ({bridge:.12}): gateway believed to be the attacker: {believed:?}",
            self.scenario.driver, self.n
        );
        believed
    }

    /// The attacker as an honest container.
    #[track_caller]
    fn honest(&self) {
        let mut open = Vec::new();
        for _ in 0..3 {
            self.victim("ip neigh flush dev eth0");
            self.evil("ip neigh flush dev eth0");
            open = self.asks(&self.to_victim());
            if open.iter().all(|open| *open) {
                return;
            }
        }
        panic!("with {} an honest container of net{} is cut off: {open:?}", self.scenario.driver, self.n);
    }
}

#[test]
fn a_container_is_only_itself() {
    on_both(itself);
}

fn itself(scenario: &Scenario) {
    let cast = Cast::on(scenario, 1, &[], "");
    cast.honest();
    let unchecked = !scenario.is_pontoon();
    assert!(cast.other_addresses().iter().all(|open| *open == unchecked), "an address that is not its own");
    assert_eq!(cast.blind(), unchecked, "an address that cannot be answered");
    cast.honest();
    let open = cast.other_mac();
    // the IPv4 answers to a changed MAC need no more than ARP
    assert!(open[..2].iter().all(|open| *open == unchecked), "a MAC that is not its own: {open:?}");
    assert!(unchecked || !open[2] && !open[3], "a MAC that is not its own: {open:?}");
    cast.gateway_is_safe(unchecked);
    cast.honest();
}

impl Cast<'_> {
    #[track_caller]
    fn gateway_is_safe(&self, unchecked: bool) {
        if unchecked {
            // whoever answers first is believed, and that may be the real one
            assert!((0..6).any(|_| self.gateway()[0]), "the attack is one");
        } else {
            assert_eq!(self.gateway(), [false, false], "the gateway is impersonated");
        }
    }
}

#[test]
fn spoofing_checks_can_be_turned_off() {
    on_pontoon(off);
}

fn off(scenario: &Scenario) {
    let network = Cast::on(scenario, 2, &["-o", OFF], "");
    network.honest();
    assert!(network.other_addresses().iter().all(|open| *open), "the network does not check");
    assert!(network.blind());
    assert!(network.other_mac()[..2].iter().all(|open| *open));
    network.gateway_is_safe(true);
    // one container of a network that checks
    let endpoint = Cast::on(scenario, 3, &[], OFF);
    endpoint.honest();
    assert!(endpoint.other_addresses().iter().all(|open| *open), "the endpoint is not checked");
    assert!(endpoint.blind());
    // and one that is checked on a network that does not
    let strict = Cast::on(scenario, 4, &["-o", OFF], "pontoon.spoofcheck=true");
    strict.honest();
    assert!(strict.other_addresses().iter().all(|open| !*open), "the endpoint is checked");
    assert!(!strict.blind());
    strict.gateway_is_safe(false);
    let wrong = scenario.try_network("bad", &["-o", "pontoon.spoofcheck=perhaps"]).err();
    assert!(wrong.contains("pontoon.spoofcheck"), "{wrong}");
}
