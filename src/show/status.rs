//! `pontoon status`.

use serde_json::json;

use super::list::share;
use super::{ALMOST_FULL, Facts, Shown, bytes, join, mode};
use crate::names::short;
use crate::output::Style;

/// The word for the condition, and the program's exit code.
pub fn health(facts: &Facts<'_>) -> (&'static str, u8) {
    match (facts.down, problems(facts).is_empty()) {
        (Some(_), _) => ("broken", 2),
        (None, false) => ("degraded", 1),
        (None, true) => ("healthy", 0),
    }
}

/// What is wrong, each in a few words.
pub fn problems(facts: &Facts<'_>) -> Vec<String> {
    let status = facts.status;
    let mut found: Vec<String> =
        facts.down.map(|why| format!("the daemon does not answer ({why})")).into_iter().collect();
    if status.state.degraded {
        found.push(format!("the state may be incomplete ({})", status.state.words));
    }
    if !status.plan.is_empty() {
        found.push("the kernel differs from the state".to_owned());
    }
    found.extend(status.blind.as_ref().map(|why| format!("the kernel cannot be compared: {why}")));
    if !status.unreserved.is_empty() {
        found.push(format!("{} not reserved", counted(status.unreserved.len(), "published port")));
    }
    found.extend(status.settings.iter().map(ToString::to_string));
    found
}

fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// The overview, and how many packets Pontoon's rules dropped, if that can be read.
pub fn status(facts: &Facts<'_>, dropped: Option<u64>, style: Style) -> Shown {
    let status = facts.status;
    let (word, code) = health(facts);
    let painted = match code {
        0 => style.good(word),
        1 => style.doubtful(word),
        _ => style.bad(word),
    };
    let endpoints: usize = status.networks.iter().map(|network| network.endpoints.len()).sum();
    let published = || status.networks.iter().flat_map(|network| &network.endpoints).map(|e| e.published.len());
    let mut lines = vec![("Health", if code == 0 { painted } else { format!("{painted}   pontoon doctor says why") })];
    lines.push(match facts.down {
        None => ("Daemon", format!("running, pid {}", status.pid)),
        Some(why) => ("Daemon", format!("does not answer ({why}); what follows is from the ledger")),
    });
    lines.push(("State", status.state.words.clone()));
    let steps = status.plan.commands.len();
    lines.push(match (&status.blind, status.plan.is_empty()) {
        (Some(why), _) => ("Kernel", format!("cannot be compared: {why}")),
        (None, _) if facts.down.is_some() => ("Kernel", "not compared: pontoon check does".to_owned()),
        (None, true) => ("Kernel", "in sync".to_owned()),
        (None, false) => ("Kernel", format!("{}: pontoon plan", counted(steps, "repair command"))),
    });
    let objects = [
        counted(status.networks.len(), "network"),
        counted(endpoints, "endpoint"),
        counted(published().sum(), "published port"),
    ];
    lines.push(("Objects", objects.join(", ")));
    if let Some(packets) = dropped {
        let more = if packets > 0 { ": pontoon drops" } else { "" };
        lines.push(("Firewall", format!("{packets} packets dropped by Pontoon's rules{more}")));
    }
    let full = status.pools.iter().filter(|pool| share(pool) >= ALMOST_FULL);
    let full: Vec<String> = full.map(|pool| format!("{} {} %", pool.subnet, share(pool))).collect();
    if !full.is_empty() {
        lines.push(("Addresses", format!("almost none left: {}", full.join(", "))));
    }
    if let Some(reach) = &status.reach {
        let local = reach.local.map_or_else(|| "none".to_owned(), |local| local.to_string());
        let peers = counted(reach.peers.len(), "peer");
        lines.push(("Overlay", format!("data path {local}, UDP port {}, {peers}: pontoon peers", reach.port)));
    }
    let mut text = format!("Pontoon {}\n", status.version);
    text.extend(lines.iter().map(|(title, line)| format!("  {title:<10} {line}\n")));
    let mut rows = vec![
        ["NETWORK", "MODE", "SUBNETS", "LINK", "ENDPOINTS", "PUBLISHED", "RX", "TX", "MTU", "GATEWAYS", "VNI", "ID"]
            .map(str::to_owned),
    ];
    rows.extend(status.networks.iter().map(|network| {
        let traffic = facts.traffic.get(network.link.as_str()).copied().unwrap_or_default();
        let ports: usize = network.endpoints.iter().map(|endpoint| endpoint.published.len()).sum();
        [
            facts.names.network(network.id.as_str()),
            mode(network),
            join(&network.subnets),
            network.link.to_string(),
            network.endpoints.len().to_string(),
            ports.to_string(),
            bytes(traffic.received.bytes),
            bytes(traffic.sent.bytes),
            network.mtu.to_string(),
            join(&network.detail.gateways),
            join(network.overlay.iter().map(|overlay| &overlay.vni)),
            short(network.id.as_str()),
        ]
    }));
    if rows.len() > 1 {
        text.push('\n');
    } else {
        rows.clear();
    }
    let networks = status.networks.iter().map(|network| {
        let traffic = facts.traffic.get(network.link.as_str()).copied().unwrap_or_default();
        json!({
            "id": network.id, "name": facts.names.networks.get(network.id.as_str()), "mode": mode(network),
            "subnets": network.subnets, "link": network.link, "endpoints": network.endpoints.len(),
            "published": network.endpoints.iter().map(|endpoint| endpoint.published.len()).sum::<usize>(),
            "receive_bytes": traffic.received.bytes, "transmit_bytes": traffic.sent.bytes,
        })
    });
    let json = json!({
        "version": status.version, "health": word, "daemon": facts.down.is_none(), "pid": status.pid,
        "state": status.state, "plan": status.plan, "blind": status.blind, "dropped_packets": dropped,
        "reach": status.reach, "networks": networks.collect::<Vec<_>>(),
    });
    Shown::of_table(&text, &rows, 8, json)
}
