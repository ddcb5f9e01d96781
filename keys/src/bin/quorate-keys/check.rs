//! `quorate-keys check`: reads, never mends.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_crypto::ReplicaId;
use quorate_keys::identity_file::KeyFileKind;
use quorate_keys::{Genesis, Passphrase, PassphraseSource, PublicFile, PublicIdentity, SecretFile};
use serde_json::{Value, json};

use crate::new::public_path;
use crate::outcome::{Failure, Report};
use crate::show::{is_public, public_half};

/// Most files that one run looks at.
const FILES_MAX: usize = 10_000;

/// Checks key files (mode, owner, no link, form), public files (binding) and genesis files (every rule), and whether
/// they belong together. In a directory, and one level below it, *.key, *.pub and genesis.toml are checked. Prints one
/// sentence for each problem; exit code 4 if there is any.
#[derive(Args)]
#[command(
    after_long_help = "Example:\n  quorate-keys check testnet\n  quorate-keys check genesis.toml node0.key --json"
)]
pub(crate) struct Check {
    /// Directories and files.
    #[arg(value_name = "DIR|FILE", required = true)]
    paths: Vec<PathBuf>,
    /// Also open encrypted key files with the passphrase in this file, /dev/fd/N, or - for standard input
    /// [env: QUORATE_PASSPHRASE_FILE]. Without it they are checked by their outside and their .pub file.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What one file was found to be.
struct Finding {
    file: PathBuf,
    kind: &'static str,
    public: Option<PublicFile>,
    replica: Option<ReplicaId>,
}

/// What is known after reading everything once.
#[derive(Default)]
struct Findings {
    files: Vec<Finding>,
    geneses: Vec<(PathBuf, Genesis)>,
    problems: Vec<(PathBuf, String)>,
}

impl Findings {
    fn problem(&mut self, file: &Path, sentence: impl Into<String>) {
        self.problems.push((file.to_owned(), sentence.into()));
    }
}

fn is_candidate(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "key")
        || is_public(path)
        || path.file_name().is_some_and(|name| name == "genesis.toml")
}

/// Adds what is to be checked in `directory`; goes down `depth` levels, into no link.
fn collect(directory: &Path, depth: usize, files: &mut BTreeSet<PathBuf>) -> Result<(), Failure> {
    let unreadable = |error| Failure::usage(format!("could not read the directory {}: {error}", directory.display()));
    for entry in directory.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if depth > 0 {
                collect(&entry.path(), depth - 1, files)?;
            }
        } else if is_candidate(&entry.path()) {
            files.insert(entry.path());
        }
        if files.len() > FILES_MAX {
            return Err(Failure::usage(format!("there are more than {FILES_MAX} files to check; name fewer at once")));
        }
    }
    Ok(())
}

impl Check {
    pub(crate) fn run(self, report: Report) -> Result<(), Failure> {
        let mut files = BTreeSet::new();
        for path in &self.paths {
            if path.is_dir() {
                let before = files.len();
                collect(path, 1, &mut files)?;
                if files.len() == before {
                    return Err(Failure::usage(format!(
                        "{} holds no *.key, *.pub or genesis.toml; name the files to check",
                        path.display()
                    )));
                }
            } else if path.symlink_metadata().is_err() {
                return Err(Failure::usage(format!("{} does not exist; name a directory or a file", path.display())));
            } else {
                files.insert(path.clone());
            }
        }
        let source = match PassphraseSource::from_environment(self.passphrase_file) {
            // Read once: a descriptor has nothing more to say to the second file.
            PassphraseSource::File(path) => PassphraseSource::Given(Passphrase::read(&path)?),
            _ => PassphraseSource::None,
        };
        let mut findings = Findings::default();
        for file in &files {
            read(file, &source, &mut findings);
        }
        check_directories(&files, &mut findings);
        check_pairs(&mut findings);
        check_against_genesis(&mut findings);
        print(&findings, report)?;
        match findings.problems.len() {
            0 => Ok(()),
            1 => Err(Failure::refused("1 problem found")),
            count => Err(Failure::refused(format!("{count} problems found"))),
        }
    }
}

/// Reads one file by what its name says it is.
fn read(file: &Path, source: &PassphraseSource, findings: &mut Findings) {
    let (kind, public) = if is_public(file) {
        match PublicFile::load(file) {
            Ok(public) => ("public file", Some(public)),
            Err(error) => return findings.problem(file, error.to_string()),
        }
    } else if file.extension().is_some_and(|extension| extension == "toml") {
        match Genesis::load(file) {
            Ok(genesis) => findings.geneses.push((file.to_owned(), genesis)),
            Err(error) => return findings.problem(file, error.to_string()),
        }
        ("genesis", None)
    } else {
        match read_secret(file, source) {
            Ok(found) => found,
            Err(error) => return findings.problem(file, error.to_string()),
        }
    };
    findings.files.push(Finding { file: file.to_owned(), kind, public, replica: None });
}

