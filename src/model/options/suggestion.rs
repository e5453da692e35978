//! Which option a mistyped key most likely means.

use super::{OptionRow, Support};

/// Last words of the keys of many unrelated options; they do not identify an option.
const SAYS_NOTHING: [&str; 2] = ["name", "mode"];

/// The row that a mistyped key most likely meant: equal last words win, then edit distance. Never a row that
/// only has the same last word from `SAYS_NOTHING`: a user who names a link with another option does not want
/// a bridge.
pub(super) fn nearest(rows: &'static [OptionRow], key: &str) -> Option<&'static str> {
    let key: String = key.chars().take(100).collect::<String>().to_ascii_lowercase();
    let last = key.rsplit('.').next().unwrap_or(&key);
    rows.iter()
        .filter(|row| row.support != Support::NotYet)
        .map(|row| {
            let row_last = row.key.rsplit('.').next().unwrap_or(row.key);
            let whole = strsim::levenshtein(&key, row.key);
            let alike = !SAYS_NOTHING.contains(&last) && !SAYS_NOTHING.contains(&row_last);
            let words = if alike { strsim::levenshtein(last, row_last) } else { usize::MAX / 2 };
            // A key that equals the end of a row's key, starting after a dot, is an exact match.
            let short = key.contains('.') && row.key.ends_with(&format!(".{key}"));
            (if short { 0 } else { whole.min(words) }, row_last.len(), row.key)
        })
        .filter(|(distance, len, _)| *distance * 2 <= *len)
        .min()
        .map(|(_, _, key)| key)
}
