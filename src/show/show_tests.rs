use std::time::Duration;

use super::*;
use crate::admin::status::{EndpointDetail, NetworkDetail, PoolStatus};
use crate::datapath::host::Dropped;
use crate::model::{Attachment, EndpointId, HostPort, IfName, Mac, NetworkId, Protocol, Published};
use crate::names::Container;
use crate::output::Style;

fn one() -> Status {
    let host = HostPort { protocol: Protocol::Tcp, address: "0.0.0.0".parse().unwrap(), port: 8080 };
    let endpoint = EndpointStatus {
        id: EndpointId::parse("e1e1").unwrap(),
        attachment: Attachment::Veth { host: IfName::parse("pnth1").unwrap(), peer: IfName::parse("pntc1").unwrap() },
        phase: Phase::Joined,
        age: 60,
        addresses: vec!["10.1.0.2/24".parse().unwrap()],
        published: vec![host],
        detail: EndpointDetail {
            mac: Some(Mac::parse("02:00:00:00:00:07").unwrap()),
            sandbox: "/ns/1".to_owned(),
            forwards: vec![Published { host, container: "10.1.0.2".parse().unwrap(), container_port: 80 }],
            policy: Default::default(),
        },
    };
    let network = NetworkStatus {
        id: NetworkId::parse("a1a1").unwrap(),
        kind: "bridge".to_owned(),
        link: IfName::parse("pntb1").unwrap(),
        mtu: 1500,
        internal: false,
        icc: true,
        subnets: vec!["10.1.0.0/24".parse().unwrap()],
        vlan: None,
        overlay: None,
        endpoints: vec![endpoint],
        detail: NetworkDetail::default(),
    };
    let pool = |subnet: &str, taken| PoolStatus {
        id: subnet.to_owned(),
        space: "local".to_owned(),
        subnet: subnet.parse().unwrap(),
        taken,
        unclaimed: vec![("10.1.0.9".parse().unwrap(), 12)],
    };
    Status {
        version: "1.2.3".to_owned(),
        pid: 77,
        networks: vec![network],
        pools: vec![pool("10.1.0.0/24", 240), pool("fd00::/64", 2)],
        ..Status::default()
    }
}

fn names() -> Names {
    let container = Container {
        id: "c0ffee".to_owned(),
        name: "web".to_owned(),
        endpoints: ["e1e1".to_owned()].into(),
        ..Container::default()
    };
    Names { containers: vec![container], networks: [("a1a1".to_owned(), "blue".to_owned())].into(), missing: None }
}

