//! Allow lists that an operator sets for networks and endpoints that exist (`POST /policy`).

use std::collections::BTreeSet;

use pontoon::admin::status::Status;
use pontoon::datapath::access::{Access, Way};
use pontoon::datapath::fake::Fault;
use pontoon::datapath::{Policy, Step};
use serde_json::{Value, json};

use crate::macvlan::{host, on_parent};
use testkit::harness::{Harness, Reply, endpoint, join, network, request};

fn post(harness: &Harness, body: &Value) -> Reply {
    request(&harness.life().socket, "POST", "/policy", body.to_string().as_bytes())
}

#[track_caller]
fn set(harness: &Harness, body: &Value) {
    let reply = post(harness, body);
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[track_caller]
fn refused(harness: &Harness, body: &Value) -> String {
    let before = harness.kernel.datapath();
    let ledger = std::fs::read(harness.ledger_file()).unwrap();
    let reply = post(harness, body);
    assert!(reply.status >= 400, "{}", reply.body);
    assert!(harness.kernel.datapath() == before && std::fs::read(harness.ledger_file()).unwrap() == ledger);
    reply.body
}

fn lists(harness: &Harness) -> BTreeSet<Access> {
    let policy = harness.kernel.datapath().policy.unwrap();
    policy.into_iter().filter_map(|one| if let Policy::Access(access) = one { Some(access) } else { None }).collect()
}

fn party(n: usize, options: Value) -> Value {
    let mut body = endpoint("aa", &format!("e{n}"), &format!("10.1.0.{}/24", n + 2));
    body["Interface"]["AddressIPv6"] = json!(format!("fd01::{}/64", n + 2));
    options.as_object().unwrap().iter().for_each(|(key, value)| body["Options"][key] = value.clone());
    body
}

fn harness_with(of_network: Value, of_endpoint: Value) -> Harness {
    let harness = Harness::new();
    let mut body = network("aa", 1, true);
    body["Options"]["com.docker.network.generic"] = of_network;
    harness.ok("NetworkDriver.CreateNetwork", body);
    for (n, options) in [(0, of_endpoint), (1, json!({}))] {
        harness.ok("NetworkDriver.CreateEndpoint", party(n, options));
        harness.ok("NetworkDriver.Join", join("aa", &format!("e{n}")));
    }
    harness
}

fn harness() -> Harness {
    harness_with(json!({}), json!({}))
}

/// A stored list has the effect of the same list as an option.
#[test]
fn a_stored_list_is_in_force_as_an_option_would_be_in_one_transaction() {
    let (one, other) = ("tcp:443@192.0.2.0/24+host", "udp:53@any+tcp:443@192.0.2.7");
    let options = |list: &str| json!({"pontoon.egress.allow": list});
    let stored = |list: &str| json!({"network": "aa", "lists": {"egress": list}});
    let of_endpoint = |list: &str| json!({"network": "aa", "endpoint": "e0", "lists": {"egress": list}});
    for (harness, body, as_options) in [
        (harness(), stored(one), harness_with(options(one), json!({}))),
        (
            harness_with(options(other), json!({})),
            stored(one),
            harness_with(options(&format!("{one}+{other}")), json!({})),
        ),
        (harness(), of_endpoint(one), harness_with(json!({}), options(one))),
        (harness_with(options(other), json!({})), of_endpoint(one), harness_with(options(other), options(one))),
        (
            harness_with(options(other), options(one)),
            stored(one),
            harness_with(options(&format!("{one}+{other}")), options(one)),
        ),
    ] {
        let before = lists(&harness);
        harness.kernel.take_steps();
        set(&harness, &body);
        assert_eq!(lists(&harness), lists(&as_options), "{body}");
        let steps = harness.kernel.take_steps();
        assert!(matches!(steps.as_slice(), [Step::ChangeFirewall { .. }]), "{steps:?}");
        // Again, and by a new container.
        set(&harness, &body);
        assert_eq!(harness.kernel.take_steps(), []);
        for harness in [&harness, &as_options] {
            harness.ok("NetworkDriver.CreateEndpoint", party(2, json!({})));
        }
        assert_eq!(lists(&harness), lists(&as_options), "{body}");
        for harness in [&harness, &as_options] {
            harness.ok("NetworkDriver.DeleteEndpoint", json!({"NetworkID": "aa", "EndpointID": "e2"}));
        }
        let mut remove = body.clone();
        (remove["lists"], remove["remove"]) = (json!({}), json!(true));
        set(&harness, &remove);
        assert_eq!(lists(&harness), before, "{body}");
        for id in ["e0", "e1"] {
            harness.ok("NetworkDriver.DeleteEndpoint", json!({"NetworkID": "aa", "EndpointID": id}));
        }
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
        assert!(lists(&harness).is_empty());
    }
}

#[test]
fn stored_lists_of_networks_survive_a_reboot_and_those_of_endpoints_a_restart() {
    let mut harness = harness();
    set(&harness, &json!({"network": "aa", "lists": {"egress": ""}}));
    set(&harness, &json!({"network": "aa", "lists": {"ingress": "tcp:80@net"}}));
    set(&harness, &json!({"network": "aa", "endpoint": "e0", "lists": {"egress": "dns"}}));
    let before = lists(&harness);
    harness.restart();
    assert_eq!(lists(&harness), before);
    let reply = request(&harness.life().socket, "GET", "/status", b"");
    let status: Status = serde_json::from_str(&reply.body).unwrap();
    let of_network = &status.networks[0].detail.policy;
    let words = |list: &Option<pontoon::model::AllowList>| list.as_ref().map(ToString::to_string);
    assert_eq!(
        (words(&of_network.egress), words(&of_network.ingress)),
        (Some(String::new()), Some("tcp:80@net".into()))
    );
    let of_endpoint = &status.networks[0].endpoints[0].detail.policy;
    assert_eq!(
        (words(&of_endpoint.egress), words(&of_endpoint.stored.egress)),
        (Some("dns".into()), Some("dns".into()))
    );
    harness.reboot();
    // The engine repeats the request for the network, and begins the containers again.
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, true));
    harness.ok("NetworkDriver.CreateEndpoint", party(0, json!({})));
    let restricted =
        |way| lists(&harness).iter().filter(|one| matches!(one, Access::Restricted(of, _) if *of == way)).count();
    assert_eq!((restricted(Way::Egress), restricted(Way::Ingress)), (2, 2));
    let allowed = lists(&harness).iter().any(|one| matches!(one, Access::Allowed(_, Way::Egress, ..)));
    assert!(!allowed, "that of the former endpoint ended");
    // A network that is made again with other options keeps what was stored for it.
    harness.ok("NetworkDriver.DeleteEndpoint", json!({"NetworkID": "aa", "EndpointID": "e0"}));
    let mut body = network("aa", 1, true);
    body["Options"]["com.docker.network.generic"] = json!({"com.docker.network.driver.mtu": "1400"});
    harness.ok("NetworkDriver.CreateNetwork", body);
    harness.ok("NetworkDriver.CreateEndpoint", party(0, json!({})));
    assert!(lists(&harness).contains(&Access::Restricted(Way::Egress, "10.1.0.2".parse().unwrap())));
}

