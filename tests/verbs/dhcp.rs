//! Networks whose addresses come from DHCP servers of the local network.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ::dhcp::message::option;
use ::dhcp::{Kind, Message};
use pontoon::datapath::Object;
use pontoon::driver::{Driver, LeaseState};
use pontoon::model::{Mac, PortVlans, Vid};
use serde_json::{Value, json};

use crate::macvlan::name;
use testkit::harness::{Harness, endpoint, join, network, of};

/// A server with the addresses from 192.0.2.100 on, which knows clients by their identifier.
pub struct Server {
    leases: Mutex<BTreeMap<Vec<u8>, Ipv4Addr>>,
    /// Options of every answer.
    options: Vec<(u8, Vec<u8>)>,
    first: Ipv4Addr,
}

impl Server {
    pub fn new(options: &[(u8, &[u8])]) -> Arc<Self> {
        let options = options.iter().map(|(code, value)| (*code, value.to_vec())).collect();
        Arc::new(Self { leases: Mutex::default(), options, first: [192, 0, 2, 100].into() })
    }

    fn answer(&self, message: &Message) -> Option<Message> {
        let id = message.options.get(&option::CLIENT_ID)?.clone();
        let mut leases = self.leases.lock().unwrap();
        let asked = message.address(option::REQUESTED_ADDRESS);
        let reply = |kind, address: Ipv4Addr| {
            let mut reply = Message::of_client(kind, message.xid, message.chaddr);
            (reply.is_reply, reply.yiaddr) = (true, address);
            reply.set(option::SERVER, [192, 0, 2, 1]);
            reply.set(option::LEASE_TIME, 3600u32.to_be_bytes());
            reply.set(option::SUBNET_MASK, [255, 255, 255, 0]);
            reply.set(option::ROUTERS, [192, 0, 2, 254]);
            self.options.iter().for_each(|(code, value)| reply.set(*code, value.clone()));
            Some(reply)
        };
        match message.kind()? {
            Kind::Discover => {
                let free = (0..).map(|n| Ipv4Addr::from(u32::from(self.first) + n));
                let free = free.into_iter().find(|address| leases.values().all(|taken| taken != address))?;
                let address = *leases.entry(id).or_insert(free);
                reply(Kind::Offer, address)
            }
            Kind::Request if leases.get(&id) == asked.as_ref() => reply(Kind::Ack, asked?),
            Kind::Request => reply(Kind::Nak, Ipv4Addr::UNSPECIFIED),
            Kind::Decline => {
                leases.insert(b"declined".to_vec(), asked?);
                leases.remove(&id);
                None
            }
            Kind::Release => {
                leases.remove(&id);
                None
            }
            _ => None,
        }
    }
}

