use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::admin::status::{EndpointDetail, EndpointStatus, NetworkDetail, NetworkStatus};
use crate::datapath::passage::{Decision, RuleSeen};
use crate::model::{Attachment, EndpointId, Family, IfName, NetworkId, Phase};
use crate::names::Container;

/// A host with scripted answers.
#[derive(Default)]
struct Host {
    /// By sandbox and destination; local ones are the host's addresses.
    routes: BTreeMap<(String, IpAddr), RouteSeen>,
    listeners: BTreeMap<String, Vec<ListenerSeen>>,
    drops: Option<Passage>,
    doubt: Option<Hook>,
    isolated: bool,
    closed: bool,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Host {
    fn route(mut self, sandbox: &str, to: &str, link: &str, gateway: Option<&str>, source: &str) -> Self {
        let route = RouteSeen {
            local: link.is_empty(),
            link: PacketLink { name: link.to_owned(), ..PacketLink::default() },
            gateway: gateway.map(ip),
            source: Some(ip(source)),
        };
        self.routes.insert((sandbox.to_owned(), ip(to)), route);
        self
    }

    fn listens(mut self, sandbox: &str, address: &str, port: u16) -> Self {
        self.listeners.entry(sandbox.to_owned()).or_default().push(ListenerSeen { address: ip(address), port });
        self
    }
}

impl Look for Host {
    fn route(&self, sandbox: Option<&str>, to: IpAddr) -> Result<Option<RouteSeen>, String> {
        Ok(self.routes.get(&(sandbox.unwrap_or_default().to_owned(), to)).cloned())
    }

    fn listeners(&self, sandbox: Option<&str>, _: u8) -> Result<Vec<ListenerSeen>, String> {
        Ok(self.listeners.get(sandbox.unwrap_or_default()).cloned().unwrap_or_default())
    }

    fn pass(&self, hook: Hook, _: &mut Packet) -> Vec<Passage> {
        let passage = |decision| Passage {
            family: "ip".to_owned(),
            table: "filter".to_owned(),
            chain: "FORWARD".to_owned(),
            ours: false,
            decision,
            rule: Some(RuleSeen { chain: "DOCKER-USER".to_owned(), place: 3, ..RuleSeen::default() }),
        };
        match (&self.drops, self.doubt) {
            (Some(drop), _) if hook == Hook::Forward => vec![drop.clone()],
            (_, Some(at)) if at == hook => vec![passage(Decision::Unknown("-m string".to_owned()))],
            _ => Vec::new(),
        }
    }

    fn link(&self, _: &str) -> Option<PacketLink> {
        None
    }

    fn is_isolated(&self, _: &str) -> bool {
        self.isolated
    }

    fn forwards(&self, _: &str, _: Family) -> bool {
        !self.closed
    }

    fn calls_iptables(&self, _: &str, _: Family) -> bool {
        false
    }

