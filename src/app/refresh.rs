//! Prints what a command shows, once or again and again: in place on a terminal, else one after the other.

use std::time::Duration;

use super::inspect::blind;
use crate::cli::Format;
use crate::show::Shown;
use crate::{output, terminal};

/// What a command shows, and its exit code; or why it cannot look.
pub(super) type Look = Result<(Shown, u8), String>;

/// Prints it once.
pub(super) fn print(shown: &Shown, format: Format) {
    match format {
        Format::Json => output::line(&serde_json::to_string_pretty(&shown.json).unwrap_or_default()),
        Format::Table => output::print(&shown.text),
    }
}

/// Looks and prints, once, or every `pause` until nothing reads the output. Returns the exit code: after the first look,
/// which must succeed, a failure is shown, and the next look may succeed.
pub(super) fn refresh(format: Format, pause: Option<Duration>, mut look: impl FnMut() -> Look) -> u8 {
    let (mut shown, mut code) = match look() {
        Ok(seen) => seen,
        Err(why) => return blind(&why),
    };
    let Some(pause) = pause else {
        print(&shown, format);
        return code;
    };
    let draws = terminal::draws() && format == Format::Table;
    let mut is_first = true;
    loop {
        match format {
            Format::Json => output::line(&shown.json),
            Format::Table if draws => terminal::redraw(&shown.text),
            Format::Table => output::print(&format!("{}{}", if is_first { "" } else { "\n" }, shown.text)),
        }
        is_first = false;
        loop {
            if !terminal::wait(pause) {
                return code;
            }
            match look() {
                Ok(seen) => {
                    (shown, code) = seen;
                    break;
                }
                Err(why) if draws => terminal::redraw(&format!("pontoon: {why}; waiting")),
                Err(why) => output::note_once(&format!("pontoon: {why}; waiting")),
            }
        }
    }
}