/// The daemon's thread that speaks with servers.
pub struct Talk(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Talk {
    pub fn of(harness: &Harness) -> Self {
        let (driver, stop) = (Arc::clone(&harness.life().driver), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                driver.serve_leases();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.take().map(JoinHandle::join);
    }
}

/// A host with the links br-lan and eth7, and a server on the network of each.
pub fn host(server: &Arc<Server>) -> Harness {
    let harness = Harness::new();
    harness.kernel.add_link(&name("br-lan"), "bridge");
    harness.kernel.add_link(&name("eth7"), "");
    harness.kernel.allow_probes();
    serve(&harness, server);
    harness
}

pub fn serve(harness: &Harness, server: &Arc<Server>) {
    let server = Arc::clone(server);
    harness.kernel.add_dhcp_server(Arc::new(move |_, message| server.answer(message)));
}

/// CreateNetwork with the `null` IPAM driver.
pub fn lan(id: &str, options: Value) -> Value {
    let mut body = network(id, 1, false);
    body["IPv4Data"] = json!([{"AddressSpace": "null", "Pool": "0.0.0.0/0"}]);
    body["Options"]["com.docker.network.generic"] = options;
    body
}

pub fn bridge(id: &str, more: Value) -> Value {
    let mut options =
        json!({"com.docker.network.bridge.name": "br-lan", "pontoon.dhcp": "4", "pontoon.conflict": "off"});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    lan(id, options)
}

/// CreateEndpoint without an address, with options.
pub fn anywhere(network: &str, id: &str, options: Value) -> Value {
    let mut body = endpoint(network, id, "");
    body["Options"].as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    body
}

fn create(harness: &Harness, id: &str, options: Value) -> (String, String) {
    let answer = harness.ok("NetworkDriver.CreateEndpoint", anywhere("aa", id, options));
    let text = |key: &str| answer["Interface"][key].as_str().unwrap_or_default().to_owned();
    (text("Address"), text("MacAddress"))
}

pub fn delete(harness: &Harness, id: &str) {
    harness.ok("NetworkDriver.Leave", of("aa", id));
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", id));
}

pub fn states(driver: &Driver) -> Vec<LeaseState> {
    driver.read_leases(|slot, now| slot.state(now))
}

fn kinds(harness: &Harness) -> Vec<Kind> {
    harness.kernel.take_dhcp().iter().filter_map(|(_, message)| message.kind()).collect()
}

pub fn soon(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited for {what}");
}

#[test]
fn an_endpoint_has_the_address_routes_and_mtu_of_the_server() {
    let routes = [0, 192, 0, 2, 253, 16, 10, 7, 192, 0, 2, 252, 8, 11, 198, 51, 100, 1];
    let server = Server::new(&[(option::ROUTES, &routes), (option::MTU, &1400u16.to_be_bytes())]);
    let harness = host(&server);
    let _talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({})));
    let (address, mac) = create(&harness, "e1", json!({"pontoon.dhcp.id": "printer", "pontoon.dhcp.hostname": "p1"}));
    assert_eq!(address, "192.0.2.100/24");
    let sent = harness.kernel.take_dhcp();
    assert_eq!(sent.len(), 2, "{sent:?}");
    for (link, message) in sent {
        assert_eq!((link.as_str(), message.chaddr), ("br-lan", Mac::parse(&mac).unwrap().bytes()));
        assert_eq!(message.options[&option::CLIENT_ID], b"\0printer");
        assert_eq!(message.text(option::HOSTNAME).unwrap(), "p1");
    }
    let veth = harness.kernel.datapath().veths().into_values().next().unwrap();
    assert_eq!((veth.mtu, veth.peer_mtu), (1500, 1400), "the bridge keeps its MTU");
    // A repeated request is answered from the state.
    assert_eq!(
        create(&harness, "e1", json!({"pontoon.dhcp.id": "printer", "pontoon.dhcp.hostname": "p1"})),
        (address, mac)
    );
    assert!(harness.kernel.take_dhcp().is_empty());
    let joined = harness.ok("NetworkDriver.Join", join("aa", "e1"));
    assert_eq!(joined["Gateway"], "192.0.2.253");
    // That of a router that is not on the link is left out.
    assert_eq!(
        joined["StaticRoutes"],
        json!([{"Destination": "10.7.0.0/16", "RouteType": 0, "NextHop": "192.0.2.252"}])
    );
}

#[test]
fn a_router_outside_of_the_subnet_is_reached_on_the_link() {
    let server = Server::new(&[(option::SUBNET_MASK, &[255; 4])]);
    let harness = host(&server);
    let _talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({})));
    assert_eq!(create(&harness, "e1", json!({})).0, "192.0.2.100/32");
    let joined = harness.ok("NetworkDriver.Join", join("aa", "e1"));
    assert_eq!(joined["Gateway"], "192.0.2.254");
    assert_eq!(joined["StaticRoutes"][0]["Destination"], "192.0.2.254/32");
}

