//! What a restart, a reboot and a damaged ledger leave of networks and endpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pontoon::admin::status;
use pontoon::datapath::fake::FakeKernel;
use pontoon::datapath::{Datapath, Kernel, Object, ObjectKind, Policy, Step, Underlay};
use pontoon::driver::OverlaySettings;
use pontoon::model::IfName;
use pontoon::upkeep::{self, Cause};
use serde_json::json;

use super::rig::{Rig, endpoint, join, network, of};

fn populated() -> Rig {
    let rig = Rig::new();
    for n in 1..4 {
        let id = format!("net{n}");
        rig.ok("NetworkDriver.CreateNetwork", network(&id, n, n == 2));
        for e in 2..5 {
            rig.ok("NetworkDriver.CreateEndpoint", endpoint(&id, &format!("{id}e{e}"), &format!("10.{n}.0.{e}/24")));
            rig.ok("NetworkDriver.Join", join(&id, &format!("{id}e{e}")));
        }
    }
    rig.kernel.take_steps();
    rig
}

#[test]
fn a_restart_changes_nothing_and_adopts_everything() {
    let mut rig = populated();
    let before = rig.kernel.datapath();
    rig.restart();
    assert_eq!(rig.kernel.datapath(), before);
    assert_eq!(rig.kernel.take_steps(), []);
    assert_eq!(rig.life().driver.sizes(), (3, 9));
    rig.ok("NetworkDriver.Leave", of("net1", "net1e2"));
    rig.ok("NetworkDriver.DeleteEndpoint", of("net1", "net1e2"));
    assert_eq!(rig.kernel.datapath().veths().len(), 8);
}

#[test]
fn a_reboot_brings_the_networks_back_and_forgets_the_endpoints() {
    let mut rig = populated();
    let before = rig.kernel.datapath();
    rig.reboot();
    let after = rig.kernel.datapath();
    assert_eq!(after.bridges(), before.bridges());
    // What is left of the firewall is that of the networks alone.
    let of_endpoints =
        |e: &Policy| matches!(e, Policy::SpoofChecked(_) | Policy::SourceMac(..) | Policy::SourceAddress(..));
    let mut networks = before.policy.unwrap();
    networks.retain(|e| !of_endpoints(e));
    assert_eq!(after.policy.clone().unwrap(), networks);
    assert!(after.veths().is_empty());
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("net1", "again", "10.1.0.2/24"));
}

