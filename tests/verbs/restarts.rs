//! Networks and endpoints after a restart, a reboot, and with a damaged ledger.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pontoon::admin::status;
use pontoon::datapath::fake::FakeKernel;
use pontoon::datapath::{Datapath, Kernel, LinkProperty, Object, ObjectKind, Policy, Step, Underlay};
use pontoon::driver::OverlaySettings;
use pontoon::model::IfName;
use pontoon::upkeep::{self, Cause};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use testkit::harness::{Harness, endpoint, join, network, of};

fn populated() -> Harness {
    let harness = Harness::new();
    for n in 1..4 {
        let id = format!("net{n}");
        harness.ok("NetworkDriver.CreateNetwork", network(&id, n, n == 2));
        for e in 2..5 {
            harness
                .ok("NetworkDriver.CreateEndpoint", endpoint(&id, &format!("{id}e{e}"), &format!("10.{n}.0.{e}/24")));
            harness.ok("NetworkDriver.Join", join(&id, &format!("{id}e{e}")));
        }
    }
    harness.kernel.take_steps();
    harness
}

#[test]
fn a_restart_changes_nothing_and_adopts_everything() {
    let mut harness = populated();
    let before = harness.kernel.datapath();
    harness.restart();
    assert_eq!(harness.kernel.datapath(), before);
    assert_eq!(harness.kernel.take_steps(), []);
    assert_eq!(harness.life().driver.sizes(), (3, 9));
    harness.ok("NetworkDriver.Leave", of("net1", "net1e2"));
    harness.ok("NetworkDriver.DeleteEndpoint", of("net1", "net1e2"));
    assert_eq!(harness.kernel.datapath().veths().len(), 8);
}

#[test]
fn a_reboot_restores_networks_and_drops_endpoints() {
    let mut harness = populated();
    let before = harness.kernel.datapath();
    harness.reboot();
    let after = harness.kernel.datapath();
    assert_eq!(after.bridges(), before.bridges());
    // The remaining firewall elements are those of the networks.
    let of_endpoints = |e: &Policy| {
        let source = matches!(e, Policy::SourceMac(..) | Policy::SourceAddress(..) | Policy::Source(..));
        source || matches!(e, Policy::Link(LinkProperty::SpoofChecked, _))
    };
    let mut networks = before.policy.unwrap();
    networks.retain(|e| !of_endpoints(e));
    assert_eq!(after.policy.clone().unwrap(), networks);
    assert!(after.veths().is_empty());
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("net1", "again", "10.1.0.2/24"));
}

#[test]
fn links_removed_while_the_daemon_was_down() {
    let mut harness = populated();
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("net1", "ready", "10.1.0.9/24"));
    harness.life = None;
    let before = harness.kernel.datapath();
    // A sandbox was removed, and a user deleted a bridge, a pair that is still on the host, and the table.
    harness.kernel.meddle(|d: &mut Datapath| {
        let dead = d.veths().keys().find(|h| h.as_str().contains("net2e3")).unwrap().clone();
        let ready = d.veths().keys().find(|h| h.as_str().contains("ready")).unwrap().clone();
        d.objects.remove(&dead);
        d.objects.remove(&ready);
        let bridge = d.bridges().keys().next().unwrap().clone();
        d.objects.remove(&bridge);
        for veth in d.veths_mut().map(|(_, veth)| veth).filter(|v| v.bridge.as_ref() == Some(&bridge)) {
            veth.bridge = None;
        }
        d.policy = None;
    });
    harness.restart();
    let mut expected = before;
    expected.objects.retain(|host, object| object.kind() != ObjectKind::Veth || !host.as_str().contains("net2e3"));
    expected.policy.as_mut().unwrap().retain(|e| !format!("{e:?}").contains("net2e3"));
    assert_eq!(harness.kernel.datapath(), expected);
    assert_eq!(harness.life().driver.sizes(), (3, 9), "the dead endpoint is still in the state");
}

