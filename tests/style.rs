//! The language of the texts: a few words that marked the old style may not come back.

use std::path::{Path, PathBuf};

/// What is checked: files, and folders with everything in them. Comments and strings in src/ are what operators read
/// in the log, in `nft list ruleset` and in the generated parts of docs/.
const SCANNED: [&str; 11] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benches",
    "crates",
    "docs",
    "fuzz/README.md",
    "plugin",
    "src",
    "tests",
];

/// This file, which has to contain the phrases.
const OWN: &str = "tests/style.rs";

/// Names that contain a rejected word, and the files in which they are allowed: the user and the path are literals.
const LITERALS: [(&str, &str); 5] = [
    ("tests/adversary/claim.rs", "USER=nobody"),
    ("tests/adversary/claim.rs", "'nobody'"),
    ("tests/adversary/uninstall.rs", "nobody.sock"),
    ("tests/engine/doctor.rs", "nobody.sock"),
    ("tests/publish/moves.rs", "nobody.sock"),
];

/// A word or phrase, and what to write instead. Those in lower case are rejected in any case.
const REJECTED: [(&str, &str); 46] = [
    ("anew", "again, or the verb alone"),
    ("whoever", "name the actor"),
    ("somebody", "another program, a user"),
    ("somebody's", "another program's, a user's"),
    ("nobody", "no program, no user"),
    ("nobody's", "no program's, no user's"),
    ("everybody", "all nodes, all clients"),
    ("a look at", "the verb: check, read"),
    ("Owns", "say what it is for"),
    ("all the same", "nevertheless"),
    ("all the while", "meanwhile, continuously"),
    ("as it stands", "as it is"),
    ("as they stand", "as they are"),
    ("as ever", "as before"),
    ("less and less often", "with backoff"),
    ("that is none", "invalid, rogue, foreign"),
    ("is none of", "is not one of, is foreign"),
    ("what may never happen", "invariants"),
    ("of the user's", "of the user"),
    ("buried", "removed, reaped"),
    ("to bury", "to remove, to reap"),
    ("who does not know", "name the actor"),
    ("believe", "regard as, accept, assume"),
    ("believes", "regards as, accepts, assumes"),
    ("believed", "regarded as, accepted, assumed"),
    ("the truth", "the actual state"),
    ("becomes of", "happens to"),
    ("heard of", "knows, contains"),
    ("hears of", "is notified of"),
    ("told apart", "distinguished"),
    ("taken for", "regarded as, treated as"),
    ("takes it for", "regards it as, treats it as"),
    ("for want of", "because it has no"),
    ("new life", "restart, new process"),
    ("next life", "next start, next process"),
    ("each life", "each process, after each start"),
    ("former life", "previous process"),
    ("gets along", "works"),
    ("gives way", "is released, is evicted"),
    ("of one mind", "consistent"),
    ("let be", "unchanged, not disturbed"),
    ("amiss", "wrong, missing, broken"),
    ("feels nothing", "is not affected"),
    ("come and go", "are created and removed"),
    ("pulls the plug", "cuts the power"),
    ("of its own accord", "automatically"),
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

/// A line without the mark of a comment at its beginning.
fn without_mark(line: &str) -> &str {
    line.trim_start().trim_start_matches(['/', '!', '#']).trim_start()
}

/// The text without the literals that are allowed in the file.
fn without_literals(name: &str, text: &str) -> String {
    let allowed = LITERALS.iter().filter(|(file, _)| *file == name);
    allowed.fold(text.to_owned(), |text, (_, literal)| {
        assert!(text.contains(literal), "{name} does not contain {literal:?}: remove it from LITERALS");
        text.replace(literal, "")
    })
}

/// The rejected phrases of a text, each with its line.
fn complaints(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        // A phrase may span two lines. What is quoted as code is said elsewhere.
        let (line, next) = (prose(line), prose(text.lines().nth(at + 1).unwrap_or_default()));
        let both = format!("{line} {}", without_mark(&next));
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
        let name = path.strip_prefix(root).expect("below the root").to_str().expect("a path of UTF-8");
        if name == OWN {
            continue;
        }
        let text = without_literals(name, &std::fs::read_to_string(&path).expect("text"));
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
    assert_eq!(complaints("    /// made as it\n    /// stands here").len(), 1);
    assert_eq!(complaints("renewed, anewed, he owns it; `lets nobody in`").len(), 0);
    assert_eq!(complaints("tracing::info!(\"made anew\"); // whoever").len(), 2);
}
