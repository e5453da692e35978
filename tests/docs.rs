//! Documentation: the tables between the markers are generated from the code and compared with it
//! (`UPDATE_EXPECT=1 cargo test --test docs` writes them); links, citations and metric names are verified.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use pontoon::metrics::{METRICS, Metric};

#[path = "docs/ruleset.rs"]
mod ruleset;
#[path = "docs/samples.rs"]
mod samples;

use ruleset::Ruleset;
use samples::Sample;

/// The files of tests/golden/ and their descriptions: compared with the folder.
const GOLDEN: [(&str, &str); 5] = [
    ("ruleset", "the tables of a host with one network, Docker's own docker0 beside it: what this page shows"),
    ("policy", "what each option changes, as statements of the policy and the elements that they become"),
    ("limits", "tables `ip pontoon` and `ip6 pontoon` of a host with one container whose connections are limited"),
    ("fastpath", "table `netdev pontoon` of a host with a tunnel and two containers, one of them not checked"),
    ("neighbours", "table `netdev pontoon` of a host with two containers of a network with `pontoon.shortcut=true`"),
];

/// Compares a section of a page of docs/.
#[track_caller]
fn generated(page: &str, name: &str, expected: &str) {
    testkit::golden::section(&format!("docs/{page}"), name, expected);
}

#[test]
fn options() {
    generated("options.md", "options", &pontoon::model::options::markdown());
}

/// What the page shows of commands is what they print.
#[test]
fn samples() {
    let sample = Sample::new();
    generated("operations.md", "top", &format!("```\n# pontoon top --once\n{}```\n", sample.top().text));
    let graph = sample.graph();
    generated("operations.md", "graph", &format!("```\n# pontoon graph\n{}```\n", graph.shown().text));
    generated("operations.md", "mermaid", &format!("```mermaid\n{}```\n", pontoon::show::mermaid(&graph)));
    testkit::golden::file("docs/graph.svg", &pontoon::show::svg(&graph));
}

#[test]
fn metrics() {
    let mut table = String::from("| metric | kind | meaning |\n|---|---|---|\n");
    for Metric { name, kind, help, .. } in METRICS {
        let _ = writeln!(table, "| `{name}` | {kind} | {help} |");
    }
    generated("metrics.md", "metrics", &table);
}

/// The page about the firewall shows the kernel's state: tests/netns_linux compares the same texts with it.
#[test]
fn firewall() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut there: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let mut listed = GOLDEN.map(|(name, _)| format!("{name}.txt"));
    there.sort();
    listed.sort();
    assert_eq!(there, listed, "GOLDEN lists the texts of tests/golden");
    let mut list = String::new();
    for (name, what) in GOLDEN {
        let _ = writeln!(list, "- [{name}](../tests/golden/{name}.txt): {what}");
    }
    let ruleset = Ruleset::parse(&std::fs::read_to_string(folder.join("ruleset.txt")).unwrap());
    let page = "firewall.md";
    generated(page, "size", &ruleset.size());
    generated(page, "hooks", &ruleset.hooks());
    for table in ["inet pontoon", "bridge pontoon"] {
        generated(page, &format!("sets of {table}"), &ruleset.sets(table));
    }
    for chain in &ruleset.chains {
        assert!(!chain.rules.is_empty(), "{} {}", chain.table, chain.name);
        generated(page, &chain.name, &chain.listing());
    }
    let fastpath = std::fs::read_to_string(folder.join("fastpath.txt")).unwrap();
    generated(page, "fastpath", &format!("```nft\n{fastpath}```\n"));
    let neighbours = std::fs::read_to_string(folder.join("neighbours.txt")).unwrap();
    generated(page, "neighbours", &format!("```nft\n{neighbours}```\n"));
    let limits = std::fs::read_to_string(folder.join("limits.txt")).unwrap();
    generated(page, "limits", &format!("```nft\n{limits}```\n"));
    generated(page, "golden", &list);
}

/// The pages show the files that the tests run.
#[test]
fn examples() {
    for (page, name) in [("swarm.md", "stack"), ("compose.md", "compose")] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.yml"));
        generated(page, name, &format!("```yaml\n{}```\n", std::fs::read_to_string(file).unwrap()));
    }
}

#[test]
fn checks() {
    let mut table = String::from("| check | what it looks at |\n|---|---|\n");
    for (name, looks_at, _) in pontoon::doctor::CHECKS {
        let _ = writeln!(table, "| `{name}` | {looks_at} |");
    }
    generated("doctor.md", "checks", &table);
}

