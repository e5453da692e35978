//! The rules of the source tree: allowed imports, and the length of files. The rules of naming are in tests/names.rs;
//! clippy.toml lists forbidden calls.
//!
//! Each rule is a function from a file to complaints (`src/file:line: why`). It runs over src/, and in a test beside
//! that over synthetic text that breaks it: a rule that cannot fail is useless.

use testkit::source::{Source, all, is_word, word, workspace};

/// Layers and what each may import besides itself (design, section 2).
const LAYERS: [(&str, &[&str]); 16] = [
    ("api", &[]),
    ("confinement", &[]),
    ("model", &[]),
    ("state", &["model"]),
    ("ipam", &["model", "state"]),
    ("datapath", &["model", "state"]),
    ("linux", &["model", "datapath"]),
    ("vip", &["client"]),
    ("driver", &["model", "state", "ipam", "datapath"]),
    ("resolver", &["datapath", "driver"]),
    ("admin", &["model", "state", "datapath", "driver"]),
    ("server", &["api", "model", "ipam", "driver", "admin", "metrics"]),
    ("cli", &["model", "state", "ipam", "client", "engine", "environment", "group", "output"]),
    ("explain", &["model", "datapath", "admin", "names", "output"]),
    ("show", &["model", "state", "datapath", "admin", "explain", "names", "output"]),
    ("doctor", &["model", "state", "datapath", "admin", "client", "engine", "gc"]),
];

/// The only module that names `linux`, and with it everything.
const APP: &str = "app";

/// The only modules that name the protocol's crate; the others use `api`.
const PROTOCOL: [&str; 3] = ["api", "server", APP];

/// Maximum length of a file in lines, including its tests.
const LONGEST: usize = 400;

/// Longer files, with the reason. A file that no longer is must be removed from the list.
const LONGER: [(&str, &str); 0] = [];

/// Whether files of `unit` may name the module `target`; an error for an unknown folder. `alone` is a file directly
/// below src/.
fn may_import(unit: &str, alone: bool, target: &str) -> Result<bool, String> {
    if unit == APP || unit == target {
        return Ok(true);
    }
    match LAYERS.iter().find(|(layer, _)| *layer == unit) {
        Some((_, imports)) => Ok(imports.contains(&target)),
        // Files directly below src/ assemble the layers.
        None if alone => Ok(target != "linux"),
        None => Err(format!("{unit} is in no layer: add it to tests/layers.rs and to the architecture's table")),
    }
}

/// The modules below the crate's root that `source` names, each with its position: `crate::x`, `crate::{x, y::z}`,
/// `pontoon::x` (in main.rs) and as many `super::` as reach the root.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let roots = ["crate".to_owned(), "pontoon".to_owned()];
    let ups =
        (source.path != "lib.rs" && source.path != "main.rs").then(|| vec!["super"; source.modules().len()].join("::"));
    let mut found = Vec::new();
    for root in roots.iter().chain(&ups) {
        let start = format!("{root}::");
        for (at, _) in code.match_indices(&start) {
            if code[..at].ends_with(|c| is_word(c) || c == ':') {
                continue;
            }
            let rest = &code[at + start.len()..];
            match rest.trim_start().strip_prefix('{') {
                Some(group) => found.extend(heads(group).into_iter().map(|head| (at, head))),
                None if rest.starts_with('*') => found.push((at, "*".to_owned())),
                None => found.push((at, word(rest).to_owned())),
            }
        }
    }
    found
}

/// The first segment of each path in a group of imports, after the opening brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut expect, mut heads) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => expect = true,
            '*' if expect => (expect, heads) = (false, [heads, vec!["*".to_owned()]].concat()),
            c if expect && is_word(c) => {
                heads.push(word(&group[at..]).to_owned());
                expect = false;
            }
            _ => {}
        }
    }
    heads
}

