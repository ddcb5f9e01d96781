//! `client-key add` and `client-key remove`: one ordered request, signed by an admin key.

use std::path::Path;

use quorate_crypto::PublicKey;
use quorate_keys::PublicFile;
use quorate_protocol::execution::{ConfigurationOperation, ConfigurationResult, Permission};
use serde_json::{Value, json};

use super::arguments::{ClientKey, ClientKeyChange};
use super::failure::Failure;
use super::report::{executed_fields, place};
use super::session::Session;
use crate::configuration::sentence;

impl ClientKey {
    pub(super) async fn run(&self, session: &Session) -> Result<(), Failure> {
        let (files, operation): (_, Box<dyn Fn(PublicKey) -> ConfigurationOperation>) = match &self.change {
            ClientKeyChange::Add { files, write } => {
                let permission = if *write { Permission::Write } else { Permission::Read };
                (files, Box::new(move |key| ConfigurationOperation::AddClient { key, permission }))
            }
            ClientKeyChange::Remove { files } => (files, Box::new(|key| ConfigurationOperation::RemoveClient { key })),
        };
        let keys = files.iter().map(|path| load(path)).collect::<Result<Vec<_>, _>>()?;
        let operations: Vec<ConfigurationOperation> = keys.iter().map(|key| operation(*key)).collect();
        let (executed, results) = session.wait(session.client.configure(&operations)).await?;
        let mut refused = Vec::new();
        let mut objects = Vec::new();
        for (key, result) in keys.iter().zip(results) {
            let (done, text) = (is_done(result), sentence(key, result));
            objects.push(json!({"key": key.to_hex(), "done": done, "result": text}));
            if !done {
                refused.push(text);
            } else if !session.report.json {
                session.report.bytes(format!("OK {text}, {}", place(&executed)).as_bytes())?;
            }
        }
        if session.report.json {
            let mut fields = executed_fields(&executed, executed.reply.revision);
            fields.insert("keys".to_owned(), Value::Array(objects));
            session.report.value(&Value::Object(fields))?;
        }
        if refused.is_empty() { Ok(()) } else { Err(Failure::refused(refused.join("; "))) }
    }
}

/// Whether the key is as it was asked for.
pub(super) fn is_done(result: ConfigurationResult) -> bool {
    matches!(
        result,
        ConfigurationResult::Registered(_) | ConfigurationResult::Removed | ConfigurationResult::NotRegistered
    )
}

fn load(path: &Path) -> Result<PublicKey, Failure> {
    match PublicFile::load(path) {
        Ok(PublicFile::Client(public)) => Ok(public.key),
        Ok(_) => Err(Failure::configuration(format!(
            "{} is a replica's public file; name the .pub file of a client key, made by `quorate-keys new NAME.key --client`",
            path.display()
        ))),
        Err(error) => Err(Failure::configuration(error.to_string())),
    }
}
