//! Checks of leases from DHCP servers and routers.

use super::{Facts, Finding, Level};
use crate::admin::lease::LeaseStatus;
use crate::model::LeaseSource;

pub(super) fn leases(facts: &Facts) -> Vec<Finding> {
    let leases = &facts.status.leases;
    if leases.is_empty() {
        return Vec::new();
    }
    let found: Vec<Finding> = leases.iter().filter_map(problem).collect();
    if found.is_empty() {
        vec![Finding::ok("DHCP servers and routers grant the addresses of all containers")]
    } else {
        found
    }
}

fn problem(lease: &LeaseStatus) -> Option<Finding> {
    let LeaseStatus { link, identity, endpoint, network, .. } = lease;
    let used = lease.used.map(|used| used.to_string()).unwrap_or_default();
    let giver = if lease.source == LeaseSource::Slaac.word() { LeaseSource::Slaac } else { LeaseSource::Dhcp4 }.giver();
    let of = endpoint.as_ref().map(|endpoint| format!("endpoint {endpoint} of network {network}, {identity}"))?;
    let finding = match (lease.state.as_str(), lease.server.and(lease.address)) {
        ("lost", granted) => {
            let title = format!("the {giver} on {link} took the address {used} away from a running container");
            let granted = granted.map_or_else(|| "no address".to_owned(), |granted| granted.to_string());
            let finding = Finding::new(Level::Degraded, title).seen(of).seen(format!("the {giver} grants {granted}"));
            finding.mended_by(
                "docker network disconnect NETWORK CONTAINER && docker network connect NETWORK CONTAINER   # applies the granted address",
            )
        }
        ("expired", _) => {
            let title = format!("no {giver} on {link} has confirmed the address {used} of a running container");
            let server = lease.server.map(|server| server.to_string()).unwrap_or_default();
            let finding =
                Finding::new(Level::Degraded, title).seen(of).seen(format!("the lease of {giver} {server} is over"));
            finding.mended_by(format!(
                "start the {giver}, and check that {link} reaches it: Pontoon asks every minute by itself"
            ))
        }
        _ => return None,
    };
    Some(finding)
}

#[cfg(test)]
pub(in crate::doctor) mod tests {
    use super::*;
    use crate::doctor::tests::well;

    pub fn lease(state: &str) -> LeaseStatus {
        serde_json::from_value(serde_json::json!({
            "network": "n1", "endpoint": "e1", "link": "br-lan", "identity": "id printer", "client_id": "00",
            "mac": "02:00:00:00:00:07", "state": state, "address": "192.0.2.8", "used": "192.0.2.7",
            "server": "192.0.2.1", "age": 1, "expires": 0, "gateway": null, "mtu": null, "dns": [], "domain": null,
            "ntp": []
        }))
        .unwrap()
    }

    #[test]
    fn an_address_that_no_server_grants_any_more_is_found() {
        let mut facts = well();
        assert_eq!(leases(&facts), []);
        let mut level = |state: &str| {
            facts.status.leases = vec![lease(state)];
            let [finding] = &leases(&facts)[..] else { panic!("one finding") };
            (finding.level, format!("{} {:?} {:?}", finding.title, finding.evidence, finding.remedy))
        };
        assert_eq!([level("bound").0, level("parked").0, level("pending").0], [Level::Ok; 3]);
        let (is, text) = level("lost");
        assert!(is == Level::Degraded && text.contains("192.0.2.7") && text.contains("grants 192.0.2.8"), "{text}");
        let (is, text) = level("expired");
        assert!(is == Level::Degraded && text.contains("192.0.2.1") && text.contains("br-lan"), "{text}");
    }
}
