//! `pontoon policy audit NAME`: what audited containers did that their lists do not allow, as lists.

use std::fmt::Write as _;

use serde_json::json;

use super::inspect::{InspectError, Meant, meant};
use super::{Facts, Shown};
use crate::admin::audit::{AuditLine, AuditList, AuditStatus};
use crate::admin::policy::PolicyStatus;
use crate::model::access::{AllowList, LONGEST, MOST_RULES, learned};
use crate::names::short;

/// What the containers that a name means did, without what was recorded before.
///
/// # Errors
/// The name is wrong or ambiguous.
pub fn audit(facts: &Facts<'_>, name: &str, before: &AuditList, now: &AuditList) -> Result<Shown, InspectError> {
    let mut of = Vec::new();
    match meant(facts, name)? {
        Meant::Network(network) => {
            of.extend(network.endpoints.iter().map(|endpoint| (network, endpoint)));
        }
        Meant::Party(party) => of.extend(party.members().iter().map(|member| (member.network, member.endpoint))),
    }
    let (mut text, mut all) = (String::new(), Vec::new());
    for (network, endpoint) in of {
        let same = |one: &&AuditStatus| one.network == network.id && one.endpoint == endpoint.id;
        let called = facts.names.endpoint(endpoint.id.as_str());
        let place = facts.names.network(network.id.as_str());
        let _ = writeln!(text, "container  {called}   network {place} ({})", short(network.id.as_str()));
        let policy = &endpoint.detail.policy;
        let Some(found) = now.audits.iter().find(same) else {
            let _ = writeln!(text, "{}", why_not(policy));
            continue;
        };
        let done = Done::of(before.audits.iter().find(same), found);
        done.write(&called, policy, &mut text);
        all.push(json!({
            "network": network.id, "endpoint": endpoint.id, "egress": done.egress, "ingress": done.ingress,
            "seen": {"egress": done.sent, "ingress": done.received}, "looked_up": found.looked_up,
            "unrecorded": done.unrecorded,
        }));
    }
    Ok(Shown::new(text, json!({ "audits": all })))
}

fn why_not(policy: &PolicyStatus) -> &'static str {
    match policy.egress.is_some() || policy.ingress.is_some() {
        true => "its lists are in force: nothing is recorded without pontoon policy set NAME --audit on",
        false => "no list restricts it: nothing is recorded without pontoon.policy, or an allow list",
    }
}

/// What one container did.
struct Done {
    sent: Vec<AuditLine>,
    received: Vec<AuditLine>,
    egress: AllowList,
    ingress: AllowList,
    unrecorded: u64,
}

impl Done {
    fn of(before: Option<&AuditStatus>, now: &AuditStatus) -> Self {
        let none = Vec::new();
        let (sent, received) = before.map_or((&none, &none), |before| (&before.egress, &before.ingress));
        let (sent, received) = (since(sent, &now.egress), since(received, &now.ingress));
        let seen = |lines: &[AuditLine]| lines.iter().map(|line| line.seen.clone()).collect::<Vec<_>>();
        // Lookups are not counted: after a wait, those of before are included.
        let (egress, ingress) = (learned::list(&seen(&sent), &now.looked_up), learned::list(&seen(&received), &[]));
        let unrecorded = now.unrecorded.saturating_sub(before.map_or(0, |before| before.unrecorded));
        Self { sent, received, egress, ingress, unrecorded }
    }

    fn write(&self, called: &str, policy: &PolicyStatus, text: &mut String) {
        let mut flags = String::new();
        let ways = [
            ("egress", &policy.egress, &self.egress, &policy.stored.egress),
            ("ingress", &policy.ingress, &self.ingress, &policy.stored.ingress),
        ];
        for (way, restricted, done, stored) in ways {
            let words = match (restricted, done.is_empty()) {
                (None, _) => "open".to_owned(),
                (_, true) => "nothing that its list does not allow".to_owned(),
                _ => done.to_string(),
            };
            let _ = writeln!(text, "{way:<10} {words}");
            if !done.is_empty() {
                // What is set replaces what was set.
                let all = stored.as_ref().map_or_else(|| done.clone(), |stored| stored.union(done));
                let _ = write!(flags, " --{way}-allow '{all}'");
                if all.rules().count() > MOST_RULES || all.to_string().len() > LONGEST {
                    let _ = writeln!(
                        text,
                        "note       more rules than a list may have: put names below one domain together as *.DOMAIN"
                    );
                }
            }
        }
        if self.unrecorded > 0 {
            let _ = writeln!(
                text,
                "note       {} packets were not recorded, because there were too many different ones or fragments within a \
                 bridge: the lists are not complete",
                self.unrecorded
            );
        }
        let _ = writeln!(text, "enforce    pontoon policy set {called}{flags} --audit off");
    }
}

/// What was done since: lines that are new, or have more packets.
fn since(before: &[AuditLine], now: &[AuditLine]) -> Vec<AuditLine> {
    let line = |line: &AuditLine| {
        let same = |other: &&AuditLine| {
            let (a, b) = (&other.seen, &line.seen);
            (a.protocol, a.port, a.peer) == (b.protocol, b.port, b.peer)
        };
        let earlier = before.iter().find(same).map_or(0, |other| other.packets);
        // A record that ended and began again counts from the start.
        let packets = line.packets.checked_sub(earlier).unwrap_or(line.packets);
        (packets > 0).then(|| AuditLine { seen: line.seen.clone(), packets })
    };
    now.iter().filter_map(line).collect()
}
