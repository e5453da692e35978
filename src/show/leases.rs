//! `pontoon leases`: leases from DHCP servers and routers.

use std::fmt::Display;

use serde_json::json;

use super::Shown;
use crate::admin::lease::LeaseStatus;
use crate::output;

/// The leases.
pub fn leases(leases: &[LeaseStatus]) -> Shown {
    Shown::new(table(leases), json!({ "leases": leases }))
}

fn table(leases: &[LeaseStatus]) -> String {
    let head =
        ["ADDRESS", "STATE", "SOURCE", "IDENTITY", "MAC", "LINK", "SERVER", "RENEWED", "EXPIRES", "NETWORK", "OTHER"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(leases.iter().map(row));
    output::table(&rows)
}

fn row(lease: &LeaseStatus) -> [String; 11] {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut other = Vec::new();
    if let Some(used) = lease.used.filter(|used| Some(*used) != lease.address) {
        other.push(format!("the container uses {used}"));
    }
    if lease.preferred == Some(0) {
        other.push("deprecated".to_owned());
    }
    let mut list = |name: &str, values: &[std::net::IpAddr]| {
        if !values.is_empty() {
            other.push(format!("{name} {}", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")));
        }
    };
    list("dns", &lease.dns);
    list("ntp", &lease.ntp);
    other.extend(lease.domain.iter().map(|domain| format!("domain {domain}")));
    let text = |value: &dyn Display| value.to_string();
    [
        or_none(lease.address.map(|address| text(&address))),
        lease.state.clone(),
        lease.source.clone(),
        lease.identity.clone(),
        text(&lease.mac),
        lease.vlan.map_or_else(|| text(&lease.link), |vid| format!("{} vlan {vid}", lease.link)),
        or_none(lease.server.map(|server| text(&server))),
        or_none(lease.age.map(|age| format!("{} ago", time(age)))),
        or_none(lease.expires.map(|expires| format!("in {}", time(expires)))),
        lease.network.as_str().chars().take(12).collect(),
        other.join(", "),
    ]
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IfName, Mac, NetworkId};

    #[test]
    fn the_table_lines_up_and_names_what_an_engine_cannot_be_given() {
        let lease = LeaseStatus {
            network: NetworkId::parse("0123456789abcdef").unwrap(),
            endpoint: None,
            link: IfName::parse("br-lan").unwrap(),
            vlan: None,
            source: "4".to_owned(),
            identity: "id printer".to_owned(),
            client_id: "007072".to_owned(),
            mac: Mac::parse("02:00:00:00:00:07").unwrap(),
            state: "lost".to_owned(),
            address: Some([192, 0, 2, 9].into()),
            used: Some([192, 0, 2, 7].into()),
            server: Some([192, 0, 2, 1].into()),
            age: Some(150),
            expires: None,
            preferred: None,
            gateway: None,
            mtu: None,
            dns: vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()],
            domain: Some("lan".to_owned()),
            ntp: Vec::new(),
        };
        let deprecated = LeaseStatus { preferred: Some(0), used: None, ..lease.clone() };
        assert!(table(&[deprecated]).contains("  deprecated, dns 192.0.2.1"));
        let text = table(&[lease]);
        let [head, line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(head.find("STATE"), line.find("lost"));
        assert!(line.starts_with("192.0.2.9 ") && line.contains("2m ago   -  "), "{text}");
        assert!(
            line.ends_with("0123456789ab  the container uses 192.0.2.7, dns 192.0.2.1,192.0.2.2, domain lan"),
            "{text}"
        );
        assert_eq!([60, 7199, 7200, 200_000].map(time), ["60s", "119m", "2h", "2d"]);
    }
}
