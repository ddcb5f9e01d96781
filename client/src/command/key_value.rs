//! `put`, `get`, `del`, `cas`.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;

use quorate_kv::limit::MAX_REQUEST_BYTES;
use quorate_kv::{KeyRange, KeyValue, TxnOutcome, TxnResponse};
use quorate_protocol::reply::{Outcome, Reply};
use serde_json::{Value, json};

use super::arguments::{Cas, Del, Get, Put};
use super::failure::Failure;
use super::report::{pair, shown};
use super::session::Session;
use crate::client::Executed;
use crate::key_value::{RangeOptions, Ranged, Written};

pub(super) fn bytes(text: &OsString) -> Vec<u8> {
    text.clone().into_vec()
}

/// One key, or all with a prefix.
pub(super) fn range(key: &OsString, prefix: bool) -> KeyRange {
    if prefix { KeyRange::prefix(bytes(key)) } else { KeyRange::single(bytes(key)) }
}

/// All of standard input, as far as it fits a request.
pub(super) fn read_stdin(what: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(MAX_REQUEST_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::configuration(format!("standard input cannot be read: {error}")))?;
    if bytes.len() > MAX_REQUEST_BYTES {
        return Err(Failure::configuration(format!(
            "{what} from standard input exceeds {MAX_REQUEST_BYTES} bytes; divide it"
        )));
    }
    Ok(bytes)
}

fn ok_line<T>(what: &str, written: &Written<T>) -> String {
    format!(
        "OK{what} revision {} seq {} ({} matching replies of {})",
        written.revision, written.seq, written.matching, written.replicas
    )
}

pub(super) fn fields<T>(written: &Written<T>, more: Value) -> Value {
    let mut fields = json!({
        "v": 1,
        "revision": written.revision,
        "seq": written.seq.0,
        "matching": written.matching,
        "replicas": written.replicas,
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    fields
}

impl Put {
    pub(super) fn read_value(&self) -> Result<Vec<u8>, Failure> {
        match &self.value {
            Some(value) => Ok(bytes(value)),
            None => read_stdin("a value"),
        }
    }

    pub(super) async fn run(&self, session: &Session, value: Vec<u8>) -> Result<(), Failure> {
        let written = session.wait(session.client.put(bytes(&self.key), value)).await?;
        session.report.both(&ok_line("", &written), &fields(&written, json!({})))
    }
}

impl Get {
    pub(super) async fn run(&self, session: &Session) -> Result<(), Failure> {
        let options = RangeOptions {
            limit: self.limit,
            revision: self.rev,
            descending: false,
            keys_only: self.keys_only,
            serializable: self.serializable,
        };
        let ranged = session.wait(session.client.range(range(&self.key, self.prefix), options)).await?;
        if session.report.json {
            session.report.value(&self.object(&ranged))?;
        } else {
            self.print(session, &ranged)?;
        }
        if self.fail && ranged.kvs.is_empty() {
            return Err(Failure::refused(format!(
                "there is no key {} at revision {}",
                shown(&bytes(&self.key)),
                ranged.revision
            )));
        }
        Ok(())
    }

    fn object(&self, ranged: &Ranged) -> Value {
        let kvs: Vec<Value> = ranged.kvs.iter().map(|kv| pair(kv, self.keys_only)).collect();
        json!({"v": 1, "revision": ranged.revision, "kvs": kvs, "count": ranged.count, "more": ranged.more})
    }

    /// A single key prints its value alone; a prefix prints key and value in turn, as etcdctl does.
    fn print(&self, session: &Session, ranged: &Ranged) -> Result<(), Failure> {
        for kv in &ranged.kvs {
            if self.prefix || self.keys_only {
                session.report.bytes(&kv.key)?;
            }
            if !self.keys_only {
                session.report.bytes(&kv.value)?;
            }
        }
        Ok(())
    }
}

impl Del {
    pub(super) async fn run(&self, session: &Session) -> Result<(), Failure> {
        let written = session.wait(session.client.delete(range(&self.key, self.prefix))).await?;
        let deleted = written.response.deleted;
        session
            .report
            .both(&ok_line(&format!(" deleted {deleted}"), &written), &fields(&written, json!({"deleted": deleted})))
    }
}

impl Cas {
    pub(super) async fn run(&self, session: &Session) -> Result<(), Failure> {
        let call = session.client.cas(bytes(&self.key), bytes(&self.old), bytes(&self.new));
        let written = session.wait(call).await?;
        let succeeded = written.response.succeeded;
        if session.report.json {
            let present = present(&written.response).map(|kv| pair(kv, false));
            session.report.value(&fields(&written, json!({"succeeded": succeeded, "present": present})))?;
        } else if succeeded {
            session.report.bytes(ok_line("", &written).as_bytes())?;
        }
        swap_failure(&bytes(&self.key), &written.response).map_or(Ok(()), |sentence| Err(Failure::refused(sentence)))
    }
}

/// What is there in place of what a swap expected.
fn present(response: &TxnResponse) -> Option<&KeyValue> {
    match response.responses.first() {
        Some(TxnOutcome::Range(range)) if !response.succeeded => range.kvs.first(),
        _ => None,
    }
}

/// Why `key` was not swapped; none if it was.
pub(super) fn swap_failure(key: &[u8], response: &TxnResponse) -> Option<String> {
    let key = shown(key);
    match present(response) {
        _ if response.succeeded => None,
        Some(kv) => Some(format!("the comparison failed: {key} is {}", shown(&kv.value))),
        None => Some(format!("the comparison failed: there is no key {key}")),
    }
}

/// The line for a request whose results are not kept any more.
pub(super) fn forgotten_line(executed: &Executed) -> Option<String> {
    let Reply { outcome: Outcome::ExecutedEarlier, seq, .. } = &executed.reply else { return None };
    Some(format!("OK executed at seq {seq}; its results are no longer kept"))
}
