//! `--request FILE`: sends saved signed requests again, unchanged, and tells how they ended.

use std::path::Path;

use quorate_kv::{Operation as KeyValueOperation, OperationResult, Outcome, SERVICE};
use quorate_protocol::execution::{CONFIGURATION_SERVICE, ConfigurationOperation};
use quorate_protocol::request::Operation;
use serde_json::{Value, json};

use super::client_key::is_done;
use super::failure::Failure;
use super::key_value::{forgotten_line, swap_failure};
use super::report::{Report, executed_fields, pair, place};
use super::session::Session;
use super::txn;
use crate::client::Executed;
use crate::configuration;
use crate::error::ClientError;
use crate::key_value::swapped_key;
use crate::saved_request::SavedRequest;

pub(super) async fn run(session: &Session, file: &Path) -> Result<(), Failure> {
    let saved = SavedRequest::load(file, session.cluster).map_err(|error| Failure::configuration(error.to_string()))?;
    let operations = saved.requests.first().map(|request| request.content().operations.clone()).unwrap_or_default();
    let executed = match session.client.replay(saved.requests).await {
        Err(error) if error.to_replay().is_some() => {
            session.warn_of_accusations();
            let file = file.display();
            return Err(Failure::unknown(format!("{error}\nThe request is still in {file}; replay it again later.")));
        }
        outcome => session.wait(std::future::ready(outcome)).await?,
    };
    print(session.report, &executed, &operations)
}

/// How one operation ended, as the command that asked for it would tell.
struct Ended {
    /// What people are told beyond that it executed.
    text: Text,
    object: Value,
    /// Why the command fails.
    failure: Option<String>,
}

enum Text {
    Nothing,
    /// What the key-value service answered.
    Answer(OperationResult),
    /// What became of a client key.
    Key(String),
}

fn print(report: Report, executed: &Executed, operations: &[Operation]) -> Result<(), Failure> {
    if let Some(line) = forgotten_line(executed) {
        if operations.iter().any(may_fail) {
            return Err(ClientError::ResultsForgotten(executed.reply.seq).into());
        }
        let mut fields = executed_fields(executed, executed.reply.revision);
        fields.insert("results".to_owned(), Value::Null);
        return report.both(&line, &Value::Object(fields));
    }
    let mut ended = Vec::new();
    for (operation, result) in operations.iter().zip(executed.results()?) {
        ended.push(judge(operation, result)?);
    }
    if report.json {
        let objects = ended.iter().map(|ended| ended.object.clone()).collect();
        let mut fields = executed_fields(executed, executed.reply.revision);
        fields.insert("results".to_owned(), Value::Array(objects));
        report.value(&Value::Object(fields))?;
    } else {
        print_text(report, executed, &ended)?;
    }
    let failures: Vec<String> = ended.into_iter().filter_map(|ended| ended.failure).collect();
    if failures.is_empty() { Ok(()) } else { Err(Failure::refused(failures.join("; "))) }
}

/// Whether it may execute and fail all the same, so that only its result tells.
fn may_fail(operation: &Operation) -> bool {
    operation.service == CONFIGURATION_SERVICE || key_of_swap(operation).is_some()
}

/// The key, if this is what `cas` asks for.
fn key_of_swap(operation: &Operation) -> Option<Vec<u8>> {
    match KeyValueOperation::from_bytes(&operation.bytes) {
        Ok(KeyValueOperation::Txn(txn)) if operation.service == SERVICE => swapped_key(&txn).map(<[u8]>::to_vec),
        _ => None,
    }
}

fn judge(operation: &Operation, result: &[u8]) -> Result<Ended, Failure> {
    match operation.service {
        SERVICE => {
            let result = OperationResult::from_bytes(result)
                .map_err(|error| Failure::from(ClientError::Unreadable(error.to_string())))?;
            let object = object(&result);
            if let (Outcome::Txn(response), Some(key)) = (&result.outcome, key_of_swap(operation)) {
                return Ok(Ended { text: Text::Nothing, object, failure: swap_failure(&key, response) });
            }
            let failure = result.error().map(|error| format!("refused: {error}"));
            Ok(Ended { text: Text::Answer(result), object, failure })
        }
        CONFIGURATION_SERVICE => {
            let read = configuration::read_results(&[result.to_vec()])?;
            let changed = match ConfigurationOperation::from_bytes(&operation.bytes) {
                Some(ConfigurationOperation::AddClient { key, .. } | ConfigurationOperation::RemoveClient { key }) => {
                    Some(key)
                }
                _ => None,
            };
            let (Some(key), Some(result)) = (changed, read.first().copied()) else {
                let object = json!({"type": "configuration", "result": format!("{:?}", read.first())});
                return Ok(Ended { text: Text::Nothing, object, failure: None });
            };
            let (done, text) = (is_done(result), configuration::sentence(&key, result));
            let object = json!({"type": "configuration", "key": key.to_hex(), "done": done, "result": text});
            if done {
                Ok(Ended { text: Text::Key(text), object, failure: None })
            } else {
                Ok(Ended { text: Text::Nothing, object, failure: Some(text) })
            }
        }
        other => {
            let object = json!({"type": "other", "service": other, "bytes": hex::encode(result)});
            Ok(Ended { text: Text::Nothing, object, failure: None })
        }
    }
}

fn print_text(report: Report, executed: &Executed, ended: &[Ended]) -> Result<(), Failure> {
    let tells_all = ended.iter().any(|ended| ended.failure.is_some() || matches!(ended.text, Text::Key(_)));
    if !tells_all {
        report.bytes(format!("OK revision {} {}", executed.reply.revision, place(executed)).as_bytes())?;
    }
    for one in ended {
        match &one.text {
            Text::Nothing => {}
            Text::Answer(result) => print_one(report, result)?,
            Text::Key(text) => report.bytes(format!("OK {text}, {}", place(executed)).as_bytes())?,
        }
    }
    Ok(())
}

fn print_one(report: Report, result: &OperationResult) -> Result<(), Failure> {
    match &result.outcome {
        Outcome::Range(range) => {
            for kv in &range.kvs {
                report.bytes(&kv.key)?;
                report.bytes(&kv.value)?;
            }
            Ok(())
        }
        Outcome::Delete(delete) => report.bytes(format!("deleted {}", delete.deleted).as_bytes()),
        Outcome::Txn(response) => txn::print(report, response),
        Outcome::Put(_) | Outcome::Compact(_) | Outcome::Refused(_) => Ok(()),
    }
}

fn object(result: &OperationResult) -> Value {
    match &result.outcome {
        Outcome::Put(_) => json!({"type": "put"}),
        Outcome::Range(range) => {
            let kvs: Vec<Value> = range.kvs.iter().map(|kv| pair(kv, false)).collect();
            json!({"type": "get", "kvs": kvs, "count": range.count, "more": range.more})
        }
        Outcome::Delete(delete) => json!({"type": "del", "deleted": delete.deleted}),
        Outcome::Txn(response) => {
            json!({"type": "txn", "succeeded": response.succeeded, "responses": txn::responses(response)})
        }
        Outcome::Compact(compact) => json!({"type": "compact", "revision": compact.compact_revision}),
        Outcome::Refused(error) => json!({"type": "refused", "error": error.to_string()}),
    }
}