#[test]
fn a_container_finds_its_address_again() {
    let server = Server::new(&[]);
    let mut harness = host(&server);
    let talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({})));
    let web = json!({"com.docker.network.portmap": [{"Proto": 6, "Port": 80, "HostPort": 8080}]});
    let data = json!({"com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 5432}]});
    let named = json!({"pontoon.dhcp.id": "printer"});
    let first = [
        create(&harness, "e1", web.clone()),
        create(&harness, "e2", data.clone()),
        create(&harness, "e3", named.clone()),
    ];
    let replica = create(&harness, "e4", web.clone());
    assert!(!first.contains(&replica));
    ["e1", "e2", "e3", "e4"].iter().for_each(|id| delete(&harness, id));
    harness.kernel.take_dhcp();
    // In another order, with other ids.
    let again = [
        create(&harness, "f3", named.clone()),
        create(&harness, "f2", data.clone()),
        create(&harness, "f1", web.clone()),
    ];
    assert_eq!([&again[2], &again[1], &again[0]], [&first[0], &first[1], &first[2]]);
    assert_eq!(create(&harness, "f4", web.clone()), replica);
    // The leases were kept: they are only confirmed.
    soon("confirmations", || states(&harness.life().driver) == [LeaseState::Bound; 4]);
    assert!(kinds(&harness).iter().all(|kind| *kind == Kind::Request));
    // After the host was down, addresses are asked for again.
    drop(talk);
    harness.reboot();
    harness.kernel.add_link(&name("br-lan"), "bridge");
    let _talk = Talk::of(&harness);
    assert_eq!(states(&harness.life().driver), [LeaseState::Remembered; 4]);
    assert_eq!(create(&harness, "g2", data), first[1]);
    assert_eq!(create(&harness, "g3", named), first[2]);
    assert_eq!(create(&harness, "g1", web), first[0]);
    assert!(kinds(&harness).iter().all(|kind| *kind == Kind::Request));
}

#[test]
fn a_process_that_ends_loses_no_lease_and_its_successor_is_quiet() {
    let server = Server::new(&[]);
    let mut harness = host(&server);
    let talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({})));
    let one = create(&harness, "e1", json!({"pontoon.dhcp.id": "one"}));
    let two = create(&harness, "e2", json!({"pontoon.dhcp.id": "two"}));
    delete(&harness, "e2");
    drop(talk);
    harness.restart();
    harness.kernel.take_dhcp();
    let talk = Talk::of(&harness);
    std::thread::sleep(Duration::from_millis(50));
    assert!(harness.kernel.take_dhcp().is_empty());
    assert_eq!(states(&harness.life().driver), [LeaseState::Bound, LeaseState::Parked]);
    assert_eq!(create(&harness, "e3", json!({"pontoon.dhcp.id": "two"})), two);
    assert_eq!(create(&harness, "e1", json!({"pontoon.dhcp.id": "one"})), one);
    // The ledger is compacted, which keeps them.
    drop(talk);
    harness.restart();
    assert_eq!(states(&harness.life().driver), [LeaseState::Bound; 2]);
}

#[test]
fn leases_are_given_back_after_a_while_and_with_the_network() {
    let server = Server::new(&[]);
    let harness = host(&server);
    let _talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({"pontoon.dhcp.park": "0"})));
    create(&harness, "e1", json!({}));
    delete(&harness, "e1");
    soon("the release", || server.leases.lock().unwrap().is_empty());
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({})));
    create(&harness, "e1", json!({}));
    delete(&harness, "e1");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(server.leases.lock().unwrap().len(), 1, "parked");
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    assert!(server.leases.lock().unwrap().is_empty());
    assert_eq!(states(&harness.life().driver), [LeaseState::Remembered]);
}

#[test]
fn without_an_answer_the_error_says_what_was_seen_and_the_next_start_finds_the_lease() {
    let server = Server::new(&[]);
    let harness = host(&server);
    harness.kernel.remove_dhcp_servers();
    let _talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({"pontoon.dhcp.timeout": "1"})));
    let error = harness.err("NetworkDriver.CreateEndpoint", anywhere("aa", "e1", json!({})));
    for part in ["aa", "br-lan", "within 1 s", "no server answered", "pontoon.dhcp.timeout"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(harness.kernel.datapath().veths().is_empty() && harness.life().driver.sizes() == (1, 0));
    serve(&harness, &server);
    // It goes on asking.
    soon("the lease", || states(&harness.life().driver) == [LeaseState::Parked]);
    harness.kernel.remove_dhcp_servers();
    assert_eq!(create(&harness, "e2", json!({})).0, "192.0.2.100/24");
    // A server that refuses, and one that is not listened to.
    let refuses = |_: &_, message: &Message| {
        let kind = if message.kind()? == Kind::Discover { Kind::Offer } else { Kind::Nak };
        let mut reply = Message::of_client(kind, message.xid, message.chaddr);
        (reply.is_reply, reply.yiaddr) = (true, [192, 0, 2, 66].into());
        reply.set(option::SERVER, [192, 0, 2, 6]);
        reply.set(option::LEASE_TIME, 60u32.to_be_bytes());
        reply.set(option::TEXT, *b"go away");
        Some(reply)
    };
    harness.kernel.add_dhcp_server(Arc::new(refuses));
    let error = harness.err("NetworkDriver.CreateEndpoint", anywhere("aa", "e3", json!({"pontoon.dhcp.id": "x"})));
    assert!(error.contains("192.0.2.6") && error.contains("go away"), "{error}");
    let only = json!({"pontoon.dhcp.timeout": "1", "pontoon.dhcp.server": "192.0.2.1"});
    let mut other = bridge("bb", only);
    other["Options"]["com.docker.network.generic"]["com.docker.network.bridge.name"] = json!("br-lan");
    harness.ok("NetworkDriver.CreateNetwork", other);
    let error = harness.err("NetworkDriver.CreateEndpoint", anywhere("bb", "e4", json!({"pontoon.dhcp.id": "y"})));
    assert!(error.contains("192.0.2.6") && error.contains("pontoon.dhcp.server"), "{error}");
}

