//! `verify`: evidence against the genesis file, offline.

use quorate_keys::Genesis;
use serde_json::json;

use super::arguments::{Connection, Verify};
use super::failure::Failure;
use super::report::Report;
use super::session::directory;
use crate::cluster::load_genesis;
use crate::error::ClientError;
use crate::evidence_file::{EvidenceFile, EvidenceFileError, verdict};

impl Verify {
    pub(super) fn run(&self, connection: &Connection, report: Report) -> Result<(), Failure> {
        let genesis = match &self.genesis {
            Some(path) => Genesis::load(path).map_err(|error| Failure::configuration(error.to_string()))?,
            None => load_genesis(&directory(connection)).map_err(|error| Failure::from(ClientError::from(error)))?,
        };
        let conviction = EvidenceFile::verify(&self.evidence, &genesis).map_err(|error| match error {
            EvidenceFileError::Io { .. } => Failure::configuration(error.to_string()),
            EvidenceFileError::Doctored { .. } => Failure::verification(error.to_string()),
        })?;
        let value = json!({
            "v": 1,
            "convicted": true,
            "accused": conviction.accused.0,
            "kind": conviction.kind,
            "view": conviction.view.map(|view| view.0),
            "seq": conviction.seq.map(|seq| seq.0),
        });
        report.both(&verdict(&conviction), &value)
    }
}
