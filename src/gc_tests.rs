use super::*;
use crate::admin::status::PoolStatus;
use crate::engine::EngineNetwork;
use crate::model::{Attachment, EndpointId, IfName, NetworkId};

fn endpoint(id: &str, phase: Phase, age: u64) -> EndpointStatus {
    EndpointStatus {
        id: EndpointId::parse(id).unwrap(),
        attachment: Attachment::Veth {
            host: IfName::parse(&format!("pnth{id}")).unwrap(),
            peer: IfName::parse(&format!("pntc{id}")).unwrap(),
        },
        phase,
        age,
        addresses: Vec::new(),
        published: Vec::new(),
        detail: Default::default(),
    }
}

fn network(id: &str, subnet: &str, endpoints: Vec<EndpointStatus>) -> NetworkStatus {
    NetworkStatus {
        id: NetworkId::parse(id).unwrap(),
        kind: "bridge".to_owned(),
        link: IfName::parse("pntb1").unwrap(),
        mtu: 1500,
        internal: false,
        icc: true,
        overlay: None,
        vlan: None,
        subnets: vec![subnet.parse().unwrap()],
        endpoints,
        detail: Default::default(),
    }
}

fn pool(space: &str, subnet: &str) -> PoolStatus {
    PoolStatus {
        id: format!("{space}/{subnet}"),
        space: space.to_owned(),
        subnet: subnet.parse().unwrap(),
        taken: 1,
        unclaimed: Vec::new(),
    }
}

fn engine(known: &[(&str, &str)], endpoints: &[&str], swarm: &str) -> Engine {
    let network = |subnet: &str| EngineNetwork { subnets: vec![subnet.parse().unwrap()], ..EngineNetwork::default() };
    Engine {
        networks: known.iter().map(|(id, subnet)| ((*id).to_owned(), network(subnet))).collect(),
        endpoints: endpoints.iter().map(|id| (*id).to_owned()).collect(),
        swarm: swarm.to_owned(),
        services: None,
    }
}

fn links(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_the_engine_does_not_know_goes_with_its_pool() {
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let status = Status {
        networks: vec![network(&a, "10.1.0.0/24", vec![]), network(&b, "10.2.0.0/24", vec![])],
        pools: vec![
            pool(LOCAL_SPACE, "10.1.0.0/24"),
            pool(LOCAL_SPACE, "10.2.0.0/24"),
            pool(LOCAL_SPACE, "10.3.0.0/24"),
        ],
        ..Status::default()
    };
    let report = compare(&status, &engine(&[(&a, "10.1.0.0/24"), ("c", "10.3.0.0/24")], &[], "inactive"), &links(&[]));
    let words: Vec<String> = report.leaks.iter().map(ToString::to_string).collect();
    assert_eq!(words, [format!("network {b} (pntb1)"), "pool 10.2.0.0/24 (pontoon-local/10.2.0.0/24)".to_owned()]);
    assert!(report.kept.is_empty() && !report.stranger);
}

#[test]
fn a_network_that_is_kept_keeps_its_pool() {
    let id = "a".repeat(64);
    let used = vec![endpoint("1", Phase::Joined, 9999)];
    let status = Status {
        networks: vec![network(&id, "10.1.0.0/24", used)],
        pools: vec![pool(LOCAL_SPACE, "10.1.0.0/24"), pool("pontoon-global", "10.9.0.0/24")],
        ..Status::default()
    };
    let empty = engine(&[], &[], "inactive");
    let alive = compare(&status, &empty, &links(&["pnth1"]));
    assert!(alive.leaks.is_empty() && alive.stranger);
    assert_eq!(alive.kept.len(), 2, "{:?}", alive.kept);
    // Its sandbox is gone, or its container end is back on the host.
    for there in [&["pnth1", "pntc1"][..], &[]] {
        assert_eq!(compare(&status, &empty, &links(there)).leaks.len(), 2, "{there:?}");
    }
}

#[test]
fn a_swarms_network_that_this_engine_has_no_more_is_a_leak() {
    const ID: &str = "k2fjx4mq0wzd7r1v9c8b5n3yt";
    let of = |endpoints| Status { networks: vec![network(ID, "10.1.0.0/24", endpoints)], ..Status::default() };
    for state in ["active", "pending", "locked", "error", "inactive"] {
        let stale = compare(&of(vec![]), &engine(&[], &[], state), &links(&[]));
        // An engine that knows none of a Swarm's networks may still be the right one.
        assert!(stale.leaks.len() == 1 && !stale.stranger, "{state}");
        let used = compare(&of(vec![endpoint("1", Phase::Joined, 9999)]), &engine(&[], &[], state), &links(&["pnth1"]));
        assert!(used.leaks.is_empty() && used.kept.len() == 1, "a container lives: {state}");
    }
    assert!(compare(&of(vec![]), &engine(&[(ID, "10.1.0.0/24")], &[], "active"), &links(&[])).leaks.is_empty());
}

#[test]
fn endpoints_are_collected_when_they_are_old_and_in_no_sandbox() {
    let id = "a".repeat(64);
    let cases = [
        (endpoint("1", Phase::Ready, YOUNG), &["pnth1", "pntc1"][..], 1),
        (endpoint("1", Phase::Ready, YOUNG - 1), &["pnth1", "pntc1"], 0),
        (endpoint("1", Phase::Joined, 9999), &["pnth1"], 0),
        (endpoint("1", Phase::Joined, 9999), &["pnth1", "pntc1"], 1),
        (endpoint("2", Phase::Joined, 9999), &[], 0),
    ];
    for (endpoint, there, leaks) in cases {
        let status =
            Status { networks: vec![network(&id, "10.1.0.0/24", vec![endpoint.clone()])], ..Status::default() };
        let engine = engine(&[(&id, "10.1.0.0/24")], &["2"], "inactive");
        assert_eq!(compare(&status, &engine, &links(there)).leaks.len(), leaks, "{endpoint:?} {there:?}");
    }
}
