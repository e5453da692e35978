//! `pontoon drops`: which rules of Pontoon dropped packets, how many, and what that means.

use serde::Serialize;
use serde_json::json;

use super::Shown;
use crate::datapath::host::Dropped;

/// Drops of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DropLine {
    /// Packets since the tables were created, or within the time that was waited.
    pub packets: u64,
    /// The chain with its table.
    pub chain: String,
    /// The rule.
    pub rule: String,
    /// What that means.
    pub meaning: String,
    /// What helps if the packets are wanted.
    pub remedy: String,
}

/// The drops now, without those before; `meaning` has the meaning of a rule and the remedy.
pub fn drops(before: &[Dropped], now: &[Dropped], meaning: impl Fn(&Dropped) -> (String, String)) -> Shown {
    let same = |a: &Dropped, b: &Dropped| a.family == b.family && a.chain == b.chain && a.rule == b.rule;
    let line = |dropped: &Dropped| {
        let earlier = before.iter().find(|other| same(other, dropped)).map_or(0, |other| other.packets);
        // Tables that were created again count from 0.
        let packets = dropped.packets.checked_sub(earlier).unwrap_or(dropped.packets);
        let (meaning, remedy) = meaning(dropped);
        let table = &dropped.family;
        let chain = format!("{table} pontoon {}", dropped.chain);
        DropLine { packets, chain, rule: dropped.rule.clone(), meaning, remedy }
    };
    let mut lines: Vec<DropLine> = now.iter().map(line).filter(|line| line.packets > 0).collect();
    lines.sort_by(|a, b| (b.packets, &a.chain, &a.rule).cmp(&(a.packets, &b.chain, &b.rule)));
    let mut rows = vec![["PACKETS", "CHAIN", "RULE", "MEANING", "REMEDY"].map(str::to_owned)];
    rows.extend(lines.iter().map(|line| {
        [line.packets.to_string(), line.chain.clone(), line.rule.clone(), line.meaning.clone(), line.remedy.clone()]
    }));
    let json = json!({ "drops": lines });
    if lines.is_empty() {
        return Shown::new("Pontoon's rules dropped no packets\n".to_owned(), json);
    }
    Shown::of_table("", &rows, 4, json)
}
