//! The rules of naming (design, section 10), checked over src/ and over synthetic text that breaks them.

use pontoon::api::Method;
use testkit::source::{Source, all, is_word, word, workspace};

/// Module names that do not describe the content.
const EMPTY_MODULES: [&str; 9] = ["utils", "util", "helpers", "helper", "common", "manager", "core", "misc", "shared"];

/// Function name prefixes that say only that something happens.
const EMPTY_VERBS: [&str; 3] = ["handle_", "process_", "do_"];

/// Identifiers that follow `keyword` in the code, each with its position.
fn named<'a>(source: &'a Source, keyword: &str) -> Vec<(usize, &'a str)> {
    let code = &source.code;
    let starts = code.match_indices(keyword).filter(|(at, _)| !code[..*at].ends_with(is_word));
    let names = starts.map(|(at, _)| (at, &code[at + keyword.len()..]));
    names.filter(|(_, rest)| rest.starts_with(' ')).map(|(at, rest)| (at, word(rest.trim_start()))).collect()
}

fn modules(source: &Source) -> Vec<String> {
    let path = source.modules().into_iter().map(|name| (0, name));
    let found = path.chain(named(source, "mod")).filter(|(_, name)| EMPTY_MODULES.contains(name));
    found.map(|(at, name)| format!("{}: a module called {name} has no topic", source.place(at))).collect()
}

fn functions(source: &Source) -> Vec<String> {
    let found =
        named(source, "fn").into_iter().filter(|(_, name)| EMPTY_VERBS.iter().any(|verb| name.starts_with(verb)));
    found.map(|(at, name)| format!("{}: name {name} by what it achieves", source.place(at))).collect()
}

/// `...Request` and `...Response` are types of the engine's protocol, and are defined in api only. A bare `Request` is
/// allowed: netlink has them, too.
fn wire_types(source: &Source) -> Vec<String> {
    let types = ["struct", "enum", "type"].into_iter().flat_map(|keyword| named(source, keyword));
    let found = types.filter(|(_, name)| ["Request", "Response"].iter().any(|end| name.ends_with(end) && name != end));
    let found = found.filter(|_| source.unit() != "api");
    found.map(|(at, name)| format!("{}: {name} belongs in api, or needs another name", source.place(at))).collect()
}

fn complain(files: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn modules_are_nouns() {
    complain(&workspace(), modules);
}

#[test]
fn functions_say_what_they_achieve() {
    complain(&workspace(), functions);
}

#[test]
fn requests_and_responses_are_in_api() {
    complain(&all(), wire_types);
}

#[test]
fn a_method_has_one_name_everywhere() {
    for (method, path, name) in Method::ALL {
        let tail = path.rsplit('.').next().unwrap();
        let mut snake = String::new();
        for c in tail.chars() {
            if c.is_ascii_uppercase() && !snake.is_empty() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        }
        // Both halves of the protocol have a GetCapabilities; the variant and the function of the IPAM half have a
        // different name.
        let expected = match method {
            Method::IpamGetCapabilities => format!("ipam_{snake}"),
            _ => snake,
        };
        assert_eq!(name, expected, "{path}");
        assert!(format!("{method:?}").ends_with(tail), "{method:?} {path}");
    }
}

#[test]
fn the_rules_of_naming_fail_when_they_should() {
    let of = |path: &str, text: &str| {
        let source = Source::new(path, text);
        (modules(&source).len(), functions(&source).len(), wire_types(&source).len())
    };
    for name in EMPTY_MODULES {
        assert_eq!(of(&format!("{name}.rs"), ""), (1, 0, 0));
        assert_eq!(of(&format!("driver/{name}/mod.rs"), ""), (1, 0, 0));
        assert_eq!(of("driver/mod.rs", &format!("pub(crate) mod {name} {{}}")), (1, 0, 0));
    }
    assert_eq!(of("driver/mod.rs", "async fn handle_join() {} fn do_it() {} fn process_all() {}"), (0, 3, 0));
    assert_eq!(
        of("driver/mod.rs", "pub struct JoinRequest; enum XResponse {} type YRequest<'a> = &'a str;"),
        (0, 0, 3)
    );
    assert_eq!(of("api/mod.rs", "pub struct JoinRequest;"), (0, 0, 0));
    assert_eq!(of("linux/netlink.rs", "pub struct Request;"), (0, 0, 0));
    assert_eq!(
        of("driver/commons.rs", "fn domain() {} fn undo_all() {} // fn do_it()\nconst A: &str = \"mod utils\";"),
        (0, 0, 0)
    );
}