fn layers(source: &Source) -> Vec<String> {
    let (unit, alone) = (source.unit(), !source.path.contains('/'));
    let complaint = |(at, target): (usize, String)| match may_import(unit, alone, &target) {
        Ok(true) => None,
        Ok(false) => Some(format!("{}: {unit} must not import {target}", source.place(at))),
        Err(why) => Some(format!("{}: {why}", source.place(at))),
    };
    // A file that imports nothing must belong to a layer, too.
    let known = may_import(unit, alone, "").err().map(|why| format!("src/{}:1: {why}", source.path));
    known.into_iter().chain(imports(source).into_iter().filter_map(complaint)).collect()
}

/// Files count as tests by their names; their declarations need `#[cfg(test)]`.
fn gates(source: &Source) -> Vec<String> {
    let after = |at: usize| word(&source.code[at + "mod ".len()..]);
    let found = source.code.match_indices("mod ").filter(|(at, _)| !source.code[..*at].ends_with(is_word));
    let found = found.filter(|(at, _)| after(*at) == "tests" || after(*at).ends_with("_tests"));
    found.map(|(at, _)| format!("{}: {} without #[cfg(test)]", source.place(at), after(at))).collect()
}

fn length(source: &Source, longer: &[(&str, &str)]) -> Vec<String> {
    let lines = source.text.lines().count();
    let listed = longer.iter().any(|(path, _)| *path == source.path);
    match (lines > LONGEST, listed) {
        (true, false) => vec![format!("src/{}:{lines}: more than {LONGEST} lines, split it by noun", source.path)],
        (false, true) => vec![format!("src/{}:{lines}: short again, take it off the list", source.path)],
        _ => Vec::new(),
    }
}

/// The server and the traits of `libnetwork-plugin` belong to the layers that assemble it.
fn protocol(source: &Source) -> Vec<String> {
    if PROTOCOL.contains(&source.unit()) {
        return Vec::new();
    }
    let places = source.places("libnetwork_plugin").into_iter();
    places.map(|place| format!("{place}: {} must not name libnetwork_plugin, use api", source.unit())).collect()
}

