//! `txn`.

use std::io::IsTerminal as _;
use std::path::Path;

use quorate_kv::limit::MAX_REQUEST_BYTES;
use quorate_kv::{TxnOutcome, TxnResponse};
use serde_json::{Value, json};

use super::arguments::Txn;
use super::failure::Failure;
use super::key_value::{fields, read_stdin};
use super::report::{Report, pair};
use super::session::Session;
use crate::transaction;

impl Txn {
    pub(super) fn read_text(&self) -> Result<Vec<u8>, Failure> {
        let text = match self.file.as_deref() {
            Some(path) if path != Path::new("-") => {
                let failed = |error| {
                    Failure::configuration(format!(
                        "{} cannot be read: {error}; name a file or use standard input",
                        path.display()
                    ))
                };
                if std::fs::metadata(path).map_err(failed)?.len() > MAX_REQUEST_BYTES as u64 {
                    return Err(Failure::configuration(format!(
                        "{} exceeds {MAX_REQUEST_BYTES} bytes; divide it",
                        path.display()
                    )));
                }
                std::fs::read(path).map_err(failed)?
            }
            _ => {
                if std::io::stdin().is_terminal() {
                    anstream::eprintln!(
                        "comparisons, an empty line, what to do if they hold, an empty line, what to do else; then Ctrl-D"
                    );
                }
                read_stdin("a transaction")?
            }
        };
        // A mistake is told before anything is connected.
        parse(&text).map(|_| text)
    }

    pub(super) async fn run(&self, session: &Session, text: &[u8]) -> Result<(), Failure> {
        let written = session.wait(session.client.txn(parse(text)?)).await?;
        let response = &written.response;
        if session.report.json {
            let more = json!({"succeeded": response.succeeded, "responses": responses(response)});
            session.report.value(&fields(&written, more))?;
        } else {
            print(session.report, response)?;
        }
        if self.fail && !response.succeeded {
            return Err(Failure::refused("the comparisons failed".to_owned()));
        }
        Ok(())
    }
}

fn parse(text: &[u8]) -> Result<quorate_kv::TxnRequest, Failure> {
    let text = std::str::from_utf8(text)
        .map_err(|_| Failure::configuration("the transaction is not UTF-8; write other bytes as \\xHH".to_owned()))?;
    transaction::parse(text).map_err(|error| Failure::configuration(error.to_string()))
}

/// The answers of a transaction as JSON.
pub(super) fn responses(response: &TxnResponse) -> Vec<Value> {
    response
        .responses
        .iter()
        .map(|outcome| match outcome {
            TxnOutcome::Put(_) => json!({"type": "put"}),
            TxnOutcome::Range(range) => {
                let kvs: Vec<Value> = range.kvs.iter().map(|kv| pair(kv, false)).collect();
                json!({"type": "get", "kvs": kvs, "count": range.count, "more": range.more})
            }
            TxnOutcome::Delete(delete) => json!({"type": "del", "deleted": delete.deleted}),
        })
        .collect()
}

/// As etcdctl prints it: the word, and after an empty line each answer.
pub(super) fn print(report: Report, response: &TxnResponse) -> Result<(), Failure> {
    report.bytes(if response.succeeded { b"SUCCESS" } else { b"FAILURE" })?;
    for outcome in &response.responses {
        report.bytes(b"")?;
        match outcome {
            TxnOutcome::Put(_) => report.bytes(b"OK")?,
            TxnOutcome::Range(range) => {
                for kv in &range.kvs {
                    report.bytes(&kv.key)?;
                    report.bytes(&kv.value)?;
                }
            }
            TxnOutcome::Delete(delete) => report.bytes(delete.deleted.to_string().as_bytes())?,
        }
    }
    Ok(())
}
