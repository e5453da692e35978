//! Documentation that is made from the code: the tables between the markers are compared with what
//! the code says. `UPDATE_DOCS=1 cargo test --test docs` writes them.

use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory;

/// Compares (or writes) what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
fn generated(file: &str, name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file} lacks {begin}"));
    let (held, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{file} lacks {end}"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
    } else {
        assert_eq!(held, expected, "docs/{file} is not what the code says: run UPDATE_DOCS=1 cargo test --test docs");
    }
}

#[test]
fn options() {
    generated("options.md", "options", &pontoon::model::options::markdown());
}

#[test]
fn metrics() {
    let mut table = String::from("| metric | kind | meaning |\n|---|---|---|\n");
    for (name, kind, help) in pontoon::metrics::METRICS {
        let _ = writeln!(table, "| `{name}` | {kind} | {help} |");
    }
    generated("metrics.md", "metrics", &table);
}

#[test]
fn checks() {
    let mut table = String::from("| check | what it looks at |\n|---|---|\n");
    for (name, looks_at, _) in pontoon::doctor::CHECKS {
        let _ = writeln!(table, "| `{name}` | {looks_at} |");
    }
    generated("doctor.md", "checks", &table);
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

#[test]
fn every_page_is_linked_and_every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    for page in std::fs::read_dir(root.join("docs")).unwrap() {
        let page = page.unwrap().file_name().into_string().unwrap();
        assert!(readme.contains(&format!("docs/{page}")), "README.md does not lead to docs/{page}");
    }
    let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    pages.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|p| p.unwrap().path()));
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                let there = page.parent().unwrap().join(file);
                assert!(there.exists(), "{}: {target} leads nowhere", page.display());
            }
        }
    }
}