#[test]
fn an_address_that_another_host_has_is_declined() {
    let server = Server::new(&[]);
    let harness = host(&server);
    harness.kernel.set_station(&name("br-lan"), "192.0.2.100".parse().unwrap(), Some(Mac::derive("x", "laptop")));
    let _talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({"pontoon.conflict": "refuse"})));
    assert_eq!(create(&harness, "e1", json!({})).0, "192.0.2.101/24");
    let kinds = kinds(&harness);
    assert_eq!(kinds, [Kind::Discover, Kind::Request, Kind::Decline, Kind::Discover, Kind::Request]);
    assert_eq!(harness.life().driver.lease_counts().declined.load(Ordering::Relaxed), 1);
}

#[test]
fn an_address_that_the_server_takes_away_is_told_and_the_next_start_has_the_new_one() {
    let server = Server::new(&[]);
    let harness = host(&server);
    let _talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({})));
    create(&harness, "e1", json!({"pontoon.dhcp.id": "one"}));
    {
        let mut leases = server.leases.lock().unwrap();
        leases.insert(b"another".to_vec(), [192, 0, 2, 100].into());
        leases.remove(b"\0one".as_slice());
    }
    harness.life().driver.renew_leases();
    soon("the state", || states(&harness.life().driver) == [LeaseState::Lost]);
    soon("the count", || harness.life().driver.lease_counts().lost.load(Ordering::Relaxed) == 1);
    // The container keeps what it has.
    let held = harness.life().driver.networks();
    assert_eq!(held[0].endpoints.values().next().unwrap().spec.v4.unwrap().to_string(), "192.0.2.100/24");
    delete(&harness, "e1");
    assert_eq!(create(&harness, "e2", json!({"pontoon.dhcp.id": "one"})).0, "192.0.2.101/24");
}

#[test]
fn children_of_a_parent_ask_on_its_network() {
    let server = Server::new(&[]);
    let harness = host(&server);
    let _talk = Talk::of(&harness);
    let options = |more: &str| json!({"parent": "eth7", more: if more == "macvlan_mode" { "bridge" } else { "l2" }, "pontoon.dhcp": "4"});
    harness.ok("NetworkDriver.CreateNetwork", lan("aa", options("macvlan_mode")));
    let (address, mac) = create(&harness, "e1", json!({"com.docker.network.endpoint.macaddress": "AgAAAAAH"}));
    let mac = Mac::parse(&mac).unwrap();
    assert_eq!(address, "192.0.2.100/24");
    let sent = harness.kernel.take_dhcp();
    assert!(sent.iter().all(|(link, message)| link.as_str() == "eth7" && message.chaddr == mac.bytes()));
    delete(&harness, "e1");
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    harness.kernel.take_dhcp();
    harness.ok("NetworkDriver.CreateNetwork", lan("aa", options("ipvlan_mode")));
    // The containers share the hardware address of the parent, and differ by their identifiers.
    let [(one, none), (two, _)] = ["e1", "e2"].map(|id| create(&harness, id, json!({"pontoon.dhcp.id": id})));
    assert!(one != two && none.is_empty());
    let parent = harness.kernel.datapath();
    assert!(parent.objects.values().any(|object| matches!(object, Object::Ipvlan(_))));
    let macs: std::collections::BTreeSet<_> = harness.kernel.take_dhcp().iter().map(|(_, sent)| sent.chaddr).collect();
    assert_eq!(macs.len(), 1);
}