#[test]
fn renamed_links_get_their_names_back_and_nothing_is_reaped() {
    let mut harness = populated();
    let before = harness.kernel.datapath();
    let host = before.veths().keys().find(|host| host.as_str().contains("net2e3")).unwrap().clone();
    let bridge = before.veths()[&host].bridge.clone().unwrap();
    let [foo, other] = ["foo", "other"].map(|text| IfName::parse(text).unwrap());
    let rename = |harness: &Harness| {
        let steps =
            [(&host, &foo), (&bridge, &other)].map(|(from, to)| Step::Rename { from: from.clone(), to: to.clone() });
        harness.kernel.apply(&steps).unwrap();
        // Drift of a renamed link is repaired, too.
        harness.kernel.meddle(|d| d.veths_mut().find(|(name, _)| **name == foo).unwrap().1.up = false);
        harness.kernel.take_steps();
    };
    rename(&harness);
    let repair = harness.life().driver.repair().whole().unwrap();
    assert_eq!(harness.kernel.datapath(), before);
    assert_eq!(repair.steps, harness.kernel.take_steps());
    assert_eq!((repair.steps.len(), harness.life().driver.sizes()), (3, (3, 9)));
    rename(&harness);
    harness.restart();
    assert_eq!(harness.kernel.datapath(), before);
    assert_eq!(harness.life().driver.sizes(), (3, 9));
    // A request before the repair also removes the link.
    rename(&harness);
    harness.ok("NetworkDriver.Leave", of("net2", "net2e3"));
    harness.ok("NetworkDriver.DeleteEndpoint", of("net2", "net2e3"));
    harness.life().driver.tick();
    let mut expected = before;
    expected.objects.remove(&host);
    expected.policy.as_mut().unwrap().retain(|e| !format!("{e:?}").contains("net2e3"));
    let mut left = harness.kernel.datapath();
    assert!(left.objects.remove(&foo).is_none(), "its peer identifies it");
    left.policy.as_mut().unwrap().retain(|e| !format!("{e:?}").contains("net2e3"));
    assert_eq!(left, expected);
}

#[test]
fn a_new_bridge_of_the_engine_is_followed_without_counting_a_repair() {
    let harness = populated();
    let driver = &harness.life().driver;
    let repairs = || driver.reconciler().counts.repairs.load(Relaxed);
    let before = repairs();
    let (causes, receive) = std::sync::mpsc::channel();
    upkeep::start(Arc::clone(driver), receive).unwrap();
    let follows = |bridge: &str| {
        let name = IfName::parse(bridge).unwrap();
        harness.kernel.add_link(&name, "bridge");
        causes.send(Cause::Bridge(name.clone())).unwrap();
        // Docker writes rules for its network, so the kernel reports both.
        causes.send(Cause::Firewall).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !harness
            .kernel
            .datapath()
            .policy
            .is_some_and(|all| all.contains(&Policy::Link(LinkProperty::EngineBridge, name.clone())))
        {
            assert!(Instant::now() < deadline, "{name} is not followed");
            std::thread::yield_now();
        }
    };
    follows("br-0123456789ab");
    follows("docker0");
    driver.repair_firewall().whole().unwrap();
    assert_eq!(repairs(), before, "nothing needed a repair");
    // If the table is missing as well, a repair counts.
    harness.kernel.meddle(|d| d.policy = None);
    follows("br-ba9876543210");
    let deadline = Instant::now() + Duration::from_secs(5);
    while repairs() == before {
        assert!(Instant::now() < deadline, "the repair is not counted");
        std::thread::yield_now();
    }
}

/// The ledger records that a network and an endpoint were deleted, and the process crashed before it removed them; then
/// once more during the next start.
#[test]
fn leftovers_with_a_tombstone_are_removed() {
    for crashes in 1..=2 {
        let mut harness = populated();
        harness.ok("NetworkDriver.CreateNetwork", network("late", 9, false));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("late", "late", "10.9.0.2/24"));
        harness.ok("NetworkDriver.Join", join("late", "late"));
        let left = harness.kernel.datapath();
        harness.ok("NetworkDriver.DeleteEndpoint", of("late", "late"));
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "late"}));
        for _ in 0..crashes {
            harness.life = None;
            harness.kernel.meddle(|d| *d = left.clone());
            harness.restart();
        }
        assert_eq!(harness.kernel.datapath().bridges().len(), 3, "after {crashes} crashes");
        assert_eq!(harness.kernel.datapath().veths().len(), 9, "after {crashes} crashes");
        assert!(!harness.life().driver.is_degraded());
    }
}

