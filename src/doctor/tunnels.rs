//! Checks of overlay networks: the path to other hosts, and what on this host obstructs it.

use std::net::IpAddr;

use super::host::short;
use super::path::Arrival;
use super::{Facts, Finding, Level, Source, Tunnels, wiring};
use crate::admin::overlay::OverlayStatus;
use crate::admin::status::NetworkStatus;
use crate::model::overlay::{network_mtu, overhead};
use crate::state::peers::Standing;

/// Seconds after which a peer with endpoints must have been heard: each peer announces them twice a minute, and
/// activity is remembered for five minutes.
const SILENT: u64 = 120;

/// Drivers of virtual machines whose link corrupts checksums of tunnelled packets on some hosts.
const SUSPECT: [&str; 1] = ["vmxnet3"];

/// The facts about tunnels, when there is an overlay network.
fn seen(facts: &Facts) -> Option<(&OverlayStatus, &Tunnels)> {
    Some((facts.status.reach.as_ref()?, facts.tunnels.as_ref()?))
}

fn overlays(facts: &Facts) -> impl Iterator<Item = (&NetworkStatus, &crate::admin::overlay::OverlayNetworkStatus)> {
    facts.status.networks.iter().filter_map(|network| Some((network, network.overlay.as_ref()?)))
}

/// Size of the largest packet that the tunnels send, in bytes; 0 without an overlay network.
pub fn largest(networks: &[NetworkStatus], v6: bool) -> u32 {
    let overlays = networks.iter().filter(|network| network.overlay.is_some());
    overlays.map(|network| network.mtu.saturating_add(overhead(v6))).max().unwrap_or(0)
}

fn mtu_remedy(facts: &Facts, mtu: u32) -> String {
    let driver = wiring::driver(facts);
    format!("docker network create -d {driver} -o com.docker.network.driver.mtu={mtu} ...   # to replace it")
}

pub(super) fn mtu(facts: &Facts) -> Vec<Finding> {
    let (Some((reach, tunnels)), Ok(host)) = (seen(facts), &facts.host) else { return Vec::new() };
    let more = overhead(reach.local.is_some_and(|local| local.is_ipv6()));
    let mut findings = Vec::new();
    let link = host.links.iter().find(|link| Some(&link.name) == tunnels.paths.link.as_ref());
    for (network, overlay) in overlays(facts) {
        let Some(link) = link else { continue };
        let ordinary = network_mtu(u32::MAX, more == overhead(true));
        if network.mtu < ordinary && network.mtu + more == link.mtu {
            let title = format!(
                "overlay network {} has an MTU of {} here, derived from the link to other hosts",
                short(network),
                network.mtu
            );
            let finding = Finding::new(Level::Note, title);
            let finding = finding.seen(format!("hosts with an MTU of 1500 or more choose {ordinary}: all hosts must use the same, or large packets are lost"));
            findings.push(finding.mended_by(mtu_remedy(facts, network.mtu)));
        }
        if network.mtu + more <= link.mtu {
            continue;
        }
        let title = format!("the MTU of overlay network {} leaves no room for the tunnel header", short(network));
        let finding = Finding::new(Level::Degraded, title);
        let seen =
            format!("{} has {}, plus {more} for the tunnel; {} has {}", overlay.link, network.mtu, link.name, link.mtu);
        findings.push(finding.seen(seen).mended_by(mtu_remedy(facts, link.mtu.saturating_sub(more))));
    }
    let size = tunnels.largest;
    for way in &tunnels.paths.peers {
        let narrow = way.mtu.filter(|mtu| *mtu < size && link.is_none_or(|link| *mtu < link.mtu));
        let (title, seen) = match (tunnels.arrivals.get(&way.peer), narrow) {
            (Some(Arrival::TooLarge), _) => {
                ("has a smaller MTU than full-size packets need", "a router on the path reported it".to_owned())
            }
            (_, Some(mtu)) => ("has a smaller MTU than full-size packets need", format!("the route has MTU {mtu}")),
            (Some(Arrival::Swallowed), _) => ("loses full-size packets", "small packets arrive".to_owned()),
            _ => continue,
        };
        let finding = Finding::new(Level::Degraded, format!("the path to peer {} {title}", way.peer));
        let room = narrow.unwrap_or(1400).saturating_sub(more);
        let finding = finding.seen(format!("{size} bytes, without fragmentation: {seen}"));
        findings.push(finding.mended_by(mtu_remedy(facts, room)));
    }
    if !findings.is_empty() {
        return findings;
    }
    let whole = tunnels.arrivals.values().filter(|arrival| **arrival == Arrival::Whole).count();
    let silent = tunnels.paths.peers.len() - whole.min(tunnels.paths.peers.len());
    let untold = if silent > 0 { format!("; {silent} did not answer") } else { String::new() };
    vec![Finding::ok(format!("packets of {size} bytes reach {whole} peers unfragmented{untold}"))]
}

