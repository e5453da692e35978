//! `pontoon.host`: the host and the containers on a parent reach each other.

use std::collections::BTreeSet;

use pontoon::datapath::object::{HostChild, HostLink};
use pontoon::datapath::{LinkProperty, Object, ObjectKind, Policy};
use pontoon::model::Mac;
use pontoon::model::kind::IpvlanMode;
use serde_json::{Value, json};

use crate::macvlan::{host, name, on_parent};
use testkit::harness::{Harness, endpoint, join, of};

fn on_eth7(host: &str) -> Value {
    json!({"parent": "eth7", "pontoon.host": host})
}

fn host_links(harness: &Harness) -> usize {
    harness.kernel.datapath().objects.values().filter(|object| object.kind() == ObjectKind::HostLink).count()
}

fn stations(harness: &Harness) -> BTreeSet<String> {
    harness.kernel.datapath().stations.iter().map(|station| station.address.to_string()).collect()
}

#[test]
fn networks_of_a_parent_share_one_host_link() {
    let mut harness = host();
    let before = harness.kernel.datapath();
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, on_eth7("true")));
    harness.ok("NetworkDriver.CreateNetwork", on_parent("bb", 2, on_eth7("auto")));
    harness.ok("NetworkDriver.CreateNetwork", on_parent("cc", 3, on_eth7("false")));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("bb", "e2", "10.2.0.2/24"));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("cc", "e3", "10.3.0.2/24"));
    assert_eq!((host_links(&harness), stations(&harness)), (1, ["10.1.0.2", "10.2.0.2"].map(str::to_owned).into()));
    // As after a reboot, and with drift.
    harness.kernel.reboot();
    harness.restart();
    assert_eq!(stations(&harness).len(), 2);
    harness.kernel.meddle(|datapath| datapath.stations.clear());
    harness.life().driver.tick();
    assert_eq!(stations(&harness).len(), 2);
    for (network, id) in [("aa", "e1"), ("bb", "e2"), ("cc", "e3")] {
        assert_eq!(host_links(&harness), usize::from(network != "cc"), "before {network} is deleted");
        for _ in 0..2 {
            harness.ok("NetworkDriver.DeleteEndpoint", of(network, id));
        }
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": network}));
    }
    let after = harness.kernel.datapath();
    assert_eq!((after.objects, after.stations), (before.objects, before.stations));
    let left = after.policy.unwrap_or_default();
    assert!(
        !left.iter().any(|one| matches!(one, Policy::Station(_) | Policy::Link(LinkProperty::ProtectedBridge, _))),
        "{left:?}"
    );
}

#[test]
fn the_option_is_refused_where_impossible_and_auto_disables_it() {
    let harness = host();
    for (options, says) in [
        (json!({"parent": "eth7", "pontoon.host": "true", "macvlan_mode": "private"}), "macvlan_mode=bridge"),
        (json!({"parent": "eth7", "pontoon.host": "true", "macvlan_mode": "vepa"}), "macvlan_mode=bridge"),
        (json!({"parent": "eth7", "pontoon.host": "true", "macvlan_mode": "passthru"}), "macvlan_mode=bridge"),
        (json!({"parent": "eth7", "pontoon.host": "10.1.0.9"}), "pontoon.host=true"),
        (json!({"parent": "eth7", "pontoon.host": "10.1.0.9", "macvlan_mode": "vepa"}), "macvlan_mode=bridge"),
        (json!({"parent": "eth7", "pontoon.host": "true", "ipvlan_mode": "l2"}), "pontoon.host=ADDRESS"),
        (json!({"parent": "eth7", "pontoon.host": "true", "ipvlan_flag": "private"}), "ipvlan_flag=bridge"),
        (json!({"parent": "eth7", "pontoon.host": "10.1.0.9", "ipvlan_flag": "vepa"}), "ipvlan_flag=bridge"),
        (json!({"parent": "eth7", "pontoon.host": "10.2.0.9", "ipvlan_mode": "l2"}), "in no subnet"),
        (json!({"parent": "eth7", "pontoon.host": "fd00::9", "ipvlan_mode": "l3"}), "in no subnet"),
        (json!({"parent": "eth7", "pontoon.host": "10.1.0.1", "ipvlan_mode": "l2"}), "gateway"),
        (json!({"parent": "eth7", "pontoon.host": "10.1.0.0", "ipvlan_mode": "l2"}), "of the subnet 10.1.0.0/24"),
        (json!({"parent": "eth7", "pontoon.host": "10.1.0.255", "ipvlan_mode": "l2"}), "of the subnet 10.1.0.0/24"),
        (json!({"pontoon.host": "true"}), "-o parent=LINK"),
        (json!({"parent": "eth7", "pontoon.host": "yes"}), "true, false, auto, or an address"),
    ] {
        let text = harness.err("NetworkDriver.CreateNetwork", on_parent("aa", 1, options));
        assert!(text.contains(says) && text.contains("pontoon.host") && !text.contains('\n'), "{text:?}: {says:?}");
    }
    for (options, links) in [
        (json!({"parent": "eth7", "pontoon.host": "auto", "macvlan_mode": "private"}), 0),
        (json!({"parent": "eth7", "pontoon.host": "auto", "ipvlan_mode": "l2"}), 0),
        (json!({"parent": "eth7", "pontoon.host": "auto", "ipvlan_mode": "l3", "ipvlan_flag": "private"}), 0),
        (json!({"parent": "eth7", "pontoon.host": "auto", "ipvlan_mode": "l3"}), 1),
    ] {
        harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, options.clone()));
        assert_eq!(host_links(&harness), links, "{options}");
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    }
    assert_eq!(host_links(&harness), 0);
}

