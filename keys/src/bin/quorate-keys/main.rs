//! The `quorate-keys` command: makes and shows key files, writes the genesis file, checks both.
//!
//! Exit codes: 0 ok; 2 usage or configuration; 4 a key or genesis is refused; 130 interrupted at a prompt.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::json;

mod check;
mod genesis;
mod new;
mod outcome;
mod show;

use outcome::{Failure, Report};

/// Makes and checks the keys and the genesis file of a Quorate cluster.
#[derive(Parser)]
#[command(name = "quorate-keys", version, after_long_help = EXAMPLE, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLE: &str = "\
Example: a cluster of four
  quorate-keys new node0.key          # likewise node1.key, node2.key, node3.key, each on its own machine
  quorate-keys new admin.key --client --encrypt
  quorate-keys genesis --replica node0.pub@a.example:7400 --replica node1.pub@b.example:7400 \\
      --replica node2.pub@c.example:7400 --replica node3.pub@d.example:7400 --admin admin.pub -o genesis.toml
  quorate-keys check genesis.toml node0.key

Exit codes: 0 ok; 2 usage or configuration; 4 a key or genesis is refused; 130 interrupted.";

#[derive(Subcommand)]
enum Command {
    /// Make a new key file and its public half.
    New(new::New),
    /// Show the public keys and the fingerprint of a key file or public file.
    Show(show::Show),
    /// Put public halves together into a genesis file.
    Genesis(genesis::MakeGenesis),
    /// Check key files, public files and genesis files.
    Check(check::Check),
    /// Print a completion script for a shell.
    #[command(
        after_long_help = "Example:\n  quorate-keys completions bash > ~/.local/share/bash-completion/completions/quorate-keys"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let report = Report { json: arguments.json };
    match arguments.command {
        Command::New(command) => command.run(report),
        Command::Show(command) => command.run(report),
        Command::Genesis(command) => command.run(report),
        Command::Check(command) => command.run(report),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "quorate-keys", &mut script);
            let script = String::from_utf8_lossy(&script);
            report.print(script.trim_end(), json!({"v": 1, "shell": shell.to_string(), "script": script}))
        }
    }
}

fn main() -> ExitCode {
    // A core dump or a debugger of another process of this user must not see secrets. Best effort.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.sentence);
            ExitCode::from(failure.code)
        }
    }
}
