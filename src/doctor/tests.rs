use std::collections::BTreeSet;

use super::look::AtPath;
use super::*;
use crate::datapath::host::{Feature, HostChain, HostLink, HostRoute};
use crate::datapath::{ForwardRule, LinkMatch};
use crate::driver::status::{EndpointLine, NetworkLine, PlanLines, PoolLine, StateLine};
use crate::model::{EndpointId, HostPort, IfName, NetworkId, Phase, Protocol};

fn port(number: u16) -> HostPort {
    HostPort { protocol: Protocol::Tcp, address: "0.0.0.0".parse().unwrap(), port: number }
}

fn network() -> NetworkLine {
    let endpoint = EndpointLine {
        id: EndpointId::parse("e1").unwrap(),
        host: IfName::parse("pnth1").unwrap(),
        peer: IfName::parse("pntc1").unwrap(),
        phase: Phase::Joined,
        age: 9999,
        addresses: Vec::new(),
        published: vec![port(80)],
    };
    NetworkLine {
        id: NetworkId::parse(&"a".repeat(64)).unwrap(),
        bridge: IfName::parse("pntb1").unwrap(),
        owns_bridge: true,
        mtu: 1500,
        internal: false,
        routed: false,
        subnets: vec!["10.1.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
        endpoints: vec![endpoint],
    }
}

fn route(destination: &str, link: &str) -> HostRoute {
    HostRoute { destination: destination.parse().unwrap(), link: link.to_owned() }
}

/// A host on which all is well.
fn well() -> Facts {
    let host = Host {
        links: vec![
            HostLink { name: "eth0".into(), mtu: 1500, ..HostLink::default() },
            HostLink { name: "pnth1".into(), mtu: 1500, ours: true, ..HostLink::default() },
        ],
        uplink: Some("eth0".into()),
        routes: vec![route("0.0.0.0/0", "eth0"), route("10.1.0.0/24", "pntb1"), route("192.0.2.0/24", "eth0")],
        features: vec![Feature { name: "bridges", modules: "bridge", needed: true, refused: None }],
        ..Host::default()
    };
    let mut settings = Settings::of(&[
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("netfilter/nf_conntrack_count", "10"),
        ("netfilter/nf_conntrack_max", "1000"),
    ]);
    settings.release = "6.1.0-1".to_owned();
    Facts {
        source: Source::Daemon,
        status: Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: 7,
            state: StateLine { outcome: "loaded".to_owned(), ..StateLine::default() },
            networks: vec![network()],
            pools: vec![PoolLine {
                id: "p".into(),
                space: "pontoon-local".into(),
                subnet: "10.1.0.0/24".parse().unwrap(),
                taken: 1,
                unclaimed: Vec::new(),
            }],
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
        engine: None,
    }
}

fn host(facts: &mut Facts) -> &mut Host {
    facts.host.as_mut().unwrap()
}

#[test]
fn a_host_on_which_all_is_well_is_healthy() {
    let findings = examine(&well());
    let ill: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
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
        ("capabilities", Level::Broken, |f| f.process.as_mut().unwrap().capabilities = 1 << 10),
        ("capabilities", Level::Degraded, |f| f.process.as_mut().unwrap().capabilities = 1 << 12),
        ("descriptors", Level::Degraded, |f| f.process.as_mut().unwrap().open = Some(900)),
        ("descriptors", Level::Broken, |f| f.process.as_mut().unwrap().open = Some(1000)),
        ("socket", Level::Degraded, |f| f.wiring.mode = Some(0o660)),
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
        ("kept_aside", Level::Degraded, |f| f.status.state.kept_aside = vec!["/x/ledger.corrupt-1".into()]),
        ("disk", Level::Broken, |f| f.disk = Some(Disk { free: 1 << 30, read_only: true })),
        ("disk", Level::Degraded, |f| f.disk = Some(Disk { free: 2 << 20, read_only: false })),
        ("drift", Level::Degraded, |f| f.status.plan.commands = vec!["ip link set dev pntb1 up".into()]),
        ("drift", Level::Broken, |f| f.status.blind = Some("torn".into())),
        ("missing_bridges", Level::Broken, |f| {
            f.status.plan = PlanLines { missing: vec![IfName::parse("br0").unwrap()], ..PlanLines::default() };
        }),
        ("dead_endpoints", Level::Degraded, |f| {
            f.status.plan = PlanLines { dead: vec![IfName::parse("pnth1").unwrap()], ..PlanLines::default() };
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
        ("kernel_release", Level::Degraded, |f| f.settings.release = "5.10.0-28-amd64".into()),
        ("kernel_features", Level::Broken, |f| host(f).features[0].refused = Some("EOPNOTSUPP".into())),
        ("kernel_features", Level::Broken, |f| f.host = Err("EPERM".into())),
        ("ip_forward", Level::Broken, |f| f.settings = Settings::of(&[("ipv4/ip_forward", "0")])),
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
        ("bridge_netfilter", Level::Note, |f| f.settings = Settings::of(&[("bridge/bridge-nf-call-ip6tables", "1")])),
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
        ("engine", Level::Degraded, |f| f.engine = Some(Err("no answer".into()))),
        ("engine_leaks", Level::Degraded, |f| {
            f.status.networks[0].endpoints.clear();
            f.engine = Some(Ok(Engine { swarm: "inactive".into(), ..Engine::default() }));
        }),
    ];
    for (check, level, damage) in cases {
        let mut facts = well();
        damage(&mut facts);
        let findings = examine(&facts);
        let found: Vec<_> = findings.iter().filter(|finding| finding.check == *check).collect();
        let worst = found.iter().map(|finding| finding.level).max();
        assert_eq!(worst, Some(*level), "{check}: {found:#?}");
        let ill = found.iter().filter(|finding| finding.level >= Level::Degraded);
        assert!(ill.clone().all(|finding| finding.remedy.is_some() || !finding.evidence.is_empty()), "{found:#?}");
        assert_eq!(verdict(&findings).verdict().1 > 0, findings.iter().any(|f| f.level >= Level::Degraded));
        assert!(report::text(&findings, false).contains(&found.iter().max_by_key(|f| f.level).unwrap().title));
    }
    let tried: BTreeSet<_> = cases.iter().map(|(check, ..)| *check).collect();
    let all: BTreeSet<_> = CHECKS.iter().map(|(check, ..)| *check).collect();
    assert_eq!(tried, all, "every check is broken here once");
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
    let json: serde_json::Value = serde_json::from_str(&report::json(&examine(&facts))).unwrap();
    for finding in json.as_array().unwrap() {
        let keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["check", "evidence", "level", "remedy", "title"]);
    }
    let socket = json.as_array().unwrap().iter().find(|finding| finding["check"] == "socket").unwrap();
    assert_eq!(
        (socket["level"].as_str(), socket["remedy"].as_str()),
        (Some("degraded"), Some("chmod 0600 /run/docker/plugins/pontoon.sock"))
    );
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

#[test]
fn commands_find_a_daemon_elsewhere() {
    let mut facts = well();
    facts.wiring.socket = "/run/docker/plugins/1f/pontoon.sock".into();
    assert_eq!(wiring::command(&facts, "repair"), "pontoon repair --socket /run/docker/plugins/1f/pontoon.sock");
    assert!(wiring::start(&facts).starts_with("docker plugin disable"));
}
