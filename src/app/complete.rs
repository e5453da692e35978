//! `pontoon complete`, which the completion scripts of shells call: commands and flags from the definition of the command
//! line, names from the engine. Whatever fails offers nothing, and prints nothing.

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::{Candidates, Cli, Complete, Wanted, candidates};
use crate::names::Names;
use crate::{engine, output};

/// What the scripts read as: complete a file name.
const FILES: &str = ":files";

/// Prints what may stand in place of the last word, one per line.
pub fn run(options: &Complete) {
    let mut command = Cli::command();
    command.build();
    let typed = options.words.last().map_or("", String::as_str);
    let Candidates { mut words, wanted, given } = candidates(&command, &options.words);
    match wanted {
        Some(Wanted::File) => words.push(FILES.to_owned()),
        Some(kind) => {
            let socket = given.get("docker").map_or(engine::SOCKET, String::as_str);
            words.extend(names(&Names::ask(Path::new(socket)), kind, typed));
        }
        None => {}
    }
    words.iter().for_each(output::line);
}

/// Names that begin with what is typed. A name with a character that means something to a shell has to be typed.
fn names(known: &Names, kind: Wanted, typed: &str) -> Vec<String> {
    let mut names: Vec<&str> = known.containers.iter().map(|container| container.name.as_str()).collect();
    match kind {
        Wanted::Party => names.push("host"),
        _ => names.extend(known.networks.values().map(String::as_str)),
    }
    let is_plain = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter(is_plain).filter(|name| name.starts_with(typed)).map(str::to_owned).collect()
}
