//! The `pontoon` program: parses the command line, runs one command, and converts its result to an exit code.

// Messages name the object and the remedy instead; clippy.toml lists the methods.
#![cfg_attr(
    not(test),
    warn(
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unwrap_used
    )
)]

use std::process::ExitCode;

use clap::CommandFactory as _;
use pontoon::app::{complete, inspect, policy, show, top};
use pontoon::cli::{self, Cli, Command};
use pontoon::output;

fn main() -> ExitCode {
    let code = match Cli::read() {
        Ok(cli) => run(cli.command),
        Err(code) => ExitCode::from(code),
    };
    if output::is_whole() { code } else { ExitCode::FAILURE }
}

fn run(command: Command) -> ExitCode {
    let looks = matches!(
        command,
        Command::Doctor(_)
            | Command::Check(_)
            | Command::Plan(_)
            | Command::Repair(_)
            | Command::Gc(_)
            | Command::Explain(_)
    );
    if looks && !pontoon::doctor::collect::may_look() {
        output::note(
            "pontoon: the kernel shows its firewall and its links' state to root alone: run this command as root",
        );
        return ExitCode::from(inspect::BLIND);
    }
    match command {
        Command::Serve(options) => finish(pontoon::app::serve(options)),
        Command::Ports(options) => finish(pontoon::ports::run(&options)),
        Command::Leases(list) => ExitCode::from(show::list(&list, show::Command::Leases)),
        Command::Status(list) => ExitCode::from(show::list(&list, show::Command::Status)),
        Command::Ls(list) => ExitCode::from(show::list(&list, show::Command::List)),
        Command::Inspect(one) => ExitCode::from(show::inspect(&one)),
        Command::Pools(list) => ExitCode::from(show::list(&list, show::Command::Pools)),
        Command::Peers(list) => ExitCode::from(show::list(&list, show::Command::Peers)),
        Command::Graph(options) => ExitCode::from(show::graph(&options)),
        Command::Top(options) => ExitCode::from(top::run(&options)),
        Command::Drops(options) => ExitCode::from(show::run_drops(&options)),
        Command::Events(options) => ExitCode::from(pontoon::app::events::run(&options)),
        Command::Health(options) => ExitCode::from(pontoon::app::health::run(&options)),
        Command::Version(view) => ExitCode::from(pontoon::app::health::run_version(&view)),
        Command::Explain(options) => ExitCode::from(pontoon::app::explain::run_explain(&options)),
        Command::Policy(options) => ExitCode::from(policy::run(&options.action)),
        Command::Doctor(options) => ExitCode::from(inspect::doctor(&options, true)),
        Command::Check(options) => ExitCode::from(inspect::doctor(&options, false)),
        Command::Plan(options) => looked(inspect::show_plan(&options)),
        Command::Repair(options) => looked(inspect::repair(&options)),
        Command::Vip(options) => finish(pontoon::app::vip::run(options)),
        Command::Gc(options) => looked(pontoon::app::gc::run(&options)),
        Command::Uninstall(options) => finish(pontoon::app::uninstall::run(&options)),
        Command::Options => printed(&pontoon::model::options::markdown()),
        Command::Completions(options) => printed(options.shell.script()),
        Command::Man => {
            let mut command = Cli::command();
            command.build();
            printed(&cli::page(&command))
        }
        Command::Complete(options) => {
            complete::run(&options);
            ExitCode::SUCCESS
        }
    }
}

fn printed(text: &str) -> ExitCode {
    output::print(text);
    ExitCode::SUCCESS
}

fn looked(result: Result<(), inspect::InspectError>) -> ExitCode {
    let code = result.as_ref().err().map(inspect::InspectError::code);
    let ended = finish(result);
    code.map_or(ended, ExitCode::from)
}

fn finish<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("pontoon: {error}"));
            ExitCode::FAILURE
        }
    }
}
