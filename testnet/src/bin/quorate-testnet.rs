//! The `quorate-testnet` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quorate_testnet::sim::command::Simulate;

/// A cluster on one machine in which any replica can be made to lie, and the simulator that looks for what breaks.
#[derive(Debug, Parser)]
#[command(name = "quorate-testnet", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Simulate(Simulate),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Simulate(simulate) => simulate.run(),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