#[test]
fn links_that_vanished_while_nobody_looked() {
    let mut rig = populated();
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("net1", "ready", "10.1.0.9/24"));
    rig.life = None;
    let before = rig.kernel.datapath();
    // A sandbox died, and someone deleted a bridge, a pair that is still outside, and the table.
    rig.kernel.meddle(|d: &mut Datapath| {
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
    rig.restart();
    let mut expected = before;
    expected.objects.retain(|host, object| object.kind() != ObjectKind::Veth || !host.as_str().contains("net2e3"));
    expected.policy.as_mut().unwrap().retain(|e| !format!("{e:?}").contains("net2e3"));
    assert_eq!(rig.kernel.datapath(), expected);
    assert_eq!(rig.life().driver.sizes(), (3, 9), "the dead endpoint is gone from the state");
}

#[test]
fn links_that_were_renamed_are_called_back_and_nothing_is_reaped() {
    let mut rig = populated();
    let before = rig.kernel.datapath();
    let host = before.veths().keys().find(|host| host.as_str().contains("net2e3")).unwrap().clone();
    let bridge = before.veths()[&host].bridge.clone().unwrap();
    let [foo, other] = ["foo", "other"].map(|text| IfName::parse(text).unwrap());
    let rename = |rig: &Rig| {
        let steps =
            [(&host, &foo), (&bridge, &other)].map(|(from, to)| Step::Rename { from: from.clone(), to: to.clone() });
        rig.kernel.apply(&steps).unwrap();
        // What it lost meanwhile is mended too.
        rig.kernel.meddle(|d| d.veths_mut().find(|(name, _)| **name == foo).unwrap().1.up = false);
        rig.kernel.take_steps();
    };
    rename(&rig);
    let repair = rig.life().driver.repair().whole().unwrap();
    assert_eq!(rig.kernel.datapath(), before);
    assert_eq!(repair.steps, rig.kernel.take_steps());
    assert_eq!((repair.steps.len(), rig.life().driver.sizes()), (3, (3, 9)));
    rename(&rig);
    rig.restart();
    assert_eq!(rig.kernel.datapath(), before);
    assert_eq!(rig.life().driver.sizes(), (3, 9));
    // A verb that comes before the repair: the link goes all the same.
    rename(&rig);
    rig.ok("NetworkDriver.Leave", of("net2", "net2e3"));
    rig.ok("NetworkDriver.DeleteEndpoint", of("net2", "net2e3"));
    rig.life().driver.tick();
    let mut expected = before;
    expected.objects.remove(&host);
    expected.policy.as_mut().unwrap().retain(|e| !format!("{e:?}").contains("net2e3"));
    let mut left = rig.kernel.datapath();
    assert!(left.objects.remove(&foo).is_none(), "its peer tells whose it is");
    left.policy.as_mut().unwrap().retain(|e| !format!("{e:?}").contains("net2e3"));
    assert_eq!(left, expected);
}

#[test]
fn a_new_network_of_the_engines_own_is_followed_and_nobody_is_blamed() {
    let rig = populated();
    let driver = &rig.life().driver;
    let repairs = || driver.reconciler().counts.repairs.load(Relaxed);
    let before = repairs();
    let (causes, receive) = std::sync::mpsc::channel();
    upkeep::start(Arc::clone(driver), receive).unwrap();
    let follows = |bridge: &str| {
        let name = IfName::parse(bridge).unwrap();
        rig.kernel.add_link(&name, "bridge");
        causes.send(Cause::Bridge(name.clone())).unwrap();
        // Docker writes rules for its network, so the kernel tells of both.
        causes.send(Cause::Firewall).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !rig.kernel.datapath().policy.is_some_and(|all| all.contains(&Policy::EngineBridge(name.clone()))) {
            assert!(Instant::now() < deadline, "{name} is not followed");
            std::thread::yield_now();
        }
    };
    follows("br-0123456789ab");
    follows("docker0");
    driver.repair_firewall().whole().unwrap();
    assert_eq!(repairs(), before, "nothing was to be repaired");
    // While the table is gone as well, somebody is to blame.
    rig.kernel.meddle(|d| d.policy = None);
    follows("br-ba9876543210");
    let deadline = Instant::now() + Duration::from_secs(5);
    while repairs() == before {
        assert!(Instant::now() < deadline, "the repair is not counted");
        std::thread::yield_now();
    }
}

/// The ledger says that a network and an endpoint ended, and the process died before it removed
/// them; once more while it did so at its next start.
#[test]
fn leftovers_that_the_ledger_knows_to_have_ended_are_removed() {
    for deaths in 1..=2 {
        let mut rig = populated();
        rig.ok("NetworkDriver.CreateNetwork", network("late", 9, false));
        rig.ok("NetworkDriver.CreateEndpoint", endpoint("late", "late", "10.9.0.2/24"));
        rig.ok("NetworkDriver.Join", join("late", "late"));
        let left = rig.kernel.datapath();
        rig.ok("NetworkDriver.DeleteEndpoint", of("late", "late"));
        rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "late"}));
        for _ in 0..deaths {
            rig.life = None;
            rig.kernel.meddle(|d| *d = left.clone());
            rig.restart();
        }
        assert_eq!(rig.kernel.datapath().bridges().len(), 3, "after {deaths} deaths");
        assert_eq!(rig.kernel.datapath().veths().len(), 9, "after {deaths} deaths");
        assert!(!rig.life().driver.is_degraded());
    }
}