    fn rule_text(&self, _: &Passage) -> Option<String> {
        Some("ip saddr 10.1.0.2 drop".to_owned())
    }
}

fn endpoint(id: &str, address: &str, child: bool) -> EndpointStatus {
    let name = |prefix: &str| IfName::parse(&format!("{prefix}{id}")).unwrap();
    EndpointStatus {
        id: EndpointId::parse(id).unwrap(),
        attachment: match child {
            true => Attachment::Macvlan { link: name("pntc") },
            false => Attachment::Veth { host: name("pnth"), peer: name("pntc") },
        },
        phase: Phase::Joined,
        age: 0,
        addresses: vec![format!("{address}/24").parse().unwrap()],
        published: Vec::new(),
        detail: EndpointDetail { sandbox: format!("/ns/{id}"), ..EndpointDetail::default() },
    }
}

fn network(id: &str, kind: &str, link: &str, subnet: &str, endpoints: Vec<EndpointStatus>) -> NetworkStatus {
    NetworkStatus {
        id: NetworkId::parse(id).unwrap(),
        kind: kind.to_owned(),
        link: IfName::parse(link).unwrap(),
        mtu: 1500,
        internal: false,
        icc: true,
        subnets: vec![subnet.parse().unwrap()],
        vlan: None,
        overlay: None,
        endpoints,
        detail: NetworkDetail { children: Some("bridge".to_owned()), ..NetworkDetail::default() },
    }
}

/// Two bridges with two and one containers, one macvlan network with two, one user's bridge with one.
fn status() -> Status {
    let one = |id, address| endpoint(id, address, false);
    let child = |id, address| endpoint(id, address, true);
    Status {
        networks: vec![
            network("a1", "bridge", "pntba", "10.1.0.0/24", vec![one("e1", "10.1.0.2"), one("e2", "10.1.0.3")]),
            network("b1", "bridge", "pntbb", "10.2.0.0/24", vec![one("e3", "10.2.0.2")]),
            network("c1", "macvlan", "eth1", "192.0.2.0/24", vec![child("e4", "192.0.2.2"), child("e5", "192.0.2.3")]),
            network("d1", "user_bridge", "br-lan", "198.51.100.0/24", vec![one("e6", "198.51.100.2")]),
        ],
        ..Status::default()
    }
}

fn names() -> Names {
    let container = |id: &str, name: &str, endpoint: &str| Container {
        id: id.to_owned(),
        name: name.to_owned(),
        endpoints: [endpoint.to_owned()].into(),
        ..Container::default()
    };
    let networks = [("a1", "blue"), ("b1", "red")].map(|(id, name)| (id.to_owned(), name.to_owned())).into();
    let containers =
        vec![container("c0ffee1", "web", "e1"), container("c0ffee2", "db", "e2"), container("beef", "far", "e3")];
    Names { containers, networks, missing: None }
}

fn ask(host: &Host, from: &str, to: &str) -> Result<Answer, String> {
    let (status, names) = (status(), names());
    let known = Known { status: &status, names: &names };
    explain(known, host, |_| None, [from, to], Family::V4).map_err(|error| error.to_string())
}

#[track_caller]
fn verdict(host: &Host, from: &str, to: &str) -> (Verdict, String) {
    let answer = ask(host, from, to).unwrap();
    (answer.verdict, answer.why)
}

fn near() -> Host {
    Host::default().route("/ns/e1", "10.1.0.3", "eth0", None, "10.1.0.2")
}

fn far() -> Host {
    let host = Host::default().route("/ns/e1", "10.2.0.2", "eth0", Some("10.1.0.1"), "10.1.0.2");
    host.route("", "10.1.0.1", "", None, "10.1.0.1").route("", "10.2.0.2", "pntbb", None, "10.2.0.1")
}

#[test]
fn a_server_that_listens_elsewhere_refuses_and_none_is_no_listener() {
    assert_eq!(verdict(&near().listens("/ns/e2", "0.0.0.0", 80), "web", "db:80").0, Verdict::Accepted);
    assert_eq!(verdict(&near().listens("/ns/e2", "::", 80), "web", "db:80").0, Verdict::Accepted);
    let (refused, why) = verdict(&near().listens("/ns/e2", "127.0.0.1", 80), "web", "db:80");
    assert_eq!((refused, why.contains("127.0.0.1 only")), (Verdict::RefusedByApp, true), "{why}");
    assert_eq!(verdict(&near().listens("/ns/e2", "0.0.0.0", 81), "web", "db:80").0, Verdict::NoListener);
    assert_eq!(verdict(&near(), "web", "db").0, Verdict::Accepted, "the kernel answers ICMP");
}

#[test]
fn a_daemon_of_an_earlier_release_is_named_as_the_reason() {
    let (mut status, names) = (status(), names());
    for hidden in [0, 1] {
        status.networks[0].endpoints[hidden].detail.sandbox.clear();
        let known = Known { status: &status, names: &names };
        let answer = explain(known, &near(), |_| None, ["web", "db:80"], Family::V4).unwrap();
        assert!(answer.verdict == Verdict::Unknown && answer.why.contains("earlier release"), "{}", answer.why);
        status.networks[0].endpoints[hidden].detail.sandbox = format!("/ns/e{}", hidden + 1);
    }
    status.networks[0].endpoints[0].detail.sandbox.clear();
    status.networks[0].endpoints[0].phase = Phase::Ready;
    let known = Known { status: &status, names: &names };
    assert_eq!(explain(known, &near(), |_| None, ["web", "db:80"], Family::V4).unwrap().verdict, Verdict::NoRoute);
}

#[test]
fn isolated_ports_a_missing_route_and_forwarding_that_is_off_are_told_apart() {
    let (dropped, why) = verdict(&Host { isolated: true, ..near() }, "web", "db");
    assert_eq!((dropped, why.contains("enable_icc=false")), (Verdict::Dropped, true), "{why}");
    let (none, why) = verdict(&Host::default(), "web", "far");
    assert_eq!((none, why.as_str()), (Verdict::NoRoute, "web has no route to 10.2.0.2"));
    assert_eq!(verdict(&far(), "web", "far").0, Verdict::Accepted);
    let (dropped, why) = verdict(&Host { closed: true, ..far() }, "web", "far");
    assert_eq!((dropped, why.contains("net.ipv4.ip_forward")), (Verdict::Dropped, true), "{why}");
}

#[test]
fn a_rule_of_another_program_is_named_with_its_text() {
    let rule = RuleSeen { chain: "DOCKER-USER".to_owned(), place: 3, packets: Some(7), ..RuleSeen::default() };
    let drop = Passage {
        family: "ip".to_owned(),
        table: "filter".to_owned(),
        chain: "FORWARD".to_owned(),
        ours: false,
        decision: Decision::Drop,
        rule: Some(rule),
    };
    let answer = ask(&Host { drops: Some(drop), ..far() }, "web", "far").unwrap();
    assert_eq!(answer.verdict, Verdict::Dropped);
    assert!(
        answer.why.contains("rule 3 of chain ip filter DOCKER-USER") && answer.why.contains("saddr 10.1.0.2"),
        "{answer:?}"
    );
    assert_eq!(answer.steps.iter().find(|step| step.decides).and_then(|step| step.packets), Some(7));
    assert!(!answer.ways.is_empty());
    let text = report::text(&answer, crate::output::Style::PLAIN);
    assert!(text.ends_with("\nDROPPED\n") && text.contains("(7 packets so far)") && !text.contains('\x1b'), "{text}");
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!((&json["schema"], &json["verdict"]), (&1.into(), &"DROPPED".into()));
}

#[test]
fn an_undecided_rule_makes_the_verdict_unknown_unless_another_drops() {
    let (unknown, why) = verdict(&Host { doubt: Some(Hook::Forward), ..far() }, "web", "far");
    assert_eq!((unknown, why.contains("-m string")), (Verdict::Unknown, true), "{why}");
    let (dropped, _) = verdict(&Host { doubt: Some(Hook::Prerouting), closed: true, ..far() }, "web", "far");
    assert_eq!(dropped, Verdict::Dropped);
}

#[test]
fn on_a_parent_and_a_bridge_of_the_user_the_outside_decides() {
    let host = Host::default().route("/ns/e4", "192.0.2.3", "eth0", None, "192.0.2.2");
    let host = host.route("/ns/e4", "192.0.2.99", "eth0", None, "192.0.2.2");
    let host = host.route("/ns/e4", "8.8.8.8", "eth0", Some("192.0.2.254"), "192.0.2.2");
    let host =
        host.route("", "192.0.2.2", "eth1", None, "192.0.2.1").route("/ns/e4", "192.0.2.1", "eth0", None, "192.0.2.2");
    let host =
        host.route("", "192.0.2.1", "", None, "192.0.2.1").route("", "198.51.100.9", "br-lan", None, "198.51.100.1");
    let host = host.route("", "198.51.100.2", "br-lan", None, "198.51.100.1");
    let of = |from: &str, to: &str| verdict(&host, from, to).0;
    assert_eq!(of("e4", "e5"), Verdict::Accepted, "the parent passes packets between its children");
    assert_eq!(of("e4", "192.0.2.99"), Verdict::Unknown);
    assert_eq!(of("e4", "8.8.8.8"), Verdict::Unknown);
    assert_eq!(of("host", "e4"), Verdict::Dropped, "without a host link");
    assert_eq!(of("e4", "192.0.2.1"), Verdict::Dropped);
    assert_eq!(of("198.51.100.9", "e6"), Verdict::Unknown, "a station of the LAN");
    let answer = ask(&host, "host", "e4").unwrap();
    assert!(answer.ways.iter().any(|way| way.how.contains("pontoon.host")), "{answer:?}");
}

#[test]
fn wrong_and_ambiguous_names_list_what_there_is() {
    let error = |from: &str| ask(&near(), from, "db").unwrap_err();
    assert!(error("wep").ends_with("did you mean web?"), "{}", error("wep"));
    let both = error("c0ffee");
    assert!(both.contains("container web (c0ffee1)") && both.contains("container db (c0ffee2)"), "{both}");
    assert_eq!(ask(&near(), "c0ffee1", "db").unwrap().verdict, Verdict::Accepted);
    assert_eq!(ask(&near(), "10.1.0.2", "10.1.0.3").unwrap().from, "web 10.1.0.2 (blue)");
}