/// Networks for which a peer has other subnets than this host: detected by addresses that its containers
/// announce.
pub(super) fn subnets(facts: &Facts) -> Vec<Finding> {
    let (Some(_), Ok(host)) = (seen(facts), &facts.host) else { return Vec::new() };
    let mut findings = Vec::new();
    for (network, overlay) in overlays(facts) {
        let mut odd = host.heard.iter().filter(|(link, _)| link == overlay.link.as_str()).map(|(_, address)| *address);
        let foreign = |address: &IpAddr| {
            let link_local = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
            let mut of_family =
                network.subnets.iter().filter(|subnet| subnet.is_ipv4() == address.is_ipv4()).peekable();
            !address.is_unspecified()
                && !link_local
                && of_family.peek().is_some()
                && !of_family.any(|s| s.contains(*address))
        };
        let Some(address) = odd.find(foreign) else { continue };
        let title = format!(
            "another host has different subnets for overlay network {}: it uses {address}, which is in none of the subnets here",
            short(network)
        );
        let here: Vec<_> = network.subnets.iter().map(ToString::to_string).collect();
        let finding =
            Finding::new(Level::Degraded, title).seen(format!("VNI {}, here {}", overlay.vni, here.join(", ")));
        findings.push(finding.mended_by(
            "docker network create -o pontoon.vni=N --subnet ...   # recreate it on one of the hosts, with the same subnets or another VNI",
        ));
    }
    if findings.is_empty() {
        vec![Finding::ok("other hosts have the same subnets for overlay networks")]
    } else {
        findings
    }
}

pub(super) fn peers(facts: &Facts) -> Vec<Finding> {
    let Some((reach, tunnels)) = seen(facts) else { return Vec::new() };
    let mut findings = Vec::new();
    if reach.local.is_none() {
        let finding = Finding::new(
            Level::Broken,
            "this host has no address for overlay networks: it sends no packets to other hosts",
        );
        findings.push(finding.mended_by(settings(facts, "PONTOON_DATA_PATH=ADDRESS")));
    }
    if reach.peers.is_empty() {
        let finding = Finding::new(Level::Note, "overlay networks have no peers");
        findings.push(finding.mended_by(settings(facts, "PONTOON_PEERS=ADDRESS,ADDRESS")));
    }
    for own in &reach.own {
        let title = format!("peer address {own} belongs to this host: ignored");
        let finding =
            Finding::new(Level::Note, title).seen("in pontoon.peers, PONTOON_PEERS or the Swarm's list of nodes");
        findings.push(finding);
    }
    for peer in &reach.peers {
        let way = tunnels.paths.peers.iter().find(|way| way.peer == peer.address);
        let heard = way.and_then(|way| way.heard);
        let last =
            heard.map_or("no packet received recently".to_owned(), |age| format!("last packet received {age} s ago"));
        let finding = match peer.standing {
            Standing::Doubted { since } => {
                let title = format!(
                    "the Swarm reported that peer {} left; it still receives all packets until it is silent",
                    peer.address
                );
                Finding::new(Level::Note, title).seen(format!("for {} s; {last}", ago(facts, since)))
            }
            Standing::Former { since } => {
                let title =
                    format!("peer {} is gone: it receives no floods, its packets are still accepted", peer.address);
                Finding::new(Level::Note, title).seen(format!("for {} s; {last}", ago(facts, since)))
            }
            Standing::Present if way.is_some_and(|way| way.link.is_none()) => {
                let title = format!("no route to peer {}", peer.address);
                Finding::new(Level::Degraded, title).mended_by(format!("ip route get {}", peer.address))
            }
            Standing::Present if heard.is_none_or(|age| age > SILENT) => {
                let title = format!(
                    "no packets from peer {}: it has no container on these networks, or its packets are lost",
                    peer.address
                );
                Finding::new(Level::Note, title).seen(last).mended_by(listen(reach, tunnels, peer.address))
            }
            Standing::Present => continue,
        };
        findings.push(finding);
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("{} peers, all active", reach.peers.len())));
    }
    findings
}

fn listen(reach: &OverlayStatus, tunnels: &Tunnels, peer: IpAddr) -> String {
    let link = tunnels.paths.link.as_deref().unwrap_or("any");
    let own = reach.local.map_or_else(|| "this host".to_owned(), |local| local.to_string());
    format!(
        "pontoon doctor   # on {peer}: {own} must be a peer there, else its packets are dropped\n\
         tcpdump -ni {link} host {peer} and udp port {}   # firewalls in between must accept it, from source ports 768 to 1023",
        reach.port
    )
}

fn ago(facts: &Facts, since: u64) -> u64 {
    facts.now.saturating_sub(since)
}

/// How to change a setting of the daemon.
pub(super) fn settings(facts: &Facts, setting: &str) -> String {
    if wiring::is_managed(facts) {
        format!(
            "docker plugin disable -f pontoon:latest; docker plugin set pontoon:latest {setting}; docker plugin enable pontoon:latest"
        )
    } else {
        format!("echo {setting} >>/etc/default/pontoon   # or use the daemon's flag; then {}", wiring::start(facts))
    }
}

