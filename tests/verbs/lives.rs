//! What a restart, a reboot and a damaged ledger leave of networks and endpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pontoon::datapath::{Datapath, Element, Kernel, Step};
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
    assert_eq!(rig.kernel.datapath().veths.len(), 8);
}

#[test]
fn a_reboot_brings_the_networks_back_and_forgets_the_endpoints() {
    let mut rig = populated();
    let before = rig.kernel.datapath();
    rig.reboot();
    let after = rig.kernel.datapath();
    assert_eq!(after.bridges, before.bridges);
    // What is left of the firewall is that of the networks alone.
    let of_endpoints =
        |e: &Element| matches!(e, Element::Checked(_) | Element::SourceMac(..) | Element::SourceAddress(..));
    let mut networks = before.elements.unwrap();
    networks.retain(|e| !of_endpoints(e));
    assert_eq!(after.elements.unwrap(), networks);
    assert!(after.veths.is_empty());
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
        let dead = d.veths.keys().find(|h| h.as_str().contains("net2e3")).unwrap().clone();
        let ready = d.veths.keys().find(|h| h.as_str().contains("ready")).unwrap().clone();
        d.veths.remove(&dead);
        d.veths.remove(&ready);
        let bridge = d.bridges.keys().next().unwrap().clone();
        d.bridges.remove(&bridge);
        for veth in d.veths.values_mut().filter(|v| v.bridge.as_ref() == Some(&bridge)) {
            veth.bridge = None;
        }
        d.elements = None;
    });
    rig.restart();
    let mut expected = before;
    expected.veths.retain(|host, _| !host.as_str().contains("net2e3"));
    expected.elements.as_mut().unwrap().retain(|e| !format!("{e:?}").contains("net2e3"));
    assert_eq!(rig.kernel.datapath(), expected);
    assert_eq!(rig.life().driver.sizes(), (3, 9), "the dead endpoint is gone from the state");
}

#[test]
fn links_that_were_renamed_are_called_back_and_nothing_is_buried() {
    let mut rig = populated();
    let before = rig.kernel.datapath();
    let host = before.veths.keys().find(|host| host.as_str().contains("net2e3")).unwrap().clone();
    let bridge = before.veths[&host].bridge.clone().unwrap();
    let [foo, other] = ["foo", "other"].map(|text| IfName::parse(text).unwrap());
    let rename = |rig: &Rig| {
        let steps =
            [(&host, &foo), (&bridge, &other)].map(|(from, to)| Step::Rename { from: from.clone(), to: to.clone() });
        rig.kernel.apply(&steps).unwrap();
        // What it lost meanwhile is mended too.
        rig.kernel.meddle(|d| d.veths.get_mut(&foo).unwrap().up = false);
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
    expected.veths.remove(&host);
    expected.elements.as_mut().unwrap().retain(|e| !format!("{e:?}").contains("net2e3"));
    let mut left = rig.kernel.datapath();
    assert!(left.veths.remove(&foo).is_none(), "its peer tells whose it is");
    left.elements.as_mut().unwrap().retain(|e| !format!("{e:?}").contains("net2e3"));
    assert_eq!(left, expected);
}

#[test]
fn a_new_network_of_the_engines_own_is_followed_and_nobody_is_blamed() {
    let rig = populated();
    let driver = &rig.life().driver;
    let repairs = || driver.reconciler().counts.repairs.load(Relaxed);
    let before = repairs();
    let causes = upkeep::start(Arc::clone(driver)).unwrap();
    let follows = |bridge: &str| {
        let name = IfName::parse(bridge).unwrap();
        rig.kernel.add_link(&name, "bridge");
        causes.send(Cause::Bridge(name.clone())).unwrap();
        // Docker writes rules for its network, so the kernel tells of both.
        causes.send(Cause::Firewall).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !rig.kernel.datapath().elements.is_some_and(|all| all.contains(&Element::Engine(name.clone()))) {
            assert!(Instant::now() < deadline, "{name} is not followed");
            std::thread::yield_now();
        }
    };
    follows("br-0123456789ab");
    follows("docker0");
    driver.repair_firewall().whole().unwrap();
    assert_eq!(repairs(), before, "nothing was to be repaired");
    // While the table is gone as well, somebody is to blame.
    rig.kernel.meddle(|d| d.elements = None);
    follows("br-ba9876543210");
    let deadline = Instant::now() + Duration::from_secs(5);
    while repairs() == before {
        assert!(Instant::now() < deadline, "the repair is not counted");
        std::thread::yield_now();
    }
}

#[test]
fn orphans_of_a_life_that_lost_its_answer_are_removed() {
    let mut rig = populated();
    let copy = std::fs::read(rig.ledger_file()).unwrap();
    rig.ok("NetworkDriver.CreateNetwork", network("late", 9, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("late", "late", "10.9.0.2/24"));
    rig.life = None;
    std::fs::write(rig.ledger_file(), copy).unwrap();
    rig.restart();
    assert_eq!(rig.kernel.datapath().bridges.len(), 3);
    assert_eq!(rig.kernel.datapath().veths.len(), 9);
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
    let header = json.replacen("\"version\":2", "\"version\":99", 1);
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
                4 => rig.kernel.meddle(|d| d.elements = None),
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
        let bridge = datapath.bridges.values_mut().next().unwrap();
        (bridge.alias, bridge.up, bridge.localnet) = (String::new(), false, false);
    });
    rig.life().driver.tick();
    assert_eq!(rig.kernel.datapath(), before);
}
