//! Checks of what connects Pontoon to the engine: the socket, and files that name it.

use super::collect::AtPath;
use super::{Facts, Finding, Level, Source};
use crate::{client, state};

/// The command that starts the daemon here.
pub(super) fn start(facts: &Facts) -> String {
    let socket = &facts.wiring.socket;
    match (facts.wiring.unit, is_managed(facts)) {
        (true, false) => "systemctl restart pontoon.socket pontoon.service".to_owned(),
        (_, true) => "docker plugin disable -f pontoon:latest; docker plugin enable pontoon:latest".to_owned(),
        _ if !facts.wiring.managed.is_empty() => "docker plugin ls   # enable the managed plugin".to_owned(),
        _ => format!("pontoon serve --socket {} --state-dir {} &", socket.display(), facts.state_dir.display()),
    }
}

/// Whether the socket is that of a managed plugin: each of those has its own directory.
pub(super) fn is_managed(facts: &Facts) -> bool {
    let dir = facts.wiring.socket.parent();
    dir.is_some_and(|dir| dir.file_name().is_some_and(|name| name != "plugins"))
}

/// The name by which Docker knows this driver: that in its networks, if Docker was asked, else that of the
/// plugin or of the socket.
pub(super) fn driver(facts: &Facts) -> String {
    let engine = facts.engine.as_ref().and_then(|engine| engine.as_ref().ok());
    let held = |id: &str| facts.status.networks.iter().any(|network| network.id.as_str() == id);
    let known = engine.and_then(|engine| engine.networks.iter().find(|(id, _)| held(id)));
    match known {
        Some((_, network)) => network.driver.clone(),
        None if is_managed(facts) => "pontoon:latest".to_owned(),
        None => facts.wiring.socket.file_stem().map_or("pontoon".into(), |stem| stem.to_string_lossy().into_owned()),
    }
}

/// A command of this program, with the flags for this daemon.
pub(super) fn command(facts: &Facts, verb: &str) -> String {
    let mut command = format!("pontoon {verb}");
    for (flag, path, default) in
        [("--socket", &facts.wiring.socket, client::SOCKET), ("--state-dir", &facts.state_dir, state::DIRECTORY)]
    {
        if path.as_os_str() != default {
            command += &format!(" {flag} {}", path.display());
        }
    }
    command
}

pub(super) fn socket(facts: &Facts) -> Vec<Finding> {
    let wiring = &facts.wiring;
    let path = wiring.socket.display();
    // A command without the daemon expects that none runs.
    let without = facts.source == Source::Ledger(None);
    let bad = if without { Level::Note } else { Level::Broken };
    let finding = match &wiring.at_path {
        AtPath::Plugin if wiring.mode.is_some_and(|mode| mode & 0o077 != 0) => {
            let mode = wiring.mode.unwrap_or_default();
            let title = "other users than root can use the plugin socket: they could create networks";
            let finding = Finding::new(Level::Degraded, title).seen(format!("{path} has mode {mode:04o}"));
            finding.mended_by(format!("chmod 0600 {path}"))
        }
        AtPath::Plugin => Finding::ok(format!("{path} answers Plugin.Activate, mode 0600")),
        AtPath::Nothing => match wiring.managed.as_slice() {
            [only] if !without => {
                let finding = Finding::new(bad, format!("there is no socket {path}, but a managed plugin has one"));
                finding.mended_by(format!("pontoon doctor --socket {}", only.display()))
            }
            _ => Finding::new(bad, format!("there is no socket {path}")).mended_by(start(facts)),
        },
        AtPath::AnotherFile => {
            let finding = Finding::new(Level::Broken, format!("{path} is not a socket"));
            finding.mended_by(format!("rm {path}; {}", start(facts)))
        }
        AtPath::Stale(why) => {
            let title = "stale socket file: Docker waits 15 seconds for each request";
            let finding = Finding::new(bad, title).seen(format!("{path}: {why}"));
            finding.mended_by(start(facts))
        }
        AtPath::NoPlugin(why) => {
            let title = format!("the process that listens on {path} does not answer as a network driver");
            Finding::new(Level::Broken, title).seen(why.clone()).mended_by(start(facts))
        }
    };
    vec![finding]
}

pub(super) fn spec_files(facts: &Facts) -> Vec<Finding> {
    let wiring = &facts.wiring;
    let ours = format!("unix://{}", wiring.socket.display());
    let wrong = wiring.specs.iter().filter(|(_, says)| !says.contains(&ours));
    let findings: Vec<Finding> = wrong
        .map(|(path, says)| {
            let title = format!("{} directs Docker to another plugin called pontoon", path.display());
            let finding =
                Finding::new(Level::Degraded, title).seen(format!("it contains {says:?}, the socket is {ours}"));
            finding.mended_by(format!("rm {}", path.display()))
        })
        .collect();
    if findings.is_empty() { vec![Finding::ok("no spec file directs Docker to another plugin")] } else { findings }
}

pub(super) fn two(facts: &Facts) -> Vec<Finding> {
    let wiring = &facts.wiring;
    let others: Vec<_> = wiring.managed.iter().filter(|path| **path != wiring.socket).collect();
    if others.is_empty() || wiring.at_path == AtPath::Nothing {
        return vec![Finding::ok("one Pontoon is installed")];
    }
    let mut finding = Finding::new(
        Level::Degraded,
        "both a managed plugin and a socket plugin are installed: only one of them can run",
    );
    for path in others {
        finding = finding.seen(path.display().to_string());
    }
    let remedy = "docker network ls; docker plugin ls   # keep the one that your networks use as driver, and disable or remove the other";
    vec![finding.mended_by(remedy)]
}

#[cfg(test)]
mod tests {
    use super::super::tests::well;
    use super::*;

    #[test]
    fn commands_find_a_daemon_elsewhere() {
        let mut facts = well();
        facts.wiring.socket = "/run/docker/plugins/1f/pontoon.sock".into();
        assert_eq!(command(&facts, "repair"), "pontoon repair --socket /run/docker/plugins/1f/pontoon.sock");
        assert!(start(&facts).starts_with("docker plugin disable"));
    }
}
