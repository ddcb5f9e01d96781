//! What goes to stdout: text for people, JSON for programs.

use std::io::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_kv::{Event, EventKind, EventList, KeyValue};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use crate::client::Executed;

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// JSON instead of text.
    pub json: bool,
}

impl Report {
    /// Prints one or the other.
    pub fn both(self, text: &str, value: &Value) -> Result<(), Failure> {
        if self.json { self.value(value) } else { self.bytes(text.as_bytes()) }
    }

    /// Prints bytes as they are, and a line end.
    pub fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).map_err(not_written)
    }

    /// Prints one JSON object on one line.
    pub fn value(self, value: &Value) -> Result<(), Failure> {
        self.bytes(value.to_string().as_bytes())
    }
}

/// Whoever read our output has seen enough: not worth a sentence.
fn not_written(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure { code: 0, sentence: String::new() };
    }
    Failure::configuration(format!("stdout cannot be written: {error}"))
}

/// `seq 187 (3 matching replies of 4)`.
pub fn place(executed: &Executed) -> String {
    format!("seq {} ({} matching replies of {})", executed.reply.seq, executed.matching, executed.replicas)
}

/// The fields every executed request has.
pub fn executed_fields(executed: &Executed, revision: u64) -> Map<String, Value> {
    let fields = json!({
        "v": 1,
        "revision": revision,
        "seq": executed.reply.seq.0,
        "matching": executed.matching,
        "replicas": executed.replicas,
    });
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A pair as JSON: key and value as text if both are UTF-8, else both in base64 with `"encoding":"base64"`.
pub fn pair(kv: &KeyValue, keys_only: bool) -> Value {
    let mut fields = bytes_fields(&kv.key, (!keys_only).then_some(kv.value.as_slice()));
    fields.insert("create_revision".to_owned(), kv.create_revision.into());
    fields.insert("mod_revision".to_owned(), kv.mod_revision.into());
    fields.insert("version".to_owned(), kv.version.into());
    Value::Object(fields)
}

fn bytes_fields(key: &[u8], value: Option<&[u8]>) -> Map<String, Value> {
    let mut fields = Map::new();
    let text = (std::str::from_utf8(key), value.map(std::str::from_utf8).transpose());
    if let (Ok(key), Ok(value)) = text {
        fields.insert("key".to_owned(), key.into());
        if let Some(value) = value {
            fields.insert("value".to_owned(), value.into());
        }
    } else {
        fields.insert("key".to_owned(), STANDARD.encode(key).into());
        if let Some(value) = value {
            fields.insert("value".to_owned(), STANDARD.encode(value).into());
        }
        fields.insert("encoding".to_owned(), "base64".into());
    }
    fields
}

/// The changes of one revision as JSON.
pub fn events(list: &EventList) -> Value {
    let events: Vec<Value> = list.events.iter().map(event).collect();
    json!({"v": 1, "revision": list.revision, "events": events})
}

fn event(event: &Event) -> Value {
    let mut fields = Map::new();
    match event.kind {
        EventKind::Put => {
            fields.insert("type".to_owned(), "put".into());
            if let Value::Object(pair) = pair(&event.kv, false) {
                fields.extend(pair);
            }
        }
        EventKind::Delete => {
            fields.insert("type".to_owned(), "delete".into());
            fields.extend(bytes_fields(&event.kv.key, None));
            fields.insert("mod_revision".to_owned(), event.kv.mod_revision.into());
        }
    }
    Value::Object(fields)
}

/// One change as a line for people.
pub fn event_line(revision: u64, event: &Event) -> String {
    let key = shown(&event.kv.key);
    match event.kind {
        EventKind::Put => format!("{revision} PUT {key} {}", shown(&event.kv.value)),
        EventKind::Delete => format!("{revision} DELETE {key}"),
    }
}

/// Bytes for a line of text: control characters escaped, so that nobody's value ends the line or drives the terminal.
pub fn shown(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                out.extend(character.escape_default());
            } else {
                out.push(character);
            }
        }
        for byte in chunk.invalid() {
            out.push_str("\\x");
            out.push_str(&hex::encode([*byte]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &[u8], value: &[u8]) -> KeyValue {
        KeyValue { key: key.to_vec(), value: value.to_vec(), create_revision: 2, mod_revision: 3, version: 2, lease: 0 }
    }

    #[test]
    fn text_stays_text_and_bytes_are_base64() {
        let text = json!({"key": "k", "value": "ü\n", "create_revision": 2, "mod_revision": 3, "version": 2});
        assert_eq!(pair(&kv(b"k", "ü\n".as_bytes()), false), text);
        let binary = json!({"key": "aw==", "value": "/w==", "encoding": "base64",
            "create_revision": 2, "mod_revision": 3, "version": 2});
        assert_eq!(pair(&kv(b"k", &[255]), false), binary);
        assert_eq!(pair(&kv(b"k", &[255]), true)["key"], "k");
    }

    #[test]
    fn a_value_cannot_drive_the_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\n\xffc"), "a\\u{1b}[2Jb\\n\\xffc");
        assert_eq!(shown("grün".as_bytes()), "grün");
    }

    #[test]
    fn events_as_json_and_as_lines() {
        let put = Event { kind: EventKind::Put, kv: kv(b"k", b"v"), prev_kv: None };
        let delete = Event { kind: EventKind::Delete, kv: kv(b"k", b""), prev_kv: None };
        assert_eq!(event_line(3, &put), "3 PUT k v");
        assert_eq!(event_line(3, &delete), "3 DELETE k");
        assert_eq!(event(&delete), json!({"type": "delete", "key": "k", "mod_revision": 3}));
        assert_eq!(event(&put)["type"], "put");
    }
}
