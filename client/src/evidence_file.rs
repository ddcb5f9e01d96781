//! Checking evidence offline: nothing but the file, the genesis file and this program.
//!
//! ```json
//! {"v":1,"accused":0,"kind":"two-pre-prepares","view":0,"seq":185,"bytes":"<hex of encoded evidence>"}
//! ```
//!
//! What convicts is in `bytes`; the other fields say so in plain words and must agree with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{Ed25519, Verifier};
use quorate_keys::Genesis;
use quorate_protocol::evidence::{Conviction, EVIDENCE_BYTES_MAX, Evidence};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the file's form.
const VERSION: u32 = 1;
/// A longer file is refused unread.
const FILE_BYTES_MAX: u64 = (EVIDENCE_BYTES_MAX * 2 + 64 * 1024) as u64;

/// Evidence as it is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceFile {
    /// The version of the form, 1.
    pub v: u32,
    /// The replica it convicts.
    pub accused: u16,
    /// Of what.
    pub kind: String,
    /// In which view, if the offence has one.
    #[serde(default)]
    pub view: Option<u64>,
    /// At which sequence number, if it has one.
    #[serde(default)]
    pub seq: Option<u64>,
    /// The encoded evidence in hexadecimal.
    pub bytes: String,
}

/// Why a file convicts nobody.
#[derive(Debug, Error)]
pub enum EvidenceFileError {
    /// It cannot be read: exit code 2.
    #[error("the evidence {} cannot be read: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not evidence, or was tampered with: exit code 4.
    #[error("{} convicts nobody: {problem}", path.display())]
    Doctored {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        problem: String,
    },
}

impl EvidenceFile {
    /// The file for a piece of evidence.
    pub fn new(evidence: &Evidence, conviction: &Conviction) -> EvidenceFile {
        EvidenceFile {
            v: VERSION,
            accused: conviction.accused.0,
            kind: conviction.kind.to_owned(),
            view: conviction.view.map(|view| view.0),
            seq: conviction.seq.map(|seq| seq.0),
            bytes: hex::encode(encode(evidence)),
        }
    }

    /// Reads a file and checks it against the committee of `genesis`: who it convicts, and of what.
    ///
    /// # Errors
    /// [`EvidenceFileError::Doctored`] for everything but a file that cannot be read.
    pub fn verify(path: &Path, genesis: &Genesis) -> Result<Conviction, EvidenceFileError> {
        let io = |error| EvidenceFileError::Io { path: path.to_owned(), error };
        let length = std::fs::metadata(path).map_err(io)?.len();
        let text = if length > FILE_BYTES_MAX { Vec::new() } else { std::fs::read(path).map_err(io)? };
        let checked = if length > FILE_BYTES_MAX {
            Err(format!("it has {length} bytes, more than any evidence"))
        } else {
            check(&text, genesis)
        };
        checked.map_err(|problem| EvidenceFileError::Doctored { path: path.to_owned(), problem })
    }
}

fn check(text: &[u8], genesis: &Genesis) -> Result<Conviction, String> {
    let file: EvidenceFile =
        serde_json::from_slice(text).map_err(|error| format!("it is not an evidence file ({error})"))?;
    if file.v != VERSION {
        return Err(format!("its version is {}, this program knows {VERSION}", file.v));
    }
    let bytes = hex::decode(&file.bytes).map_err(|error| format!("its bytes are not hexadecimal ({error})"))?;
    let evidence: Evidence =
        decode(&bytes, EVIDENCE_BYTES_MAX).map_err(|error| format!("its bytes are not evidence ({error})"))?;
    let verifier = Verifier::new(Arc::new(Ed25519));
    let conviction = evidence
        .verify(genesis.committee(), genesis.parameters().window, &verifier)
        .map_err(|error| error.to_string())?;
    let stated = (file.accused, file.kind.as_str(), file.view, file.seq);
    let proven =
        (conviction.accused.0, conviction.kind, conviction.view.map(|view| view.0), conviction.seq.map(|seq| seq.0));
    if stated != proven {
        return Err(format!("it says {} but its signatures prove {}", describe(stated), describe(proven)));
    }
    Ok(conviction)
}

fn describe((accused, kind, view, seq): (u16, &str, Option<u64>, Option<u64>)) -> String {
    let view = view.map_or_else(String::new, |view| format!(" in view {view}"));
    let seq = seq.map_or_else(String::new, |seq| format!(" at seq {seq}"));
    format!("{kind} by replica {accused}{view}{seq}")
}

/// One sentence that says who is guilty of what.
pub fn verdict(conviction: &Conviction) -> String {
    let place = describe((
        conviction.accused.0,
        conviction.kind,
        conviction.view.map(|view| view.0),
        conviction.seq.map(|seq| seq.0),
    ));
    format!("convicted: {place}, proven by its own signatures")
}
