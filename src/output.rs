//! Prints the output of commands. A closed pipe (`| head`) is not an error. Any other write failure, for example
//! a full disk, is an error of the command.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

/// Why the output is incomplete; nothing more is written then.
static FAILURE: Mutex<Option<ErrorKind>> = Mutex::new(None);

/// Writes to standard output.
pub fn print(text: &str) {
    let mut failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    if failure.is_some() {
        return;
    }
    let mut output = io::stdout().lock();
    if let Err(error) = output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        *failure = Some(error.kind());
        if error.kind() != ErrorKind::BrokenPipe {
            note(&format!("pontoon: the output cannot be written: {error}"));
        }
    }
}

/// Writes a line to standard output.
pub fn line(text: &(impl Display + ?Sized)) {
    print(&format!("{text}\n"));
}

/// Rows with their cells below each other, two spaces apart, the first row being the headings.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    columns(rows, N)
}

/// The first columns of a [`table`].
pub fn columns<const N: usize>(rows: &[[String; N]], shown: usize) -> String {
    let mut widths = [0; N];
    let rows: Vec<[Cow<'_, str>; N]> = rows.iter().map(|row| row.each_ref().map(|cell| visible(cell))).collect();
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).take(shown).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Writes a line to standard error, if it is open.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// [`note`], unless this process wrote the same before: for commands that continue.
pub fn note_once(text: &str) {
    static WRITTEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned()) {
        note(text);
    }
}

/// A text of others, for example a container's name, as one that changes nothing on a terminal: control characters, and
/// those that change the direction of the text or take no space, as Rust writes them (`\u{1b}`). Spaces instead of line
/// breaks.
pub fn visible(text: &str) -> Cow<'_, str> {
    let changes = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !text.contains(changes) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if changes(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Whether all of the output was written, or the reader closed the pipe.
pub fn is_whole() -> bool {
    let failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    failure.is_none_or(|kind| kind == ErrorKind::BrokenPipe)
}

/// Whether nothing more can be written, for commands that continue.
pub fn is_closed() -> bool {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Colours of a text, if it goes to a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// That of standard output: colours on a terminal, unless `NO_COLOR` is set to anything (no-color.org).
    pub fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { coloured: io::stdout().is_terminal() && !unwanted && !dumb }
    }

    /// Without colours.
    pub const PLAIN: Self = Self { coloured: false };

    /// Green.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Yellow.
    pub fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Red.
    pub fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_others_changes_nothing_on_a_terminal() {
        assert_eq!(visible("web-1 ä"), "web-1 ä");
        assert_eq!(visible("a\x1b[2J\u{9b}b\u{202e}c\x7f"), "a\\u{1b}[2J\\u{9b}b\\u{202e}c\\u{7f}");
        assert_eq!(visible("one\ntwo"), "one two");
        let rows = [["A", "B"], ["x\x1b", "1"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "A        B\nx\\u{1b}  1\n");
    }
}
