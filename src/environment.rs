//! Reads settings from environment variables. An invalid variable does not prevent the start. An invalid flag
//! ends the program, because its user sees the error; a variable comes from a file or from `docker plugin set`,
//! where no user would see it.

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, Error, parser::ValueSource};

/// A variable whose value cannot be read. The setting has its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// For instance `PONTOON_LOG`.
    pub variable: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
}

/// Ignores variables that are empty, because `docker plugin set` can empty a variable but not remove it, and
/// those that cannot be read. Returns the latter, each with the subcommand that uses it.
pub fn forget_unreadable(command: Command) -> (Command, Vec<(String, Unreadable)>) {
    let bare = command.clone().mut_subcommands(|sub| sub.mut_args(|arg| arg.env(Resettable::Reset)));
    let mut unreadable = Vec::new();
    let command = command.mut_subcommands(|sub| {
        let name = sub.get_name().to_owned();
        sub.mut_args(|arg| {
            let Some(value) = arg.get_env().and_then(std::env::var_os) else { return arg };
            if value.is_empty() {
                return arg.env(Resettable::Reset);
            }
            let Some(why) = complaint(&bare, &name, &arg, &value) else { return arg };
            let variable = arg.get_env().unwrap_or_default().to_string_lossy().into_owned();
            unreadable.push((name.clone(), Unreadable { variable, value: value.to_string_lossy().into_owned(), why }));
            arg.env(Resettable::Reset)
        })
    });
    (command, unreadable)
}

/// Whether the setting was given as a flag, not by the environment or by default.
pub fn is_typed(matches: &ArgMatches, id: &str) -> bool {
    matches.subcommand().is_some_and(|(_, sub)| sub.value_source(id) == Some(ValueSource::CommandLine))
}

/// The parser's error for a value, as if it had been given as a flag.
fn complaint(bare: &Command, subcommand: &str, arg: &Arg, value: &OsStr) -> Option<String> {
    let mut flag = OsString::from(format!("--{}=", arg.get_long()?));
    flag.push(value);
    let typed = [OsString::from("pontoon"), OsString::from(subcommand), flag];
    words(&bare.clone().try_get_matches_from(typed).err()?)
}

/// A short reason; `None` when the error is not about the value.
fn words(error: &Error) -> Option<String> {
    match error.kind() {
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) if !valid.is_empty() => Some(format!("it takes {}", valid.join(", "))),
            _ => Some("it has no such value".to_owned()),
        },
        ErrorKind::ValueValidation => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            Some(cause.unwrap_or_else(|| "it has no such value".to_owned()))
        }
        ErrorKind::InvalidUtf8 => Some("it is not text".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn said(subcommand: &str, id: &str, value: &str) -> Option<String> {
        let bare = crate::cli::Cli::command().mut_subcommands(|sub| sub.mut_args(|arg| arg.env(Resettable::Reset)));
        let sub = bare.find_subcommand(subcommand).unwrap();
        let arg = sub.get_arguments().find(|arg| arg.get_id() == id).unwrap();
        complaint(&bare, subcommand, arg, OsStr::new(value))
    }

    #[test]
    fn what_is_wrong_with_a_value_is_told_in_a_line() {
        assert_eq!(said("serve", "log", "verbose").unwrap(), "it takes error, warn, info, debug, trace");
        assert_eq!(said("serve", "peers", "host2").unwrap(), "\"host2\" is not an address");
        assert_eq!(said("serve", "peers", "10.0.0.1,host2").unwrap(), "\"host2\" is not an address");
        for (id, value) in [
            ("log_format", "xml"),
            ("scope", "gloabl"),
            ("connectivity", "swarm"),
            ("vxlan_port", "0"),
            ("vxlan_port", "65536"),
            ("vxlan_port", "vxlan"),
            ("confine", "no"),
            ("default_address_pools", "10.0.0.0/8"),
            ("data_path", "a link of a name that is too long"),
        ] {
            let why = said("serve", id, value).unwrap_or_else(|| panic!("{id} takes {value}"));
            assert!(!why.contains('\n') && !why.is_empty(), "{why}");
        }
        assert_eq!(said("serve", "log", "debug"), None);
        assert_eq!(said("gc", "socket", "/x"), None, "what else is missing does not matter");
    }
}
