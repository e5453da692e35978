//! Prints findings: aligned text for people, an array of objects for programs.

use super::{Finding, Level, verdict};

/// JSON: one array, each finding an object with the keys `check`, `level`, `title`, `evidence`
/// and `remedy`.
pub fn json(findings: &[Finding]) -> String {
    serde_json::to_string_pretty(findings).unwrap_or_else(|_| "[]".to_owned())
}

/// Text: problems first, the worst on top, then the checks that passed, in one line or in full with `verbose`.
pub fn text(findings: &[Finding], verbose: bool) -> String {
    let mut shown: Vec<&Finding> = findings.iter().filter(|f| verbose || f.level > Level::Ok).collect();
    shown.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let mut text = String::new();
    for finding in shown {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Degraded => "degraded",
            Level::Broken => "broken",
        };
        text += &format!("{level:<9} {}\n", finding.title);
        for line in &finding.evidence {
            text += &format!("{:<9}   {line}\n", "");
        }
        for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
            text += &format!("{:<9} # {line}\n", "");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let words = [(Level::Broken, "broken"), (Level::Degraded, "degraded"), (Level::Note, "to note"), (Level::Ok, "ok")];
    let counts: Vec<String> =
        words.iter().filter(|(l, _)| count(*l) > 0).map(|(l, word)| format!("{} {word}", count(*l))).collect();
    let (word, _) = verdict(findings).verdict();
    text + &format!("{word}: {}\n", counts.join(", "))
}
