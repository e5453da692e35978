//! Pontoon's own source, for the tests of the coding rules.
//!
//! Only code counts: comments and literals are blanked first, and so are all items under `#[cfg(test)]` and all files
//! of tests (`tests.rs`, `tests/`, `..._tests.rs`). Lines keep their numbers.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of src/, or a synthetic one.
#[derive(Debug)]
pub struct Source {
    /// Path below src/, with `/`; that of a crate's file begins with `crates/`.
    pub path: String,
    /// The unmodified text.
    pub text: String,
    /// The text without comments, literals and test code.
    pub code: String,
}

impl Source {
    /// A file called `path` with the content `text`.
    pub fn new(path: &str, text: &str) -> Self {
        let mut source = Self { path: path.to_owned(), text: text.to_owned(), code: String::new() };
        if !source.modules().iter().any(|name| *name == "tests" || name.ends_with("_tests")) {
            source.code = without_tests(&blank(text));
        }
        source
    }

    /// The top module of the file: `api` for api.rs, api/mod.rs and api/network.rs.
    pub fn unit(&self) -> &str {
        let top = self.path.split('/').next().unwrap_or("");
        top.strip_suffix(".rs").unwrap_or(top)
    }

    /// The modules on the file's path: `linux`, `nft` for linux/nft/mod.rs.
    pub fn modules(&self) -> Vec<&str> {
        let stem = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let stem = stem.strip_suffix("/mod").unwrap_or(stem);
        match stem {
            "lib" | "main" => Vec::new(),
            _ => stem.split('/').collect(),
        }
    }

    /// The places of `needle` in the code, as `src/file:line`.
    pub fn places(&self, needle: &str) -> Vec<String> {
        self.code.match_indices(needle).map(|(at, _)| self.place(at)).collect()
    }

    /// `src/file:line` of a position in the code.
    pub fn place(&self, at: usize) -> String {
        let root = if self.path.starts_with("crates/") { "" } else { "src/" };
        format!("{root}{}:{}", self.path, self.code[..at].matches('\n').count() + 1)
    }
}

/// Every file of src/, sorted by path.
pub fn all() -> Vec<Source> {
    let root = crate::root();
    let files = below(&root.join("src"), &root.join("src"));
    assert!(files.len() > 10, "src/ was not found");
    files
}

/// Every file of src/ and of the `src` of each crate.
pub fn workspace() -> Vec<Source> {
    let root = crate::root();
    let mut crates: Vec<PathBuf> =
        fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path()).collect();
    crates.sort();
    assert!(!crates.is_empty(), "crates/ was not found");
    all().into_iter().chain(crates.iter().flat_map(|dir| below(&dir.join("src"), root))).collect()
}

/// The files below `dir`, with their paths relative to `root`.
fn below(dir: &Path, root: &Path) -> Vec<Source> {
    let (mut dirs, mut files) = (vec![dir.to_owned()], Vec::<PathBuf>::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false if path.extension().is_some_and(|end| end == "rs") => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    let name = |file: &Path| file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
    files.iter().map(|file| Source::new(&name(file), &fs::read_to_string(file).unwrap())).collect()
}

/// Whether a character is allowed in an identifier.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifier that `text` starts with.
pub fn word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// `text` with comments and the inside of literals replaced by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment or literal that starts at `at`; `at` if there is none.
fn skip(chars: &[char], at: usize) -> usize {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let after = |from: usize, stop: &str| {
        let stop: Vec<char> = stop.chars().collect();
        (from..chars.len()).find(|i| chars[*i..].starts_with(&stop)).map_or(chars.len(), |i| i + stop.len())
    };
    match (get(at), get(at + 1)) {
        ('/', '/') => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        ('/', '*') => {
            let (mut depth, mut i) = (1, at + 2);
            while depth > 0 && i < chars.len() {
                match (get(i), get(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
            }
            i
        }
        ('"', _) => quoted(chars, at + 1, '"'),
        // A lifetime has no closing quote right after its first character.
        ('\'', '\\') => quoted(chars, at + 1, '\''),
        ('\'', _) if get(at + 2) == '\'' => at + 3,
        ('r', '"' | '#') if at == 0 || !is_word(chars[at - 1]) || chars[at - 1] == 'b' => {
            let hashes = (at + 1..chars.len()).take_while(|i| chars[*i] == '#').count();
            match get(at + 1 + hashes) {
                '"' => after(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes))),
                _ => at,
            }
        }
        _ => at,
    }
}

fn quoted(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `code`, already blanked, without the items under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = item_end(item);
        out.extend(item[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &item[end..];
    }
    out + rest
}

/// The end of the first item of `text`: at a `;` outside brackets or at its closing brace.
fn item_end(text: &str) -> usize {
    let (mut depth, mut braced) = (0i32, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => {
                braced |= c == '{' && depth == 0;
                depth += 1;
            }
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (c == ';' || (c == '}' && braced && !text[at + 1..].trim_start().starts_with(';'))) {
            return at + 1;
        }
    }
    text.len()
}
