//! What all replicas found, each offence once, under a number that stays.
//!
//! Every replica writes the evidence it finds into its own data directory, one file an offence, named by the offence's
//! digest. Here they are brought together: each offence that holds up against the genesis file gets the next number and
//! a copy `evidence/e-N.json`, which `quorate verify` reads. What convicts nobody, whoever wrote it, is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use quorate_client::evidence_file::EvidenceFile;
use quorate_crypto::encoding::decode;
use quorate_keys::Genesis;
use quorate_protocol::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::creation::write;
use super::description::Description;
use super::directory::Directory;
use super::failure::LaunchError;

/// One offence that some replica is convicted of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    /// `e-1`.
    pub id: String,
    /// The guilty replica.
    pub accused: u16,
    /// Of what.
    pub kind: String,
    /// In which view, if the offence has one.
    pub view: Option<u64>,
    /// At which number, if it has one.
    pub seq: Option<u64>,
    /// The replicas that found it.
    pub seen_by: Vec<u16>,
    /// The copy that convicts.
    pub file: PathBuf,
}

/// The copy: an evidence file, and which offence it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    evidence: EvidenceFile,
    offence: String,
}

/// The files of one offence.
struct Found {
    first: SystemTime,
    files: Vec<(u16, PathBuf)>,
}

/// Brings the evidence of all replicas together.
///
/// # Errors
/// The directory `evidence` cannot be used.
pub fn collect(
    directory: &Directory,
    description: &Description,
    genesis: &Genesis,
) -> Result<Vec<Offence>, LaunchError> {
    let place = directory.evidence();
    fs::create_dir_all(&place).map_err(|error| LaunchError::file(&place, &error))?;
    let lock_path = place.join(".lock");
    let lock = File::create(&lock_path).map_err(|error| LaunchError::file(&lock_path, &error))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| LaunchError::file(&lock_path, &error.into()))?;

    let mut kept = read_kept(&place)?;
    let found = find(directory, description);
    let known: BTreeSet<String> = kept.values().map(|kept| kept.offence.clone()).collect();
    let mut fresh: Vec<(&String, &Found)> = found.iter().filter(|(offence, _)| !known.contains(*offence)).collect();
    fresh.sort_by_key(|(offence, found)| (found.first, *offence));
    let mut next = kept.keys().next_back().map_or(1, |last| last + 1);
    for (offence, found) in fresh {
        let Some(evidence) = found.files.iter().find_map(|(_, file)| convicting(file, offence, genesis)) else {
            continue;
        };
        let copy = Kept { evidence, offence: offence.clone() };
        let text = serde_json::to_string(&copy).map_err(|error| LaunchError::file(&place, &error.into()))?;
        write(&copy_path(&place, next), &format!("{text}\n"))?;
        kept.insert(next, copy);
        next += 1;
    }

    let offences = kept.into_iter().map(|(number, kept)| {
        let mut seen_by: Vec<u16> = found
            .get(&kept.offence)
            .map(|found| found.files.iter().map(|(replica, _)| *replica).collect())
            .unwrap_or_default();
        seen_by.sort_unstable();
        let EvidenceFile { accused, kind, view, seq, .. } = kept.evidence;
        let file = copy_path(&place, number);
        Offence { id: format!("e-{number}"), accused, kind, view, seq, seen_by, file }
    });
    Ok(offences.collect())
}

/// How many offences there are files of, checked or not.
pub fn count(directory: &Directory, description: &Description) -> usize {
    find(directory, description).len()
}

/// The text of the copy with that id, for export.
///
/// # Errors
/// There is none.
pub fn export(directory: &Directory, id: &str) -> Result<String, LaunchError> {
    let unknown =
        || LaunchError::Usage(format!("there is no evidence {id:?}: `quorate-testnet evidence` lists what there is"));
    let number: u64 = id.strip_prefix("e-").and_then(|number| number.parse().ok()).ok_or_else(unknown)?;
    let text = fs::read_to_string(copy_path(&directory.evidence(), number)).map_err(|_| unknown())?;
    let kept: Kept = serde_json::from_str(&text).map_err(|_| unknown())?;
    serde_json::to_string(&kept.evidence).map_err(|_| unknown())
}

fn copy_path(place: &Path, number: u64) -> PathBuf {
    place.join(format!("e-{number}.json"))
}

fn read_kept(place: &Path) -> Result<BTreeMap<u64, Kept>, LaunchError> {
    let mut kept = BTreeMap::new();
    for entry in fs::read_dir(place).map_err(|error| LaunchError::file(place, &error))? {
        let entry = entry.map_err(|error| LaunchError::file(place, &error))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("e-")?.strip_suffix(".json")?.parse().ok());
        let Some(number) = number else { continue };
        // A damaged copy keeps its number, and its offence gets another.
        let copy = fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(copy) = copy {
            kept.insert(number, copy);
        }
    }
    Ok(kept)
}

/// Every file of every replica, by offence.
fn find(directory: &Directory, description: &Description) -> BTreeMap<String, Found> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for id in description.ids() {
        let Ok(listed) = fs::read_dir(directory.found_evidence(id)) else { continue };
        for entry in listed.flatten() {
            let name = entry.file_name();
            let Some(offence) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let written = written.unwrap_or(SystemTime::UNIX_EPOCH);
            let found = found.entry(offence.to_owned()).or_insert_with(|| Found { first: written, files: Vec::new() });
            found.first = found.first.min(written);
            found.files.push((id.0, entry.path()));
        }
    }
    found
}

/// The evidence in `file`, if it convicts somebody of that offence.
fn convicting(file: &Path, offence: &str, genesis: &Genesis) -> Option<EvidenceFile> {
    EvidenceFile::verify(file, genesis).ok()?;
    let evidence: EvidenceFile = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let bytes = hex::decode(&evidence.bytes).ok()?;
    let decoded: Evidence = decode(&bytes, EVIDENCE_BYTES_MAX).ok()?;
    (decoded.offence().to_hex() == offence).then_some(evidence)
}

#[cfg(test)]
mod tests;