/// The endpoints that are restricted, and those that are only audited, by their addresses' last byte.
fn kept(harness: &Harness) -> (BTreeSet<u8>, BTreeSet<u8>) {
    let last = |address: &std::net::IpAddr| {
        if let std::net::IpAddr::V4(four) = address { Some(four.octets()[3]) } else { None }
    };
    let lists = lists(harness);
    let restricted = lists.iter().filter_map(|one| if let Access::Restricted(_, own) = one { last(own) } else { None });
    let audited = lists.iter().filter_map(|one| if let Access::Audited(_, own) = one { last(own) } else { None });
    (restricted.collect(), audited.collect())
}

/// What is said of the endpoint precedes what is said of the network, and what is stored, the options.
#[test]
fn lists_are_audited_as_the_options_and_what_is_stored_say() {
    let (two, three) = (|| BTreeSet::from([2]), || BTreeSet::from([3]));
    let (both, none) = (|| BTreeSet::from([2, 3]), BTreeSet::new);
    let of_network = json!({"pontoon.policy": "deny", "pontoon.policy.audit": "true"});
    let mut harness = harness_with(of_network, json!({"pontoon.policy.audit": "false"}));
    assert_eq!(kept(&harness), (two(), three()));
    set(&harness, &json!({"network": "aa", "endpoint": "e0", "lists": {"audit": true}}));
    assert_eq!(kept(&harness), (none(), both()));
    set(&harness, &json!({"network": "aa", "lists": {"audit": false}}));
    assert_eq!(kept(&harness), (three(), two()));
    harness.restart();
    assert_eq!(kept(&harness), (three(), two()), "after a restart");
    let reply = request(&harness.life().socket, "GET", "/status", b"");
    let status: Status = serde_json::from_str(&reply.body).unwrap();
    let audit = |n: usize| status.networks[0].endpoints[n].detail.policy.audit;
    assert_eq!((audit(0), audit(1), status.networks[0].detail.policy.audit), (true, false, false));
    // Lists that are stored leave it, and without anything stored the options hold.
    set(&harness, &json!({"network": "aa", "endpoint": "e0", "lists": {"egress": "dns"}}));
    assert_eq!(kept(&harness), (three(), two()));
    for body in [json!({"network": "aa", "endpoint": "e0", "remove": true}), json!({"network": "aa", "remove": true})] {
        set(&harness, &body);
    }
    assert_eq!(kept(&harness), (two(), three()));
    // Nothing is audited of an open container, and nothing where no list could be enforced.
    let open = harness_with(json!({"pontoon.policy.audit": "true"}), json!({}));
    assert!(lists(&open).is_empty());
    let mut unchecked = network("bb", 2, true);
    unchecked["Options"]["com.docker.network.generic"] =
        json!({"pontoon.policy.audit": "true", "pontoon.spoofcheck": "false"});
    open.ok("NetworkDriver.CreateNetwork", unchecked);
    let error = open.err("NetworkDriver.CreateEndpoint", endpoint("bb", "e9", "10.2.0.9/24"));
    assert!(error.contains("pontoon.policy.audit"), "{error}");
    let mut odd = network("cc", 3, true);
    odd["Options"]["com.docker.network.generic"] = json!({"pontoon.policy.audit": "maybe"});
    assert!(open.err("NetworkDriver.CreateNetwork", odd).contains("true or false"));
}

