//! The `pontoon` program: reads the command line, runs one command, turns its result into an
//! exit code.

use std::process::ExitCode;

use clap::Parser;
use pontoon::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(options) => match pontoon::app::serve(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("pontoon: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Options => {
            print!("{}", pontoon::model::options::markdown());
            ExitCode::SUCCESS
        }
    }
}
