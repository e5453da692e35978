//! Texts in the repository that a test derives from the code: whole files, and sections of documents between `<!--
//! NAME:begin -->` and `<!-- NAME:end -->`. A text that differs fails the test, which shows the difference; with
//! `UPDATE_EXPECT=1` in the environment the test writes it instead (crate `expect-test`).

use std::fs;

use expect_test::expect_file;

/// Compares a text with a file; `path` is relative to the root of the repository.
///
/// # Panics
/// If they differ.
#[track_caller]
pub fn file(path: &str, text: &str) {
    expect_file![crate::root().join(path)].assert_eq(text);
}

/// Compares a text with a section of a document; `path` is relative to the root of the repository.
///
/// # Panics
/// If they differ, or if the document has no such section.
#[track_caller]
pub fn section(path: &str, name: &str, text: &str) {
    let document = fs::read_to_string(crate::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let expected = replaced(&document, name, text).unwrap_or_else(|| panic!("{path} has no section {name}"));
    file(path, &expected);
}

/// The document with this text as its section. None if it has no such section.
fn replaced(document: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn a_section_is_replaced_and_nothing_else() {
        let document = "a\n<!-- one:begin -->\nold\n<!-- one:end -->\nb\n";
        let expected = "a\n<!-- one:begin -->\nnew\n<!-- one:end -->\nb\n";
        assert_eq!(replaced(document, "one", "new\n").as_deref(), Some(expected));
        assert_eq!(replaced(document, "two", "new\n"), None);
        assert_eq!(replaced("<!-- one:begin -->\nold\n", "one", "new\n"), None);
    }
}
