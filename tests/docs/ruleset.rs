//! Parses a ruleset as printed by nft, for the page that explains it.

use std::fmt::Write as _;

/// A chain and its rules.
pub struct Chain {
    pub table: String,
    pub name: String,
    comment: String,
    hook: String,
    priority: String,
    /// Each rule, with its purpose.
    pub rules: Vec<(String, String)>,
}

/// A set or a map.
pub struct Set {
    pub table: String,
    pub name: String,
    holds: String,
    comment: String,
    elements: Vec<String>,
}

/// The chains of a host without any of what the others are for.
const ALWAYS: [&str; 9] = [
    "prerouting_raw",
    "prerouting_nat",
    "prerouting_loopback",
    "input_loopback",
    "output_nat",
    "input_reject",
    "forward_filter",
    "postrouting_nat",
    "prerouting_source",
];

/// The kind of block that a line belongs to.
enum Within {
    Table,
    Chain,
    Set,
}

/// The objects in the output of `nft list table`.
pub struct Ruleset {
    pub chains: Vec<Chain>,
    pub sets: Vec<Set>,
}

impl Ruleset {
    pub fn parse(text: &str) -> Self {
        let (mut chains, mut sets) = (Vec::<Chain>::new(), Vec::<Set>::new());
        let (mut table, mut within, mut in_elements) = (String::new(), Within::Table, false);
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = || words[1].to_owned();
            match words[..] {
                ["table", family, name, "{"] => (table, within) = (format!("{family} {name}"), Within::Table),
                ["chain", _, "{"] => {
                    within = Within::Chain;
                    let [comment, hook, priority] = [(); 3].map(|()| String::new());
                    chains.push(Chain { table: table.clone(), name: name(), comment, hook, priority, rules: vec![] });
                }
                ["set" | "map", _, "{"] => {
                    within = Within::Set;
                    let (holds, comment) = (String::new(), String::new());
                    sets.push(Set { table: table.clone(), name: name(), holds, comment, elements: vec![] });
                }
                ["elements", "=", "{"] => in_elements = true,
                ["}"] => in_elements = false,
                ["comment", ..] => match within {
                    Within::Table => {}
                    Within::Chain => chains.last_mut().unwrap().comment = quoted(line).1,
                    Within::Set => sets.last_mut().unwrap().comment = quoted(line).1,
                },
                ["type", _, "hook", hook, "priority", ..] => {
                    let chain = chains.last_mut().unwrap();
                    let priority = words[5..].join(" ");
                    let priority = priority.split(';').next().unwrap_or_default();
                    (chain.hook, chain.priority) = (hook.to_owned(), priority.to_owned());
                }
                ["type" | "typeof", ..] => sets.last_mut().unwrap().holds = words[1..].join(" "),
                [] | ["flags" | "size" | "timeout", ..] => {}
                _ if in_elements => {
                    sets.last_mut().unwrap().elements.push(line.trim().trim_end_matches(',').to_owned())
                }
                _ => {
                    let (rule, comment) = quoted(line);
                    chains.last_mut().unwrap().rules.push((comment, rule.replace(" packets 0 bytes 0", "")));
                }
            }
        }
        Self { chains, sets }
    }

    /// The number of objects.
    pub fn size(&self) -> String {
        let rules = |chains: &[&Chain]| chains.iter().map(|chain| chain.rules.len()).sum::<usize>();
        let (always, more): (Vec<&Chain>, Vec<&Chain>) =
            self.chains.iter().partition(|chain| ALWAYS.contains(&chain.name.as_str()));
        assert_eq!(always.len(), ALWAYS.len());
        format!(
            "{} chains, {} rules, {} sets and maps, always; {} chains with {} rules only once something needs them.\n",
            always.len(),
            rules(&always),
            self.sets.len(),
            more.len(),
            rules(&more),
        )
    }

    /// The hooks of the chains.
    pub fn hooks(&self) -> String {
        let mut table =
            String::from("| chain | in table | hook | priority | exists | decides |\n|---|---|---|---|---|---|\n");
        for chain in &self.chains {
            let Chain { table: of, name, comment, hook, priority, .. } = chain;
            let priority = match (priority.as_str(), of.starts_with("bridge")) {
                ("raw", _) => "raw, -300",
                ("dstnat", false) => "dstnat, -100",
                ("dstnat", true) => "dstnat, -300 there",
                ("filter", false) => "filter, 0",
                ("filter", true) => "filter, -200 there",
                ("security", _) => "security, 50",
                ("900", _) => "900, behind others' dstnat",
                ("1100", _) => "1100, behind others' srcnat",
                ("srcnat", _) => "srcnat, 100",
                (other, _) => other,
            };
            let exists = if ALWAYS.contains(&name.as_str()) { "always" } else { "once needed" };
            let _ = writeln!(table, "| `{name}` | `{of}` | {hook} | {priority} | {exists} | {comment} |");
        }
        table
    }

    /// The purpose and content of a table's sets and maps.
    pub fn sets(&self, of: &str) -> String {
        let mut table = String::from("| set or map | of what | for | here |\n|---|---|---|---|\n");
        for Set { name, holds, comment, elements, .. } in self.sets.iter().filter(|set| set.table == of) {
            let holds = holds.replace(" : ", " → ");
            let elements: Vec<_> =
                elements.iter().map(|e| format!("`{}`", e.replace('"', "").replace(" : ", " → "))).collect();
            let _ = writeln!(table, "| `{name}` | {holds} | {comment} | {} |", elements.join(", "));
        }
        table
    }
}

impl Chain {
    /// The rules, each below its purpose.
    pub fn listing(&self) -> String {
        let mut text = String::from("```\n");
        for (number, (comment, rule)) in self.rules.iter().enumerate() {
            let _ = writeln!(text, "# {}  {comment}\n{rule}", number + 1);
        }
        text + "```\n"
    }
}

/// Splits a line into the text before its comment, and the comment.
fn quoted(line: &str) -> (String, String) {
    let (before, comment) = line.trim().rsplit_once("comment \"").unwrap_or((line, ""));
    (before.trim().to_owned(), comment.trim_end_matches('"').to_owned())
}
