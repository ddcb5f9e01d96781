//! The `quorate` command.
//!
//! stdout is data, stderr everything else. Exit codes: 0 ok; 1 refused by the service; 2 usage or configuration; 3 no
//! quorum in time, or a refusal that need not last: outcome unknown, the signed request saved; 4 verification failed; 130
//! interrupted.
//!
//! | module | what it is |
//! |---|---|
//! | [`arguments`] | flags, variables, help |
//! | [`session`] | finding the cluster, connecting, waiting, Ctrl-C |
//! | [`report`] | text and JSON on stdout |
//! | [`failure`] | exit codes and sentences |
//! | the others | one command each |

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use serde_json::json;

pub mod arguments;
pub mod failure;
pub mod report;
pub mod session;

mod client_key;
mod key_value;
mod replay;
mod shell;
mod status;
mod txn;
mod verify;
mod watch;

use arguments::{Arguments, Command};
use failure::Failure;
use report::Report;
use session::Session;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging(arguments.connection.verbose);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// Diagnostics go to stderr: accusations always, more with each `-v` or as `QUORATE_LOG` says.
fn start_logging(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = match verbose {
        0 => "off,quorate_client=error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("QUORATE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // Only this process's own subscriber; a second call in one process changes nothing.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let report = Report { json: arguments.json };
    match &arguments.command {
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "quorate", &mut script);
            let text = String::from_utf8_lossy(&script);
            return report.both(text.trim_end(), &json!({"v": 1, "shell": shell.to_string(), "script": text}));
        }
        Some(Command::Verify(verify)) => return verify.run(&arguments.connection, report),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::configuration(format!("the system gave no event loop: {error}")))?;
    let outcome = runtime.block_on(connected(&arguments, report));
    // A thread may wait for standard input; nothing depends on it.
    runtime.shutdown_background();
    outcome
}

/// Runs a command that needs a cluster.
async fn connected(arguments: &Arguments, report: Report) -> Result<(), Failure> {
    let admin = matches!(arguments.command, Some(Command::ClientKey(_)));
    match (&arguments.command, &arguments.connection.request) {
        (None, Some(_)) | (Some(_), None) => (),
        (Some(_), Some(_)) => {
            return Err(Failure::configuration(
                "--request FILE sends a saved request and takes no command; leave the command out".to_owned(),
            ));
        }
        (None, None) => {
            return Err(Failure::configuration(
                "a command is missing; `quorate --help` lists them, for example `quorate get greeting`".to_owned(),
            ));
        }
    }
    let input = match &arguments.command {
        Some(command) => command.read_input()?,
        None => None,
    };
    let session = Session::open(&arguments.connection, report, admin).await?;
    let work = async {
        match (&arguments.command, &arguments.connection.request) {
            (None, Some(file)) => replay::run(&session, file).await,
            (Some(Command::Shell), _) => shell::run(&session).await,
            (Some(command), _) => command.run(&session, input).await,
            (None, None) => Ok(()),
        }
    };
    let outcome = session::interruptible(&session, work).await;
    session.close().await;
    outcome
}

impl Command {
    /// What the command reads before anything is connected, so that a mistake there costs nothing.
    fn read_input(&self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Command::Put(put) => put.read_value().map(Some),
            Command::Txn(txn) => txn.read_text().map(Some),
            _ => Ok(None),
        }
    }

    /// Runs a command on a connected cluster.
    async fn run(&self, session: &Session, input: Option<Vec<u8>>) -> Result<(), Failure> {
        let input = input.unwrap_or_default();
        match self {
            Command::Put(put) => put.run(session, input).await,
            Command::Get(get) => get.run(session).await,
            Command::Del(del) => del.run(session).await,
            Command::Cas(cas) => cas.run(session).await,
            Command::Txn(txn) => txn.run(session, &input).await,
            Command::Watch(watch) => watch.run(session).await,
            Command::Status => status::run(session).await,
            Command::ClientKey(client_key) => client_key.run(session).await,
            Command::Shell | Command::Verify(_) | Command::Completions { .. } => {
                Err(Failure::configuration("this command does not run inside the shell".to_owned()))
            }
        }
    }
}