#[test]
fn without_its_ledger_nothing_running_is_touched() {
    for damage in ["missing", "corrupt"] {
        let mut rig = populated();
        let before = rig.kernel.datapath();
        rig.life = None;
        match damage {
            "missing" => std::fs::remove_file(rig.ledger_file()).unwrap(),
            _ => std::fs::write(rig.ledger_file(), "this is not a ledger\n").unwrap(),
        }
        rig.restart();
        assert_eq!(rig.kernel.datapath(), before, "{damage}");
        rig.life().driver.tick();
        assert_eq!(rig.kernel.datapath(), before, "{damage}, after a tick");
        // And the product still works.
        rig.ok("NetworkDriver.CreateNetwork", network("fresh", 77, false));
    }
}

#[test]
fn a_ledger_of_a_newer_release_is_neither_read_nor_written() {
    let mut rig = populated();
    let before = rig.kernel.datapath();
    rig.life = None;
    let text = std::fs::read_to_string(rig.ledger_file()).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let (_, json) = header.split_once(' ').unwrap();
    let header = json.replacen("\"version\":3", "\"version\":99", 1);
    assert_ne!(header, json, "the header names its version");
    let newer = format!("{:08x} {header}\n{rest}", crc32fast::hash(header.as_bytes()));
    std::fs::write(rig.ledger_file(), &newer).unwrap();
    rig.restart();
    assert_eq!(rig.kernel.datapath(), before);
    let message = rig.err("NetworkDriver.CreateNetwork", network("fresh", 77, false));
    assert!(message.contains("99") && message.contains("ledger"), "{message}");
    // Nobody is told to remove what is only unread.
    let address = json!({"PoolID": "pontoon-local/10.1.0.0/24", "Address": "", "Options": {}});
    for (method, body) in [
        ("NetworkDriver.CreateEndpoint", endpoint("net1", "late", "10.1.0.9/24")),
        ("NetworkDriver.Join", join("net1", "net1e2")),
        ("IpamDriver.RequestAddress", address),
    ] {
        let message = rig.err(method, body);
        assert!(message.contains("format 99") && message.contains("install the newer release again"), "{message}");
        assert!(!message.contains("remove") && !message.contains("network rm"), "{message}");
    }
    rig.ok("NetworkDriver.GetCapabilities", json!(null));
    rig.ok("NetworkDriver.EndpointOperInfo", of("net1", "net1e2"));
    rig.life = None;
    assert_eq!(std::fs::read_to_string(rig.ledger_file()).unwrap(), newer);
}

#[test]
fn a_torn_tail_loses_the_last_record_only() {
    let mut rig = populated();
    rig.life = None;
    let bytes = std::fs::read(rig.ledger_file()).unwrap();
    std::fs::write(rig.ledger_file(), &bytes[..bytes.len() - 7]).unwrap();
    let before = rig.kernel.datapath();
    rig.restart();
    assert_eq!(rig.life().driver.sizes().0, 3);
    assert_eq!(rig.kernel.datapath(), before, "nothing running is touched");
}