/// The page lists the features that the doctor probes, and the required release is the newest one that a required
/// feature needs.
#[test]
fn kernels() {
    use pontoon::datapath::host::OLDEST;
    use pontoon::linux::feature::{FEATURES, markdown};
    generated("kernels.md", "features", &markdown());
    let newest = FEATURES.iter().filter(|row| row.needed).map(|row| row.since).max();
    assert_eq!(newest, Some(OLDEST));
    let (major, minor) = OLDEST;
    let stated = format!("Linux {major}.{minor} or newer");
    assert!(pontoon::doctor::CHECKS.iter().any(|(_, looks_at, _)| *looks_at == stated), "the doctor's check says so");
    for page in ["README.md", "docs/kernels.md"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        assert!(text.contains(&format!("{stated} is required")), "{page}");
    }
}

#[test]
fn settings() {
    let command = pontoon::cli::Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let mut table = String::from("| flag | environment | default | meaning |\n|---|---|---|---|\n");
    for arg in serve.get_arguments().filter(|arg| arg.get_env().is_some()) {
        let default = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let (flag, env) = (arg.get_long().unwrap(), arg.get_env().unwrap().to_string_lossy());
        let _ = writeln!(table, "| `--{flag}` | `{env}` | {default} | {} |", arg.get_help().unwrap());
    }
    generated("settings.md", "settings", &table);
}

/// Every unsafe block with its reason, so that a review sees new ones.
#[test]
fn unsafe_code() {
    let mut table = String::from("| file | why each of its unsafe blocks is sound |\n|---|---|\n");
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (lines, file) = (text.lines().collect::<Vec<_>>(), path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap());
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| has_unsafe(line)) {
            let reason = reason(&lines[..at]);
            let reason = reason.unwrap_or_else(|| panic!("{}:{}: no // SAFETY: above it", file.display(), at + 1));
            let _ = writeln!(table, "| `{}` | {reason} |", file.display());
        }
    }
    generated("security.md", "unsafe", &table);
}

/// Each attack of the threat model names tests as `binary module::test`, and each of them exists.
#[test]
fn every_threat_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let (_, rest) = page.split_once("<!-- threats:begin -->").expect("the threat model");
    let (threats, _) = rest.split_once("<!-- threats:end -->").expect("its end");
    let rows = threats.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| attack"));
    let mut count = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || tests.starts_with("none:"), "no test, and no reason for it: {row}");
        for test in named {
            let (binary, path) = test.split_once(' ').unwrap_or_else(|| panic!("{test}: binary module::test"));
            let (module, name) = path.split_once("::").unwrap_or_else(|| panic!("{test}: binary module::test"));
            let file = root.join(format!("tests/{binary}/{module}.rs"));
            let code =
                std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{test}: {}: {error}", file.display()));
            assert!(code.contains(&format!("#[test]\nfn {name}()")), "{test} does not exist");
            count += 1;
        }
    }
    assert!(count > 20, "{count} tests");
}

fn has_unsafe(line: &str) -> bool {
    let code = line.trim_start();
    !code.starts_with("//") && code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

/// The comment that starts with `SAFETY:` and ends at most two lines above.
fn reason(above: &[&str]) -> Option<String> {
    let end = above.iter().rposition(|line| line.trim_start().starts_with("//"))?;
    let begin = above[..=end].iter().rposition(|line| line.trim_start().starts_with("// SAFETY:"))?;
    let comment = &above[begin..=end];
    let whole = above.len() - end <= 3 && comment.iter().all(|line| line.trim_start().starts_with("//"));
    let words = comment.iter().map(|line| line.trim_start().trim_start_matches("//").trim()).collect::<Vec<_>>();
    whole.then(|| words.join(" ").replacen("SAFETY: ", "", 1))
}

#[test]
fn every_page_is_linked_and_every_link_has_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let files = std::fs::read_dir(root.join("docs")).unwrap().map(|file| file.unwrap().path());
    let (docs, pictures): (Vec<_>, Vec<_>) = files.partition(|file| file.extension().is_some_and(|end| end == "md"));
    let name = |file: &Path| file.file_name().unwrap().to_string_lossy().into_owned();
    for page in &docs {
        assert!(readme.contains(&format!("docs/{}", name(page))), "README.md does not link to {}", page.display());
    }
    for picture in &pictures {
        let shown = |page: &PathBuf| std::fs::read_to_string(page).unwrap().contains(&format!("]({})", name(picture)));
        assert!(docs.iter().any(shown), "no page shows {}", picture.display());
    }
    let others = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "fuzz/README.md"];
    let mut pages = others.map(|page| root.join(page)).to_vec();
    pages.extend(docs);
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let there = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(there.exists(), "{}: {target} has no target", page.display());
            let found = anchor.is_empty() || anchors(&std::fs::read_to_string(&there).unwrap()).contains(anchor);
            assert!(found, "{}: {target}: no such heading", page.display());
        }
    }
}

