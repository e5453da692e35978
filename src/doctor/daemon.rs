//! Checks of the daemon's process.

use crate::admin::{Affected, UnusableSetting};

use super::{Facts, Finding, Level, Source, wiring};

/// Capability numbers (include/uapi/linux/capability.h).
const NET_BIND_SERVICE: u32 = 10;
pub(super) const NET_ADMIN: u32 = 12;

/// Descriptors that the daemon needs besides those of ports: sockets, files, connections.
const BASE: u64 = 64;

pub(super) fn answers(facts: &Facts) -> Vec<Finding> {
    let socket = facts.wiring.socket.display();
    match &facts.source {
        Source::Daemon => vec![Finding::ok(format!("the daemon answers on {socket}"))],
        Source::Ledger(None) => {
            vec![Finding::ok(format!("checked without the daemon, from the ledger in {}", facts.state_dir.display()))]
        }
        Source::Ledger(Some(why)) | Source::Nowhere(why) => {
            // A status means that the daemon answered: the cause is in the message, not a missing socket.
            let title = if why.contains("(status ") {
                "the daemon runs, but answers every request with an error"
            } else {
                "the daemon does not answer"
            };
            let finding = Finding::new(Level::Broken, title).seen(why.clone());
            vec![finding.mended_by(wiring::start(facts))]
        }
    }
}

pub(super) fn version(facts: &Facts) -> Vec<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    match &facts.status.version {
        theirs if facts.source == Source::Daemon && theirs != own => {
            let title = format!("the daemon has version {theirs}, this command has {own}");
            vec![Finding::new(Level::Note, title).mended_by(wiring::start(facts))]
        }
        _ => vec![Finding::ok(format!("version {own}"))],
    }
}

pub(super) fn settings(facts: &Facts) -> Vec<Finding> {
    let lines = &facts.status.settings;
    if lines.is_empty() {
        return vec![Finding::ok("all settings of the daemon are valid")];
    }
    let correct = |variable: &str| match wiring::is_managed(facts) {
        true => format!(
            "docker plugin disable -f pontoon:latest; docker plugin set pontoon:latest {variable}=...; docker plugin enable pontoon:latest"
        ),
        false => format!("correct {variable} in /etc/default/pontoon; {}", wiring::start(facts)),
    };
    let finding = |line: &UnusableSetting| {
        let effect = match line.affected {
            Affected::Nothing => "the default is used; nothing is refused",
            Affected::Subnets => "networks without --subnet are refused",
            Affected::Overlays => "new overlay networks are refused; existing ones keep their settings",
            Affected::Networks => "new networks are refused",
        };
        Finding::new(Level::Degraded, line.to_string()).seen(effect).mended_by(correct(&line.variable))
    };
    lines.iter().map(finding).collect()
}

pub(super) fn capabilities(facts: &Facts) -> Vec<Finding> {
    let Some(process) = &facts.process else {
        return vec![Finding::new(Level::Note, "capabilities unknown: the daemon's process is not visible here")];
    };
    let has = |number: u32| process.capabilities & (1 << number) != 0;
    let seen = format!("/proc/{}/status: CapEff {:016x}", process.pid, process.capabilities);
    let config = "set AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE in its unit, or run it as root";
    let low = facts.status.networks.iter().flat_map(|n| &n.endpoints).flat_map(|e| &e.published).any(|p| p.port < 1024);
    match (has(NET_ADMIN), has(NET_BIND_SERVICE)) {
        (true, true) => vec![Finding::ok("the daemon has CAP_NET_ADMIN and CAP_NET_BIND_SERVICE")],
        (false, _) => {
            let finding = Finding::new(Level::Broken, "CAP_NET_ADMIN is missing: networks cannot be created");
            vec![finding.seen(seen).mended_by(config)]
        }
        (true, false) => {
            let level = if low { Level::Degraded } else { Level::Note };
            let finding = Finding::new(level, "CAP_NET_BIND_SERVICE is missing: ports below 1024 cannot be published");
            vec![finding.seen(seen).mended_by(config)]
        }
    }
}

pub(super) fn descriptors(facts: &Facts) -> Vec<Finding> {
    let Some((process, limit)) = facts.process.as_ref().and_then(|p| Some((p, p.descriptors?))) else {
        return Vec::new();
    };
    let ports = facts.status.networks.iter().flat_map(|n| &n.endpoints).map(|e| e.published.len() as u64).sum::<u64>();
    let used = process.open.unwrap_or(ports).max(ports);
    let title = format!("{used} of {limit} file descriptors are in use; each published port needs one");
    if used.saturating_add(BASE) < limit / 10 * 9 {
        return vec![Finding::ok(title)];
    }
    let full = used.saturating_add(BASE) >= limit;
    let finding = Finding::new(if full { Level::Broken } else { Level::Degraded }, title);
    let seen = format!("/proc/{}/limits: Max open files {limit}", process.pid);
    vec![finding.seen(seen).mended_by(format!("prlimit --pid {} --nofile=1048576", process.pid))]
}