#[test]
fn random_walks_between_states_end_where_a_straight_way_ends() {
    // Networks and endpoints come and go, the process and the host die in between; whatever the
    // way, the kernel holds exactly what a fresh host would hold after the same last wishes.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    for _ in 0..20 {
        let mut rig = Rig::new();
        let mut wish = [[false; 4]; 4];
        let mut there = [false; 4];
        for _ in 0..60 {
            let (n, e) = (random(4) as usize, random(4) as usize);
            let (net, ep) = (format!("net{n}"), format!("net{n}e{e}"));
            match random(12) {
                0 => rig.restart(),
                1 => {
                    rig.reboot();
                    wish = [[false; 4]; 4];
                }
                2 | 3 => {
                    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
                    (there[n], wish[n]) = (false, [false; 4]);
                }
                4 => rig.kernel.meddle(|d| d.policy = None),
                5..=8 => {
                    rig.ok("NetworkDriver.CreateNetwork", network(&net, n as u8 + 1, n % 2 == 0));
                    there[n] = true;
                }
                _ if !there[n] => {}
                9 => {
                    rig.ok("NetworkDriver.DeleteEndpoint", of(&net, &ep));
                    wish[n][e] = false;
                }
                _ => {
                    rig.ok(
                        "NetworkDriver.CreateEndpoint",
                        endpoint(&net, &ep, &format!("10.{}.0.{}/24", n + 1, e + 2)),
                    );
                    rig.ok("NetworkDriver.Join", join(&net, &ep));
                    wish[n][e] = true;
                }
            }
        }
        rig.life().driver.tick();
        let straight = Rig::new();
        for n in (0..4).filter(|n| there[*n]) {
            straight.ok("NetworkDriver.CreateNetwork", network(&format!("net{n}"), n as u8 + 1, n % 2 == 0));
            for e in (0..4).filter(|e| wish[n][*e]) {
                let body =
                    endpoint(&format!("net{n}"), &format!("net{n}e{e}"), &format!("10.{}.0.{}/24", n + 1, e + 2));
                straight.ok("NetworkDriver.CreateEndpoint", body);
            }
        }
        assert_eq!(rig.kernel.render(), straight.kernel.render());
    }
}

#[test]
fn a_join_into_another_sandbox_is_written_down() {
    let mut rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    rig.ok("NetworkDriver.Join", join("aa", "e1"));
    let mut again = join("aa", "e1");
    again["SandboxKey"] = json!("/var/run/docker/netns/another");
    rig.ok("NetworkDriver.Join", again);
    rig.restart();
    let ledger = std::fs::read_to_string(rig.ledger_file()).unwrap();
    assert!(ledger.contains("/netns/another"), "{ledger}");
}

#[test]
fn a_half_made_bridge_is_made_whole() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let before = rig.kernel.datapath();
    // As it is between the two requests that make it.
    rig.kernel.meddle(|datapath| {
        let is_bridge = |object: &&mut Object| object.kind() == ObjectKind::Bridge;
        let Some(Object::Bridge(bridge)) = datapath.objects.values_mut().find(is_bridge) else { panic!("no bridge") };
        (bridge.alias, bridge.up, bridge.localnet) = (String::new(), false, false);
    });
    rig.life().driver.tick();
    assert_eq!(rig.kernel.datapath(), before);
}

/// The state directory is moved away, then nothing, then a backup comes back: in no life is anything
/// taken away, and each says that it is degraded.
#[test]
fn a_lost_ledger_takes_nothing_in_any_life_until_the_engine_says_so() {
    let mut rig = populated();
    let before = rig.kernel.datapath();
    rig.life = None;
    let state = rig.ledger_file().parent().unwrap().to_owned();
    let aside = state.with_extension("aside");
    std::fs::rename(&state, &aside).unwrap();
    for life in 1..=4 {
        rig.restart();
        rig.life().driver.tick();
        rig.life().driver.repair_all().unwrap();
        rig.life().driver.repair_firewall().whole().unwrap();
        assert_eq!(rig.kernel.datapath(), before, "life {life}");
        assert!(rig.life().driver.is_degraded(), "life {life}");
        assert_eq!(status::of_daemon(&rig.life().driver).plan.unknown.len(), 12, "life {life}");
        // What the firewall lost comes back in the life that has seen it.
        rig.kernel.meddle(|d| d.policy = None);
        rig.life().driver.repair_firewall().whole().unwrap();
        assert_eq!(rig.kernel.datapath(), before, "life {life}, a flushed firewall");
        rig.ok("NetworkDriver.CreateNetwork", network("fresh", 77, false));
        rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "fresh"}));
    }
    // The right ledger explains all of it.
    rig.life = None;
    let lost = state.with_extension("lost");
    std::fs::rename(&state, &lost).unwrap();
    std::fs::rename(&aside, &state).unwrap();
    rig.restart();
    assert_eq!(rig.kernel.datapath(), before);
    assert!(!rig.life().driver.is_degraded());
    // Without it, the engine's word is enough: its containers and networks go one by one.
    rig.life = None;
    std::fs::rename(&state, &aside).unwrap();
    std::fs::rename(&lost, &state).unwrap();
    rig.restart();
    for n in 1..4 {
        for e in 2..5 {
            rig.ok("NetworkDriver.Leave", of(&format!("net{n}"), &format!("net{n}e{e}")));
            rig.ok("NetworkDriver.DeleteEndpoint", of(&format!("net{n}"), &format!("net{n}e{e}")));
        }
        rig.life().driver.tick();
        assert!(rig.life().driver.is_degraded());
        rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": format!("net{n}")}));
        rig.life().driver.tick();
        assert_eq!(rig.kernel.datapath().bridges().len(), 3 - n as usize);
    }
    rig.life().driver.tick();
    assert!(rig.kernel.datapath().veths().is_empty(), "{:?}", rig.kernel.datapath().veths());
    let mut left = rig.kernel.datapath().policy.unwrap();
    left.retain(|element| !matches!(element, Policy::LimitedForwarding(_) | Policy::ForwardingLink(..)));
    assert!(left.is_empty(), "what is left could serve nobody: {left:?}");
    assert!(!rig.life().driver.is_degraded());
}

