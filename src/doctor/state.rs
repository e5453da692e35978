//! Checks of the state: the ledger, quarantined ledgers, the disk.

use super::{Facts, Finding, Level, Source, wiring};

/// Space that the ledger should have, in bytes: compaction writes a second file.
const ROOM: u64 = 16 << 20;

/// Number of links that are shown as evidence; `pontoon plan` shows all.
const SHOWN: usize = 8;

pub(super) fn ledger(facts: &Facts) -> Vec<Finding> {
    if let Source::Nowhere(why) = &facts.source {
        return vec![Finding::new(Level::Broken, "cannot read the state").seen(why.clone())];
    }
    let (status, state) = (&facts.status, &facts.status.state);
    let file = facts.state_dir.join("ledger");
    let seen = format!("{}: {}", file.display(), state.words);
    let held = format!("{} networks, {} pools", status.networks.len(), status.pools.len());
    vec![match state.outcome.as_str() {
        // The next check reports the consequences of earlier damage.
        "loaded" | "torn" => Finding::ok(format!("the ledger is intact: {held}")),
        "absent" if facts.source == Source::Daemon => Finding::ok(format!("this daemon created the ledger: {held}")),
        "absent" => Finding::new(Level::Note, "no ledger: Pontoon never ran here").seen(seen),
        "too new" => {
            let finding = Finding::new(Level::Broken, "a newer release wrote the ledger: every change is refused");
            finding.seen(seen).mended_by("install the newer release again (docs/state.md)")
        }
        _ => {
            let title = "the ledger was damaged: networks may be missing, and Pontoon removes none of its links";
            let remedy =
                "docker network ls -f driver=pontoon   # recreate those that Pontoon does not know (docs/state.md)";
            Finding::new(Level::Degraded, title).seen(seen).mended_by(remedy)
        }
    }]
}

pub(super) fn quarantined(facts: &Facts) -> Vec<Finding> {
    let kept = &facts.status.state.quarantined;
    if kept.is_empty() {
        return vec![Finding::ok("no quarantined ledger")];
    }
    let mut finding = Finding::new(
        Level::Degraded,
        "a damaged ledger is quarantined: until you delete it, links without a record are kept",
    );
    let mut remedy = String::from("rm");
    for path in kept {
        finding = finding.seen(path.display().to_string());
        remedy += &format!(" {}", path.display());
    }
    vec![finding.mended_by(format!("{remedy}   # when all networks are present\n{}", wiring::start(facts)))]
}

pub(super) fn unknown(facts: &Facts) -> Vec<Finding> {
    let unknown = &facts.status.plan.unknown;
    if unknown.is_empty() {
        let state = &facts.status.state;
        // A damaged ledger has its own findings.
        let is_whole = ["loaded", "torn", "absent"].contains(&state.outcome.as_str()) && state.quarantined.is_empty();
        if !state.degraded || !is_whole {
            return vec![Finding::ok("all links of Pontoon are in the ledger")];
        }
        let title =
            "published ports are missing from the ledger, which is outdated: they stay until their containers end";
        let remedy = "docker restart CONTAINER   # for each whose published ports `pontoon ports` does not show";
        return vec![Finding::new(Level::Degraded, title).seen(ledger_of(facts)).mended_by(remedy)];
    }
    let title = format!(
        "{} links of Pontoon are not in its ledger, which is missing or outdated: they are kept unchanged",
        unknown.len()
    );
    let mut finding = Finding::new(Level::Degraded, title).seen(ledger_of(facts));
    for link in unknown.iter().take(SHOWN) {
        finding = finding.seen(link.to_string());
    }
    if unknown.len() > SHOWN {
        finding = finding.seen(format!("... and {} more: {}", unknown.len() - SHOWN, wiring::command(facts, "plan")));
    }
    vec![finding.mended_by(format!(
        "stop Pontoon, restore the ledger that contains them to {}, start it (docs/state.md). If there is none: stop the \
         containers whose networks Pontoon refuses as unknown, `docker network rm` these networks, create them again",
        ledger_of(facts)
    ))]
}

fn ledger_of(facts: &Facts) -> String {
    facts.state_dir.join("ledger").display().to_string()
}

pub(super) fn disk(facts: &Facts) -> Vec<Finding> {
    let (Some(disk), dir) = (facts.disk, facts.state_dir.display()) else { return Vec::new() };
    if disk.read_only {
        let finding = Finding::new(Level::Broken, "the state is on a read-only file system: changes are refused");
        return vec![
            finding.seen(dir.to_string()).mended_by(format!("mount -o remount,rw $(findmnt -nT {dir} -o TARGET)")),
        ];
    }
    let title = format!("{} MiB free for the state", disk.free >> 20);
    if disk.free >= ROOM {
        return vec![Finding::ok(title)];
    }
    let level = if disk.free < 1 << 20 { Level::Broken } else { Level::Degraded };
    vec![Finding::new(level, title).seen(dir.to_string()).mended_by(format!("df -h {dir}   # free some space"))]
}
