//! Prints the output of commands. A closed pipe (`| head`) is not an error. Any other write failure, for example
//! a full disk, is an error of the command.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
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

/// Writes a line to standard error, if it is open.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether all of the output was written, or the reader closed the pipe.
pub fn is_whole() -> bool {
    let failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    failure.is_none_or(|kind| kind == ErrorKind::BrokenPipe)
}
