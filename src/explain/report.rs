//! Prints an answer.

use super::{Answer, Step, Verdict};
use crate::output::Style;

/// Steps of chains without a deciding rule are left out of the text.
fn is_shown(step: &Step) -> bool {
    step.decides || step.rule != "policy" || step.result != "accept"
}

/// Text: the verdict is in the first and the last line, so that `head` and `tail` show it.
pub fn text(answer: &Answer, style: Style) -> String {
    let verdict = match answer.verdict {
        Verdict::Accepted => style.good(answer.verdict.word()),
        Verdict::Unknown => style.doubtful(answer.verdict.word()),
        _ => style.bad(answer.verdict.word()),
    };
    let mut text = format!("{}  ->  {}    verdict: {verdict}\n", answer.from, answer.to);
    let shown: Vec<&Step> = answer.steps.iter().filter(|step| is_shown(step)).collect();
    let width = |of: fn(&Step) -> &str| shown.iter().map(|step| of(step).chars().count()).max().unwrap_or_default();
    let (places, rules) = (width(|step| &step.place), width(|step| &step.rule));
    for (index, step) in shown.iter().enumerate() {
        let mark = if step.decides { ">" } else { " " };
        let counted = step.packets.map(|packets| format!("  ({packets} packets so far)")).unwrap_or_default();
        let line =
            format!("{mark}{:>2} {:<places$}  {:<rules$}  {}{counted}", index + 1, step.place, step.rule, step.result);
        text += line.trim_end();
        text.push('\n');
    }
    if !answer.why.is_empty() {
        text += &format!("  Why: {}\n", answer.why);
    }
    let wide = answer.ways.iter().map(|way| way.what.len()).max().unwrap_or_default();
    for (index, way) in answer.ways.iter().enumerate() {
        let title = if index == 0 { "Ways:" } else { "" };
        text += &format!("  {title:<5} {:<wide$}  {}\n", way.what, way.how);
    }
    text + &format!("{verdict}\n")
}