#[test]
fn without_a_ledger_running_objects_are_unchanged() {
    for damage in ["missing", "corrupt"] {
        let mut harness = populated();
        let before = harness.kernel.datapath();
        harness.life = None;
        match damage {
            "missing" => std::fs::remove_file(harness.ledger_file()).unwrap(),
            _ => std::fs::write(harness.ledger_file(), "this is not a ledger\n").unwrap(),
        }
        harness.restart();
        assert_eq!(harness.kernel.datapath(), before, "{damage}");
        harness.life().driver.tick();
        assert_eq!(harness.kernel.datapath(), before, "{damage}, after a tick");
        // The daemon still serves.
        harness.ok("NetworkDriver.CreateNetwork", network("fresh", 77, false));
    }
}

#[test]
fn a_ledger_of_a_newer_release_is_neither_read_nor_written() {
    let mut harness = populated();
    let before = harness.kernel.datapath();
    harness.life = None;
    let text = std::fs::read_to_string(harness.ledger_file()).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let (_, json) = header.split_once(' ').unwrap();
    let header = json.replacen("\"version\":3", "\"version\":99", 1);
    assert_ne!(header, json, "the header names its version");
    let newer = format!("{:08x} {header}\n{rest}", crc32fast::hash(header.as_bytes()));
    std::fs::write(harness.ledger_file(), &newer).unwrap();
    harness.restart();
    assert_eq!(harness.kernel.datapath(), before);
    let message = harness.err("NetworkDriver.CreateNetwork", network("fresh", 77, false));
    assert!(message.contains("99") && message.contains("ledger"), "{message}");
    // A refusal does not advise to remove objects that are in the unread ledger.
    let address = json!({"PoolID": "pontoon-local/10.1.0.0/24", "Address": "", "Options": {}});
    for (method, body) in [
        ("NetworkDriver.CreateEndpoint", endpoint("net1", "late", "10.1.0.9/24")),
        ("NetworkDriver.Join", join("net1", "net1e2")),
        ("IpamDriver.RequestAddress", address),
    ] {
        let message = harness.err(method, body);
        assert!(message.contains("format 99") && message.contains("install the newer release again"), "{message}");
        assert!(!message.contains("remove") && !message.contains("network rm"), "{message}");
    }
    harness.ok("NetworkDriver.GetCapabilities", json!(null));
    harness.ok("NetworkDriver.EndpointOperInfo", of("net1", "net1e2"));
    harness.life = None;
    assert_eq!(std::fs::read_to_string(harness.ledger_file()).unwrap(), newer);
}

#[test]
fn a_truncated_tail_loses_only_the_last_record() {
    let mut harness = populated();
    harness.life = None;
    let bytes = std::fs::read(harness.ledger_file()).unwrap();
    std::fs::write(harness.ledger_file(), &bytes[..bytes.len() - 7]).unwrap();
    let before = harness.kernel.datapath();
    harness.restart();
    assert_eq!(harness.life().driver.sizes().0, 3);
    assert_eq!(harness.kernel.datapath(), before, "a running object changed");
}

#[derive(Debug, Clone)]
enum Action {
    Restart,
    Reboot,
    FlushFirewall,
    Create(usize),
    Delete(usize),
    Attach(usize, usize),
    Detach(usize, usize),
}

fn action() -> impl Strategy<Value = Action> {
    let endpoint = || (0..4usize, 0..4usize);
    prop_oneof![
        1 => Just(Action::Restart),
        1 => Just(Action::Reboot),
        1 => Just(Action::FlushFirewall),
        2 => (0..4usize).prop_map(Action::Delete),
        4 => (0..4usize).prop_map(Action::Create),
        1 => endpoint().prop_map(|(n, e)| Action::Detach(n, e)),
        3 => endpoint().prop_map(|(n, e)| Action::Attach(n, e)),
    ]
}

