//! Checks of the host's settings, links and routes.

use super::{Facts, Finding, Level, wiring};
use crate::admin::status::NetworkStatus;
use crate::model::ifname::HOST_LINK;
use crate::model::{Family, overlap};

/// The value that Pontoon writes to turn forwarding on, as the kernel shows it.
const FORWARDED_BY_PONTOON: &str = "706";

/// Networks with a subnet of this family that is reached through routing.
fn routed(facts: &Facts, family: Family) -> impl Iterator<Item = &NetworkStatus> {
    let networks = facts.status.networks.iter().filter(|network| !network.internal);
    networks.filter(move |network| network.subnets.iter().any(|subnet| Family::of(&subnet.ip()) == family))
}

pub(super) fn ip_forward(facts: &Facts) -> Vec<Finding> {
    let families = [
        (Family::V4, "ipv4/ip_forward", "net.ipv4.ip_forward"),
        (Family::V6, "ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
    ];
    let look = |(family, path, name): (Family, &str, &str)| {
        let networks = routed(facts, family).count();
        if networks == 0 {
            return Finding::ok(format!("no network needs {family} forwarding"));
        }
        match facts.settings.get(path) {
            Some("0") => {
                let title = format!("{family} forwarding is off: {networks} networks cannot reach other networks");
                let finding = Finding::new(Level::Broken, title).seen(format!("{name} = 0"));
                finding.mended_by(format!(
                    "{}   # with PONTOON_IP_FORWARD=false: sysctl -w {name}=1, which forwards between all links",
                    wiring::command(facts, "repair")
                ))
            }
            Some(FORWARDED_BY_PONTOON) => Finding::ok(format!("{family} forwarding is on for Pontoon's networks only")),
            Some(_) => Finding::ok(format!("{family} forwarding is on")),
            None => Finding::new(
                Level::Broken,
                format!("the kernel has no {family}: {networks} networks cannot reach other networks"),
            )
            .mended_by("remove ipv6.disable=1 from the kernel command line and reboot"),
        }
    };
    families.into_iter().map(look).collect()
}

pub(super) fn accept_ra(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    let Some(uplink) = &host.uplink else { return Vec::new() };
    let setting = format!("ipv6/conf/{uplink}/accept_ra");
    let default = host.routes.iter().any(|route| route.destination.is_ipv6() && route.destination.prefix() == 0);
    let forwarded = facts.settings.get("ipv6/conf/all/forwarding").is_some_and(|value| value != "0");
    match facts.settings.get(&setting) {
        Some("1") if forwarded && !default && routed(facts, Family::V6).next().is_some() => {
            let title = format!(
                "{uplink} ignores router advertisements because forwarding is on: there is no IPv6 default route"
            );
            let finding =
                Finding::new(Level::Degraded, title).seen(format!("{setting} = 1, and there is no default route"));
            vec![finding.mended_by(format!("sysctl -w net/ipv6/conf/{uplink}/accept_ra=2"))]
        }
        _ => vec![Finding::ok("the IPv6 default route does not depend on ignored router advertisements")],
    }
}

pub(super) fn rp_filter(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    let default =
        |route: &&crate::datapath::host::HostRoute| route.destination.is_ipv4() && route.destination.prefix() == 0;
    let paths: std::collections::BTreeSet<_> = host.routes.iter().filter(default).map(|route| &route.link).collect();
    let strict = facts.settings.get("ipv4/conf/all/rp_filter") == Some("1");
    if !strict || paths.len() < 2 {
        return vec![Finding::ok("reverse path filtering drops no legitimate packets")];
    }
    let title =
        "strict reverse path filtering with several default routes: replies that arrive on another link are dropped";
    let paths: Vec<_> = paths.into_iter().cloned().collect();
    let finding = Finding::new(Level::Note, title);
    let finding = finding.seen(format!("net.ipv4.conf.all.rp_filter = 1, default routes by {}", paths.join(", ")));
    vec![finding.mended_by("sysctl -w net.ipv4.conf.all.rp_filter=2")]
}

pub(super) fn bridge_netfilter(facts: &Facts) -> Vec<Finding> {
    let on = facts.settings.get("bridge/bridge-nf-call-iptables") == Some("1");
    let apart = facts.status.networks.iter().filter(|network| !network.icc);
    let apart: Vec<_> = apart.map(short).collect();
    if on && !apart.is_empty() {
        let title = "with enable_icc=false and bridge-nf-call-iptables, containers of the network cannot reach each other's published ports through the host";
        let finding = Finding::new(Level::Note, title).seen(format!("networks {}", apart.join(", ")));
        let finding = finding.seen("net.bridge.bridge-nf-call-iptables = 1");
        return vec![
            finding.mended_by("sysctl -w net.bridge.bridge-nf-call-iptables=0   # Docker turns it on when it starts"),
        ];
    }
    vec![Finding::ok(format!("bridge netfilter is {}", if on { "on, as Docker sets it" } else { "off" }))]
}

pub(super) fn mtu(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    let uplink = host.uplink.as_ref().and_then(|name| host.links.iter().find(|link| link.name == *name));
    let Some(uplink) = uplink else { return vec![Finding::ok("no default route: MTUs not compared")] };
    let larger = facts.status.networks.iter().filter(|network| !network.internal && network.mtu > uplink.mtu);
    let findings: Vec<_> = larger
        .map(|network| {
            let title = format!("the MTU of network {} is larger than that of the uplink", short(network));
            let finding = Finding::new(Level::Degraded, title);
            finding.seen(format!("{} has {}, {} has {}", network.link, network.mtu, uplink.name, uplink.mtu)).mended_by(
                format!(
                    "docker network create -d {} -o com.docker.network.driver.mtu={} ...   # to replace it",
                    wiring::driver(facts),
                    uplink.mtu
                ),
            )
        })
        .collect();
    if findings.is_empty() { vec![Finding::ok(format!("MTUs fit the uplink {}", uplink.name))] } else { findings }
}

pub(super) fn routes(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    let mut findings = Vec::new();
    for network in &facts.status.networks {
        for subnet in &network.subnets {
            let theirs = host.routes.iter().filter(|route| {
                route.destination.prefix() > 0
                    && route.link != network.link.as_str()
                    // The routes to containers on a parent are Pontoon's own.
                    && !route.link.starts_with(HOST_LINK)
                    && overlap(&route.destination, subnet)
            });
            for route in theirs {
                // A wider foreign route yields to the bridge's own.
                let hidden = route.destination.prefix() >= subnet.prefix();
                let level = if hidden { Level::Broken } else { Level::Note };
                let what = if hidden { "takes packets from" } else { "is partly hidden by" };
                let title = format!("a route of the host {what} network {}", short(network));
                let via = if route.link.is_empty() { "no link" } else { &route.link };
                let seen = format!("{} by {via}, {subnet} by {}", route.destination, network.link);
                // The route stays: the operator may be connected through it.
                let remedy = if hidden {
                    "docker network create --subnet ...   # to replace it; a Swarm's subnets come from docker swarm init --default-addr-pool"
                } else {
                    "docker network create --subnet ...   # to replace it, if the host needs the hidden addresses"
                };
                findings.push(Finding::new(level, title).seen(seen).mended_by(remedy));
            }
        }
    }
    if findings.is_empty() { vec![Finding::ok("no route of the host overlaps a network")] } else { findings }
}

/// An id as `docker network ls` shows it.
pub(super) fn short(network: &NetworkStatus) -> &str {
    let id = network.id.as_str();
    id.get(..12).unwrap_or(id)
}
