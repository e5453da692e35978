//! Checks of networks with other hosts.

use super::host::short;
use super::{Facts, Finding, Level, wiring};
use crate::admin::conflict::AddressConflict;
use crate::model::ifname::HOST_LINK;

pub(super) fn conflicts(facts: &Facts) -> Vec<Finding> {
    let Some(status) = &facts.status.conflicts else { return Vec::new() };
    if !status.found {
        let title = "address conflicts on local networks are not found: containers may get addresses of other hosts";
        let finding = Finding::new(Level::Degraded, title).seen("the daemon was started without CAP_NET_RAW");
        return vec![finding.mended_by(format!(
            "set AmbientCapabilities=CAP_NET_RAW in its unit, or run it as root; then {}",
            wiring::start(facts)
        ))];
    }
    let mut findings: Vec<Finding> = status.present.iter().map(present).collect();
    if status.deaf {
        let title =
            "further local networks are not listened to: there, address conflicts are not found, and DHCP fails";
        let finding = Finding::new(Level::Degraded, title).seen("the process pontoon-packets has ended");
        findings.push(finding.mended_by(wiring::start(facts)));
    }
    if findings.is_empty() {
        return vec![Finding::ok("no other host uses the address of a container")];
    }
    findings
}

fn present(conflict: &AddressConflict) -> Finding {
    let AddressConflict { network, endpoint, link, address, mac, other } = conflict;
    let own = mac.map_or_else(|| format!("that of {link}"), |mac| mac.to_string());
    let title = format!("a container and another host on {link} both have the address {address}");
    Finding::new(Level::Degraded, title)
        .seen(format!("the container, endpoint {endpoint} of network {network}, has the hardware address {own}"))
        .seen(format!("the other host has the hardware address {other}, and used {address} within the last ten minutes"))
        .mended_by(format!(
            "docker network disconnect NETWORK CONTAINER && docker network connect --ip ANOTHER NETWORK CONTAINER   # or take {address} from the other host, and keep --ip-range apart from the addresses of its DHCP server"
        ))
}