fn port_map(host: u16) -> serde_json::Value {
    json!({"com.docker.network.portmap": [{"Proto": 6, "IP": "", "Port": 80, "HostIP": "0.0.0.0", "HostPort": host, "HostPortEnd": host}]})
}

fn publish(rig: &Rig, network: &str, id: &str, host: u16) -> serde_json::Value {
    let mut body = of(network, id);
    body["Options"] = port_map(host);
    rig.life().call("NetworkDriver.ProgramExternalConnectivity", body).json()
}

/// The same with a network that spans hosts: its tunnel goes with it.
#[test]
fn a_lost_ledger_and_an_overlay_network() {
    let prepare = |kernel: &FakeKernel| {
        kernel.set_underlay(None, Some(Underlay { address: "192.0.2.1".parse().unwrap(), mtu: 1500 }));
    };
    let mut rig = Rig::with(OverlaySettings::default(), prepare);
    let mut body = network("far", 1, false);
    body["Options"]["com.docker.network.generic"] = json!({"pontoon.vni": "4242"});
    rig.ok("NetworkDriver.CreateNetwork", body);
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("far", "e1", "10.1.0.2/24"));
    rig.ok("NetworkDriver.Join", join("far", "e1"));
    let before = rig.kernel.datapath();
    assert_eq!((before.bridges().len(), before.vxlans().len(), before.veths().len()), (1, 1, 1));
    rig.life = None;
    std::fs::remove_dir_all(rig.ledger_file().parent().unwrap()).unwrap();
    rig.restart();
    rig.life().driver.tick();
    assert_eq!(rig.kernel.datapath(), before);
    rig.ok("NetworkDriver.DeleteEndpoint", of("far", "e1"));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "far"}));
    rig.life().driver.tick();
    let after = rig.kernel.datapath();
    assert_eq!((after.bridges().len(), after.vxlans().len(), after.veths().len()), (0, 0, 0), "{after:?}");
    assert!(!rig.life().driver.is_degraded());
}

