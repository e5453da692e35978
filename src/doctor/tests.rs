use super::collect::AtPath;
use super::vlan::tests::on_vlan;
use super::*;
use crate::admin::UnusableSetting;
use crate::admin::conflict::ConflictStatus;
use crate::admin::overlay::{OverlayNetworkStatus, OverlayStatus, PeerStatus};
use crate::admin::status::{EndpointStatus, LedgerStatus, NetworkStatus, PlanStatus, PoolStatus};
use crate::datapath::host::{
    Dropped, Feature, HostChain, HostLink, HostRoute, HostTunnel, LegacyChain, PeerPath, PeerPaths,
};
use crate::datapath::{ForwardRule, LinkMatch};
use crate::engine::{EngineNetwork, EngineService};
use crate::model::{Attachment, DataPath, EndpointId, HostPort, IfName, NetworkId, Phase, Protocol, Vni};
use crate::state::peers::Standing;

fn port(number: u16) -> HostPort {
    HostPort { protocol: Protocol::Tcp, address: "0.0.0.0".parse().unwrap(), port: number }
}

fn network() -> NetworkStatus {
    let endpoint = EndpointStatus {
        id: EndpointId::parse("e1").unwrap(),
        attachment: Attachment::Veth { host: IfName::parse("pnth1").unwrap(), peer: IfName::parse("pntc1").unwrap() },
        phase: Phase::Joined,
        age: 9999,
        addresses: Vec::new(),
        published: vec![port(80)],
        detail: Default::default(),
    };
    NetworkStatus {
        id: NetworkId::parse(&"a".repeat(64)).unwrap(),
        kind: "bridge".to_owned(),
        link: IfName::parse("pntb1").unwrap(),
        mtu: 1500,
        internal: false,
        icc: true,
        overlay: None,
        vlan: None,
        subnets: vec!["10.1.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
        endpoints: vec![endpoint],
        detail: Default::default(),
    }
}

fn route(destination: &str, link: &str) -> HostRoute {
    HostRoute { destination: destination.parse().unwrap(), link: link.to_owned() }
}

/// A host without problems.
pub(super) fn well() -> Facts {
    let host = Host {
        links: vec![
            HostLink { name: "eth0".into(), mtu: 1500, ..HostLink::default() },
            HostLink { name: "pnth1".into(), mtu: 1500, ours: true, ..HostLink::default() },
        ],
        uplink: Some("eth0".into()),
        routes: vec![route("0.0.0.0/0", "eth0"), route("10.1.0.0/24", "pntb1"), route("192.0.2.0/24", "eth0")],
        features: vec![Feature { name: "bridges", modules: "bridge", needed: true, ..Feature::default() }],
        ..Host::default()
    };
    let mut settings = Settings::of(&[
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/neigh/entries", "10"),
        ("ipv4/neigh/refused", "0"),
        ("ipv4/neigh/default/gc_thresh3", "1024"),
        ("netfilter/nf_conntrack_count", "10"),
        ("netfilter/nf_conntrack_max", "1000"),
    ]);
    settings.release = "6.1.0-1".to_owned();
    Facts {
        source: Source::Daemon,
        serves_vips: false,
        status: Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: 7,
            state: LedgerStatus { outcome: "loaded".to_owned(), ..LedgerStatus::default() },
            networks: vec![network()],
            pools: vec![PoolStatus {
                id: "p".into(),
                space: "pontoon-local".into(),
                subnet: "10.1.0.0/24".parse().unwrap(),
                taken: 1,
                unclaimed: Vec::new(),
            }],
            conflicts: Some(ConflictStatus { found: true, deaf: false, present: Vec::new() }),
            ..Status::default()
        },
        wiring: Wiring {
            socket: "/run/docker/plugins/pontoon.sock".into(),
            at_path: AtPath::Plugin,
            mode: Some(0o600),
            ..Wiring::default()
        },
        process: Some(Process { pid: 7, capabilities: (1 << 12) | (1 << 10), descriptors: Some(1024), open: Some(30) }),
        host: Ok(host),
        settings,
        disk: Some(Disk { free: 1 << 30, read_only: false }),
        state_dir: "/var/lib/pontoon".into(),
        tunnels: None,
        now: 10_000,
        engine: None,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const PEER: &str = "192.0.2.2";

/// The same host with an overlay network, also without problems.
fn far() -> Facts {
    let mut facts = well();
    let overlay = OverlayNetworkStatus { vni: Vni::new(70000).unwrap(), link: IfName::parse("pntx1").unwrap() };
    (facts.status.networks[0].overlay, facts.status.networks[0].mtu) = (Some(overlay), 1450);
    facts.status.reach = Some(OverlayStatus {
        scope: Some("global".to_owned()),
        port: 4789,
        local: Some(ip("192.0.2.1")),
        told: None,
        own: Vec::new(),
        peers: vec![PeerStatus { address: ip(PEER), standing: Standing::Present }],
        announces: Some(true),
    });
    facts.tunnels = Some(Tunnels {
        paths: PeerPaths {
            link: Some("eth0".to_owned()),
            offloads: vec!["tx-udp_tnl-segmentation".to_owned()],
            peers: vec![PeerPath { peer: ip(PEER), link: Some("eth0".to_owned()), mtu: Some(1500), heard: Some(20) }],
        },
        largest: 1500,
        arrivals: [(ip(PEER), Arrival::Whole)].into(),
        ..Tunnels::default()
    });
    let tunnel = Some(HostTunnel { vni: 70000, port: 4789 });
    host(&mut facts).links.push(HostLink { name: "pntx1".into(), ours: true, tunnel, ..HostLink::default() });
    facts.engine = Some(Ok(manager()));
    facts
}

/// A manager with a network of Pontoon and a service on it.
fn manager() -> Engine {
    let network = EngineNetwork {
        name: "fleet".to_owned(),
        driver: "pontoon:latest".to_owned(),
        scope: "swarm".to_owned(),
        ..EngineNetwork::default()
    };
    let service = EngineService { name: "web".to_owned(), vip: false, networks: vec!["a".repeat(64)] };
    Engine {
        networks: [("a".repeat(64), network)].into(),
        endpoints: ["e1".to_owned()].into(),
        swarm: "active".to_owned(),
        services: Some(vec![service]),
    }
}

fn tunnels(facts: &mut Facts) -> &mut Tunnels {
    facts.tunnels.as_mut().unwrap()
}

fn engine(facts: &mut Facts) -> &mut Engine {
    facts.engine.as_mut().unwrap().as_mut().unwrap()
}

fn fleet(facts: &mut Facts) -> &mut EngineNetwork {
    engine(facts).networks.values_mut().next().unwrap()
}

fn host(facts: &mut Facts) -> &mut Host {
    facts.host.as_mut().unwrap()
}

#[test]
fn a_host_on_which_all_is_well_is_healthy() {
    let far = examine(&far());
    let findings = examine(&well());
    assert!(far.len() > findings.len());
    let ill: Vec<_> = findings.iter().chain(&far).filter(|finding| finding.level != Level::Ok).collect();
    assert!(ill.is_empty(), "{ill:#?}");
    assert_eq!(report::text(&findings, false), format!("healthy: {} ok\n", findings.len()));
    assert_eq!(report::text(&findings, true).lines().count(), findings.len() + 1);
}

#[test]
fn each_check_finds_what_it_is_for() {
    type Break = fn(&mut Facts);
    let cases: &[(&str, Level, Break)] = &[
        ("daemon", Level::Broken, |f| f.source = Source::Ledger(Some("refused".into()))),
        ("version", Level::Note, |f| f.status.version = "0.0.9".into()),
        ("settings", Level::Degraded, |f| {
            f.status.settings = vec![UnusableSetting::no_data_path(&DataPath::parse("nosuch0").unwrap())];
        }),
        ("capabilities", Level::Broken, |f| f.process.as_mut().unwrap().capabilities = 1 << 10),
        ("capabilities", Level::Degraded, |f| f.process.as_mut().unwrap().capabilities = 1 << 12),
        ("descriptors", Level::Degraded, |f| f.process.as_mut().unwrap().open = Some(900)),
        ("descriptors", Level::Broken, |f| f.process.as_mut().unwrap().open = Some(1000)),
        ("socket", Level::Degraded, |f| f.wiring.mode = Some(0o660)),
        ("status_socket", Level::Degraded, |f| f.status.status_socket = Some(Default::default())),
        ("socket", Level::Broken, |f| f.wiring.at_path = AtPath::Nothing),
        ("socket", Level::Broken, |f| f.wiring.at_path = AtPath::AnotherFile),
        ("socket", Level::Broken, |f| f.wiring.at_path = AtPath::Stale("refused".into())),
        ("socket", Level::Broken, |f| f.wiring.at_path = AtPath::NoPlugin("404".into())),
        ("spec_files", Level::Degraded, |f| {
            f.wiring.specs = vec![("/etc/docker/plugins/pontoon.spec".into(), "tcp://192.0.2.1".into())];
        }),
        ("two_pontoons", Level::Degraded, |f| f.wiring.managed = vec!["/run/docker/plugins/1/pontoon.sock".into()]),
        ("state", Level::Broken, |f| f.status.state.outcome = "too new".into()),
        ("state", Level::Degraded, |f| f.status.state.outcome = "corrupt".into()),
        ("state", Level::Broken, |f| f.source = Source::Nowhere("EACCES".into())),
        ("unknown_links", Level::Degraded, |f| f.status.plan.unknown = vec![IfName::parse("pnth1").unwrap()]),
        ("unknown_links", Level::Degraded, |f| f.status.state.degraded = true),
        ("quarantined", Level::Degraded, |f| f.status.state.quarantined = vec!["/x/ledger.corrupt-1".into()]),
        ("disk", Level::Broken, |f| f.disk = Some(Disk { free: 1 << 30, read_only: true })),
        ("disk", Level::Degraded, |f| f.disk = Some(Disk { free: 2 << 20, read_only: false })),
        ("drift", Level::Degraded, |f| f.status.plan.commands = vec!["ip link set dev pntb1 up".into()]),
        ("drift", Level::Broken, |f| f.status.blind = Some("torn".into())),
        ("missing_bridges", Level::Broken, |f| {
            f.status.plan = PlanStatus { missing: vec![IfName::parse("br0").unwrap()], ..PlanStatus::default() };
        }),
        ("vlans", Level::Broken, |f| on_vlan(f, false, 40)),
        ("vlans", Level::Degraded, |f| on_vlan(f, true, 50)),
        ("dead_endpoints", Level::Degraded, |f| {
            f.status.plan = PlanStatus { dead: vec![IfName::parse("pnth1").unwrap()], ..PlanStatus::default() };
        }),
        ("leaked_endpoints", Level::Degraded, |f| {
            host(f).links.push(HostLink { name: "pntc1".into(), ..HostLink::default() });
        }),
        ("leaked_endpoints", Level::Degraded, |f| f.status.networks[0].endpoints[0].phase = Phase::Left),
        ("leaked_addresses", Level::Degraded, |f| {
            f.status.pools[0].unclaimed = vec![("10.1.0.9".parse().unwrap(), 500)];
        }),
        ("ports", Level::Degraded, |f| f.status.unreserved = vec![(port(80), "taken".into())]),
        ("overruns", Level::Note, |f| f.status.overruns = 3),
        ("kernel_release", Level::Degraded, |f| f.settings.release = "5.4.0-28-amd64".into()),
        ("kernel_features", Level::Broken, |f| host(f).features[0].refused = Some("EOPNOTSUPP".into())),
        ("kernel_features", Level::Broken, |f| f.host = Err("EPERM".into())),
        ("ip_forward", Level::Broken, |f| f.settings = Settings::of(&[("ipv4/ip_forward", "0")])),
        ("neighbours", Level::Degraded, |f| {
            f.settings = Settings::of(&[("ipv4/neigh/entries", "1000"), ("ipv4/neigh/default/gc_thresh3", "1024")]);
        }),
        ("neighbours", Level::Note, |f| {
            let seen = [("entries", "10"), ("refused", "1"), ("default/gc_thresh3", "1024")];
            let seen = seen.map(|(what, value)| (format!("ipv6/neigh/{what}"), value));
            f.settings = Settings::of(&seen.each_ref().map(|(what, value)| (what.as_str(), *value)));
        }),
        ("conntrack", Level::Broken, |f| {
            f.settings =
                Settings::of(&[("netfilter/nf_conntrack_count", "990"), ("netfilter/nf_conntrack_max", "1000")]);
        }),
        ("conntrack", Level::Degraded, |f| {
            f.settings =
                Settings::of(&[("netfilter/nf_conntrack_count", "810"), ("netfilter/nf_conntrack_max", "1000")]);
        }),
        ("accept_ra", Level::Degraded, |f| {
            f.settings = Settings::of(&[("ipv6/conf/eth0/accept_ra", "1"), ("ipv6/conf/all/forwarding", "1")]);
        }),
        ("rp_filter", Level::Note, |f| {
            f.settings = Settings::of(&[("ipv4/conf/all/rp_filter", "1")]);
            host(f).routes.push(route("0.0.0.0/0", "eth1"));
        }),
        ("bridge_netfilter", Level::Note, |f| {
            f.status.networks[0].icc = false;
            f.settings = Settings::of(&[("bridge/bridge-nf-call-iptables", "1")]);
        }),
        ("mtu", Level::Degraded, |f| host(f).links[0].mtu = 1400),
        ("routes", Level::Broken, |f| host(f).routes.push(route("10.1.0.0/25", "wg0"))),
        ("routes", Level::Note, |f| host(f).routes.push(route("10.0.0.0/8", "wg0"))),
        ("forward_policy", Level::Broken, |f| host(f).chains.push(dropping())),
        ("firewalld", Level::Degraded, |f| {
            host(f).chains.push(HostChain { table: "firewalld".into(), ..HostChain::default() });
        }),
        ("ufw", Level::Note, |f| {
            host(f).chains.push(HostChain { name: "ufw-user-input".into(), ..HostChain::default() })
        }),
        ("iptables_legacy", Level::Note, |f| f.settings.legacy_tables = vec!["iptables filter".into()]),
        ("iptables_legacy", Level::Broken, |f| {
            f.settings.legacy_tables = vec!["iptables filter".into()];
            host(f).legacy = vec![LegacyChain { family: crate::model::Family::V4, drops: true, names_ours: false }];
        }),
        ("tunnel_mtu", Level::Degraded, |f| host(f).links[0].mtu = 1499),
        ("tunnel_mtu", Level::Degraded, |f| tunnels(f).paths.peers[0].mtu = Some(1400)),
        ("tunnel_mtu", Level::Degraded, |f| tunnels(f).arrivals = [(ip(PEER), Arrival::TooLarge)].into()),
        ("tunnel_mtu", Level::Degraded, |f| tunnels(f).arrivals = [(ip(PEER), Arrival::Swallowed)].into()),
        ("tunnel_mtu", Level::Ok, |f| tunnels(f).arrivals = [(ip(PEER), Arrival::Silent)].into()),
        ("peers", Level::Broken, |f| f.status.reach.as_mut().unwrap().local = None),
        ("peers", Level::Degraded, |f| tunnels(f).paths.peers[0].link = None),
        ("peers", Level::Note, |f| tunnels(f).paths.peers[0].heard = None),
        ("peers", Level::Note, |f| f.status.reach.as_mut().unwrap().peers.clear()),
        ("peers", Level::Note, |f| {
            f.status.reach.as_mut().unwrap().peers[0].standing = Standing::Doubted { since: 9000 };
        }),
        ("tunnel_mtu", Level::Note, |f| {
            (f.status.networks[0].mtu, host(f).links[0].mtu) = (1350, 1400);
            tunnels(f).largest = 1400;
        }),
        ("subnets", Level::Degraded, |f| host(f).heard = [("pntx1".into(), ip("10.99.0.9"))].into()),
        ("moved", Level::Note, |f| f.status.reach.as_mut().unwrap().told = Some(ip("192.0.2.9"))),
        ("drops", Level::Degraded, |f| host(f).unknown_senders = [(ip("192.0.2.9"), 70000)].into()),
        ("drops", Level::Note, |f| {
            host(f).dropped = vec![Dropped { family: "inet".into(), chain: "x".into(), rule: "x".into(), packets: 3 }];
        }),
        ("tunnel_port", Level::Broken, |f| tunnels(f).holders = vec!["inode 4711".into()]),
        ("tunnel_port", Level::Broken, |f| host(f).links.push(theirs(70000, 4789))),
        ("tunnel_port", Level::Broken, |f| host(f).links.push(theirs(0, 4789))),
        ("tunnel_port", Level::Ok, |f| host(f).links.extend([theirs(4097, 4789), theirs(0, 8472)])),
        ("tunnel_port", Level::Degraded, |f| f.status.reach.as_mut().unwrap().port = 8472),
        ("offload", Level::Note, |f| tunnels(f).driver = Some("vmxnet3".into())),
        ("offload", Level::Degraded, |f| {
            tunnels(f).damaged = vec![Damaged { address: [10, 1, 0, 2].into(), tcp: 3, udp: 0 }];
        }),
        ("announcing", Level::Degraded, |f| f.status.reach.as_mut().unwrap().announces = Some(false)),
        ("conflicts", Level::Degraded, |f| f.status.conflicts.as_mut().unwrap().found = false),
        ("names", Level::Degraded, |f| f.status.names = Some(super::names::tests::failing())),
        ("audit", Level::Note, super::audit::tests::audited),
        ("leases", Level::Degraded, |f| f.status.leases = vec![super::lease::tests::lease("lost")]),
        ("parents", Level::Broken, |f| f.status.networks[0].kind = "ipvlan".to_owned()),
        ("service_vips", Level::Degraded, |f| engine(f).services.as_mut().unwrap()[0].vip = true),
        ("service_vips", Level::Ok, |f| {
            let service = &mut engine(f).services.as_mut().unwrap()[0];
            (service.vip, service.networks) = (true, vec!["another".into()]);
        }),
        ("service_vips", Level::Ok, |f| (engine(f).services.as_mut().unwrap()[0].vip, f.serves_vips) = (true, true)),
        ("allocation", Level::Degraded, |f| fleet(f).driver.clear()),
        ("engine", Level::Degraded, |f| f.engine = Some(Err("no answer".into()))),
        ("engine_leaks", Level::Degraded, |f| {
            f.status.networks[0].endpoints.clear();
            f.engine = Some(Ok(Engine { swarm: "inactive".into(), ..Engine::default() }));
        }),
    ];
    for (check, level, damage) in cases {
        let mut facts = if OVERLAY.split(' ').any(|one| one == *check) { far() } else { well() };
        damage(&mut facts);
        let findings = examine(&facts);
        let found: Vec<_> = findings.iter().filter(|finding| finding.check == *check).collect();
        let worst = found.iter().map(|finding| finding.level).max();
        assert_eq!(worst, Some(*level), "{check}: {found:#?}");
        let ill = found.iter().filter(|finding| finding.level >= Level::Degraded);
        assert!(ill.clone().all(|finding| finding.remedy.is_some() || !finding.evidence.is_empty()), "{found:#?}");
        assert_eq!(verdict(&findings).verdict().1 > 0, findings.iter().any(|f| f.level >= Level::Degraded));
        assert!(report::text(&findings, true).contains(&found.iter().max_by_key(|f| f.level).unwrap().title));
    }
    let tried: std::collections::BTreeSet<_> = cases.iter().map(|(check, ..)| *check).collect();
    let all: std::collections::BTreeSet<_> = CHECKS.iter().map(|(check, ..)| *check).collect();
    assert_eq!(tried, all, "every check is broken here once");
}

const OVERLAY: &str = "subnets moved drops tunnel_mtu peers tunnel_port offload announcing service_vips allocation";

fn theirs(vni: u32, port: u16) -> HostLink {
    HostLink { name: "theirs".into(), tunnel: Some(HostTunnel { vni, port }), ..HostLink::default() }
}

fn dropping() -> HostChain {
    HostChain {
        family: "inet".into(),
        table: "mine".into(),
        name: "onward".into(),
        forward: true,
        drops: true,
        ..HostChain::default()
    }
}

#[test]
fn a_chain_that_accepts_ours_both_ways_is_in_nobodys_way() {
    let prefix = || LinkMatch::Prefix("pnt".into());
    let (from, to) = (ForwardRule::From(prefix()), ForwardRule::To(prefix()));
    for (accepts, level) in [(vec![from.clone()], Level::Broken), (vec![from, to], Level::Ok)] {
        let mut facts = well();
        host(&mut facts).chains.push(HostChain { accepts: accepts.into_iter().collect(), ..dropping() });
        let found = examine(&facts).into_iter().find(|finding| finding.check == "forward_policy").unwrap();
        assert_eq!(found.level, level);
    }
}

#[test]
fn the_json_has_the_same_keys_for_every_finding() {
    let mut facts = well();
    facts.wiring.mode = Some(0o666);
    let json: Vec<serde_json::Value> = serde_json::from_str(&report::json(&examine(&facts))).unwrap();
    for finding in &json {
        let keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["check", "evidence", "level", "remedy", "title"]);
    }
    let socket = json.iter().find(|finding| finding["check"] == "socket").unwrap();
    assert_eq!(socket["level"], "degraded");
    assert_eq!(socket["remedy"], "chmod 0600 /run/docker/plugins/pontoon.sock");
}

#[test]
fn a_check_without_a_daemon_takes_it_for_granted_that_there_is_none() {
    let mut facts = well();
    facts.source = Source::Ledger(None);
    facts.wiring.at_path = AtPath::Stale("refused".into());
    assert_eq!(verdict(&examine(&facts)).verdict(), ("healthy", 0));
    facts.source = Source::Ledger(Some("refused".into()));
    assert_eq!(verdict(&examine(&facts)).verdict(), ("broken", 2));
}
