//! Rulesets as an administrator reads them, one file for each kind of network: what is in the
//! kernel is compared with tests/golden/*.txt. UPDATE_GOLDEN=1 writes the files anew.

use std::path::Path;

use pontoon::datapath::{Kernel, Policy, Step};
use pontoon::model::{Mac, Vni};

use crate::netns_support::*;
use crate::town::{TCP, UDP, ip, port};

/// The elements of a network: (`one`, 10.1.0.0/24) or, with IPv6, (`one`, and fd00:1::/64).
fn network(v6: bool, masquerade: bool) -> Vec<Policy> {
    let br = name("pntbone");
    let mut elements =
        vec![Policy::ProtectedBridge(br.clone()), Policy::ContainerBridge(br.clone()), Policy::IntraNetwork(br)];
    elements.push(Policy::BridgeAddress(ip("10.1.0.1")));
    elements.extend(v6.then(|| Policy::BridgeAddress(ip("fd00:1::1"))));
    if masquerade {
        elements.push(Policy::Masquerade(net("10.1.0.0/24")));
        elements.extend(v6.then(|| Policy::Masquerade(net("fd00:1::/64"))));
    }
    elements
}

fn kinds() -> Vec<(&'static str, Vec<Policy>)> {
    let br = || name("pntbone");
    let with = |base: Vec<Policy>, more: &[Policy]| [base, more.to_vec()].concat();
    let (v4, v6) = (ip("10.1.0.2"), ip("fd00:1::2"));
    let end = || name("pnthadec5e726bb");
    vec![
        ("nothing", vec![]),
        // What docs/firewall.md shows: of everything that the default gives a container, something.
        (
            "typical",
            with(
                network(true, true),
                &[
                    Policy::EngineBridge(name("docker0")),
                    Policy::ContainerBridge(name("docker0")),
                    port(TCP, "0.0.0.0", 8080, "10.1.0.2"),
                    port(TCP, "::", 8080, "fd00:1::2"),
                    port(UDP, "192.0.2.1", 53, "10.1.0.2"),
                    Policy::SpoofChecked(end()),
                    Policy::SourceMac(end(), Mac::derive("peer", "golden")),
                    Policy::SourceAddress(end(), v4),
                    Policy::SourceAddress(end(), v6),
                ],
            ),
        ),
        // Forwarding that Pontoon turned on, and a container on a bridge of the user's.
        (
            "closed",
            with(
                network(true, true),
                &[
                    Policy::LimitedForwarding(false),
                    Policy::LimitedForwarding(true),
                    Policy::Router(name("eth1"), false),
                    Policy::Router(name("eth1"), true),
                    Policy::UserBridgeContainer(ip("10.9.0.2")),
                    Policy::UserBridgeContainer(ip("fd09::2")),
                ],
            ),
        ),
        ("nat", network(false, true)),
        ("dual", network(true, true)),
        ("internal", with(network(false, false), &[Policy::Internal(br())])),
        // Isolation within a network is a flag of its ports; that the host does not undo it, a rule.
        (
            "icc-off",
            with(
                network(false, true).into_iter().filter(|element| *element != Policy::IntraNetwork(br())).collect(),
                &[Policy::Isolated(br())],
            ),
        ),
        // A bridge of the user's, with and without isolation.
        (
            "own-bridge",
            vec![
                Policy::Isolated(name("lan0")),
                Policy::BridgeAddress(ip("10.1.0.1")),
                Policy::Masquerade(net("10.1.0.0/24")),
                Policy::UserBridgeContainer(v4),
                port(TCP, "0.0.0.0", 8080, "10.1.0.2"),
            ],
        ),
        (
            "routed",
            with(
                network(true, false),
                &[
                    Policy::Routed(br(), false),
                    Policy::Routed(br(), true),
                    Policy::OpenPort(TCP, v4, 80),
                    Policy::OpenPort(TCP, v6, 80),
                ],
            ),
        ),
        ("nat-unprotected", with(network(false, true), &[Policy::Unprotected(br(), false)])),
        (
            "trusted",
            with(network(false, true), &[Policy::TrustedLink(name("eth1"), br()), Policy::OpenPort(TCP, v4, 80)]),
        ),
        (
            "published",
            with(
                network(true, true),
                &[
                    port(TCP, "0.0.0.0", 8080, "10.1.0.2"),
                    port(TCP, "::", 8080, "fd00:1::2"),
                    port(UDP, "192.0.2.1", 53, "10.1.0.2"),
                    port(UDP, "0.0.0.0", 1900, "10.1.0.2"),
                    Policy::BroadcastPort(1900),
                    Policy::Broadcast(name("eth0"), "192.0.2.255".parse().unwrap(), "192.0.2.1".parse().unwrap()),
                    Policy::Broadcast(name("eth0"), "255.255.255.255".parse().unwrap(), "192.0.2.1".parse().unwrap()),
                    port(TCP, "127.0.0.1", 8081, "10.1.0.2"),
                    port(TCP, "::1", 8081, "fd00:1::2"),
                ],
            ),
        ),
        (
            "allow",
            with(
                network(true, true),
                &[
                    port(TCP, "0.0.0.0", 8080, "10.1.0.2"),
                    Policy::SourceFiltered(v4),
                    Policy::SourceFiltered(v6),
                    Policy::AllowedSource(v4, net("192.0.2.0/24")),
                    Policy::AllowedSource(v4, net("198.51.100.7/32")),
                    Policy::AllowedSource(v6, net("2001:db8::/32")),
                ],
            ),
        ),
        (
            "overlay",
            with(
                network(true, true),
                &[
                    Policy::TunnelPort(4789),
                    Policy::Tunnel(Vni::new(70000).unwrap()),
                    Policy::TunnelAddress(ip("192.0.2.1")),
                    Policy::TunnelAddress(ip("2001:db8::1")),
                    Policy::Peer(ip("192.0.2.7")),
                    Policy::Peer(ip("2001:db8::7")),
                    Policy::Gateway(name("pntxone"), Mac::derive("bridge", "golden")),
                    Policy::GatewayAddress(name("pntxone"), ip("10.1.0.1")),
                    Policy::GatewayAddress(name("pntxone"), ip("fd00:1::1")),
                ],
            ),
        ),
        (
            "quiet",
            with(
                network(false, true),
                &[Policy::Tunnel(Vni::new(70000).unwrap()), Policy::NoMulticast(name("pntxone"))],
            ),
        ),
        (
            "snat",
            with(
                network(true, false),
                &[
                    Policy::SourceNat(net("10.1.0.0/24"), ip("192.0.2.77")),
                    Policy::SourceNat(net("fd00:1::/64"), ip("2001:db8::77")),
                ],
            ),
        ),
        (
            "spoofcheck",
            with(
                network(true, true),
                &[
                    Policy::SpoofChecked(end()),
                    Policy::SourceMac(end(), Mac::derive("peer", "golden")),
                    Policy::SourceAddress(end(), v4),
                    Policy::SourceAddress(end(), v6),
                    Policy::SpoofChecked(name("pnth0null")),
                    Policy::SourceMac(name("pnth0null"), Mac::derive("peer", "null")),
                    Policy::SourceAddress(name("pnth0null"), ip("0.0.0.0")),
                    Policy::SourceAddress(name("pnth0null"), ip("::")),
                ],
            ),
        ),
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
fn the_rulesets_of_all_kinds_of_networks_are_as_written_down() {
    in_netns(|kernel| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut different = Vec::new();
        for (kind, elements) in kinds() {
            kernel.apply(&[Step::CreateFirewall(elements)]).unwrap();
            let text = normalised(&run("nft list table inet pontoon; nft list table bridge pontoon"));
            // What nft prints it can read, but for the target of a neighbour advertisement, which
            // it knows by name only since 1.0.9.
            let known =
                text.replace("iifname . @th,64,128 != @source_address6", "iifname . ip6 saddr != @source_address6");
            // The number of an overlay network and the target of a solicitation have names in no
            // release of it that Debian has, and only since 1.0.9.
            let known = known.replace("@th,96,32", "meta mark");
            let known =
                known.replace("nd-neighbor-solicit iifname . @th,64,128", "nd-neighbor-solicit iifname . ip6 saddr");
            let known = known.replace("{ iifname . @th,64,128 }", "{ iifname . ip6 saddr }");
            run("nft flush ruleset");
            run(&format!("nft -c -f - <<'EOF'\n{known}\nEOF"));
            let path = folder.join(format!("{kind}.txt"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            if written != text {
                let lines = text.lines().zip(written.lines()).find(|(is, was)| is != was);
                different.push(format!("{kind}: {lines:?}"));
            }
        }
        assert!(different.is_empty(), "UPDATE_GOLDEN=1 writes them anew:\n{}", different.join("\n"));
    });
}
