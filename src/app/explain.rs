//! `pontoon explain`: asks the daemon for its objects, the engine for names and the kernel for its rules, and follows a
//! packet.

use std::io::Read as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::inspect::{blind, found_status, known_names};
use crate::cli::Explain;
use crate::datapath::passage::{Hook, ListenerSeen, Packet, PacketLink, Passage, RouteSeen};
use crate::doctor::drops;
use crate::explain::{Known, Look, explain, report};
use crate::linux;
use crate::linux::host_view::{self, HostView};
use crate::model::Family;
use crate::output::{self, Style};

/// How long a program that prints a rule may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// The host, with the programs that print rules of others.
struct Live(HostView);

impl Look for Live {
    fn route(&self, sandbox: Option<&str>, to: IpAddr) -> Result<Option<RouteSeen>, String> {
        self.0.route(sandbox, to)
    }

    fn listeners(&self, sandbox: Option<&str>, protocol: u8) -> Result<Vec<ListenerSeen>, String> {
        host_view::sockets(sandbox, protocol)
    }

    fn pass(&self, hook: Hook, packet: &mut Packet) -> Vec<Passage> {
        self.0.pass(hook, packet)
    }

    fn link(&self, name: &str) -> Option<PacketLink> {
        self.0.link(name)
    }

    fn is_isolated(&self, port: &str) -> bool {
        self.0.is_isolated(port)
    }

    fn forwards(&self, link: &str, family: Family) -> bool {
        self.0.forwards(link, family)
    }

    fn calls_iptables(&self, bridge: &str, family: Family) -> bool {
        self.0.calls_iptables(bridge, family)
    }

    fn rule_text(&self, passage: &Passage) -> Option<String> {
        let rule = passage.rule.as_ref()?;
        if passage.family.ends_with("-legacy") {
            let (program, place) = (passage.family.as_str(), rule.place.to_string());
            return run(program, &["-t", &passage.table, "-S", &rule.chain, &place]).map(|text| text.trim().to_owned());
        }
        let text = run("nft", &["-a", "list", "chain", &passage.family, &passage.table, &rule.chain])?;
        let end = format!("# handle {}", rule.handle);
        let line = text.lines().find_map(|line| line.trim().strip_suffix(&end))?;
        Some(line.trim().to_owned())
    }
}

/// The output of a program that prints rules; `None` if it is missing, fails or takes too long.
#[allow(clippy::disallowed_methods, reason = "a command of the operator, never the daemon")]
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut pipe = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let until = Instant::now() + PATIENCE;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    reader.join().ok()?.ok()
}

/// Runs the command; returns the exit code.
pub fn run_explain(options: &Explain) -> u8 {
    match answer(options) {
        Ok(code) => code,
        Err(why) => blind(&why),
    }
}

fn answer(options: &Explain) -> Result<u8, String> {
    let (status, _) = found_status(&options.asked)?;
    let names = known_names(&options.docker);
    let look = Live(HostView::read(linux::Options::default().sysctl_root).map_err(|error| error.to_string())?);
    if !look.0.has_tables() && !status.networks.is_empty() {
        output::note("pontoon: the firewall tables of Pontoon are missing, so nothing is isolated: pontoon repair");
    }
    let known = Known { status: &status, names: &names };
    let parties = [options.from.as_str(), options.to.as_str()];
    let family = if options.ipv6 { Family::V6 } else { Family::V4 };
    let answer = explain(known, &look, drops::meaning_of, parties, family).map_err(|error| error.to_string())?;
    if options.asked.json {
        output::line(&serde_json::to_string_pretty(&answer).unwrap_or_default());
    } else {
        output::print(&report::text(&answer, Style::of_stdout()));
    }
    Ok(answer.verdict.code())
}
