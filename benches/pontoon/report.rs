//! The rows of the result: a table for people, JSON for machines.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// One comparison.
pub struct Row {
    pub what: String,
    /// Pontoon's figure.
    pub ours: String,
    /// The reference and its figure.
    pub against: String,
    /// Pontoon's figure divided by the reference.
    pub ratio: Option<f64>,
    /// The maximum of the ratio.
    pub goal: Option<f64>,
}

impl Row {
    pub fn ratio(what: &str, ours: Duration, against: &str, theirs: Duration, goal: Option<f64>) -> Self {
        Self {
            what: what.to_owned(),
            ours: show(ours),
            against: format!("{against} {}", show(theirs)),
            ratio: Some(ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9)),
            goal,
        }
    }

    /// More is better: the ratio is the reference divided by Pontoon's figure.
    pub fn rate(what: &str, ours: f64, against: &str, theirs: f64, unit: &str, goal: Option<f64>) -> Self {
        Self {
            what: what.to_owned(),
            ours: format!("{ours:.1} {unit}"),
            against: format!("{against} {theirs:.1} {unit}"),
            ratio: Some(theirs / ours.max(1e-9)),
            goal,
        }
    }

    pub fn figure(what: &str, value: String) -> Self {
        Self { what: what.to_owned(), ours: value, against: String::new(), ratio: None, goal: None }
    }
}

pub fn show(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    if us < 1000.0 {
        format!("{us:.0} us")
    } else if us < 1e6 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

/// The median.
pub fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The median of rates.
pub fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

pub struct Report {
    /// Each with the name of its part.
    rows: Vec<(&'static str, Row)>,
}

impl Report {
    pub fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub fn add(&mut self, part: &'static str, rows: Vec<Row>) {
        self.rows.extend(rows.into_iter().map(|row| (part, row)));
    }

    pub fn print(&self) {
        println!("| what | Pontoon | against | ratio | goal |\n|---|---|---|---|---|");
        for (_, row) in &self.rows {
            let ratio = row.ratio.map_or(String::new(), |r| format!("{r:.2}"));
            let goal = row.goal.map_or(String::new(), |goal| {
                let met = row.ratio.is_some_and(|ratio| ratio <= goal);
                format!("{goal:.2} {}", if met { "met" } else { "MISSED" })
            });
            println!("| {} | {} | {} | {ratio} | {goal} |", row.what, row.ours, row.against);
        }
    }

    /// Replaces the rows of the parts that were run, and keeps the others.
    pub fn write(&self, path: &Path) {
        let before: Value =
            std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let other = |row: &&Value| row["part"].is_string() && self.rows.iter().all(|(part, _)| row["part"] != *part);
        let kept = before["rows"].as_array().into_iter().flatten().filter(other).cloned();
        let new = self.rows.iter().map(|(part, r)| {
            json!({"part": part, "what": r.what, "pontoon": r.ours, "against": r.against, "ratio": r.ratio, "goal": r.goal})
        });
        let rows: Vec<Value> = kept.chain(new).collect();
        let _ = std::fs::create_dir_all(path.parent().unwrap_or(path));
        if let Err(error) = std::fs::write(path, format!("{:#}\n", json!({ "rows": rows }))) {
            eprintln!("{}: {error}", path.display());
        }
    }
}
