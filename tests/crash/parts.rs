//! The chains of Pontoon's tables that exist once they are needed (docs/firewall.md): a chain with its rules must be there
//! as soon as an element needs it, and may stay afterwards. Each is compared with tests/golden/ruleset.txt.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use testkit::ledger::text;

/// Sets, and the chains that an element of them needs. No test here has allow lists.
const NEEDS: [(&[&str], &[&str]); 5] = [
    (&["internal"], &["forward_internal"]),
    (&["isolated"], &["forward_isolated"]),
    (&["limited_forwarding"], &["prerouting_bridges", "forward_others"]),
    (&["peers4", "peers6", "vnis"], &["prerouting_tunnel", "forward_tunnel", "input_filter", "output_tunnel"]),
    (&["no_multicast", "no_router_advertisements"], &["postrouting_tunnel"]),
];

/// The comments of the rules of each chain, in their order.
pub type Chains = BTreeMap<String, Vec<String>>;

/// Adds a chain or a rule of Pontoon's tables, as nft lists them; false if it is not of these chains.
pub fn add(chains: &mut Chains, kind: &str, value: &Value) -> bool {
    let chain = match kind {
        "chain" => text(value, "name"),
        "rule" => text(value, "chain"),
        _ => return false,
    };
    if !NEEDS.iter().any(|(_, needed)| needed.contains(&chain)) {
        return false;
    }
    let rules = chains.entry(chain.to_owned()).or_default();
    if kind == "rule" {
        rules.push(text(value, "comment").to_owned());
    }
    true
}

/// What is wrong with the chains that exist, given the elements that should.
pub fn complaints(chains: &Chains, wanted: &BTreeSet<String>) -> Vec<String> {
    let golden = golden();
    let mut complaints = Vec::new();
    for (sets, needed) in &NEEDS {
        let is_of = |element: &&String| sets.iter().any(|set| element.starts_with(&format!("{set}: ")));
        let Some(element) = wanted.iter().find(is_of) else { continue };
        let missing = needed.iter().filter(|chain| !chains.contains_key(**chain));
        complaints.extend(missing.map(|chain| format!("chain {chain} is missing, which {element} needs")));
    }
    for (chain, rules) in chains {
        if golden.get(chain) != Some(rules) {
            complaints.push(format!("chain {chain} should have {:?}, has {rules:?}", golden.get(chain)));
        }
    }
    complaints
}

fn golden() -> Chains {
    let mut chains = Chains::new();
    let mut chain = "";
    for line in include_str!("../golden/ruleset.txt").lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {")) {
            chain = name;
            chains.insert(chain.to_owned(), Vec::new());
        } else if let Some((rule, comment)) = line.rsplit_once("comment \"") {
            // The first line of a chain or a set is its own comment.
            let rules = chains.get_mut(chain).filter(|_| !rule.is_empty());
            rules.into_iter().for_each(|rules| rules.push(comment.trim_end_matches('"').to_owned()));
        }
    }
    chains
}
