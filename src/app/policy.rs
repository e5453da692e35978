//! `pontoon policy`: shows allow lists from the facts of the daemon or its ledger, and has the daemon change them.

use serde_json::{Value, json};

use super::inspect::{BLIND, found_status, known_names};
use super::look::{self, Need};
use super::refresh::print;
use crate::admin::audit::AuditList;
use crate::admin::policy::PolicyOrder;
use crate::cli::{PolicyAction, PolicyAudit, PolicyShow, PolicyTarget, Switch};
use crate::client::Client;
use crate::installation::Roots;
use crate::model::access::{AllowList, StoredLists};
use crate::output;
use crate::show::{self, Facts, Traffic};

/// Runs the command; returns the exit code.
pub fn run(action: &PolicyAction) -> u8 {
    let done = match action {
        PolicyAction::Show(options) => show(options),
        PolicyAction::Audit(options) => audit(options),
        PolicyAction::Set(options) => {
            let list = |flag: &str, text: &Option<String>| -> Result<Option<AllowList>, String> {
                text.as_ref().map(|text| text.parse().map_err(|error| format!("{flag}: expected {error}"))).transpose()
            };
            let egress = list("--egress-allow", &options.egress_allow);
            let both = egress.and_then(|egress| {
                let (ingress, audit) =
                    (list("--ingress-allow", &options.ingress_allow)?, options.audit.map(Switch::is_on));
                Ok(StoredLists { egress, ingress, audit })
            });
            both.and_then(|lists| change(&options.target, lists))
        }
        PolicyAction::Rm(options) => change(&options.target, StoredLists::default()),
    };
    match done {
        Ok(()) => 0,
        Err(why) => {
            output::note(&format!("pontoon: {why}"));
            if matches!(action, PolicyAction::Show(_) | PolicyAction::Audit(_)) { BLIND } else { 1 }
        }
    }
}

fn show(options: &PolicyShow) -> Result<(), String> {
    let (status, down) = found_status(&options.view.asked)?;
    let (names, traffic) = (known_names(&options.view.docker), Traffic::default());
    let facts = Facts { status: &status, names: &names, traffic: &traffic, down: down.as_deref(), events: &[] };
    print(&show::policy(&facts, &options.name).map_err(|error| error.to_string())?, options.view.format());
    Ok(())
}

/// What was recorded, if it was asked for a time, within it.
fn audit(options: &PolicyAudit) -> Result<(), String> {
    let (status, down) = look::status(&options.view, Need::Objects)?;
    if let Some(why) = down {
        return Err(format!("the daemon knows who is audited, and does not answer: {why}"));
    }
    let (names, traffic) = (known_names(&options.view.docker), Traffic::default());
    let facts = Facts { status: &status, names: &names, traffic: &traffic, down: None, events: &[] };
    let before = match options.time {
        None => AuditList::default(),
        Some(time) => {
            // A wrong name is said before the wait.
            show::policy_targets(&facts, &options.name).map_err(|error| error.to_string())?;
            let before = look::audits(&options.view)?;
            std::thread::sleep(time);
            before
        }
    };
    let now = look::audits(&options.view)?;
    let shown = show::audit(&facts, &options.name, &before, &now).map_err(|error| error.to_string())?;
    print(&shown, options.view.format());
    Ok(())
}

/// Changes what is stored; without lists removes it.
fn change(target: &PolicyTarget, lists: StoredLists) -> Result<(), String> {
    let mut asked = target.asked.clone();
    Roots::of_host().fill_in(&mut asked).map_err(|error| error.to_string())?;
    let client = Client::new(&asked.socket, "socket").map_err(|error| error.to_string())?;
    // Only the daemon changes lists: the rules of containers that run depend on its locks.
    let status = client.get("/status").map_err(|error| error.to_string())?;
    let (names, traffic) = (known_names(&target.docker), Traffic::default());
    let facts = Facts { status: &status, names: &names, traffic: &traffic, down: None, events: &[] };
    let meant = show::policy_targets(&facts, &target.name).map_err(|error| error.to_string())?;
    let mut done = Vec::new();
    for (network, endpoint) in meant {
        let (remove, lists) = (lists.is_empty(), lists.clone());
        let request = PolicyOrder { network, endpoint, lists, remove, keep_flows: target.keep_flows };
        let answer: Value = client.post("/policy", &json!(request)).map_err(|error| error.to_string())?;
        done.push(answer);
    }
    if asked.json {
        output::line(&json!({ "changed": done }).to_string());
    }
    Ok(())
}