fn names(n: usize, e: usize) -> (String, String, String) {
    (format!("net{n}"), format!("net{n}e{e}"), format!("10.{}.0.{}/24", n + 1, e + 2))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    /// Networks and endpoints are created and deleted, with restarts and reboots in between: the kernel then holds
    /// exactly what a fresh host holds after the creation of the same networks and endpoints.
    #[test]
    fn random_sequences_end_in_the_state_of_a_fresh_host(actions in vec(action(), 0..80)) {
        let mut harness = Harness::new();
        let mut wanted = [[false; 4]; 4];
        let mut there = [false; 4];
        for action in actions {
            match action {
                Action::Restart => harness.restart(),
                Action::Reboot => {
                    harness.reboot();
                    wanted = [[false; 4]; 4];
                }
                Action::FlushFirewall => harness.kernel.meddle(|d| d.policy = None),
                Action::Delete(n) => {
                    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": format!("net{n}")}));
                    (there[n], wanted[n]) = (false, [false; 4]);
                }
                Action::Create(n) => {
                    harness.ok("NetworkDriver.CreateNetwork", network(&format!("net{n}"), n as u8 + 1, n % 2 == 0));
                    there[n] = true;
                }
                Action::Detach(n, _) | Action::Attach(n, _) if !there[n] => {}
                Action::Detach(n, e) => {
                    let (net, id, _) = names(n, e);
                    harness.ok("NetworkDriver.DeleteEndpoint", of(&net, &id));
                    wanted[n][e] = false;
                }
                Action::Attach(n, e) => {
                    let (net, id, address) = names(n, e);
                    harness.ok("NetworkDriver.CreateEndpoint", endpoint(&net, &id, &address));
                    harness.ok("NetworkDriver.Join", join(&net, &id));
                    wanted[n][e] = true;
                }
            }
        }
        harness.life().driver.tick();
        let straight = Harness::new();
        for n in (0..4).filter(|n| there[*n]) {
            straight.ok("NetworkDriver.CreateNetwork", network(&format!("net{n}"), n as u8 + 1, n % 2 == 0));
            for e in (0..4).filter(|e| wanted[n][*e]) {
                let (net, id, address) = names(n, e);
                straight.ok("NetworkDriver.CreateEndpoint", endpoint(&net, &id, &address));
            }
        }
        prop_assert_eq!(harness.kernel.render(), straight.kernel.render());
    }
}

#[test]
fn a_join_into_another_sandbox_is_recorded() {
    let mut harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    harness.ok("NetworkDriver.Join", join("aa", "e1"));
    let mut again = join("aa", "e1");
    again["SandboxKey"] = json!("/var/run/docker/netns/another");
    harness.ok("NetworkDriver.Join", again);
    harness.restart();
    let ledger = std::fs::read_to_string(harness.ledger_file()).unwrap();
    assert!(ledger.contains("/netns/another"), "{ledger}");
}

#[test]
fn a_half_configured_bridge_is_completed() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let before = harness.kernel.datapath();
    // The state between the two requests that create it.
    harness.kernel.meddle(|datapath| {
        let is_bridge = |object: &&mut Object| object.kind() == ObjectKind::Bridge;
        let Some(Object::Bridge(bridge)) = datapath.objects.values_mut().find(is_bridge) else { panic!("no bridge") };
        (bridge.alias, bridge.up, bridge.localnet) = (String::new(), false, false);
    });
    harness.life().driver.tick();
    assert_eq!(harness.kernel.datapath(), before);
}

