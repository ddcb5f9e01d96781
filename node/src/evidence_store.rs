//! Evidence on disk: one JSON file an offence, which anyone with the genesis file can check offline.
//!
//! ```json
//! {"v":1,"accused":0,"kind":"two-pre-prepares","view":0,"seq":185,"seen_by":2,"bytes":"<hexadecimal>"}
//! ```
//!
//! A file appears whole or not at all, and is written once. At most [`FILES_MAX`] are kept: a liar that commits more
//! offences than that is convicted by the first ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_crypto::encoding::encode;
use quorate_crypto::{Committee, ReplicaId, Verifier};
use quorate_protocol::evidence::{Conviction, Evidence};
use serde::{Deserialize, Serialize};

/// Most files kept of one accused: a liar must not use up the room of another.
pub const FILES_MAX: usize = 256;
/// Most files listed: of every member.
const LISTED_MAX: usize = 128 * FILES_MAX;

/// Version of the file's form.
pub const FORMAT_VERSION: u32 = 1;

const SUFFIX: &str = ".json";

/// One offence as it is written down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EvidenceFile {
    /// [`FORMAT_VERSION`].
    pub v: u32,
    /// Who is convicted.
    pub accused: u16,
    /// Of what.
    pub kind: String,
    /// The view of the offence, if it has one.
    pub view: Option<u64>,
    /// Its sequence number, if it has one.
    pub seq: Option<u64>,
    /// The replica that wrote it down.
    pub seen_by: u16,
    /// The encoded [`Evidence`], hexadecimal: what convicts. Everything else here only says what it is about.
    pub bytes: String,
}

/// The directory.
pub(crate) struct EvidenceStore {
    directory: PathBuf,
    seen_by: ReplicaId,
    committee: Arc<Committee>,
    window: u64,
    verifier: Verifier,
    /// Of each accused.
    names: BTreeMap<u16, BTreeSet<String>>,
}

impl EvidenceStore {
    /// Opens the directory and makes it if it is missing. What a crash left half-written is removed.
    pub(crate) fn open(
        directory: PathBuf,
        seen_by: ReplicaId,
        committee: Arc<Committee>,
        window: u64,
        verifier: Verifier,
    ) -> io::Result<EvidenceStore> {
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_name().into_string().is_ok_and(|name| name.ends_with(".partial")) {
                fs::remove_file(entry.path())?;
            }
        }
        let mut names: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
        for (name, file) in list(&directory) {
            names.entry(file.accused).or_default().insert(name);
        }
        Ok(EvidenceStore { directory, seen_by, committee, window, verifier, names })
    }

    /// Writes an offence down, unless it is already. A failure is told and nothing else: the evidence travels by other
    /// replicas too, and no promise rests on it.
    pub(crate) fn add(&mut self, evidence: &Evidence) {
        // It was found by an honest engine among verified messages; the files must hold nothing that does not convict.
        let conviction = match evidence.verify(&self.committee, self.window, &self.verifier) {
            Ok(conviction) => conviction,
            Err(error) => return tracing::error!(%error, "evidence that convicts nobody is not kept"),
        };
        let Conviction { accused, kind, view, seq } = conviction;
        let name = format!("{}{SUFFIX}", evidence.offence().to_hex());
        tracing::warn!(
            replica = %accused,
            offence = kind,
            view = view.map(|view| view.0),
            seq = seq.map(|seq| seq.0),
            file = name,
            "a replica has lied and is convicted by its own signatures"
        );
        let known = self.names.entry(accused.0).or_default();
        if known.contains(&name) || known.len() >= FILES_MAX {
            return;
        }
        let file = EvidenceFile {
            v: FORMAT_VERSION,
            accused: accused.0,
            kind: kind.to_owned(),
            view: view.map(|view| view.0),
            seq: seq.map(|seq| seq.0),
            seen_by: self.seen_by.0,
            bytes: hex::encode(encode(evidence)),
        };
        match write_whole(&self.directory, &name, &file) {
            Ok(()) => {
                known.insert(name);
            }
            Err(error) => tracing::error!(%error, file = name, "evidence could not be written"),
        }
    }
}

fn write_whole(directory: &Path, name: &str, contents: &EvidenceFile) -> io::Result<()> {
    let partial = directory.join(format!("{name}.partial"));
    let mut file = File::create(&partial)?;
    file.write_all(&serde_json::to_vec(contents)?)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&partial, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// The files in an evidence directory, by name, without their bytes. Empty if there is no directory.
pub(crate) fn list(directory: &Path) -> Vec<(String, EvidenceFile)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<(String, EvidenceFile)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok().filter(|name| name.ends_with(SUFFIX))?;
            let file: EvidenceFile = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            Some((name, EvidenceFile { bytes: String::new(), ..file }))
        })
        .take(LISTED_MAX)
        .collect();
    files.sort_by(|first, second| first.0.cmp(&second.0));
    files
}

#[cfg(test)]
mod tests {
    use quorate_crypto::statement::Ballot;
    use quorate_crypto::{
        ClusterId, Digest, Ed25519, Epoch, FaultModel, Incarnation, Member, SecretKey, Seq, Signer as _, Statement,
        StatementBody, View,
    };

    use super::*;

    #[test]
    fn one_liar_does_not_use_up_the_files_of_another() {
        let key = |id: u16| SecretKey::from_seed(&[id as u8 + 1; 32]);
        let members = (0..4).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
        let cluster = ClusterId(Digest([7; 32]));
        let committee = Committee::new(cluster, Epoch(0), FaultModel::Byzantine, members).expect("a committee");
        let committee = Arc::new(committee);
        let directory = tempfile::tempdir().expect("a directory");
        let open = || {
            let (path, verifier) = (directory.path().to_owned(), Verifier::new(Arc::new(Ed25519)));
            EvidenceStore::open(path, ReplicaId(3), Arc::clone(&committee), 64, verifier).expect("opened")
        };
        let double_vote = |signer: u16, seq: usize| {
            let commit = |digest: u8| {
                let ballot = Ballot { view: View(0), seq: Seq(seq as u64), digest: Digest([digest; 32]) };
                let body = StatementBody::Commit(ballot);
                let statement =
                    Statement { epoch: Epoch(0), signer: ReplicaId(signer), incarnation: Incarnation(0), body };
                statement.sign(cluster, &key(signer))
            };
            Evidence::Contradiction(commit(1), commit(2))
        };
        let of = |accused: u16| list(directory.path()).iter().filter(|(_, file)| file.accused == accused).count();
        let mut store = open();
        for seq in 1..=FILES_MAX + 3 {
            store.add(&double_vote(0, seq));
        }
        assert_eq!(of(0), FILES_MAX);
        store.add(&double_vote(1, 1));
        assert_eq!(of(1), 1);
        // It counts what is there when it is opened again.
        let mut store = open();
        store.add(&double_vote(0, FILES_MAX + 4));
        store.add(&double_vote(1, 2));
        assert_eq!((of(0), of(1)), (FILES_MAX, 2));
    }
}
