//! Checks of foreign firewalls.

use crate::datapath::host::HostChain;
use crate::datapath::{ForwardRule, LinkMatch};
use crate::model::ifname::PREFIX;

use super::{Facts, Finding, Level, wiring};

fn chains(facts: &Facts) -> &[HostChain] {
    facts.host.as_ref().map_or(&[], |host| host.chains.as_slice())
}

/// Whether a chain accepts packets from and to Pontoon's bridges.
fn lets_pass(chain: &HostChain) -> bool {
    let ours = || LinkMatch::Prefix(PREFIX.to_owned());
    chain.accepts.contains(&ForwardRule::From(ours())) && chain.accepts.contains(&ForwardRule::To(ours()))
}

pub(super) fn policies(facts: &Facts) -> Vec<Finding> {
    let used = facts.status.networks.iter().any(|network| !network.internal);
    let stops = |chain: &&HostChain| chain.forward && chain.drops && !lets_pass(chain);
    let findings: Vec<_> = chains(facts)
        .iter()
        .filter(stops)
        .map(|chain| {
            let name = format!("{} {} {}", chain.family, chain.table, chain.name);
            let docker = chain.table == "filter" && chain.name == "FORWARD";
            let level = if used { Level::Broken } else { Level::Note };
            let title = format!("chain {name} drops by default, and does not accept traffic of Pontoon's bridges");
            let finding = Finding::new(level, title).seen("hook forward, policy drop, no accept rule for pnt*");
            if docker {
                // Pontoon's own rules are missing there.
                return finding.mended_by(wiring::command(facts, "repair"));
            }
            let rule = |way: &str| format!("nft add rule {name} {way} '\"{PREFIX}*\"' counter accept");
            finding.mended_by(format!("{}\n{}", rule("iifname"), rule("oifname")))
        })
        .collect();
    let ended = chains(facts).iter().filter_map(|chain| {
        let end = chain.end?;
        let name = format!("{} {} {}", chain.family, chain.table, chain.name);
        let title = format!(
            "rule {} of chain {name} drops everything, and no earlier rule accepts traffic of Pontoon's bridges",
            end.place
        );
        let level = if used { Level::Broken } else { Level::Note };
        // Inserted directly before it, so that all earlier rules still apply.
        let command = match (chain.family.as_str(), chain.table.as_str(), chain.name.as_str()) {
            ("ip", "filter", "FORWARD") => Some("iptables"),
            ("ip6", "filter", "FORWARD") => Some("ip6tables"),
            _ => None,
        };
        let let_through = |iptables: &str, nft: &str| match command {
            Some(command) => format!("{command} -I FORWARD {} {iptables} {PREFIX}+ -j ACCEPT", end.place),
            None => format!("nft insert rule {name} handle {} {nft} '\"{PREFIX}*\"' counter accept", end.handle),
        };
        let finding = Finding::new(level, title).seen(format!("hook forward, rule with handle {}", end.handle));
        Some(finding.mended_by(format!("{}\n{}", let_through("-i", "iifname"), let_through("-o", "oifname"))))
    });
    let findings: Vec<_> = findings.into_iter().chain(ended).collect();
    if findings.is_empty() { vec![Finding::ok("no other chain drops traffic of Pontoon's bridges")] } else { findings }
}

pub(super) fn firewalld(facts: &Facts) -> Vec<Finding> {
    let mut theirs = chains(facts).iter().filter(|chain| chain.table == "firewalld").peekable();
    if theirs.peek().is_none() {
        return vec![Finding::ok("firewalld is not installed")];
    }
    if theirs.any(|chain| chain.names_ours) {
        return vec![Finding::ok("firewalld has Pontoon's bridges in a zone")];
    }
    let title = "firewalld rejects forwarded traffic of links without a zone, including Pontoon's bridges";
    let finding = Finding::new(Level::Degraded, title).seen("table inet firewalld, no rule names pnt*");
    vec![finding.mended_by("firewall-cmd --permanent --zone=trusted --add-interface=pnt+ && firewall-cmd --reload")]
}

pub(super) fn ufw(facts: &Facts) -> Vec<Finding> {
    if !chains(facts).iter().any(|chain| chain.name.starts_with("ufw-") || chain.name.starts_with("ufw6-")) {
        return vec![Finding::ok("ufw is not installed")];
    }
    let title = "ufw is installed: its rules for incoming packets do not apply to published ports, which are forwarded";
    let finding = Finding::new(Level::Note, title).seen("chains ufw-* exist");
    let driver = wiring::driver(facts);
    vec![finding.mended_by(format!(
        "docker network create -d {driver} -o pontoon.publish.allow=SOURCES ...   # sources that may connect"
    ))]
}

pub(super) fn legacy(facts: &Facts) -> Vec<Finding> {
    let tables = &facts.settings.legacy_tables;
    if tables.is_empty() {
        return vec![Finding::ok("iptables-legacy is not in use")];
    }
    let used = facts.status.networks.iter().any(|network| !network.internal);
    let chains = facts.host.as_ref().map_or(&[][..], |host| &host.legacy);
    let findings: Vec<_> = chains
        .iter()
        .filter(|chain| chain.drops && !chain.names_ours)
        .map(|chain| {
            let command = chain.family.choose("iptables-legacy", "ip6tables-legacy");
            let title = format!(
                "chain FORWARD of {command} drops by default, and does not accept traffic of Pontoon's bridges"
            );
            let finding = Finding::new(if used { Level::Broken } else { Level::Note }, title);
            let rule = |flag: &str| format!("{command} -A FORWARD {flag} {PREFIX}+ -j ACCEPT");
            finding.seen("table filter, policy DROP, no rule names pnt+").mended_by(format!(
                "{}\n{}",
                rule("-i"),
                rule("-o")
            ))
        })
        .collect();
    if !findings.is_empty() {
        return findings;
    }
    let title =
        "iptables-legacy is in use together with nftables: packets pass both, and Pontoon's rules are in nftables only";
    let finding = Finding::new(Level::Note, title).seen(tables.join(", "));
    vec![finding.mended_by("iptables-legacy -S; ip6tables-legacy -S   # check whether they are still needed")]
}
