//! Prints what a command shows, once or again and again: in place on a terminal, else one after the other.

use std::time::Duration;

use serde::Serialize;

use super::inspect::blind;
use crate::cli::Format;
use crate::show::Shown;
use crate::{output, terminal, yaml};

/// What a command shows, and its exit code; or why it cannot look.
pub(super) type Look = Result<(Shown, u8), String>;

/// Prints it once.
pub(super) fn print(shown: &Shown, format: Format) {
    output::print(&rendered(shown, format));
}

fn rendered(shown: &Shown, format: Format) -> String {
    match format {
        Format::Table => shown.text.clone(),
        Format::Wide => shown.wide.as_ref().unwrap_or(&shown.text).clone(),
        Format::Json => serde_json::to_string_pretty(&shown.json).unwrap_or_default() + "\n",
        Format::Yaml => yaml::document(&shown.json),
    }
}

/// An object of a sequence, if they are for programs: a line of JSON, or a document of YAML.
pub(super) fn object(value: &impl Serialize, format: Format) -> Option<String> {
    let value = || serde_json::to_value(value).unwrap_or_default();
    match format {
        Format::Table | Format::Wide => None,
        Format::Json => Some(format!("{}\n", value())),
        Format::Yaml => Some(format!("---\n{}", yaml::document(&value()))),
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
    let is_text = matches!(format, Format::Table | Format::Wide);
    let draws = terminal::draws() && is_text;
    let mut is_first = true;
    loop {
        let text = object(&shown.json, format).unwrap_or_else(|| rendered(&shown, format));
        match draws {
            true => terminal::redraw(&text),
            false => output::print(&format!("{}{text}", if is_first || !is_text { "" } else { "\n" })),
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