/// An endpoint that was audited and is not any more, whose record is damaged: its list stays in force.
#[test]
fn damage_brings_no_audit_back() {
    for of_network in [true, false] {
        let mut harness = harness_with(json!({"pontoon.policy": "deny", "pontoon.policy.audit": "true"}), json!({}));
        let mut body = json!({"network": "aa", "lists": {"audit": false}});
        if !of_network {
            body["endpoint"] = json!("e0");
        }
        set(&harness, &body);
        let before = kept(&harness);
        assert!(before.0.contains(&2));
        let text = std::fs::read_to_string(harness.ledger_file()).unwrap();
        let (object, id) = if of_network { ("network", "\"aa\"") } else { ("endpoint", "\"e0\"") };
        let mut damaged: Vec<String> = text.lines().map(str::to_owned).collect();
        let concerned = |line: &String| line.contains(&format!("\"put\":\"{object}\"")) && line.contains(id);
        let last = damaged.iter().rposition(concerned).unwrap();
        damaged[last] = damaged[last].replacen("\"audit\":false", "\"audit\":other", 1);
        assert_ne!(damaged.join("\n") + "\n", text);
        std::fs::write(harness.ledger_file(), damaged.join("\n") + "\n").unwrap();
        harness.restart();
        assert!(kept(&harness).0.is_superset(&before.0), "{of_network}: {:?}", kept(&harness));
    }
}

/// Damage to the ledger never brings back a time before the policy.
#[test]
fn a_damaged_policy_does_not_open_anything() {
    for of_network in [true, false] {
        let mut harness = harness();
        let mut body = json!({"network": "aa", "lists": {"egress": ""}});
        if !of_network {
            body["endpoint"] = json!("e0");
        }
        set(&harness, &body);
        let before = lists(&harness);
        let text = std::fs::read_to_string(harness.ledger_file()).unwrap();
        let (object, id) = if of_network { ("network", "\"aa\"") } else { ("endpoint", "\"e0\"") };
        let mut damaged: Vec<String> = text.lines().map(str::to_owned).collect();
        let concerned = |line: &String| line.contains(&format!("\"put\":\"{object}\"")) && line.contains(id);
        let last = damaged.iter().rposition(concerned).unwrap();
        damaged[last] = damaged[last].replacen("put", "pot", 1);
        assert_ne!(damaged.join("\n") + "\n", text);
        std::fs::write(harness.ledger_file(), damaged.join("\n") + "\n").unwrap();
        harness.restart();
        assert!(lists(&harness).is_superset(&before), "what runs stays restricted");
        let mut next = party(5, json!({}));
        next["EndpointID"] = json!("next");
        if of_network {
            let error = harness.err("NetworkDriver.CreateEndpoint", next);
            assert!(error.contains("not known"), "{error}");
        }
    }
}

#[test]
fn what_could_not_be_enforced_is_refused_and_changes_nothing() {
    let harness = harness();
    for (body, said) in [
        (json!({"network": "aa", "lists": {"egress": "tcp:443"}}), "'@' and a peer"),
        (json!({"network": "aa", "lists": {"ingress": "tcp:443@api.example.com"}}), "only in the egress list"),
        (json!({"network": "aa"}), "give lists"),
        (json!({"network": "aa", "remove": true, "lists": {"egress": ""}}), "give lists"),
        (json!({"network": "aa", "egress": ""}), "unknown field"),
        (json!({"network": "bb", "lists": {"egress": ""}}), "network bb is not known"),
        (json!({"network": "aa", "endpoint": "e9", "lists": {"egress": ""}}), "endpoint e9 of network aa is not known"),
    ] {
        let error = refused(&harness, &body);
        assert!(error.contains(said), "{body}: {error}");
    }
    let body = json!({"network": "aa", "lists": {"egress": ""}});
    // The change, the comparison, its steps one by one, and the change again.
    for _ in 0..4 {
        harness.kernel.inject(|step| matches!(step, Step::ChangeFirewall { .. }), Fault::Refuse(libc::ENOMEM));
    }
    let reply = post(&harness, &body);
    assert_eq!(reply.status, 500, "{}", reply.body);
    assert!(lists(&harness).is_empty());
    harness.ok("NetworkDriver.CreateEndpoint", party(2, json!({})));
    assert!(lists(&harness).is_empty(), "the ledger and the memory are as before");
    // Where the firewall does not see the packets.
    let harness = host();
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7"})));
    let error = refused(&harness, &body);
    assert!(error.contains("macvlan") && error.contains("use a network with a bridge"), "{error}");
}
