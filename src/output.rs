//! Owns what commands print. A reader that has gone (`| head`) has what it wanted: nothing is said of
//! that. Anything else that keeps the output from being written, a full disk for one, is an error
//! of the command.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

/// Why the output is not whole; nothing more is written then.
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

/// Writes a line to standard error, if somebody reads it.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether all of the output was written, or somebody has read as much as was wanted.
pub fn is_whole() -> bool {
    let failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    failure.is_none_or(|kind| kind == ErrorKind::BrokenPipe)
}
