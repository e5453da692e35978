//! The `pontoon` program: reads the command line, runs one command, turns its result into an
//! exit code.

use std::process::ExitCode;

use pontoon::app::inspect;
use pontoon::cli::{Cli, Command};

/// For a command that could not look: neither well nor ill.
const BLIND: u8 = 3;

fn main() -> ExitCode {
    let command = Cli::read().command;
    let looks = matches!(
        command,
        Command::Doctor(_) | Command::Check(_) | Command::Plan(_) | Command::Repair(_) | Command::Gc(_)
    );
    if looks && !pontoon::doctor::look::may_look() {
        eprintln!(
            "pontoon: the kernel shows its firewall and its links' state to root alone: run this command as root"
        );
        return ExitCode::from(BLIND);
    }
    match command {
        Command::Serve(options) => finish(pontoon::app::serve(options)),
        Command::Ports(options) => finish(pontoon::ports::run(&options)),
        Command::Doctor(options) => ExitCode::from(inspect::doctor(&options, true)),
        Command::Check(options) => ExitCode::from(inspect::doctor(&options, false)),
        Command::Plan(options) => finish(inspect::show_plan(&options)),
        Command::Repair(options) => finish(inspect::repair(&options)),
        Command::Vip(options) => finish(pontoon::app::vip::run(options)),
        Command::Gc(options) => finish(inspect::gc(&options)),
        Command::Options => {
            print!("{}", pontoon::model::options::markdown());
            ExitCode::SUCCESS
        }
    }
}

fn finish<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pontoon: {error}");
            ExitCode::FAILURE
        }
    }
}