/// The address of the host, the addresses of its containers, and the ports that they publish.
#[test]
fn an_ipvlan_network_has_a_host_link_of_its_own() {
    let mut harness = host();
    let before = harness.kernel.datapath();
    for (id, n, address) in [("aa", 1, "10.1.0.9"), ("bb", 2, "10.2.0.9")] {
        let options = json!({"parent": "eth7", "ipvlan_mode": "l2", "pontoon.host": address});
        harness.ok("NetworkDriver.CreateNetwork", on_parent(id, n, options));
    }
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let text = harness.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e2", "10.1.0.9/24"));
    assert!(text.contains("--aux-address host=10.1.0.9") && !text.contains('\n'), "{text}");
    let made = || {
        let objects = harness.kernel.datapath().objects;
        let link = |object| if let Object::HostLink(link) = object { Some(link) } else { None };
        objects.into_values().filter_map(link).collect::<Vec<_>>()
    };
    let addresses: BTreeSet<String> = made()
        .into_iter()
        .map(|link| match link.child {
            HostChild::Ipvlan { mode: IpvlanMode::L2, addresses } if link.quiet && link.up => format!("{addresses:?}"),
            child => panic!("{child:?}"),
        })
        .collect();
    assert_eq!(addresses.len(), 2);
    assert!(addresses.iter().any(|text| text.contains("10.1.0.9") && text.contains("32")), "{addresses:?}");
    assert_eq!(stations(&harness), ["10.1.0.2".to_owned()].into());
    assert!(harness.kernel.datapath().stations.iter().all(|station| station.mac.is_none()));
    // Drift: an address that is gone, and one that is too many.
    harness.kernel.meddle(|datapath| {
        for object in datapath.objects.values_mut() {
            if let Object::HostLink(HostLink { child: HostChild::Ipvlan { addresses, .. }, .. }) = object {
                *addresses = ["192.0.2.1/32".parse().unwrap()].into();
            }
        }
    });
    harness.life().driver.tick();
    let again: BTreeSet<String> = made().into_iter().map(|link| format!("{:?}", link.child)).collect();
    assert!(again.iter().all(|child| !child.contains("192.0.2.1") && child.contains(".0.9")), "{again:?}");
    harness.kernel.reboot();
    harness.restart();
    assert_eq!((host_links(&harness), stations(&harness).len()), (2, 1));
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    for id in ["aa", "bb"] {
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": id}));
    }
    let after = harness.kernel.datapath();
    assert_eq!((after.objects, after.stations), (before.objects, before.stations));
}

#[test]
fn ports_are_published_where_the_host_has_an_address_for_the_answers() {
    for (options, published) in [
        (json!({"parent": "eth7", "ipvlan_mode": "l3", "pontoon.host": "true"}), false),
        (json!({"parent": "eth7", "ipvlan_mode": "l2"}), false),
        (json!({"parent": "eth7"}), false),
        (json!({"parent": "eth7", "pontoon.host": "true"}), true),
        (json!({"parent": "eth7", "ipvlan_mode": "l3", "pontoon.host": "10.1.0.9"}), true),
        (json!({"parent": "eth7", "ipvlan_mode": "l2", "pontoon.host": "10.1.0.9"}), true),
    ] {
        let harness = host();
        harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, options.clone()));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
        harness.ok("NetworkDriver.Join", join("aa", "e1"));
        let ports = json!([{"Proto": 6, "Port": 80, "HostPort": 8080, "HostPortEnd": 8080}]);
        let mut publish = of("aa", "e1");
        publish["Options"] = json!({"com.docker.network.portmap": ports});
        // Not refused where it is not possible: see the driver.
        harness.ok("NetworkDriver.ProgramExternalConnectivity", publish);
        assert_eq!(!harness.kernel.reserved().is_empty(), published, "{options}");
        let policy = harness.kernel.datapath().policy.unwrap_or_default();
        assert_eq!(policy.iter().any(|one| matches!(one, Policy::Published(_))), published, "{options}");
    }
}

/// An address that another machine has, or the host already, would be there twice.
#[test]
fn the_address_of_the_host_must_be_free() {
    let harness = host();
    harness.kernel.allow_probes();
    let laptop = Mac::parse("06:00:00:00:00:77").unwrap();
    harness.kernel.set_station(&name("eth7"), "10.1.0.9".parse().unwrap(), Some(laptop));
    harness.kernel.set_address("10.1.0.8".parse().unwrap(), true);
    let at = |address: &str| json!({"parent": "eth7", "ipvlan_mode": "l2", "pontoon.host": address});
    for (address, holder) in [("10.1.0.9", "06:00:00:00:00:77"), ("10.1.0.8", "this host")] {
        let text = harness.err("NetworkDriver.CreateNetwork", on_parent("aa", 1, at(address)));
        for part in ["network aa", "pontoon.host", address, holder] {
            assert!(text.contains(part) && !text.contains('\n'), "{part}: {text}");
        }
    }
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, at("10.1.0.7")));
}
