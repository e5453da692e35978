//! `pontoon policy show NAME`, and whose lists a name means.

use std::fmt::Write as _;

use serde_json::json;

use super::inspect::{InspectError, Meant, meant};
use super::{Facts, Shown};
use crate::admin::policy::PolicyStatus;
use crate::model::access::AllowList;
use crate::model::{EndpointId, NetworkId};
use crate::names::short;

/// What a container, an endpoint or a network may exchange with whom.
///
/// # Errors
/// The name is wrong or ambiguous.
pub fn policy(facts: &Facts<'_>, name: &str) -> Result<Shown, InspectError> {
    let (mut text, mut all) = (String::new(), Vec::new());
    match meant(facts, name)? {
        Meant::Network(network) => {
            let id = network.id.as_str();
            let _ = writeln!(text, "network    {} ({})", facts.names.network(id), short(id));
            lines(&network.detail.policy, &mut text);
            all.push(json!({"network": id, "policy": network.detail.policy}));
        }
        Meant::Party(party) => {
            for member in party.members() {
                let (network, endpoint) = (member.network.id.as_str(), member.endpoint.id.as_str());
                let called = facts.names.network(network);
                let _ = writeln!(text, "container  {}   network {called} ({})", party.name(), short(network));
                lines(&member.endpoint.detail.policy, &mut text);
                all.push(json!({"network": network, "endpoint": endpoint, "policy": member.endpoint.detail.policy}));
            }
        }
    }
    Ok(Shown::new(text, json!({ "policies": all })))
}

/// A line for each of its parts.
pub(super) fn lines(policy: &PolicyStatus, text: &mut String) {
    if !policy.groups.is_empty() {
        let groups: Vec<&str> = policy.groups.iter().map(|group| group.as_str()).collect();
        let _ = writeln!(text, "{:<10} {}", "groups", groups.join("+"));
    }
    if policy.audit {
        let stored = if policy.stored.audit.is_some() { "   stored" } else { "" };
        let _ =
            writeln!(text, "{:<10} on: the lists refuse nothing, what they do not allow is recorded{stored}", "audit");
    } else if policy.stored.audit.is_some() {
        let _ = writeln!(text, "{:<10} off   stored", "audit");
    }
    let (stored, ways) = (&policy.stored, [("egress", &policy.egress), ("ingress", &policy.ingress)]);
    for ((way, list), stored) in ways.into_iter().zip([&stored.egress, &stored.ingress]) {
        let stored = stored.as_ref().map_or_else(String::new, |list| format!("   stored: {}", words(list)));
        let _ = writeln!(text, "{way:<10} {}{stored}", list.as_ref().map_or("open".to_owned(), words));
    }
}

fn words(list: &AllowList) -> String {
    if list.is_empty() { "nothing".to_owned() } else { list.to_string() }
}

/// The networks and endpoints whose lists a name means: of a container, all on networks of Pontoon.
///
/// # Errors
/// The name is wrong or ambiguous.
pub fn policy_targets(facts: &Facts<'_>, name: &str) -> Result<Vec<(NetworkId, Option<EndpointId>)>, InspectError> {
    Ok(match meant(facts, name)? {
        Meant::Network(network) => vec![(network.id.clone(), None)],
        Meant::Party(party) => {
            let members = party.members().iter();
            members.map(|member| (member.network.id.clone(), Some(member.endpoint.id.clone()))).collect()
        }
    })
}