fn read_secret(
    file: &Path,
    source: &PassphraseSource,
) -> Result<(&'static str, Option<PublicFile>), quorate_keys::KeyFileError> {
    let outline = SecretFile::outline(file)?;
    let openable = !outline.encrypted || !matches!(source, PassphraseSource::None);
    let public = if openable { Some(public_half(&SecretFile::load(file, source)?)) } else { None };
    let kind = match (outline.kind, public.is_some()) {
        (KeyFileKind::Replica, true) => "replica identity",
        (KeyFileKind::Client, true) => "client key",
        (KeyFileKind::Replica, false) => "replica identity, encrypted, not opened",
        (KeyFileKind::Client, false) => "client key, encrypted, not opened",
    };
    Ok((kind, public))
}

/// Whoever may write to the directory of a key file can put another in its place, whatever the file's mode.
fn check_directories(files: &BTreeSet<PathBuf>, findings: &mut Findings) {
    const STICKY: u32 = 0o1000;
    let secret = |file: &&PathBuf| !is_public(file) && file.extension().is_none_or(|extension| extension != "toml");
    let directories: BTreeSet<&Path> = files
        .iter()
        .filter(secret)
        .filter_map(|file| file.parent())
        .map(|directory| if directory.as_os_str().is_empty() { Path::new(".") } else { directory })
        .collect();
    for directory in directories {
        let Ok(status) = directory.metadata() else { continue };
        let mode = status.mode() & 0o7777;
        if mode & 0o022 != 0 && mode & STICKY == 0 {
            findings.problem(
                directory,
                format!(
                    "{} has mode {mode:04o}, so others could replace the keys in it; run chmod go-w on it",
                    directory.display()
                ),
            );
        }
    }
}

/// A key file and the public file beside it must hold the same keys.
fn check_pairs(findings: &mut Findings) {
    let by_path: BTreeMap<PathBuf, PublicFile> =
        findings.files.iter().filter_map(|found| Some((found.file.clone(), found.public?))).collect();
    for (file, public) in by_path.iter().filter(|(file, _)| !is_public(file)) {
        let beside = public_path(file);
        if by_path.get(&beside).is_some_and(|other| other != public) {
            let sentence = format!("{} is not the public half of {}; make both anew", beside.display(), file.display());
            findings.problem(&beside, sentence);
        }
    }
}

/// Every replica's identity must be in the genesis, with its own transport key. A client key need not: it may have been
/// added by an ordered operation since.
fn check_against_genesis(findings: &mut Findings) {
    let mut geneses = std::mem::take(&mut findings.geneses).into_iter();
    let Some((first_path, genesis)) = geneses.next() else { return };
    for (path, other) in geneses {
        if other.cluster_id() != genesis.cluster_id() {
            let sentence = format!(
                "{} is of cluster {}, but {} is of cluster {}; a cluster has one genesis",
                path.display(),
                other.cluster_id().0.short(),
                first_path.display(),
                genesis.cluster_id().0.short()
            );
            findings.problem(&path, sentence);
        }
    }
    let mut problems = Vec::new();
    for found in &mut findings.files {
        let Some(PublicFile::Replica(identity)) = &found.public else { continue };
        match place_in(&genesis, identity) {
            Ok(id) => found.replica = Some(id),
            Err(reason) => problems
                .push((found.file.clone(), format!("{} {reason} {}", found.file.display(), first_path.display()))),
        }
    }
    findings.problems.extend(problems);
}

fn place_in(genesis: &Genesis, identity: &PublicIdentity) -> Result<ReplicaId, &'static str> {
    let replica = genesis.replica_of(&identity.consensus).ok_or("is the identity of no replica in")?;
    if replica.transport_key == identity.transport {
        Ok(replica.id)
    } else {
        Err("has another transport key than the replica with its consensus key in")
    }
}

fn print(findings: &Findings, report: Report) -> Result<(), Failure> {
    let mut lines: Vec<String> = Vec::new();
    let mut files: Vec<Value> = Vec::new();
    for found in &findings.files {
        let replica = found.replica.map(|id| id.0);
        let place = replica.map_or(String::new(), |id| format!(", replica {id}"));
        lines.push(format!("read     {} ({}{place})", found.file.display(), found.kind));
        let fingerprint = found.public.as_ref().map(|public| public.fingerprint().to_hex());
        files.push(json!({"file": found.file, "kind": found.kind, "replica": replica, "fingerprint": fingerprint}));
    }
    lines.extend(findings.problems.iter().map(|(_, sentence)| format!("problem  {sentence}")));
    let problems: Vec<Value> =
        findings.problems.iter().map(|(file, problem)| json!({"file": file, "problem": problem})).collect();
    let ok = problems.is_empty();
    report.print(&lines.join("\n"), json!({"v": 1, "ok": ok, "files": files, "problems": problems}))
}
