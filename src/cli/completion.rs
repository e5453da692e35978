//! Completion: what may follow on a command line, from the definition of the commands. The scripts for shells ask for it
//! with the hidden command `complete`, so that they know no command themselves.

use std::collections::BTreeMap;

use clap::{Arg, Args, Command, ValueEnum};

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// Its script.
    pub fn script(self) -> &'static str {
        match self {
            Shell::Bash => include_str!("../../plugin/completions/pontoon.bash"),
            Shell::Zsh => include_str!("../../plugin/completions/pontoon.zsh"),
            Shell::Fish => include_str!("../../plugin/completions/pontoon.fish"),
        }
    }
}

/// Which script to print.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell.
    pub shell: Shell,
}

/// What is typed so far.
#[derive(Debug, Clone, Args)]
pub struct Complete {
    /// The words after `pontoon`; the last one is to be completed, and may be empty.
    #[arg(value_name = "WORD", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// What may stand in place of the last word.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Commands, flags and values that begin like it.
    pub words: Vec<String>,
    /// What else, which the definition does not know.
    pub wanted: Option<Wanted>,
    /// Values of flags before it, by the flags' names.
    pub given: BTreeMap<String, String>,
}

/// What the definition of the commands does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A file.
    File,
    /// A container or a network.
    Object,
    /// A container or the host.
    Party,
}

/// What may stand in place of the last word.
pub fn candidates(root: &Command, words: &[String]) -> Candidates {
    let Some((last, before)) = words.split_last() else { return Candidates::default() };
    let (mut command, mut position, mut given) = (root, 0, BTreeMap::new());
    // The flag whose value is next, and the flag that the next `=` belongs to: bash makes it a word.
    let (mut awaited, mut latest): (Option<&Arg>, Option<&Arg>) = (None, None);
    for word in before {
        if word == "=" {
            awaited = latest.take();
        } else if let Some(arg) = awaited.take() {
            given.insert(arg.get_id().to_string(), word.clone());
        } else if let Some((arg, value)) = flag(command, word) {
            match value {
                Some(value) => drop(given.insert(arg.get_id().to_string(), value.to_owned())),
                None => (awaited, latest) = (Some(arg).filter(|arg| needs_value(arg)), Some(arg)),
            }
        } else if let Some(sub) = command.find_subcommand(word) {
            (command, position) = (sub, 0);
        } else {
            position += 1;
        }
    }
    let (typed, awaited) = if last == "=" { ("", latest) } else { (last.as_str(), awaited) };
    let (mut offered, mut wanted) = (Vec::new(), None);
    if let Some(arg) = awaited {
        (offered, wanted) = values(arg);
    } else if typed.starts_with('-') {
        offered =
            command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long).map(long).collect();
    } else {
        let subs = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        offered.extend(subs.map(|sub| sub.get_name().to_owned()));
        if let Some(arg) = command.get_positionals().nth(position) {
            let (more, other) = values(arg);
            offered.extend(more);
            wanted = match arg.get_value_names().and_then(<[_]>::first).map(|name| name.as_str()) {
                Some("NAME") => Some(Wanted::Object),
                Some("FROM" | "TO[:PORT[/PROTOCOL]]") => Some(Wanted::Party),
                _ => other,
            };
        }
    }
    offered.retain(|word| word.starts_with(typed));
    Candidates { words: offered, wanted, given }
}

fn long(name: &str) -> String {
    format!("--{name}")
}

/// The flag that a word is, with the value after `=`.
fn flag<'a, 'w>(command: &'a Command, word: &'w str) -> Option<(&'a Arg, Option<&'w str>)> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let is_it = |arg: &&Arg| match name.strip_prefix("--") {
        Some(name) => arg.get_long() == Some(name),
        None => name.strip_prefix('-').is_some_and(|c| arg.get_short().is_some_and(|short| c == short.to_string())),
    };
    Some((command.get_arguments().find(is_it)?, value))
}

fn needs_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && arg.get_num_args().is_none_or(|number| number.min_values() > 0)
}

/// What the definition knows of an argument's values.
fn values(arg: &Arg) -> (Vec<String>, Option<Wanted>) {
    let words = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let names = arg.get_value_names().unwrap_or_default();
    let is_path = names.iter().any(|name| ["PATH", "DIR", "FILE", "PATH|none"].contains(&name.as_str()));
    (words, is_path.then_some(Wanted::File))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn of(line: &str) -> Candidates {
        let mut command = Cli::command();
        command.build();
        candidates(&command, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn commands_flags_and_values_are_offered() {
        assert_eq!(of("insp").words, ["inspect"]);
        assert!(of("").words.len() > 20 && !of("").words.contains(&"complete".to_owned()));
        assert_eq!(of("policy s").words, ["show", "set"]);
        assert_eq!(of("ls --wat").words, ["--watch"]);
        assert_eq!(of("ls -o ").words, ["table", "wide", "json", "yaml"]);
        assert_eq!(of("ls --output = j").words, ["json"]);
        assert_eq!(of("completions b").words, ["bash"]);
        assert_eq!(of("nothing --x").words, [""; 0]);
        assert_eq!(candidates(&Cli::command(), &[]), Candidates::default());
    }

    #[test]
    fn the_place_says_what_else_is_wanted() {
        let wanted = |line: &str| of(line).wanted;
        assert_eq!((wanted("inspect we"), wanted("policy show ")), (Some(Wanted::Object), Some(Wanted::Object)));
        assert_eq!(
            (wanted("explain "), wanted("explain web "), wanted("explain web db ")),
            (Some(Wanted::Party), Some(Wanted::Party), None)
        );
        assert_eq!(
            (wanted("ls --docker "), wanted("ls --docker x "), wanted("inspect --json ")),
            (Some(Wanted::File), None, Some(Wanted::Object))
        );
        assert_eq!(of("inspect --docker /a --output=json ").given["docker"], "/a");
    }
}