pub(super) fn port(facts: &Facts) -> Vec<Finding> {
    let (Some((reach, tunnels)), Ok(host)) = (seen(facts), &facts.host) else { return Vec::new() };
    let port = reach.port;
    let mut findings = Vec::new();
    if !tunnels.holders.is_empty() {
        let title = format!("UDP port {port}, which overlay networks need, is bound by a process");
        let mut finding = Finding::new(Level::Broken, title);
        for holder in &tunnels.holders {
            finding = finding.seen(holder.clone());
        }
        let other = settings(facts, "PONTOON_VXLAN_PORT=8472");
        findings.push(finding.mended_by(format!(
            "ss -lnup 'sport = :{port}'   # stop that process\n{other}   # or another port, on every host"
        )));
    }
    for link in host.links.iter().filter(|link| !link.ours) {
        let Some(tunnel) = link.tunnel.filter(|tunnel| tunnel.port == port) else { continue };
        let ours = overlays(facts).find(|(_, overlay)| overlay.vni.get() == tunnel.vni);
        let title = match ours {
            _ if tunnel.vni == 0 => format!("link {} receives all packets to UDP port {port}", link.name),
            Some((network, _)) => {
                format!("link {} has the VNI of network {}, on the same port", link.name, short(network))
            }
            None => continue,
        };
        let finding = Finding::new(Level::Broken, title).seen(format!("VNI {}, port {port}", tunnel.vni));
        findings.push(finding.mended_by(format!(
            "ip link del dev {}   # or {}",
            link.name,
            settings(facts, "PONTOON_VXLAN_PORT=8472")
        )));
    }
    for (network, overlay) in overlays(facts) {
        let made = host.links.iter().find(|link| link.name == overlay.link.as_str()).and_then(|link| link.tunnel);
        if let Some(made) = made.filter(|made| made.port != port) {
            let title = format!("the tunnel of network {} uses another port than the daemon's setting", short(network));
            let finding = Finding::new(Level::Degraded, title)
                .seen(format!("{} has {}, the setting is {port}", overlay.link, made.port));
            findings.push(finding.mended_by(wiring::command(facts, "repair")));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("UDP port {port} is used by Pontoon's tunnels only")));
    }
    findings
}

pub(super) fn offload(facts: &Facts) -> Vec<Finding> {
    let Some((_, tunnels)) = seen(facts) else { return Vec::new() };
    let Some(link) = &tunnels.paths.link else { return Vec::new() };
    let on: Vec<&str> =
        tunnels.paths.offloads.iter().map(String::as_str).filter(|name| name.starts_with("tx-")).collect();
    let driver = tunnels.driver.as_deref().unwrap_or("no device's");
    let suspect = SUSPECT.contains(&driver) && !on.is_empty();
    let off: String = on.iter().map(|name| format!(" {name} off")).collect();
    let remedy = format!("ethtool -K {link}{off}   # on the sending hosts; on all of them, if the counts still grow");
    if !tunnels.damaged.is_empty() {
        let mut finding = Finding::new(
            Level::Degraded,
            "containers receive packets with wrong checksums: a link of a sending host corrupts them",
        );
        for damaged in &tunnels.damaged {
            let counts = format!("{} of TCP, {} of UDP (InCsumErrors)", damaged.tcp, damaged.udp);
            finding = finding.seen(format!("{}: {counts}", damaged.address));
        }
        let finding = finding.seen(format!(
            "here {link}, driver {driver}: {}",
            if on.is_empty() { "none".to_owned() } else { on.join(", ") }
        ));
        return vec![finding.mended_by(remedy)];
    }
    if suspect {
        let title = format!(
            "{link} computes checksums of tunnel packets in hardware, and its driver {driver} corrupts them on some hosts"
        );
        return vec![Finding::new(Level::Note, title).seen(on.join(", ")).mended_by(remedy)];
    }
    vec![Finding::ok(format!("no wrong checksums in containers ({link}, driver {driver})"))]
}

pub(super) fn announcing(facts: &Facts) -> Vec<Finding> {
    match facts.status.reach.as_ref().and_then(|reach| reach.announces) {
        Some(false) => {
            let title =
                "endpoints are not announced: packets to an address that moved go to the old host for up to a minute";
            let finding = Finding::new(Level::Degraded, title).seen("the daemon was started without CAP_NET_RAW");
            vec![finding.mended_by(format!(
                "set AmbientCapabilities=CAP_NET_RAW in its unit, or run it as root; then {}",
                wiring::start(facts)
            ))]
        }
        Some(true) => vec![Finding::ok("endpoints of overlay networks are announced")],
        None if facts.status.reach.is_some() && facts.source != Source::Daemon => {
            vec![Finding::ok("endpoints are announced by the daemon")]
        }
        None => Vec::new(),
    }
}
