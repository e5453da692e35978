//! `pontoon health`, for health checks, and `pontoon version`.

use serde_json::json;

use super::inspect::BLIND;
use super::look::{self, Need};
use super::refresh;
use crate::cli::{Format, Health, View};
use crate::names::Names;
use crate::output;
use crate::show::{self, Facts, Shown, Traffic};

/// Words of Nagios for the exit codes.
const NAGIOS: [&str; 4] = ["OK", "WARNING", "CRITICAL", "UNKNOWN"];

/// Runs `pontoon health`; returns the exit code, which is also that of a plugin of Nagios.
pub fn run(options: &Health) -> u8 {
    let view = &options.view;
    let (status, down) = match look::status(view, Need::Comparison) {
        Ok(seen) => seen,
        Err(why) => {
            match (options.nagios, view.format()) {
                // Nagios reads standard output alone.
                (true, _) => output::line(&format!("PONTOON {} - {}", word(BLIND), one_line(&why))),
                (false, Format::Table | Format::Wide) => output::note(&format!("pontoon: {why}")),
                (false, format) => {
                    print(Shown::new(String::new(), json!({ "health": "unknown", "problems": [why] })), format)
                }
            }
            return BLIND;
        }
    };
    let (names, traffic) = (Names::default(), Traffic::default());
    let facts = Facts { status: &status, names: &names, traffic: &traffic, events: &[], down: down.as_deref() };
    let ((health, code), problems) = (show::health(&facts), show::problems(&facts));
    let endpoints: usize = status.networks.iter().map(|network| network.endpoints.len()).sum();
    let networks = status.networks.len();
    let words = if problems.is_empty() { health.to_owned() } else { problems.join("; ") };
    match (options.nagios, view.format()) {
        (true, _) => {
            let repairs = status.plan.commands.len();
            let data = format!("networks={networks};; endpoints={endpoints};; repairs={repairs};;");
            output::line(&format!("PONTOON {} - {} | {data}", word(code), one_line(&words)));
        }
        (false, format) => {
            let text = if code == 0 { format!("{words}\n") } else { format!("{health}: {words}: pontoon doctor\n") };
            let json = json!({ "health": health, "problems": problems, "networks": networks, "endpoints": endpoints });
            print(Shown::new(text, json), format);
        }
    }
    code
}

fn word(code: u8) -> &'static str {
    NAGIOS.get(usize::from(code)).copied().unwrap_or("UNKNOWN")
}

/// `|` begins the performance data, and a line break further output.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "/")
}

/// Runs `pontoon version`; returns the exit code.
pub fn run_version(view: &View) -> u8 {
    let own = env!("CARGO_PKG_VERSION");
    let daemon = look::status(view, Need::Objects).ok().filter(|(_, down)| down.is_none());
    let daemon = daemon.map(|(status, _)| status.version);
    let text = format!("command  {own}\ndaemon   {}\n", daemon.as_deref().unwrap_or("does not answer"));
    print(Shown::new(text, json!({ "command": own, "daemon": daemon })), view.format());
    0
}

/// JSON on one line, as health checks read it.
fn print(shown: Shown, format: Format) {
    match format {
        Format::Json => output::line(&shown.json),
        _ => refresh::print(&shown, format),
    }
}
