//! Checks whether containers are only audited: their lists refuse nothing, and nobody should believe otherwise.

use super::{Facts, Finding, Level};
use crate::names::short;

/// Most containers that are named.
const MOST: usize = 10;

pub(super) fn audited(facts: &Facts) -> Vec<Finding> {
    let endpoints = facts.status.networks.iter().flat_map(|network| &network.endpoints);
    let audited = endpoints.filter(|endpoint| {
        let policy = &endpoint.detail.policy;
        policy.audit && (policy.egress.is_some() || policy.ingress.is_some())
    });
    let all: Vec<String> = audited.map(|endpoint| short(endpoint.id.as_str())).collect();
    if all.is_empty() {
        return vec![Finding::ok("no container with an allow list is only audited")];
    }
    let title = format!("{} containers are only audited: their allow lists refuse nothing", all.len());
    let mut finding = Finding::new(Level::Note, title);
    for id in all.iter().take(MOST) {
        finding = finding.seen(format!("endpoint {id}"));
    }
    let help = "pontoon policy set NAME --audit off   # once pontoon policy audit NAME shows nothing that should pass";
    vec![finding.mended_by(help)]
}
