//! The table of options as Markdown.

use std::fmt::Write as _;

use super::table::{ENDPOINT_OPTIONS, NETWORK_OPTIONS, Support};

/// The table as Markdown, for docs/options.md and `pontoon options`.
pub fn markdown() -> String {
    let mut text = String::new();
    for (title, rows) in
        [("Network options (`-o`)", NETWORK_OPTIONS), ("Endpoint options (`--driver-opt`)", ENDPOINT_OPTIONS)]
    {
        let _ = writeln!(
            text,
            "### {title}\n\n| option | value | default | honoured by | meaning |\n|---|---|---|---|---|"
        );
        for row in rows {
            let who = match row.support {
                Support::Pontoon => "Pontoon",
                Support::Engine => "the engine",
                Support::NotYet => "not yet: refused",
            };
            let _ = writeln!(text, "| `{}` | {} | {} | {who} | {} |", row.key, row.value, row.default, row.help);
        }
        text.push('\n');
    }
    text
}
