//! The whole ruleset of a host with one network, as an administrator reads it: what is in the kernel is compared
//! with tests/golden/ruleset.txt, which docs/firewall.md shows. UPDATE_GOLDEN=1 writes it. What each option changes
//! is in tests/golden/policy.txt.

use std::path::Path;

use pontoon::datapath::{Kernel, Policy, Step};
use pontoon::model::Mac;

use crate::netns_support::*;
use crate::topology::{TCP, UDP, ip, port};

/// Of everything that the default gives a network and a container, something.
fn policy() -> Vec<Policy> {
    let (bridge, docker, end) = (|| name("pntbone"), || name("docker0"), || name("pnthadec5e726bb"));
    vec![
        Policy::ProtectedBridge(bridge()),
        Policy::ContainerBridge(bridge()),
        Policy::IntraNetwork(bridge()),
        Policy::BridgeAddress(ip("10.1.0.1")),
        Policy::BridgeAddress(ip("fd00:1::1")),
        Policy::Masquerade(net("10.1.0.0/24")),
        Policy::Masquerade(net("fd00:1::/64")),
        Policy::EngineBridge(docker()),
        Policy::ContainerBridge(docker()),
        port(TCP, "0.0.0.0", 8080, "10.1.0.2"),
        port(TCP, "::", 8080, "fd00:1::2"),
        port(UDP, "192.0.2.1", 53, "10.1.0.2"),
        Policy::SpoofChecked(end()),
        Policy::SourceMac(end(), Mac::derive("peer", "golden")),
        Policy::SourceAddress(end(), ip("10.1.0.2")),
        Policy::SourceAddress(end(), ip("fd00:1::2")),
    ]
}

/// Counters at zero; elements, which the kernel has in any order, one a line and sorted.
fn normalised(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("elements = {") {
        out += before;
        let (elements, after) = after.split_once('}').expect("elements end");
        let mut elements: Vec<_> = elements.split(',').map(str::trim).collect();
        elements.sort_unstable();
        out += &format!("elements = {{\n\t\t\t{}\n\t\t}}", elements.join(",\n\t\t\t"));
        rest = after;
    }
    out += rest;
    let zeroed = |line: &str| match line.split_once("counter packets ") {
        Some((head, tail)) => {
            let words: Vec<_> = tail.splitn(4, ' ').collect();
            format!("{head}counter packets 0 bytes 0 {}", words.get(3).unwrap_or(&""))
        }
        None => line.to_owned(),
    };
    out.lines().map(zeroed).map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_ruleset_is_as_written_down() {
    in_netns(|kernel| {
        kernel.apply(&[Step::CreateFirewall(policy())]).unwrap();
        let text = normalised(&run("nft list table inet pontoon; nft list table bridge pontoon"));
        // What nft prints it can read, but for the target of a neighbour advertisement, which it knows by name only
        // since 1.0.9.
        let known = text.replace("iifname . @th,64,128 != @source_address6", "iifname . ip6 saddr != @source_address6");
        // The number of an overlay network and the target of a solicitation have names in no release of it that
        // Debian has, and only since 1.0.9.
        let known = known.replace("@th,96,32", "meta mark");
        let known =
            known.replace("nd-neighbor-solicit iifname . @th,64,128", "nd-neighbor-solicit iifname . ip6 saddr");
        let known = known.replace("{ iifname . @th,64,128 }", "{ iifname . ip6 saddr }");
        run("nft flush ruleset");
        run(&format!("nft -c -f - <<'EOF'\n{known}\nEOF"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ruleset.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let different = text.lines().zip(written.lines()).find(|(is, was)| is != was);
        assert!(text == written, "UPDATE_GOLDEN=1 writes it; {different:?}");
    });
}
