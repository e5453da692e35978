//! Checks of lookups for containers whose egress list has DNS names.

use std::net::{IpAddr, Ipv4Addr};

use super::{Facts, Finding, Level};
use crate::datapath::access::NAMES_PORT;
use crate::datapath::host::HostChain;
use crate::model::ifname::PREFIX;

/// The stub of systemd-resolved: engines use the servers behind it instead.
const STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

pub(super) fn names(facts: &Facts) -> Vec<Finding> {
    let Some(names) = &facts.status.names else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some(failure) = &names.failure {
        let title =
            format!("containers with DNS names in their egress list cannot look up any: port {NAMES_PORT} is taken");
        let finding =
            Finding::new(Level::Degraded, title).seen(format!("{} containers", names.endpoints)).seen(failure);
        findings.push(
            finding.mended_by(format!("ss -lntup 'sport = :{NAMES_PORT}'   # and stop the program that it shows")),
        );
    }
    let servers: Vec<String> = names.servers.iter().map(ToString::to_string).collect();
    let servers = format!("name servers in /etc/resolv.conf: {}", servers.join(", "));
    let local = !names.servers.is_empty() && names.servers.iter().all(IpAddr::is_loopback) && names.servers != [STUB];
    if names.by_host > 0 && names.servers.is_empty() {
        let title = "containers with DNS names in their egress list have no name server: neither their engine nor the host names one";
        let finding = Finding::new(Level::Degraded, title).seen(format!("{} containers", names.by_host)).seen(servers);
        findings.push(
            finding.mended_by("docker run --dns ADDRESS   # or \"dns\": [\"ADDRESS\"] in /etc/docker/daemon.json"),
        );
    } else if names.by_host > 0 && local {
        let title = "the engine asks the host's name server for containers with DNS names in their egress list, past Pontoon: their names may stay closed";
        let finding = Finding::new(Level::Degraded, title).seen(format!("{} containers", names.by_host)).seen(servers);
        findings.push(finding.mended_by(
            "docker run --dns GATEWAY   # the gateway of the network: Pontoon asks the host's name server then; or any other server that is no loopback address",
        ));
    }
    let input = |chain: &&HostChain| chain.drops && !chain.forward && chain.name.eq_ignore_ascii_case("input");
    for chain in facts.host.iter().flat_map(|host| &host.chains).filter(input) {
        let name = format!("{} {} {}", chain.family, chain.table, chain.name);
        let title = format!(
            "chain {name} drops by default: unless one of its rules accepts DNS queries of containers to port {NAMES_PORT}, their names stay closed"
        );
        let rule = format!(
            "nft insert rule {name} iifname '\"{PREFIX}*\"' meta l4proto '{{ tcp, udp }}' th dport {NAMES_PORT} counter accept   # or the same by the program that the chain belongs to"
        );
        findings.push(Finding::new(Level::Note, title).seen("policy drop").mended_by(rule));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("DNS queries of containers with names in their egress list are answered"));
    }
    findings
}

#[cfg(test)]
pub(in crate::doctor) mod tests {
    use super::*;
    use crate::admin::names::NamesStatus;
    use crate::doctor::tests::well;

    pub fn failing() -> NamesStatus {
        NamesStatus { failure: Some("Address already in use".to_owned()), ..NamesStatus::default() }
    }

    #[test]
    fn what_keeps_names_closed_is_found() {
        let mut facts = well();
        assert_eq!(names(&facts), [], "no container with names");
        let levels = |facts: &mut Facts, by_host, servers: &[&str], failure: Option<&str>| {
            let servers = servers.iter().map(|server| server.parse().unwrap()).collect();
            let failure = failure.map(str::to_owned);
            facts.status.names = Some(NamesStatus { endpoints: 2, by_host, servers, failure });
            names(facts).into_iter().map(|finding| (finding.level, finding.remedy.is_some())).collect::<Vec<_>>()
        };
        let (well, ill) = ((Level::Ok, false), (Level::Degraded, true));
        assert_eq!(levels(&mut facts, 1, &["192.0.2.53"], None), [well]);
        assert_eq!(levels(&mut facts, 1, &["127.0.0.53"], None), [well], "engines see the servers behind it");
        assert_eq!(levels(&mut facts, 0, &["127.0.0.1"], None), [well], "all containers have --dns");
        assert_eq!(levels(&mut facts, 1, &["127.0.0.1", "::1"], None), [ill]);
        assert_eq!(levels(&mut facts, 1, &["127.0.0.1", "192.0.2.53"], None), [well]);
        assert_eq!(levels(&mut facts, 1, &[], None), [ill]);
        assert_eq!(levels(&mut facts, 1, &["127.0.0.1"], Some("Address already in use")), [ill, ill]);
        let chain = HostChain { name: "INPUT".to_owned(), drops: true, ..HostChain::default() };
        facts.host.as_mut().unwrap().chains.push(chain);
        assert_eq!(levels(&mut facts, 1, &["192.0.2.53"], None), [(Level::Note, true)]);
    }
}
