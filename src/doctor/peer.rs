//! Owns the checks against the engine's word, when the operator gives its socket.

use super::{Facts, Finding, Level, wiring};
use crate::gc;

fn engine(facts: &Facts) -> Option<&crate::engine::Engine> {
    facts.engine.as_ref()?.as_ref().ok()
}

pub(super) fn unknown_here(facts: &Facts) -> Vec<Finding> {
    if let Some(Err(why)) = &facts.engine {
        let finding = Finding::new(Level::Degraded, "the engine cannot be asked").seen(why.clone());
        return vec![finding.mended_by("systemctl status docker")];
    }
    let Some(engine) = engine(facts) else { return Vec::new() };
    let ours = engine.networks.iter().filter(|(_, network)| network.driver.split(':').next() == Some("pontoon"));
    let held = |id: &str| facts.status.networks.iter().any(|network| network.id.as_str() == id);
    let lost: Vec<_> = ours
        .filter(|(id, network)| network.scope == "local" && !held(id))
        .map(|(id, network)| {
            let title = format!("Docker has a network {:?} of Pontoon's that Pontoon does not know", network.name);
            let finding = Finding::new(Level::Broken, title).seen(format!("id {id}"));
            finding
                .mended_by(format!("docker network rm {}   # after its containers; then create it again", network.name))
        })
        .collect();
    if lost.is_empty() { vec![Finding::ok("Pontoon knows each of its networks that Docker has")] } else { lost }
}

pub(super) fn unknown_there(facts: &Facts) -> Vec<Finding> {
    let (Some(engine), Ok(host)) = (engine(facts), &facts.host) else { return Vec::new() };
    let links = host.links.iter().map(|link| link.name.clone()).collect();
    let look = gc::look(&facts.status, engine, &links);
    if look.leaks.is_empty() {
        return vec![Finding::ok("Docker knows all that Pontoon holds")];
    }
    let title = "Pontoon holds what Docker does not know any more";
    let mut finding = Finding::new(Level::Degraded, title);
    for leak in &look.leaks {
        finding = finding.seen(leak.to_string());
    }
    vec![finding.mended_by(wiring::command(facts, "gc --docker --yes"))]
}