/// The anchors of a page's headings, derived from the texts.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut code = false;
    let mut found = BTreeSet::new();
    for line in page.lines() {
        code ^= line.trim_start().starts_with("```");
        if !code && line.starts_with('#') {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    found
}

/// The source files of the program and of its crates.
fn all_sources() -> Vec<PathBuf> {
    let crates = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")).unwrap();
    let names = crates.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name != "testkit");
    let folders = names.map(|name| format!("crates/{name}/src"));
    let mut found: Vec<_> = folders.chain(["src".to_owned()]).flat_map(|folder| sources(&folder)).collect();
    found.sort();
    found
}

/// All Rust files below a folder, sorted.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The code cites sections of docs/protocol.md by number: `protocol.md 1.6, 3.3`.
#[test]
fn every_cited_section_of_the_protocol_exists() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut cited = 0;
    for path in ["src", "tests", "crates/testkit/src"].into_iter().flat_map(sources) {
        let text = std::fs::read_to_string(&path).unwrap();
        for rest in text.split("protocol.md ").skip(1) {
            for number in rest.split(", ") {
                let end = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
                let section = number[..end].trim_end_matches('.');
                if !section.contains('.') {
                    break;
                }
                assert!(page.contains(&format!("\n### {section} ")), "{}: no section {section}", path.display());
                cited += 1;
                if end != number.len() {
                    break;
                }
            }
        }
    }
    assert!(cited > 20, "{cited} citations");
}

/// Pages name only metrics that exist.
#[test]
fn every_metric_of_the_pages_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for path in std::fs::read_dir(root.join("docs")).unwrap().map(|file| file.unwrap().path()) {
        let text = std::fs::read_to_string(&path).unwrap();
        for rest in text.split("pontoon_").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
            let name = format!("pontoon_{}", &rest[..end]);
            // The nftables table of `pontoon vip`, and a package: the name and its version.
            if name != "pontoon_vip" && name != "pontoon_" {
                let series = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
                let known = METRICS.iter().any(|metric| match metric.kind {
                    "histogram" => Some(metric.name) == series,
                    _ => metric.name == name,
                }) || METRICS.iter().any(|metric| metric.name == name);
                assert!(known, "{}: there is no metric {name}", path.display());
                named += 1;
            }
        }
    }
    assert!(named > 15, "{named} metrics");
}

/// Messages that are composed in the code, or come from the system.
const COMPOSED: [&str; 5] = [
    "No space left on device",
    "no ... port of the ephemeral range is free on this host",
    "published ports: there are ... of them",
    "a port cannot be published at ...: the container has no IPv6 address on network ...",
    "... is the network address of subnet ...",
];

/// The messages of Pontoon quoted by the page exist in the code: the parts between two `...`, word by word.
#[test]
fn every_quoted_message_exists() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = page.split_once("\n## Pontoon says\n").expect("the table").1.split("\n## ").next().unwrap();
    let mut code = String::new();
    for path in all_sources() {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.split("\\\n").enumerate().map(|(at, part)| if at == 0 { part } else { part.trim_start() });
        code.extend(lines);
    }
    let (mut count, mut missing) = (0, Vec::new());
    for cell in table.lines().filter_map(|row| row.strip_prefix("| `")?.split(" | ").next()) {
        for message in format!("`{cell}").split('`').skip(1).step_by(2).filter(|text| !COMPOSED.contains(text)) {
            let parts = message
                .split("...")
                .flat_map(|part| part.split('"'))
                .map(|part| part.trim_matches([' ', ':', ';', '?']));
            missing.extend(
                parts.filter(|part| part.len() > 3 && !code.contains(part)).map(|part| format!("{message}: {part:?}")),
            );
            count += 1;
        }
    }
    assert!(missing.is_empty() && count > 30, "{count} messages; no such words in src/:\n{}", missing.join("\n"));
}
