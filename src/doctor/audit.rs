//! Checks whether containers are only audited: their lists refuse nothing, although they have one.

use super::{Facts, Finding, Level};

/// Most containers that are named.
const MOST: usize = 10;

pub(super) fn audited(facts: &Facts) -> Vec<Finding> {
    let endpoints = facts.status.networks.iter().flat_map(|network| &network.endpoints);
    let audited = endpoints.filter(|endpoint| {
        let policy = &endpoint.detail.policy;
        policy.audit && (policy.egress.is_some() || policy.ingress.is_some())
    });
    let all: Vec<&str> = audited.map(|endpoint| endpoint.id.as_str()).collect();
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

#[cfg(test)]
pub(in crate::doctor) mod tests {
    use super::*;

    pub fn audited(facts: &mut Facts) {
        let policy = &mut facts.status.networks[0].endpoints[0].detail.policy;
        (policy.audit, policy.egress) = (true, Some("dns".parse().unwrap()));
    }

    #[test]
    fn a_container_without_a_list_is_not_audited() {
        let mut facts = crate::doctor::tests::well();
        facts.status.networks[0].endpoints[0].detail.policy.audit = true;
        assert_eq!(super::audited(&facts)[0].level, Level::Ok);
    }
}
