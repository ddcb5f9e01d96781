//! `--request FILE`: sends saved signed requests again, unchanged, and tells how they ended.

use std::path::Path;

use quorate_kv::{OperationResult, Outcome, SERVICE};
use quorate_protocol::execution::CONFIGURATION_SERVICE;
use serde_json::{Value, json};

use super::failure::Failure;
use super::key_value::forgotten_line;
use super::report::{Report, executed_fields, pair, place};
use super::session::Session;
use super::txn;
use crate::client::Executed;
use crate::configuration;
use crate::error::ClientError;
use crate::saved_request::SavedRequest;

pub(super) async fn run(session: &Session, file: &Path) -> Result<(), Failure> {
    let saved = SavedRequest::load(file, session.cluster).map_err(|error| Failure::configuration(error.to_string()))?;
    let services: Vec<u16> = saved
        .requests
        .first()
        .map(|request| request.content().operations.iter().map(|operation| operation.service).collect())
        .unwrap_or_default();
    let executed = match session.client.replay(saved.requests).await {
        Err(ClientError::Unknown(outcome)) => {
            session.warn_of_accusations();
            let file = file.display();
            return Err(Failure::unknown(format!("{outcome}\nThe request is still in {file}; replay it again later.")));
        }
        outcome => session.wait(std::future::ready(outcome)).await?,
    };
    print(session.report, &executed, &services)
}

fn print(report: Report, executed: &Executed, services: &[u16]) -> Result<(), Failure> {
    if let Some(line) = forgotten_line(executed) {
        let mut fields = executed_fields(executed, executed.reply.revision);
        fields.insert("results".to_owned(), Value::Null);
        return report.both(&line, &Value::Object(fields));
    }
    let results = executed.results()?;
    let mut objects = Vec::new();
    let mut refused = Vec::new();
    if !report.json {
        report.bytes(format!("OK revision {} {}", executed.reply.revision, place(executed)).as_bytes())?;
    }
    for (service, result) in services.iter().zip(results) {
        match *service {
            SERVICE => {
                let result = OperationResult::from_bytes(result)
                    .map_err(|error| Failure::from(ClientError::Unreadable(error.to_string())))?;
                if let Some(error) = result.error() {
                    refused.push(error.to_string());
                }
                if report.json {
                    objects.push(object(&result));
                } else {
                    print_one(report, &result)?;
                }
            }
            CONFIGURATION_SERVICE => {
                let read = configuration::read_results(std::slice::from_ref(result))?;
                objects.push(json!({"type": "configuration", "result": format!("{:?}", read.first())}));
            }
            other => objects.push(json!({"type": "other", "service": other, "bytes": hex::encode(result)})),
        }
    }
    if report.json {
        let mut fields = executed_fields(executed, executed.reply.revision);
        fields.insert("results".to_owned(), Value::Array(objects));
        report.value(&Value::Object(fields))?;
    }
    if refused.is_empty() { Ok(()) } else { Err(Failure::refused(format!("refused: {}", refused.join("; ")))) }
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
