//! Compares with the state of the engine, when the operator gives its socket.

use super::{Facts, Finding, Level, wiring};
use crate::gc;

fn engine(facts: &Facts) -> Option<&crate::engine::Engine> {
    facts.engine.as_ref()?.as_ref().ok()
}

pub(super) fn unknown_here(facts: &Facts) -> Vec<Finding> {
    if let Some(Err(why)) = &facts.engine {
        let finding = Finding::new(Level::Degraded, "cannot query the engine").seen(why.clone());
        return vec![finding.mended_by("systemctl status docker")];
    }
    let Some(engine) = engine(facts) else { return Vec::new() };
    let ours = engine.networks.iter().filter(|(_, network)| is_ours(network));
    let held = |id: &str| facts.status.networks.iter().any(|network| network.id.as_str() == id);
    let lost: Vec<_> = ours
        .filter(|(id, network)| network.scope == "local" && !held(id))
        .map(|(id, network)| {
            let title = format!("Docker has a Pontoon network {:?} that Pontoon does not know", network.name);
            let finding = Finding::new(Level::Broken, title).seen(format!("id {id}"));
            finding.mended_by(format!(
                "docker network rm {}   # after removing its containers; then create it again",
                network.name
            ))
        })
        .collect();
    if lost.is_empty() { vec![Finding::ok("Pontoon knows all its networks that Docker has")] } else { lost }
}

pub(super) fn unknown_there(facts: &Facts) -> Vec<Finding> {
    let (Some(engine), Ok(host)) = (engine(facts), &facts.host) else { return Vec::new() };
    let links = host.links.iter().map(|link| link.name.clone()).collect();
    let look = gc::compare(&facts.status, engine, &links);
    if look.leaks.is_empty() {
        return vec![Finding::ok("Docker knows all objects of Pontoon")];
    }
    let title = "Pontoon has objects that Docker no longer knows";
    let mut finding = Finding::new(Level::Degraded, title);
    for leak in &look.leaks {
        finding = finding.seen(leak.to_string());
    }
    vec![finding.mended_by(wiring::command(facts, "gc --docker --yes"))]
}

/// Networks of the Swarm that use Pontoon, by id.
fn of_the_swarm(engine: &crate::engine::Engine) -> impl Iterator<Item = (&String, &crate::engine::EngineNetwork)> {
    engine.networks.iter().filter(|(_, network)| is_ours(network) && network.scope == "swarm")
}

fn is_ours(network: &crate::engine::EngineNetwork) -> bool {
    network.driver.split(':').next() == Some("pontoon")
}

pub(super) fn vips(facts: &Facts) -> Vec<Finding> {
    let Some(services) = engine(facts).and_then(|engine| Some((engine, engine.services.as_ref()?))) else {
        return Vec::new();
    };
    let (engine, services) = services;
    if facts.serves_vips {
        return vec![Finding::ok("`pontoon vip` serves the virtual addresses of services")];
    }
    let mut findings = Vec::new();
    for service in services.iter().filter(|service| service.vip) {
        let on = of_the_swarm(engine)
            .find(|(id, network)| service.networks.iter().any(|target| target == *id || *target == network.name));
        let Some((_, network)) = on else { continue };
        let title =
            format!("service {} has a virtual address on network {} that does not respond", service.name, network.name);
        let finding = Finding::new(Level::Degraded, title).seen(
            "its endpoint mode is vip, which Docker supports on its built-in overlay only, and `pontoon vip` does not run here",
        );
        findings.push(finding.mended_by(format!("docker service update --endpoint-mode dnsrr {}", service.name)));
    }
    if findings.is_empty() {
        vec![Finding::ok("services on Pontoon's networks resolve to their tasks")]
    } else {
        findings
    }
}

/// Before a network of the Swarm is allocated, Docker shows neither its driver nor its options
/// (`BasicNetworkFromGRPC`, daemon/cluster/convert/network.go of Moby): so it may use another driver.
pub(super) fn unallocated(facts: &Facts) -> Vec<Finding> {
    let Some(engine) = engine(facts).filter(|engine| engine.services.is_some()) else { return Vec::new() };
    let stuck = engine.networks.iter().filter(|(_, network)| network.scope == "swarm" && network.driver.is_empty());
    let findings: Vec<_> = stuck
        .map(|(id, network)| {
            let title = format!("the Swarm did not allocate network {}: no task can start on it", network.name);
            let finding = Finding::new(Level::Degraded, title).seen(format!("id {id}, Docker shows no driver"));
            finding.mended_by(format!(
                "journalctl -u docker | grep {}   # on the leader: shows the reason, often an invalid option\n\
                 docker network rm {}   # then create it again",
                id.get(..12).unwrap_or(id),
                network.name
            ))
        })
        .collect();
    if findings.is_empty() { vec![Finding::ok("the Swarm allocated all its networks")] } else { findings }
}
