//! The language of the texts: a few words that marked the old style may not come back.

use std::path::{Path, PathBuf};

/// What is checked: files, and folders with everything in them. Comments and strings in src/ are what operators read
/// in the log, in `nft list ruleset` and in the generated parts of docs/.
const SCANNED: [&str; 8] =
    ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "fuzz/README.md", "plugin", "src"];

/// A word or phrase, and what to write instead. Those in lower case are rejected in any case.
const REJECTED: [(&str, &str); 19] = [
    ("anew", "again, or the verb alone"),
    ("whoever", "name the actor"),
    ("somebody", "another program, a user"),
    ("somebody's", "another program's, a user's"),
    ("nobody", "no program, no user"),
    ("nobody's", "no program's, no user's"),
    ("a look at", "the verb: check, read"),
    ("Owns", "say what it is for"),
    ("all the same", "nevertheless"),
    ("as it stands", "as it is"),
    ("as they stand", "as they are"),
    ("as ever", "as before"),
    ("less and less often", "with backoff"),
    ("that is none", "invalid, rogue, foreign"),
    ("what may never happen", "invariants"),
    ("of the user's", "of the user"),
    ("buried", "removed, reaped"),
    ("to bury", "to remove, to reap"),
    ("who does not know", "name the actor"),
];

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            files(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_none_or(|extension| extension != "svg") {
        found.push(path.to_owned());
    }
}

/// A line without its code spans.
fn prose(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The rejected phrases of a text, each with its line.
fn complaints(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        // A phrase may span two lines. What is quoted as code is said elsewhere.
        let (line, next) = (prose(line), prose(text.lines().nth(at + 1).unwrap_or_default()));
        let both = format!("{line} {}", next.trim_start());
        for (phrase, instead) in REJECTED {
            let lower = phrase.chars().all(|c| !c.is_uppercase());
            let haystack = if lower { both.to_lowercase() } else { both.clone() };
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '\'';
            let hit = haystack.match_indices(phrase).any(|(start, _)| {
                let end = start + phrase.len();
                start <= line.len() && !haystack[..start].ends_with(is_word) && !haystack[end..].starts_with(is_word)
            });
            if hit {
                found.push((at + 1, phrase, instead));
            }
        }
    }
    found
}

#[test]
fn the_texts_use_standard_english() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    SCANNED.iter().for_each(|path| files(&root.join(path), &mut paths));
    assert!(paths.len() > 200, "{} files", paths.len());
    let mut lines = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("text");
        let name = path.strip_prefix(root).expect("below the root").display();
        lines.extend(complaints(&text).into_iter().map(|(at, p, i)| format!("{name}:{at}: {p:?}: {i}")));
    }
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn each_phrase_is_found() {
    for (phrase, _) in REJECTED {
        let found = complaints(&format!("It says: {phrase} here."));
        assert!(found.iter().any(|(_, p, _)| *p == phrase), "{phrase}");
    }
    assert_eq!(
        complaints("made as it\nstands here").iter().map(|(at, p, _)| (*at, *p)).collect::<Vec<_>>(),
        [(1, "as it stands")]
    );
    assert_eq!(complaints("renewed, anewed, he owns it; `lets nobody in`").len(), 0);
    assert_eq!(complaints("tracing::info!(\"made anew\"); // whoever").len(), 2);
}
