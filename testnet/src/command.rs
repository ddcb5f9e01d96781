//! The `quorate-testnet` command.
//!
//! stdout is data, stderr everything else. Exit codes: 0 ok; 1 refused by the service; 2 usage or configuration; 3 no
//! quorum in time; 5 a scenario's expectation failed; 130 interrupted.
//!
//! | module | what it is |
//! |---|---|
//! | [`arguments`] | flags, variables, help |
//! | `up` | starting, and the line that goes on while it runs |
//! | `screen` | tables, steps, colour |
//! | `status`, `turning`, `processes`, `logs`, `evidence`, `attack`, `bench`, `drill`, `gauntlet`, `run`, `fuzz`, `compare` | the other commands |

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;
use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use serde_json::json;

use crate::launcher::{Directory, LaunchError};

pub mod arguments;

mod attack;
mod bench;
mod compare;
mod drill;
mod evidence;
mod gauntlet;
mod logs;
pub(crate) mod measure;
mod processes;
pub mod run;
mod screen;
mod status;
mod turning;
mod up;

use arguments::{Arguments, Command};

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::read();
    let named = arguments.dir_is_given.then(|| arguments.dir.clone());
    let (directory, report) = (arguments.directory(), Report { json: arguments.json });
    let outcome = match arguments.command {
        Command::Replica(replica) => {
            return crate::launcher::host::run(&directory, replica.id(), &replica.behaviours);
        }
        Command::Simulate(simulate) => {
            return match simulate.run() {
                Ok(code) => ExitCode::from(code),
                Err(error) => Failure::configuration(format!("{error:#}")).tell(),
            };
        }
        Command::Fuzz(fuzz) => return ExitCode::from(fuzz.run()),
        Command::Completions { shell } => completions(shell, report),
        Command::Logs(logs) => logs.run(&directory),
        Command::Faults => turning::catalogue(report),
        command => in_runtime(command, &directory, named, report),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn completions(shell: clap_complete::Shell, report: Report) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "quorate-testnet", &mut script);
    let text = String::from_utf8_lossy(&script);
    report.both(text.trim_end(), &json!({"v": 1, "shell": shell.to_string(), "script": text}))
}

/// Runs a command that waits for sockets: one thread is enough, and takes least from the replicas.
fn in_runtime(command: Command, directory: &Directory, named: Option<PathBuf>, report: Report) -> Result<(), Failure> {
    start_logging();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::configuration(format!("the system gave no event loop: {error}")))?;
    runtime.block_on(async {
        match command {
            // These have their own idea of what Ctrl-C means.
            Command::Up(up) => up.run(directory, report).await,
            Command::Drill(drill) => drill::run(&drill, named, report).await,
            Command::Gauntlet(gauntlet) => gauntlet::run(&gauntlet, named, report).await,
            Command::Compare(compare) => compare.run(report).await,
            Command::Run(run) => run.run(named, report).await,
            command => tokio::select! {
                outcome = connected(command, directory, report) => outcome,
                _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
            },
        }
    })
}

async fn connected(command: Command, directory: &Directory, report: Report) -> Result<(), Failure> {
    match command {
        Command::Status => status::run(directory, report).await,
        Command::Fault(fault) => fault.run(directory, report).await,
        Command::Kill(one) => processes::kill(directory, one.id, report),
        Command::Pause(one) => processes::pause(directory, one.id, report),
        Command::Resume(one) => processes::resume(directory, one.id, report),
        Command::Wipe(one) => processes::wipe(directory, one.id, report).await,
        Command::Restart(restart) => processes::restart(directory, &restart, report).await,
        Command::Down(down) => processes::down(directory, &down, report),
        Command::Evidence(evidence) => evidence.run(directory, report),
        Command::Attack(attack) => attack.run(directory, report).await,
        Command::Bench(bench) => bench.run(directory, report).await,
        Command::Up(_)
        | Command::Drill(_)
        | Command::Gauntlet(_)
        | Command::Compare(_)
        | Command::Run(_)
        | Command::Logs(_)
        | Command::Faults
        | Command::Simulate(_)
        | Command::Fuzz(_)
        | Command::Completions { .. }
        | Command::Replica(_) => Err(Failure::configuration("this command needs no event loop".to_owned())),
    }
}

/// Diagnostics of the libraries go to stderr, as `QUORATE_LOG` says.
fn start_logging() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("QUORATE_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    // Only this process's own subscriber; a second call in one process changes nothing.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// Everything the launcher reports is usage or configuration.
fn launch_failure(error: LaunchError) -> Failure {
    Failure::configuration(error.to_string())
}