/// The state directory is moved away, stays empty, and is restored from a backup: no start removes anything, and each
/// reports a degraded state.
#[test]
fn a_lost_ledger_removes_nothing_until_the_engine_requests_it() {
    let mut harness = populated();
    let before = harness.kernel.datapath();
    harness.life = None;
    let state = harness.ledger_file().parent().unwrap().to_owned();
    let aside = state.with_extension("aside");
    std::fs::rename(&state, &aside).unwrap();
    for start in 1..=4 {
        harness.restart();
        harness.life().driver.tick();
        harness.life().driver.repair_all().unwrap();
        harness.life().driver.repair_firewall().whole().unwrap();
        assert_eq!(harness.kernel.datapath(), before, "start {start}");
        assert!(harness.life().driver.is_degraded(), "start {start}");
        assert_eq!(status::of_daemon(&harness.life().driver).plan.unknown.len(), 12, "start {start}");
        // Lost firewall elements are restored if this process has seen them.
        harness.kernel.meddle(|d| d.policy = None);
        harness.life().driver.repair_firewall().whole().unwrap();
        assert_eq!(harness.kernel.datapath(), before, "start {start}, a flushed firewall");
        harness.ok("NetworkDriver.CreateNetwork", network("fresh", 77, false));
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "fresh"}));
    }
    // The right ledger accounts for all of it.
    harness.life = None;
    let lost = state.with_extension("lost");
    std::fs::rename(&state, &lost).unwrap();
    std::fs::rename(&aside, &state).unwrap();
    harness.restart();
    assert_eq!(harness.kernel.datapath(), before);
    assert!(!harness.life().driver.is_degraded());
    // Without it, requests of the engine suffice: its containers and networks are removed one by one.
    harness.life = None;
    std::fs::rename(&state, &aside).unwrap();
    std::fs::rename(&lost, &state).unwrap();
    harness.restart();
    for n in 1..4 {
        for e in 2..5 {
            harness.ok("NetworkDriver.Leave", of(&format!("net{n}"), &format!("net{n}e{e}")));
            harness.ok("NetworkDriver.DeleteEndpoint", of(&format!("net{n}"), &format!("net{n}e{e}")));
        }
        harness.life().driver.tick();
        assert!(harness.life().driver.is_degraded());
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": format!("net{n}")}));
        harness.life().driver.tick();
        assert_eq!(harness.kernel.datapath().bridges().len(), 3 - n as usize);
    }
    harness.life().driver.tick();
    assert!(harness.kernel.datapath().veths().is_empty(), "{:?}", harness.kernel.datapath().veths());
    let mut left = harness.kernel.datapath().policy.unwrap();
    left.retain(|element| !matches!(element, Policy::LimitedForwarding(_) | Policy::ForwardingLink(..)));
    assert!(left.is_empty(), "unused elements are left: {left:?}");
    assert!(!harness.life().driver.is_degraded());
}

fn port_map(host: u16) -> serde_json::Value {
    json!({"com.docker.network.portmap": [{"Proto": 6, "IP": "", "Port": 80, "HostIP": "0.0.0.0", "HostPort": host, "HostPortEnd": host}]})
}

fn publish(harness: &Harness, network: &str, id: &str, host: u16) -> serde_json::Value {
    let mut body = of(network, id);
    body["Options"] = port_map(host);
    harness.life().call("NetworkDriver.ProgramExternalConnectivity", body).json()
}

/// The same with an overlay network: its tunnel is removed with it.
#[test]
fn a_lost_ledger_and_an_overlay_network() {
    let prepare = |kernel: &FakeKernel| {
        kernel.set_underlay(None, Some(Underlay { address: "192.0.2.1".parse().unwrap(), mtu: 1500 }));
    };
    let mut harness = Harness::with(OverlaySettings::default(), prepare);
    let mut body = network("far", 1, false);
    body["Options"]["com.docker.network.generic"] = json!({"pontoon.vni": "4242"});
    harness.ok("NetworkDriver.CreateNetwork", body);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("far", "e1", "10.1.0.2/24"));
    harness.ok("NetworkDriver.Join", join("far", "e1"));
    let before = harness.kernel.datapath();
    assert_eq!((before.bridges().len(), before.vxlans().len(), before.veths().len()), (1, 1, 1));
    harness.life = None;
    std::fs::remove_dir_all(harness.ledger_file().parent().unwrap()).unwrap();
    harness.restart();
    harness.life().driver.tick();
    assert_eq!(harness.kernel.datapath(), before);
    harness.ok("NetworkDriver.DeleteEndpoint", of("far", "e1"));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "far"}));
    harness.life().driver.tick();
    let after = harness.kernel.datapath();
    assert_eq!((after.bridges().len(), after.vxlans().len(), after.veths().len()), (0, 0, 0), "{after:?}");
    assert!(!harness.life().driver.is_degraded());
}