#[test]
fn in_a_vlan_the_service_port_asks() {
    let server = Server::new(&[]);
    let mut harness = host(&server);
    let (bridge_name, port) = (name("br-lan"), |vid| PortVlans::of(Vid::new(vid).unwrap(), Default::default()));
    harness.kernel.filter_vlans(&bridge_name, true);
    harness.kernel.set_vlans(&bridge_name, &bridge_name, port(1));
    harness.kernel.set_vlans(&bridge_name, &name("eth8"), PortVlans::of(Vid::new(1).unwrap(), "40".parse().unwrap()));
    let talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({"pontoon.vlan": "40"})));
    let service: Vec<_> = harness.kernel.datapath().veths().into_values().collect();
    let [pair] = &service[..] else { panic!("{service:?}") };
    assert_eq!((&pair.bridge, &pair.vlans, pair.isolated), (&Some(bridge_name), &Some(port(40)), false));
    let (address, _) = create(&harness, "e1", json!({"pontoon.dhcp.id": "one"}));
    assert_eq!(address, "192.0.2.100/24");
    let sent = harness.kernel.take_dhcp();
    assert!(sent.len() == 2 && sent.iter().all(|(link, _)| *link == pair.peer), "{sent:?}");
    // So does the next process, and a second network in the VLAN shares the port.
    drop(talk);
    harness.restart();
    let _talk = Talk::of(&harness);
    harness.kernel.take_steps();
    harness.life().driver.renew_leases();
    soon("the renewal", || harness.kernel.take_dhcp().iter().any(|(link, _)| *link == pair.peer));
    harness.life().driver.tick();
    assert!(harness.kernel.take_steps().iter().all(|step| step.link().is_none()), "it is as it has to be");
    harness.ok("NetworkDriver.CreateNetwork", bridge("bb", json!({"pontoon.vlan": "40"})));
    delete(&harness, "e1");
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    let is_there = |harness: &Harness| harness.kernel.datapath().veths().values().any(|veth| veth.peer == pair.peer);
    assert!(is_there(&harness) && server.leases.lock().unwrap().is_empty());
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    assert!(!is_there(&harness));
}

#[test]
fn what_cannot_be_is_refused() {
    let server = Server::new(&[]);
    let harness = host(&server);
    let _talk = Talk::of(&harness);
    let mut with_subnet = network("aa", 1, false);
    with_subnet["Options"]["com.docker.network.generic"] =
        json!({"com.docker.network.bridge.name": "br-lan", "pontoon.dhcp": "4"});
    for (body, says) in [
        (with_subnet, "--ipam-driver null"),
        (lan("aa", json!({"pontoon.dhcp": "4"})), "com.docker.network.bridge.name"),
        (lan("aa", json!({"pontoon.dhcp": "4", "pontoon.vni": "77"})), "overlay"),
        (lan("aa", json!({"pontoon.dhcp": "4", "parent": "eth7", "ipvlan_mode": "l3"})), "ipvlan_mode=l2"),
        (lan("aa", json!({"pontoon.dhcp": "4,6", "parent": "eth7"})), "6 is not supported"),
        (lan("aa", json!({"pontoon.dhcp.park": "9", "parent": "eth7"})), "pontoon.dhcp.park has an effect only"),
    ] {
        let error = harness.err("NetworkDriver.CreateNetwork", body);
        assert!(error.contains(says) && error.lines().count() == 1, "{says}: {error}");
        assert_eq!(harness.life().driver.sizes(), (0, 0));
    }
    harness.ok("NetworkDriver.CreateNetwork", bridge("aa", json!({})));
    create(&harness, "e1", json!({"pontoon.dhcp.id": "one"}));
    let error = harness.err("NetworkDriver.CreateEndpoint", anywhere("aa", "e2", json!({"pontoon.dhcp.id": "one"})));
    assert!(error.contains("endpoint e1 already has the lease of id one"), "{error}");
    // It would ask in the VLAN of the bridge and be in another.
    let error = harness.err("NetworkDriver.CreateEndpoint", anywhere("aa", "e2", json!({"pontoon.vlan": "40"})));
    assert!(error.contains("pontoon.vlan") && error.contains("parent=LINK.VID"), "{error}");
    harness.ok("NetworkDriver.CreateNetwork", network("bb", 7, false));
    let error = harness.err("NetworkDriver.CreateEndpoint", {
        let mut body = endpoint("bb", "e3", "10.7.0.2/24");
        body["Options"]["pontoon.dhcp.id"] = json!("x");
        body
    });
    assert!(error.contains("pontoon.dhcp.id has an effect only"), "{error}");
    // Without packet sockets no server can be asked.
    let blind = Harness::new();
    blind.kernel.add_link(&name("br-lan"), "bridge");
    let error = blind.err("NetworkDriver.CreateNetwork", bridge("aa", json!({"pontoon.conflict": "off"})));
    assert!(error.contains("CAP_NET_RAW"), "{error}");
}
