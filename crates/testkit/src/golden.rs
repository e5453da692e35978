//! Texts in the repository that a test derives from the code: whole files, and sections of documents between `<!--
//! NAME:begin -->` and `<!-- NAME:end -->`. A text that differs fails the test; with `UPDATE=1` in the environment the
//! test writes it instead.

use std::fs;

/// Compares a text with a file; `path` is relative to the root of the repository.
///
/// # Panics
/// If they differ, with the first different line.
#[track_caller]
pub fn file(path: &str, text: &str) {
    let full = crate::root().join(path);
    if updates() {
        fs::write(&full, text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    same(path, &fs::read_to_string(&full).unwrap_or_default(), text);
}

/// Compares a text with a section of a document; `path` is relative to the root of the repository.
///
/// # Panics
/// If they differ, or if the document has no such section.
#[track_caller]
pub fn section(path: &str, name: &str, text: &str) {
    let full = crate::root().join(path);
    let document = fs::read_to_string(&full).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (before, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("{path} lacks {begin}"));
    let (held, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{path} lacks {end}"));
    if updates() {
        fs::write(&full, format!("{before}{begin}{text}{end}{after}"))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    } else {
        same(&format!("section {name} of {path}"), held, text);
    }
}

fn updates() -> bool {
    std::env::var_os("UPDATE").is_some_and(|value| value == "1")
}

#[track_caller]
fn same(what: &str, held: &str, text: &str) {
    if let Some(difference) = difference(held, text) {
        panic!("{what} differs from the code, {difference}\nrun this test with UPDATE=1, and review the change");
    }
}

/// The first line that differs, if there is one.
fn difference(held: &str, text: &str) -> Option<String> {
    if held == text {
        return None;
    }
    // Lines with their ends: a missing last newline is a difference, too.
    let (mut old, mut new) = (held.split_inclusive('\n'), text.split_inclusive('\n'));
    let mut line = 0;
    loop {
        line += 1;
        let (was, is) = (old.next(), new.next());
        if was != is {
            let shown = |line: Option<&str>| line.map_or("(end of text)".to_owned(), |line| format!("{line:?}"));
            return Some(format!("first in line {line}:\n- {}\n+ {}", shown(was), shown(is)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\n", "a\nc\n").as_deref(), Some("first in line 2:\n- \"b\\n\"\n+ \"c\\n\""));
        assert_eq!(difference("a\n", "a").as_deref(), Some("first in line 1:\n- \"a\\n\"\n+ \"a\""));
        assert_eq!(difference("a\n", "a\nb").as_deref(), Some("first in line 2:\n- (end of text)\n+ \"b\""));
    }
}