/// A ledger written between the creation of a container and the publication of its ports: they stay published, and
/// reserved, while the container exists.
#[test]
fn an_older_ledger_without_the_ports_of_a_known_container() {
    let mut harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("one", 1, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("one", "e1", "10.1.0.2/24"));
    harness.ok("NetworkDriver.Join", join("one", "e1"));
    let copy = std::fs::read(harness.ledger_file()).unwrap();
    publish(&harness, "one", "e1", 8080);
    // The engine moved the other end into the container.
    harness.kernel.meddle(|datapath| datapath.away.extend(datapath.veths().keys().cloned()));
    let before = harness.kernel.datapath();
    harness.life = None;
    std::fs::write(harness.ledger_file(), copy).unwrap();
    let is_port = |e: &&Policy| matches!(e, Policy::Published(port) if port.host.port == 8080);
    let ports = |harness: &Harness| harness.kernel.datapath().policy.iter().flatten().filter(is_port).count();
    for start in 1..=3 {
        harness.restart();
        harness.life().driver.tick();
        assert_eq!(ports(&harness), 1, "start {start}");
        assert_eq!(harness.kernel.datapath().veths(), before.veths(), "start {start}");
        let status = status::of_daemon(&harness.life().driver);
        assert!(status.state.degraded && status.plan.unknown.is_empty(), "start {start}: {:?}", status.plan);
    }
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("one", "e2", "10.1.0.3/24"));
    harness.ok("NetworkDriver.Join", join("one", "e2"));
    let refused = publish(&harness, "one", "e2", 8080);
    assert!(refused["Err"].as_str().unwrap().contains("endpoint unknown of network unknown"), "{refused}");
    harness.ok("NetworkDriver.Leave", of("one", "e1"));
    harness.ok("NetworkDriver.DeleteEndpoint", of("one", "e1"));
    harness.life().driver.tick();
    harness.life().driver.tick();
    assert_eq!(ports(&harness), 0);
    assert!(!harness.life().driver.is_degraded());
    assert!(harness.kernel.reserved().is_empty());
}

/// A ledger from before the containers: its networks and ports do not replace running ones.
#[test]
fn an_older_ledger_does_not_replace_running_objects() {
    let mut harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("old", 1, false));
    harness.ok("NetworkDriver.CreateNetwork", network("stays", 2, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("stays", "first", "10.2.0.2/24"));
    harness.ok("NetworkDriver.Join", join("stays", "first"));
    publish(&harness, "stays", "first", 8080);
    let copy = std::fs::read(harness.ledger_file()).unwrap();
    // Since then the first container ended and another one has its port; the old network was deleted and another one
    // has its subnet.
    harness.ok("NetworkDriver.Leave", of("stays", "first"));
    harness.ok("NetworkDriver.DeleteEndpoint", of("stays", "first"));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "old"}));
    harness.ok("NetworkDriver.CreateNetwork", network("new", 1, false));
    for (network, id, address) in [("stays", "second", "10.2.0.3/24"), ("new", "third", "10.1.0.2/24")] {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(network, id, address));
        harness.ok("NetworkDriver.Join", join(network, id));
    }
    publish(&harness, "stays", "second", 8080);
    let before = harness.kernel.datapath();
    harness.life = None;
    std::fs::write(harness.ledger_file(), copy).unwrap();
    for start in 1..=3 {
        harness.restart();
        harness.life().driver.tick();
        harness.life().driver.repair_all().unwrap();
        let now = harness.kernel.datapath();
        assert_eq!(now.veths(), before.veths(), "start {start}");
        assert_eq!(
            now.bridges(),
            before.bridges(),
            "start {start}: the old network's bridge was created over a running network"
        );
        let (now, had) = (now.policy.unwrap(), before.policy.clone().unwrap());
        assert!(now.is_superset(&had), "start {start}: {:?}", had.difference(&now).collect::<Vec<_>>());
        let port = |e: &&Policy| matches!(e, Policy::Published(port) if port.host.port == 8080);
        assert_eq!(now.iter().filter(port).count(), 1, "start {start}");
        let plan = status::of_daemon(&harness.life().driver).plan;
        assert_eq!((plan.unknown.len(), plan.withheld.len()), (3, 1), "start {start}: {plan:?}");
        assert!(harness.life().driver.is_degraded());
    }
    // Its port stays reserved, and the message gives the reason.
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("stays", "fourth", "10.2.0.4/24"));
    harness.ok("NetworkDriver.Join", join("stays", "fourth"));
    let refused = publish(&harness, "stays", "fourth", 8080);
    assert!(refused["Err"].as_str().unwrap().contains("endpoint unknown of network unknown"), "{refused}");
    harness.ok("NetworkDriver.Leave", of("stays", "fourth"));
    harness.ok("NetworkDriver.DeleteEndpoint", of("stays", "fourth"));
    // The containers end: this resolves the conflicts, and the withheld objects are created.
    harness.kernel.meddle(|d| {
        d.objects.retain(|_, object| object.kind() != ObjectKind::Veth);
        d.objects.retain(|name, object| object.kind() != ObjectKind::Bridge || !name.as_str().contains("new"));
    });
    harness.life().driver.tick();
    harness.life().driver.tick();
    assert!(!harness.life().driver.is_degraded());
    assert_eq!(harness.kernel.datapath().bridges().len(), 2);
    assert!(harness.kernel.reserved().is_empty());
}

