//! Checks of the kernel.

use super::{Facts, Finding, Level};
use crate::datapath::host::OLDEST;

pub(super) fn release(facts: &Facts) -> Vec<Finding> {
    let release = &facts.settings.release;
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let found: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST {
        return vec![Finding::ok(format!("Linux {release}"))];
    }
    let needed = format!("Linux {release} is older than {}.{}, which Pontoon needs", OLDEST.0, OLDEST.1);
    let finding = Finding::new(Level::Degraded, needed);
    vec![finding.mended_by("install a newer kernel, and reboot")]
}

pub(super) fn features(facts: &Facts) -> Vec<Finding> {
    let host = match &facts.host {
        Ok(host) => host,
        Err(why) => {
            let finding = Finding::new(Level::Broken, "cannot inspect the host").seen(why.clone());
            return vec![finding.mended_by("run this command as root")];
        }
    };
    if let Some(why) = &host.untried {
        return vec![Finding::new(Level::Note, "kernel features were not tested").seen(why.clone())];
    }
    let missing = host.features.iter().filter_map(|feature| {
        let why = feature.refused.as_ref()?;
        let title = format!("the kernel lacks {}: {}", feature.name, feature.without);
        if feature.on_request {
            // Not worth a line on every host: a network that asks for it is refused with the module's name.
            return Some(Finding::ok(title));
        }
        let level = if feature.needed { Level::Broken } else { Level::Note };
        let finding = Finding::new(level, title).seen(why.clone());
        Some(finding.mended_by(format!("modprobe -a {}", feature.modules)))
    });
    let present = host.features.iter().filter(|feature| feature.refused.is_none());
    let names: Vec<_> = present.map(|feature| feature.name).collect();
    let found = (!names.is_empty()).then(|| Finding::ok(format!("the kernel has {}", names.join("; "))));
    found.into_iter().chain(missing).collect()
}

pub(super) fn conntrack(facts: &Facts) -> Vec<Finding> {
    let (count, max) = ("netfilter/nf_conntrack_count", "netfilter/nf_conntrack_max");
    let (Some(used), Some(room)) = (facts.settings.number(count), facts.settings.number(max)) else {
        return Vec::new();
    };
    let title = format!("{used} of {room} tracked connections");
    let level = match used.saturating_mul(100) / room.max(1) {
        95.. => Level::Broken,
        80.. => Level::Degraded,
        _ => return vec![Finding::ok(title)],
    };
    let finding = Finding::new(level, format!("{title}: when the table is full, new connections are dropped"));
    vec![finding.mended_by(format!("sysctl -w net.netfilter.nf_conntrack_max={}", room * 2))]
}

/// Linux counts the neighbour entries of all namespaces together, and above the limit pings between unrelated
/// containers fail (`neigh_alloc`, net/core/neighbour.c).
pub(super) fn neighbours(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let number = |what: &str| facts.settings.number(&format!("{family}/neigh/{what}"));
        let (Some(entries), Some(room)) = (number("entries"), number("default/gc_thresh3")) else { continue };
        let refused = number("refused").unwrap_or(0);
        let title = format!("{entries} of {room} {family} neighbour entries, of all containers");
        let level = match (entries.saturating_mul(100) / room.max(1), refused) {
            (90.., _) => Level::Degraded,
            (_, 1..) => Level::Note,
            _ => {
                findings.push(Finding::ok(title));
                continue;
            }
        };
        let finding = Finding::new(level, format!("{title}: when the table is full, addresses cannot be resolved"));
        let finding = finding.seen(format!("{refused} entries were refused since the host started"));
        let setting = |n: u32, value: u64| format!("net.{family}.neigh.default.gc_thresh{n}={value}");
        findings.push(finding.mended_by(format!("sysctl -w {} {}", setting(2, room * 2), setting(3, room * 4))));
    }
    findings
}
