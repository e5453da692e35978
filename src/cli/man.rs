//! The manual page, from the definition of the commands (man(7)).

use std::collections::BTreeMap;

use clap::{Arg, Command};

/// Options of at least so many commands are described once for all.
const COMMON: usize = 5;

/// What follows the commands.
const REST: &str = ".SH EXIT STATUS
.TP
.B 0
All is well, or the command has done what it was asked for.
.TP
.B 1
Something is degraded, or the command failed.
.TP
.B 2
The daemon does not answer, something is broken, or the command line is wrong.
.TP
.B 3
The command could not look: there is no verdict.
.SH FILES
.TP
.I /run/docker/plugins/pontoon.sock
The plugin socket of the daemon that systemd starts.
.TP
.I /run/pontoon/status.sock
Its status socket, for root and members of group pontoon.
.TP
.I /var/lib/pontoon
Its state.
.SH SEE ALSO
.BR docker (1),
.BR nft (8),
.BR ip (8)
";

/// The page of the program, in section 8. Needs a built command.
pub fn page(root: &Command) -> String {
    let mut all: BTreeMap<(String, String), usize> = BTreeMap::new();
    count(root, &mut all);
    let is_common = |arg: &Arg| all.get(&identity(arg)).is_some_and(|number| *number >= COMMON);
    let name = root.get_name();
    let about = root.get_about().map(ToString::to_string).unwrap_or_default();
    let version = root.get_version().unwrap_or_default();
    let mut text = format!(".TH {} 8 \"\" \"{name} {}\"\n", name.to_uppercase(), escaped(version));
    text += &format!(".SH NAME\n{name} \\- {}\n", escaped(about.trim_end_matches('.')));
    text += &format!(".SH SYNOPSIS\n.B {name}\n.I COMMAND\n[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]\n");
    text += ".SH COMMANDS\n";
    let mut shared: Vec<&Arg> = Vec::new();
    commands(root, name, &mut |path, command| {
        text += &section(path, command);
        for arg in shown(command) {
            match is_common(arg) {
                false => text += &entry(arg),
                true if shared.iter().all(|other| identity(other) != identity(arg)) => shared.push(arg),
                true => {}
            }
        }
    });
    shared.sort_by_key(|arg| arg.get_long());
    text += ".SH COMMON OPTIONS\nWhere the synopsis of a command lists them.\n";
    text.extend(shared.into_iter().map(entry));
    text + REST
}

fn identity(arg: &Arg) -> (String, String) {
    (arg.get_id().to_string(), help(arg))
}

fn count(command: &Command, all: &mut BTreeMap<(String, String), usize>) {
    shown(command).for_each(|arg| *all.entry(identity(arg)).or_default() += 1);
    command.get_subcommands().for_each(|sub| count(sub, all));
}

/// Calls `visit` for each command that does something, with its name.
fn commands<'a>(command: &'a Command, path: &str, visit: &mut impl FnMut(&str, &'a Command)) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        if sub.has_subcommands() {
            commands(sub, &path, visit);
        } else {
            visit(&path, sub);
        }
    }
}

fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
}

fn section(path: &str, command: &Command) -> String {
    let words: Vec<String> = shown(command)
        .map(|arg| match (arg.is_positional(), arg.is_required_set()) {
            (true, true) => signature(arg),
            (true, false) => format!("[{}]", signature(arg)),
            (false, true) => signature(arg),
            (false, false) => format!("[{}]", signature(arg)),
        })
        .collect();
    let about = sentence(command.get_about().map(ToString::to_string).unwrap_or_default());
    format!(".SS {}\n.B {}\n{}\n.PP\n{}\n", escaped(path), escaped(path), words.join("\n"), line(&about))
}

/// An argument as it is typed.
fn signature(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let value = names.iter().map(|name| format!("\\fI{}\\fR", escaped(name))).collect::<Vec<_>>().join(" ");
    if arg.is_positional() {
        return value;
    }
    let long = arg.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", escaped(long)));
    let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fR"));
    let flag = [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let takes = arg.get_action().takes_values();
    match (takes, arg.is_require_equals_set(), arg.get_num_args().is_some_and(|number| number.min_values() == 0)) {
        (false, ..) => flag,
        (true, true, true) => format!("{flag}[={value}]"),
        (true, _, true) => format!("{flag} [{value}]"),
        (true, ..) => format!("{flag} {value}"),
    }
}

fn entry(arg: &Arg) -> String {
    let mut more = String::new();
    let values: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        more += &format!(" One of {}.", values.join(", "));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() && !arg.is_hide_default_value_set() && arg.get_action().takes_values() {
        more += &format!(" The default is {}.", defaults.join(" "));
    }
    if let Some(variable) = arg.get_env() {
        more += &format!(" Environment: {}.", variable.to_string_lossy());
    }
    format!(".TP\n{}\n{}\n", signature(arg), line(&format!("{}{more}", help(arg))))
}

/// The help of an argument, whose last period clap removed.
fn help(arg: &Arg) -> String {
    sentence(arg.get_help().map(ToString::to_string).unwrap_or_default())
}

fn sentence(text: String) -> String {
    if text.is_empty() || text.ends_with('.') { text } else { text + "." }
}

/// A text as a line of its own: a period or an apostrophe at its beginning is no request.
fn line(text: &str) -> String {
    format!("\\&{}", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\n', " ")
}