/// An operator can name unknown links to remove; a bridge only together with its ports.
#[test]
fn unknown_links_are_removed_when_named() {
    let mut harness = populated();
    harness.life = None;
    std::fs::remove_dir_all(harness.ledger_file().parent().unwrap()).unwrap();
    harness.restart();
    let driver = Arc::clone(&harness.life().driver);
    let unknown = status::of_daemon(&driver).plan.unknown;
    let name = |part: &str| unknown.iter().find(|link| link.as_str().contains(part)).unwrap().clone();
    let (bridge, port) = (name("pntbnet1"), name("net1e2"));
    let [bridge_name, port_name] = [&bridge, &port].map(|name| name.to_string());
    for names in [vec![bridge_name.clone()], vec![bridge_name, port_name.clone()], vec!["eth0".to_owned()]] {
        let error = driver.remove_unknown(&names).unwrap_err().to_string();
        assert!(error.contains("nothing is removed"), "{error}");
    }
    assert_eq!(status::of_daemon(&driver).plan.unknown, unknown);
    driver.remove_unknown(&[port_name]).unwrap();
    driver.repair_all().unwrap();
    assert!(!harness.kernel.datapath().veths().contains_key(&port));
    assert_eq!(harness.kernel.datapath().veths().len(), 8);
}

/// The ledger is of an earlier boot, but the links exist.
#[test]
fn a_ledger_of_another_boot_removes_no_running_link() {
    let mut harness = populated();
    let before = harness.kernel.datapath();
    harness.boot += 1;
    for start in 1..=3 {
        harness.restart();
        harness.life().driver.tick();
        assert_eq!(harness.kernel.datapath(), before, "start {start}");
        assert_eq!(status::of_daemon(&harness.life().driver).plan.unknown.len(), 9, "start {start}");
    }
}

/// A new network can be created beside unknown links, but not with the subnet of one: shared objects would be removed
/// with the new network, although containers of the other one need them.
#[test]
fn a_new_network_beside_unknown_links() {
    let mut harness = populated();
    let before = harness.kernel.datapath();
    harness.life = None;
    std::fs::remove_dir_all(harness.ledger_file().parent().unwrap()).unwrap();
    harness.restart();
    for bridge in [None, Some("lan0")] {
        let mut body = network("same", 1, false);
        if let Some(bridge) = bridge {
            body["Options"]["com.docker.network.generic"] = json!({"com.docker.network.bridge.name": bridge});
        }
        let refused = harness.err("NetworkDriver.CreateNetwork", body);
        assert!(refused.contains("10.1.0.1/24 of link pntbnet1") && refused.contains("pontoon doctor"), "{refused}");
    }
    harness.life().driver.tick();
    assert_eq!(harness.kernel.datapath(), before);
    harness.ok("NetworkDriver.CreateNetwork", network("another", 77, false));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "another"}));
    // The network itself can be created again, as a Swarm does; it adopts its bridge.
    harness.ok("NetworkDriver.CreateNetwork", network("net1", 1, false));
    assert_eq!(harness.kernel.datapath().bridges(), before.bridges());
    // The subnet of a network that the engine deletes is free at once.
    for e in 2..5 {
        harness.ok("NetworkDriver.DeleteEndpoint", of("net3", &format!("net3e{e}")));
    }
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "net3"}));
    harness.ok("NetworkDriver.CreateNetwork", network("heir", 3, false));
    harness.life().driver.tick();
    harness.life().driver.tick();
    let bridges = harness.kernel.datapath().bridges();
    assert!(bridges.keys().any(|name| name.as_str() == "pntbheir") && bridges.len() == 3, "{:?}", bridges.keys());
}
