//! JSON values as YAML 1.2, for `-o yaml`: block style, without anchors, tags or folded text.
//!
//! A string is printed plain only if each version of YAML reads it as a string; every other one in double quotes, where
//! YAML's escapes include those of JSON.

use std::fmt::Write as _;

use serde_json::Value;

/// Words that YAML 1.1 reads as other than strings, in any case.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// A document, without a marker of its beginning.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    match nested(value) {
        true => block(value, 0, &mut text),
        false => {
            let _ = writeln!(text, "{}", flow(value));
        }
    }
    text
}

/// Whether it takes lines of its own.
fn nested(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    }
}

/// Lines of a list or an object, of which the first one begins where the text ends.
fn block(value: &Value, depth: usize, text: &mut String) {
    let mut is_first = true;
    let mut begin = |text: &mut String| {
        if !std::mem::take(&mut is_first) {
            text.push_str(&"  ".repeat(depth));
        }
    };
    match value {
        Value::Array(items) => {
            for item in items {
                begin(text);
                text.push_str("- ");
                if nested(item) {
                    block(item, depth + 1, text);
                } else {
                    text.push_str(&flow(item));
                    text.push('\n');
                }
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                begin(text);
                let _ = write!(text, "{}:", string(key));
                if nested(item) {
                    text.push('\n');
                    text.push_str(&"  ".repeat(depth + 1));
                    block(item, depth + 1, text);
                } else {
                    let _ = writeln!(text, " {}", flow(item));
                }
            }
        }
        other => text.push_str(&flow(other)),
    }
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

fn string(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            // What YAML calls printable, without marks that change the direction of the text.
            ' '..='~'
            | '\u{a1}'..='\u{ac}'
            | '\u{ae}'..='\u{61b}'
            | '\u{61d}'..='\u{1fff}'
            | '\u{3000}'..='\u{d7ff}' => {
                quoted.push(c);
            }
            c => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_and_objects_are_blocks() {
        let value = json!({"a": [{"b": 1, "c": []}, "x", [true, null]], "d": {}, "e": {"f": {"g": "h"}}});
        let text = "a:\n  - b: 1\n    c: []\n  - x\n  - - true\n    - null\nd: {}\ne:\n  f:\n    g: h\n";
        assert_eq!(document(&value), text);
        assert_eq!((document(&json!([])), document(&json!("a b"))), ("[]\n".to_owned(), "\"a b\"\n".to_owned()));
    }

    #[test]
    fn a_string_stays_a_string() {
        for plain in ["web", "pnth1", "/run/docker/netns/1", "a-b_c.d"] {
            assert_eq!(string(plain), plain);
        }
        for other in
            ["", "1", "1e3", "0x1f", "12:30:45", "No", "NULL", "~", "-", "10.1.0.2/24", "a: b", "#", "é", "a b"]
        {
            assert_eq!(string(other), format!("\"{other}\""));
        }
        assert_eq!(string("a\"\\\u{1b}\n\u{202e}\u{85}"), r#""a\"\\\U0000001b\n\U0000202e\U00000085""#);
    }
}