fn complain(files: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn layers_import_only_what_is_below_them() {
    complain(&all(), layers);
}

#[test]
fn only_some_modules_import_the_protocol() {
    complain(&all(), protocol);
}

#[test]
fn tests_are_compiled_for_tests_only() {
    complain(&workspace(), gates);
}

#[test]
fn files_are_short() {
    let known = workspace();
    complain(&known, |source| length(source, &LONGER));
    for (path, reason) in LONGER {
        assert!(!reason.is_empty() && known.iter().any(|source| source.path == path), "{path} does not exist");
    }
}

#[test]
fn the_rule_of_layers_fails_when_it_should() {
    for (path, text, complaint) in [
        ("api/network.rs", "\nuse crate::model::Mac;", "src/api/network.rs:2: api must not import model"),
        ("model/mac.rs", "fn a() { crate::state::load() }", "src/model/mac.rs:1: model must not import state"),
        ("datapath/mod.rs", "use crate::linux::firewall;", "src/datapath/mod.rs:1: datapath must not import linux"),
        (
            "driver/mod.rs",
            "use crate::{model::{Mac, IfName}, linux};",
            "src/driver/mod.rs:1: driver must not import linux",
        ),
        ("driver/mod.rs", "use crate::server;", "src/driver/mod.rs:1: driver must not import server"),
        (
            "server/mod.rs",
            "use crate::{\n    api,\n    state,\n};",
            "src/server/mod.rs:1: server must not import state",
        ),
        ("state/mod.rs", "use super::ipam;", "src/state/mod.rs:1: state must not import ipam"),
        ("state/store.rs", "use super::super::ipam;", "src/state/store.rs:1: state must not import ipam"),
        ("model.rs", "use crate::*;", "src/model.rs:1: model must not import *"),
        ("cli.rs", "use crate::linux::Kernel;", "src/cli.rs:1: cli must not import linux"),
        ("main.rs", "pontoon::linux::run()", "src/main.rs:1: main must not import linux"),
    ] {
        assert_eq!(layers(&Source::new(path, text)), [complaint], "{path}: {text}");
    }
    assert!(layers(&Source::new("extra/mod.rs", ""))[0].contains("extra is in no layer"));
}

#[test]
fn the_rule_of_layers_accepts_valid_imports() {
    for (path, text) in [
        ("app.rs", "use crate::{linux, driver};"),
        ("linux/firewall/mod.rs", "use crate::datapath::Step; use super::tlv; use super::super::linux::tlv;"),
        ("linux/firewall/expr.rs", "use super::super::tlv; use crate::linux::tlv;"),
        ("server/mod.rs", "use crate::{api::Method, driver, metrics};"),
        ("api/mod.rs", "//! see crate::model\nconst A: &str = \"crate::model\"; /* crate::state */"),
        ("api/mod.rs", "#[cfg(test)]\nmod tests { use crate::driver; }"),
        ("api/mod.rs", "pub(crate) fn a() {} use other_crate::model; use a::crate_::model;"),
    ] {
        assert_eq!(layers(&Source::new(path, text)), [""; 0], "{path}: {text}");
    }
}

#[test]
fn the_rule_of_the_protocol_fails_when_it_should() {
    let of = |path: &str| protocol(&Source::new(path, "// libnetwork_plugin\nuse libnetwork_plugin::Server;")).len();
    assert_eq!((of("driver/mod.rs"), of("metrics.rs"), of("main.rs")), (1, 1, 1));
    assert_eq!((of("api.rs"), of("server/mod.rs"), of("app/standby.rs")), (0, 0, 0));
    let in_crate = Source::new("crates/a/src/b.rs", "\nuse libnetwork_plugin::Server;");
    assert!(protocol(&in_crate)[0].starts_with("crates/a/src/b.rs:2: "));
}

#[test]
fn the_rule_of_gates_fails_when_it_should() {
    for bad in ["mod tests;", "pub mod store_tests;", "#[cfg(test)] mod fake;\nmod tests {}"] {
        assert_eq!(gates(&Source::new("a.rs", bad)).len(), 1, "{bad}");
    }
    for good in
        ["#[cfg(test)]\nmod tests;", "#[cfg(test)]\n#[path = \"b.rs\"]\nmod tests;", "mod contests; mod testsuite;"]
    {
        assert_eq!(gates(&Source::new("a.rs", good)), [""; 0], "{good}");
    }
    for path in ["state/tests/mod.rs", "state/tests/a.rs", "state/tests.rs", "state/store_tests.rs"] {
        assert_eq!(protocol(&Source::new(path, "use libnetwork_plugin;")), [""; 0], "{path}");
    }
}

#[test]
fn the_rule_of_length_fails_when_it_should() {
    let long = Source::new("a.rs", &"x\n".repeat(LONGEST + 1));
    let short = Source::new("a.rs", &"x\n".repeat(LONGEST));
    assert_eq!((length(&short, &[]).len(), length(&long, &[]).len()), (0, 1));
    assert_eq!((length(&short, &[("a.rs", "why")]).len(), length(&long, &[("a.rs", "why")]).len()), (1, 0));
}

#[test]
fn comments_literals_and_tests_are_not_code() {
    let name = "libnetwork_plugin";
    for good in [
        format!("// {name}\n/* /* {name} */ {name} */"),
        format!("const A: &str = \"\\\"{name}\"; const B: &str = r#\"\"{name}\"#; const C: char = '\"';"),
        format!("#[cfg(test)]\nmod tests {{ use {name}; }}"),
    ] {
        assert_eq!(protocol(&Source::new("a.rs", &good)), [""; 0], "{good}");
    }
    // Code after a test item counts as code.
    for test in ["#[cfg(test)]\nmod fake;", "#[cfg(test)]\nfn a(b: [u8; 2]) {}", "#[cfg(test)]\nuse a::{b, c};"] {
        let complaints = protocol(&Source::new("a.rs", &format!("{test}\nfn c<'a>() {{ {name}::b() }}")));
        assert_eq!(complaints.len(), 1, "{test}");
    }
}