/// Parents of macvlan and ipvlan networks, and what keeps the host and its containers there apart.
pub(super) fn parents(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    let mut findings = Vec::new();
    let on_parent = |kind: &str| matches!(kind, "macvlan" | "ipvlan");
    for network in facts.status.networks.iter().filter(|network| on_parent(&network.kind)) {
        let (parent, id) = (&network.link, short(network));
        match host.links.iter().find(|link| link.name == parent.as_str()) {
            None => {
                let title = format!("the parent of network {id} does not exist: its containers are not connected");
                let finding = Finding::new(Level::Broken, title).seen(format!("no link {parent}"));
                findings.push(finding.mended_by(format!(
                    "restore {parent}, then docker restart the containers of network {id}, whose links ended with it"
                )));
            }
            Some(link) if link.down => {
                let title = format!("the parent of network {id} is down: its containers reach no other host");
                let finding = Finding::new(Level::Degraded, title).seen(format!("{parent} is down"));
                findings.push(finding.mended_by(format!("ip link set dev {parent} up")));
            }
            Some(link) if network.kind == "macvlan" && facts.settings.wireless.contains(&link.name) => {
                let title = format!(
                    "the parent of network {id} is wireless: most access points drop frames of its containers, which have \
                     hardware addresses of their own"
                );
                let finding = Finding::new(Level::Degraded, title).seen(format!("{parent} is a wireless link"));
                let subnets: String = network.subnets.iter().map(|subnet| format!(" --subnet {subnet}")).collect();
                findings.push(finding.mended_by(format!(
                    "docker network create -d pontoon -o parent={parent} -o ipvlan_mode=l2{subnets} NAME   # after docker \
                     network rm; with ipvlan, containers have the hardware address of {parent}"
                )));
            }
            Some(_) => {}
        }
    }
    let mut host_links = host.links.iter().filter(|link| link.ours && link.name.starts_with(HOST_LINK));
    let ignoring = facts.settings.get("ipv4/conf/all/arp_ignore").filter(|value| *value != "0");
    if let (Some(link), Some(value)) = (host_links.next(), ignoring) {
        let title =
            "containers of networks with pontoon.host get no answer from the host: it ignores their ARP requests";
        let finding = Finding::new(Level::Degraded, title).seen(format!("net.ipv4.conf.all.arp_ignore = {value}"));
        findings.push(finding.seen(format!("host link {}", link.name)).mended_by(
            // The kernel takes the larger value of `all` and the link: every other link keeps what it has.
            format!(
                "for file in /proc/sys/net/ipv4/conf/*/arp_ignore; do case $file in */all/*|*/{}/*) ;; *) \
                 [ $(cat $file) -ge {value} ] || echo {value} >$file ;; esac; done; \
                 sysctl -w net.ipv4.conf.all.arp_ignore=0   # only the host link answers more than before",
                link.name
            ),
        ));
    }
    if findings.is_empty() { vec![Finding::ok("parents of macvlan and ipvlan networks are there")] } else { findings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::conflict::ConflictStatus;
    use crate::doctor::tests::well;
    use crate::model::{EndpointId, IfName, Mac, NetworkId};

    #[test]
    fn a_conflict_names_both_hosts_and_what_helps() {
        let mut facts = well();
        assert_eq!(conflicts(&facts)[0].level, Level::Ok);
        facts.status.conflicts = None;
        assert_eq!(conflicts(&facts), [], "no local network");
        let line = AddressConflict {
            network: NetworkId::parse("n1").unwrap(),
            endpoint: EndpointId::parse("e1").unwrap(),
            link: IfName::parse("br-lan").unwrap(),
            address: "192.168.1.200".parse().unwrap(),
            mac: Some(Mac::parse("02:00:00:00:00:01").unwrap()),
            other: Mac::parse("02:00:00:00:00:02").unwrap(),
        };
        facts.status.conflicts = Some(ConflictStatus { found: true, deaf: false, present: vec![line] });
        let [finding] = &conflicts(&facts)[..] else { panic!("one finding for one conflict") };
        let text = format!("{} {:?} {:?}", finding.title, finding.evidence, finding.remedy);
        for part in ["br-lan", "192.168.1.200", "02:00:00:00:00:01", "02:00:00:00:00:02", "e1", "--ip"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(finding.level, Level::Degraded);
        facts.status.conflicts = Some(ConflictStatus { found: false, deaf: false, present: Vec::new() });
        assert!(conflicts(&facts)[0].remedy.as_ref().unwrap().contains("CAP_NET_RAW"));
        facts.status.conflicts = Some(ConflictStatus { found: true, deaf: true, present: Vec::new() });
        let [finding] = &conflicts(&facts)[..] else { panic!("one finding") };
        assert!(finding.level == Level::Degraded && finding.evidence[0].contains("pontoon-packets"), "{finding:?}");
    }

    #[test]
    fn a_parent_that_is_missing_or_down_is_found() {
        let mut facts = well();
        assert_eq!(parents(&facts)[0].level, Level::Ok);
        facts.status.networks[0].kind = "macvlan".to_owned();
        facts.status.networks[0].link = IfName::parse("eth0").unwrap();
        assert_eq!(parents(&facts)[0].level, Level::Ok);
        let links = |facts: &mut Facts, change: fn(&mut Vec<crate::datapath::host::HostLink>)| {
            change(&mut facts.host.as_mut().unwrap().links);
        };
        links(&mut facts, |links| links[0].down = true);
        let found = parents(&facts);
        assert_eq!((found[0].level, found[0].remedy.as_deref()), (Level::Degraded, Some("ip link set dev eth0 up")));
        links(&mut facts, |links| drop(links.remove(0)));
        assert_eq!(parents(&facts)[0].level, Level::Broken);
    }

    #[test]
    fn a_wireless_parent_of_a_macvlan_network_is_found() {
        let mut facts = well();
        facts.status.networks[0].kind = "macvlan".to_owned();
        facts.status.networks[0].link = IfName::parse("eth0").unwrap();
        facts.settings.wireless = vec!["eth0".to_owned()];
        let [found] = &parents(&facts)[..] else { panic!("one finding") };
        assert_eq!(found.level, Level::Degraded);
        let remedy = found.remedy.as_ref().unwrap();
        assert!(remedy.contains("parent=eth0 -o ipvlan_mode=l2 --subnet 10.1.0.0/24"), "{remedy}");
        facts.status.networks[0].kind = "ipvlan".to_owned();
        assert_eq!(parents(&facts)[0].level, Level::Ok, "ipvlan has the hardware address of its parent");
    }

    #[test]
    fn a_host_that_ignores_the_requests_of_its_containers_is_found() {
        let mut facts = well();
        facts.settings = crate::doctor::collect::Settings::of(&[("ipv4/conf/all/arp_ignore", "1")]);
        assert_eq!(parents(&facts)[0].level, Level::Ok, "no host link");
        facts.host.as_mut().unwrap().links[1].name = "pnts1".to_owned();
        let [found] = &parents(&facts)[..] else { panic!("one finding") };
        assert_eq!(found.level, Level::Degraded);
        let remedy = found.remedy.as_ref().unwrap();
        assert!(remedy.contains("*/all/*|*/pnts1/*") && remedy.contains("echo 1 >$file"), "{remedy}");
        // Nor are its routes a conflict.
        let route =
            crate::datapath::host::HostRoute { destination: "10.1.0.7/32".parse().unwrap(), link: "pnts1".into() };
        facts.host.as_mut().unwrap().routes.push(route);
        let findings = crate::doctor::host::routes(&facts);
        assert!(findings.iter().all(|finding| !finding.evidence.concat().contains("10.1.0.7")), "{findings:?}");
    }
}