/// A ledger from after a container came and before its ports were published: they stay, and are given to
/// nobody else, as long as the container is there.
#[test]
fn an_older_ledger_without_the_ports_of_a_container_that_it_knows() {
    let mut rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("one", 1, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("one", "e1", "10.1.0.2/24"));
    rig.ok("NetworkDriver.Join", join("one", "e1"));
    let copy = std::fs::read(rig.ledger_file()).unwrap();
    publish(&rig, "one", "e1", 8080);
    // The engine took the other end into the container.
    rig.kernel.meddle(|datapath| datapath.away.extend(datapath.veths().keys().cloned()));
    let before = rig.kernel.datapath();
    rig.life = None;
    std::fs::write(rig.ledger_file(), copy).unwrap();
    let is_port = |e: &&Policy| matches!(e, Policy::Published(port) if port.host.port == 8080);
    let ports = |rig: &Rig| rig.kernel.datapath().policy.iter().flatten().filter(is_port).count();
    for life in 1..=3 {
        rig.restart();
        rig.life().driver.tick();
        assert_eq!(ports(&rig), 1, "life {life}");
        assert_eq!(rig.kernel.datapath().veths(), before.veths(), "life {life}");
        let status = status::of_daemon(&rig.life().driver);
        assert!(status.state.degraded && status.plan.unknown.is_empty(), "life {life}: {:?}", status.plan);
    }
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("one", "e2", "10.1.0.3/24"));
    rig.ok("NetworkDriver.Join", join("one", "e2"));
    let refused = publish(&rig, "one", "e2", 8080);
    assert!(refused["Err"].as_str().unwrap().contains("endpoint unknown of network unknown"), "{refused}");
    rig.ok("NetworkDriver.Leave", of("one", "e1"));
    rig.ok("NetworkDriver.DeleteEndpoint", of("one", "e1"));
    rig.life().driver.tick();
    rig.life().driver.tick();
    assert_eq!(ports(&rig), 0);
    assert!(!rig.life().driver.is_degraded());
    assert!(rig.kernel.reserved().is_empty());
}

/// A ledger from before the containers: its networks and ports are not made over those that run.
#[test]
fn an_older_ledger_is_not_applied_over_what_runs() {
    let mut rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("old", 1, false));
    rig.ok("NetworkDriver.CreateNetwork", network("stays", 2, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("stays", "first", "10.2.0.2/24"));
    rig.ok("NetworkDriver.Join", join("stays", "first"));
    publish(&rig, "stays", "first", 8080);
    let copy = std::fs::read(rig.ledger_file()).unwrap();
    // Since then: the first container ended, another has its port; the old network ended, another has its subnet.
    rig.ok("NetworkDriver.Leave", of("stays", "first"));
    rig.ok("NetworkDriver.DeleteEndpoint", of("stays", "first"));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "old"}));
    rig.ok("NetworkDriver.CreateNetwork", network("new", 1, false));
    for (network, id, address) in [("stays", "second", "10.2.0.3/24"), ("new", "third", "10.1.0.2/24")] {
        rig.ok("NetworkDriver.CreateEndpoint", endpoint(network, id, address));
        rig.ok("NetworkDriver.Join", join(network, id));
    }
    publish(&rig, "stays", "second", 8080);
    let before = rig.kernel.datapath();
    rig.life = None;
    std::fs::write(rig.ledger_file(), copy).unwrap();
    for life in 1..=3 {
        rig.restart();
        rig.life().driver.tick();
        rig.life().driver.repair_all().unwrap();
        let now = rig.kernel.datapath();
        assert_eq!(now.veths(), before.veths(), "life {life}");
        assert_eq!(
            now.bridges(),
            before.bridges(),
            "life {life}: the old network's bridge has the subnet of one that runs"
        );
        let (now, had) = (now.policy.unwrap(), before.policy.clone().unwrap());
        assert!(now.is_superset(&had), "life {life}: {:?}", had.difference(&now).collect::<Vec<_>>());
        let port = |e: &&Policy| matches!(e, Policy::Published(port) if port.host.port == 8080);
        assert_eq!(now.iter().filter(port).count(), 1, "life {life}");
        let plan = status::of_daemon(&rig.life().driver).plan;
        assert_eq!((plan.unknown.len(), plan.withheld.len()), (3, 1), "life {life}: {plan:?}");
        assert!(rig.life().driver.is_degraded());
    }
    // Its port is not given to others, and the message says why.
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("stays", "fourth", "10.2.0.4/24"));
    rig.ok("NetworkDriver.Join", join("stays", "fourth"));
    let refused = publish(&rig, "stays", "fourth", 8080);
    assert!(refused["Err"].as_str().unwrap().contains("endpoint unknown of network unknown"), "{refused}");
    rig.ok("NetworkDriver.Leave", of("stays", "fourth"));
    rig.ok("NetworkDriver.DeleteEndpoint", of("stays", "fourth"));
    // The containers end: so do the doubts, and what was withheld is made.
    rig.kernel.meddle(|d| {
        d.objects.retain(|_, object| object.kind() != ObjectKind::Veth);
        d.objects.retain(|name, object| object.kind() != ObjectKind::Bridge || !name.as_str().contains("new"));
    });
    rig.life().driver.tick();
    rig.life().driver.tick();
    assert!(!rig.life().driver.is_degraded());
    assert_eq!(rig.kernel.datapath().bridges().len(), 2);
    assert!(rig.kernel.reserved().is_empty());
}

