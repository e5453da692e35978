//! The `pontoon` program: reads the command line, runs one command, turns its result into an
//! exit code.

use std::process::ExitCode;

use pontoon::app::inspect;
use pontoon::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::read().command {
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
