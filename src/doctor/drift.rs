//! Checks of the kernel objects that Pontoon made: drift and leaks.

use super::{Facts, Finding, Level, Source, wiring};
use crate::model::Phase;

/// Number of commands that are shown as evidence; `pontoon plan` shows all.
const SHOWN: usize = 6;

/// Seconds after which the daemon's own upkeep must have run (driver/service/upkeep.rs: a grace period of 120 s for
/// endpoints, 60 s for addresses, each up to half a minute late).
const ENDPOINT: u64 = 180;
const ADDRESS: u64 = 120;

pub(super) fn plan(facts: &Facts) -> Vec<Finding> {
    if let Some(why) = &facts.status.blind {
        let finding = Finding::new(Level::Broken, "cannot compare the kernel with the state").seen(why.clone());
        return vec![finding.mended_by(wiring::command(facts, "repair"))];
    }
    let commands = &facts.status.plan.commands;
    if commands.is_empty() {
        return vec![Finding::ok("the kernel matches the state")];
    }
    let title = format!("the kernel differs from the state by {} commands", commands.len());
    let mut finding = Finding::new(Level::Degraded, title);
    for command in commands.iter().take(SHOWN) {
        finding = finding.seen(command.clone());
    }
    if commands.len() > SHOWN {
        finding = finding.seen(format!("... and {} more: pontoon plan", commands.len() - SHOWN));
    }
    vec![finding.mended_by(wiring::command(facts, "repair"))]
}

pub(super) fn missing(facts: &Facts) -> Vec<Finding> {
    let missing = facts.status.plan.missing.iter().map(|bridge| {
        let title = format!("your bridge {bridge}, which a network uses, does not exist");
        let remedy = format!("ip link add name {bridge} type bridge && ip link set dev {bridge} up");
        Finding::new(Level::Broken, title).mended_by(remedy)
    });
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() { vec![Finding::ok("your bridges exist")] } else { missing }
}

pub(super) fn dead(facts: &Facts) -> Vec<Finding> {
    let dead = &facts.status.plan.dead;
    if dead.is_empty() {
        return vec![Finding::ok("all endpoints have their links")];
    }
    let mut finding =
        Finding::new(Level::Degraded, "links of endpoints are missing: their sandbox ended, or they were deleted");
    for host in dead {
        finding = finding.seen(host.to_string());
    }
    vec![finding.mended_by(format!("{}   # then restart the affected containers", wiring::command(facts, "repair")))]
}

pub(super) fn leaked_endpoints(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    let on_host = |name: &str| host.links.iter().any(|link| link.name == name);
    let endpoints = facts.status.networks.iter().flat_map(|network| &network.endpoints);
    let left = endpoints.filter(|endpoint| endpoint.age > ENDPOINT).filter(|endpoint| match endpoint.phase {
        Phase::Joined => on_host(endpoint.attachment.sandbox_link().as_str()),
        Phase::Ready | Phase::Left => true,
    });
    let left: Vec<_> = left.collect();
    if left.is_empty() {
        return vec![Finding::ok("no endpoint is left over")];
    }
    let mut finding = Finding::new(without_daemon(facts), "left-over endpoints, no longer used by a sandbox");
    for endpoint in left {
        finding =
            finding.seen(format!("{} ({}, {:?} for {} s)", endpoint.id, endpoint.link(), endpoint.phase, endpoint.age));
    }
    vec![finding.mended_by(wiring::command(facts, "repair"))]
}

pub(super) fn leaked_addresses(facts: &Facts) -> Vec<Finding> {
    let status = &facts.status;
    let carried = |subnet| status.networks.iter().any(|network| network.subnets.contains(subnet));
    let pools = status.pools.iter().filter(|pool| carried(&pool.subnet));
    let old = pools.flat_map(|pool| pool.unclaimed.iter().filter(|(_, age)| *age > ADDRESS));
    let old: Vec<_> = old.collect();
    if old.is_empty() {
        return vec![Finding::ok("all allocated addresses are in use")];
    }
    let mut finding = Finding::new(without_daemon(facts), "allocated addresses that no endpoint uses");
    for (address, age) in old {
        finding = finding.seen(format!("{address}, for {age} s"));
    }
    vec![finding.mended_by(wiring::command(facts, "repair"))]
}

/// A running daemon reaps leaks by itself, so leaks that remain are worse than those it will find.
fn without_daemon(facts: &Facts) -> Level {
    if facts.source == Source::Daemon { Level::Degraded } else { Level::Note }
}

pub(super) fn ports(facts: &Facts) -> Vec<Finding> {
    let (limited, taken): (Vec<_>, Vec<_>) =
        facts.status.unreserved.iter().partition(|(_, why)| why.contains("the limit of open files"));
    let unreserved = taken.into_iter().map(|(port, why)| {
        let title = format!("published port {port} is bound by another process");
        let proto = format!("{}", port.protocol);
        let flag = if proto == "udp" { "-lnup" } else { "-lntp" };
        Finding::new(Level::Degraded, title).seen(why.clone()).mended_by(format!(
            "ss {flag} 'sport = :{}'   # stop that process; Pontoon then binds the port by itself",
            port.port
        ))
    });
    let mut unreserved: Vec<_> = unreserved.collect();
    if let Some((_, why)) = limited.first() {
        let title =
            format!("{} published ports work, but are not reserved: another process could bind them", limited.len());
        let pid = facts.process.as_ref().map_or(facts.status.pid, |process| process.pid);
        let finding = Finding::new(Level::Degraded, title).seen(why.clone());
        unreserved.push(finding.mended_by(format!(
            "prlimit --pid {pid} --nofile=1048576   # until it restarts; permanently: LimitNOFILE in its unit"
        )));
    }
    if unreserved.is_empty() { vec![Finding::ok("published ports are reserved on the host")] } else { unreserved }
}

pub(super) fn overruns(facts: &Facts) -> Vec<Finding> {
    match facts.status.overruns {
        0 => vec![Finding::ok("no kernel notification was lost")],
        lost => vec![Finding::new(
            Level::Note,
            format!("kernel notifications were lost {lost} times; each time the daemon compared everything"),
        )],
    }
}