fn with<T>(status: &Status, down: Option<&str>, see: impl FnOnce(&Facts<'_>) -> T) -> T {
    let counters = |received, sent| {
        let count = |bytes| Count { bytes, ..Count::default() };
        Counters { received: count(received), sent: count(sent) }
    };
    let traffic = Traffic::from([("pntb1".to_owned(), counters(2048, 5)), ("pnth1".to_owned(), counters(3 << 20, 7))]);
    see(&Facts { status, names: &names(), traffic: &traffic, events: &[], down })
}

#[test]
fn the_overview_has_the_condition_and_all_networks() {
    let shown = with(&one(), None, |facts| status::status(facts, Some(3), Style::PLAIN));
    for part in ["Pontoon 1.2.3", "healthy", "running, pid 77", "in sync", "1 network, 1 endpoint, 1 published port"] {
        assert!(shown.text.contains(part), "{part}: {}", shown.text);
    }
    assert!(shown.text.contains("3 packets dropped by Pontoon's rules: pontoon drops"), "{}", shown.text);
    assert!(
        shown.text.contains("almost none left: 10.1.0.0/24 94 %") && !shown.text.contains("fd00"),
        "{}",
        shown.text
    );
    assert!(
        shown.text.contains("blue     nat   10.1.0.0/24  pntb1  1          1          2.0 KiB  5 B"),
        "{}",
        shown.text
    );
    assert_eq!((&shown.json["schema"], &shown.json["health"]), (&1.into(), &"healthy".into()));
    let mut drifted = one();
    drifted.plan.commands.push("ip link add".to_owned());
    let code = |status: &Status, down| with(status, down, health);
    assert_eq!([code(&drifted, None), code(&one(), Some("no answer"))], [("degraded", 1), ("broken", 2)]);
}

#[test]
fn lists_show_names_and_mark_what_is_full() {
    let shown = with(&one(), None, endpoints);
    assert!(
        shown.text.contains("web        blue     10.1.0.2   02:00:00:00:00:07  pnth1  running  0.0.0.0:8080/tcp"),
        "{}",
        shown.text
    );
    assert_eq!(shown.json["endpoints"][0]["container"]["name"], "web");
    let shown = with(&one(), None, pools);
    assert!(shown.text.contains("10.1.0.0/24  local  254   240    94 % !  1 (12 s)"), "{}", shown.text);
    assert!(shown.text.contains("2^64  2      0 %"), "{}", shown.text);
    assert_eq!(with(&one(), None, peers).text, "no overlay networks on this host\n");
}

#[test]
fn a_port_on_which_no_program_listens_is_seen() {
    let of = |name: &str, listens| with(&one(), None, |facts| inspect(facts, name, &|_, _, _, _| listens));
    let text = of("web", Some(false)).unwrap().text;
    assert!(text.contains("0.0.0.0:8080/tcp -> 80   listening: NO") && text.contains("sent 3.0 MiB"), "{text}");
    let shown = of("e1", Some(true)).unwrap();
    assert!(shown.text.contains("listening: yes"), "{}", shown.text);
    assert_eq!(shown.json["endpoints"][0]["detail"]["forwards"][0]["listening"], true);
    assert!(of("blue", None).unwrap().text.contains("endpoint   web  10.1.0.2"));
    assert!(of("a1", None).unwrap().text.starts_with("network    blue (a1a1)  nat"));
    let error = of("bleu", None).unwrap_err().to_string();
    assert!(error.ends_with("did you mean blue?"), "{error}");
    assert!(matches!(of("192.0.2.1", None), Err(InspectError::Elsewhere(_))));
}

#[test]
fn drops_are_those_since_the_first_look() {
    let dropped = |rule: &str, packets| Dropped {
        family: "inet".into(),
        chain: "forward_filter".to_owned(),
        rule: rule.to_owned(),
        packets,
    };
    let (before, now) = ([dropped("a", 5), dropped("b", 9)], [dropped("a", 5), dropped("b", 12), dropped("c", 1)]);
    let meaning = |dropped: &Dropped| (format!("{} means", dropped.rule), String::new());
    let shown = drops(&before, &now, meaning);
    let lines: Vec<&str> = shown.text.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{}", shown.text);
    assert!(
        lines[0].starts_with("3 ") && lines[0].ends_with("b means") && lines[1].starts_with("1 "),
        "{}",
        shown.text
    );
    assert_eq!(drops(&[], &[], meaning).text, "Pontoon's rules dropped no packets\n");
    assert_eq!(shown.json["drops"][0]["chain"], "inet pontoon forward_filter");
}

#[test]
fn an_endpoint_without_counters_has_no_rates_and_is_last() {
    let mut status = one();
    let mut other = status.networks[0].endpoints[0].clone();
    other.id = EndpointId::parse("e2e2").unwrap();
    other.attachment = Attachment::Macvlan { link: IfName::parse("pntc2").unwrap() };
    status.networks[0].endpoints.insert(0, other);
    let before = Traffic::from([("pnth1".to_owned(), Counters::default())]);
    let top = |before: &Traffic, most| with(&status, None, |facts| top(facts, before, Duration::from_secs(2), most));
    let shown = top(&before, None);
    let lines: Vec<&str> = shown.text.lines().collect();
    assert_eq!(lines[0], "2 endpoints in 2.0 s: 4 B/s in, 1.5 MiB/s out");
    assert!(lines[3].starts_with("web ") && lines[3].contains(" 4 B   1.5 MiB "), "{}", shown.text);
    assert!(lines[4].starts_with("e2e2 ") && lines[4].ends_with('-'), "{}", shown.text);
    assert_eq!(shown.json["endpoints"][1]["receive_bytes_per_second"], Value::Null);
    assert_eq!(top(&before, Some(1)).text.lines().count(), 4);
    // A link that was created after the first reading.
    assert_eq!(top(&Traffic::new(), None).text.lines().next(), Some("2 endpoints in 2.0 s: 0 B/s in, 0 B/s out"));
}

#[test]
fn bytes_have_units() {
    assert_eq!([0, 1023, 1536, 5 << 30, 3 << 40].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB", "3.0 TiB"]);
}