/// An operator may name what is to go; a bridge only together with its ports.
#[test]
fn unknown_links_go_when_they_are_named() {
    let mut rig = populated();
    rig.life = None;
    std::fs::remove_dir_all(rig.ledger_file().parent().unwrap()).unwrap();
    rig.restart();
    let driver = Arc::clone(&rig.life().driver);
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
    assert!(!rig.kernel.datapath().veths().contains_key(&port));
    assert_eq!(rig.kernel.datapath().veths().len(), 8);
}

/// The ledger is of an earlier boot, and the links are there all the same.
#[test]
fn a_ledger_of_another_boot_takes_nothing_that_runs() {
    let mut rig = populated();
    let before = rig.kernel.datapath();
    rig.boot += 1;
    for life in 1..=3 {
        rig.restart();
        rig.life().driver.tick();
        assert_eq!(rig.kernel.datapath(), before, "life {life}");
        assert_eq!(status::of_daemon(&rig.life().driver).plan.unknown.len(), 9, "life {life}");
    }
}

/// A new network may be made beside links that nobody knows, but not over the subnet of one: what is made for
/// both would be removed with the new one, and containers run in the other.
#[test]
fn a_new_network_beside_unknown_links() {
    let mut rig = populated();
    let before = rig.kernel.datapath();
    rig.life = None;
    std::fs::remove_dir_all(rig.ledger_file().parent().unwrap()).unwrap();
    rig.restart();
    for bridge in [None, Some("lan0")] {
        let mut body = network("same", 1, false);
        if let Some(bridge) = bridge {
            body["Options"]["com.docker.network.generic"] = json!({"com.docker.network.bridge.name": bridge});
        }
        let refused = rig.err("NetworkDriver.CreateNetwork", body);
        assert!(refused.contains("10.1.0.1/24 of link pntbnet1") && refused.contains("pontoon doctor"), "{refused}");
    }
    rig.life().driver.tick();
    assert_eq!(rig.kernel.datapath(), before);
    rig.ok("NetworkDriver.CreateNetwork", network("another", 77, false));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "another"}));
    // The network itself may come again, as a Swarm's does; its bridge is taken up.
    rig.ok("NetworkDriver.CreateNetwork", network("net1", 1, false));
    assert_eq!(rig.kernel.datapath().bridges(), before.bridges());
    // And the subnet of one that the engine calls ended is free at once.
    for e in 2..5 {
        rig.ok("NetworkDriver.DeleteEndpoint", of("net3", &format!("net3e{e}")));
    }
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "net3"}));
    rig.ok("NetworkDriver.CreateNetwork", network("heir", 3, false));
    rig.life().driver.tick();
    rig.life().driver.tick();
    let bridges = rig.kernel.datapath().bridges();
    assert!(bridges.keys().any(|name| name.as_str() == "pntbheir") && bridges.len() == 3, "{:?}", bridges.keys());
}
