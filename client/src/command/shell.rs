//! `shell`: a command a line, with one connection and one session for all. Quoting is that of
//! [`crate::transaction::words`].

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStringExt as _;

use clap::Parser;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::arguments::Command;
use super::failure::Failure;
use super::report::Report;
use super::session::Session;
use crate::transaction::words;

/// A line of the shell.
#[derive(Parser)]
#[command(
    name = "",
    no_binary_name = true,
    disable_version_flag = true,
    about = "put, get, del, cas, watch, status; exit ends"
)]
struct Line {
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let prompt = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        if prompt {
            anstream::eprint!("quorate> ");
        }
        let line = lines
            .next_line()
            .await
            .map_err(|error| Failure::configuration(format!("standard input cannot be read: {error}")))?;
        let Some(line) = line else { return Ok(()) };
        match line.trim() {
            "" => {}
            "exit" | "quit" => return Ok(()),
            line if line.starts_with('#') => {}
            line => {
                if let Err(failure) = execute(session, line).await {
                    failure.warn();
                }
            }
        }
    }
}

async fn execute(session: &Session, line: &str) -> Result<(), Failure> {
    let words = words::split(line).map_err(Failure::configuration)?;
    let words = words.into_iter().map(|word| OsString::from_vec(word.bytes));
    let line = match Line::try_parse_from(words) {
        Ok(line) => line,
        Err(error) => {
            // Help is an answer, everything else a mistake; clap words both.
            anstream::eprint!("{}", error.render());
            return Ok(());
        }
    };
    let needs_stdin = match &line.command {
        Command::Put(put) => put.value.is_none(),
        Command::Txn(txn) => txn.file.is_none(),
        _ => false,
    };
    if needs_stdin {
        return Err(Failure::configuration(
            "inside the shell, give the value, or the transaction's file, on the line".to_owned(),
        ));
    }
    let input = line.command.read_input()?;
    let session = session.with_report(Report { json: line.json || session.report.json });
    Box::pin(line.command.run(&session, input)).await
}
