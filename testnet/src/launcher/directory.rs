//! Where everything of a testnet is.
//!
//! ```text
//! testnet/
//!   genesis.toml  testnet.toml  endpoints.env  client.key  admin.key
//!   node0/ .. node3/     mode 0700: node.toml  identity.key  data/  node.log  pid  control.sock
//!   evidence/            e-1.json ..: what all replicas found, each offence once
//!   requests/  traces/   of the client; of the simulator
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_crypto::ReplicaId;
use rustix::fs::FlockOperation;

use super::failure::LaunchError;

/// How long a command waits for another one that is at work in the directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Entries of a testnet besides its nodes.
const ENTRIES: [&str; 9] = [
    "genesis.toml",
    "endpoints.env",
    "client.key",
    "admin.key",
    "evidence",
    "requests",
    "traces",
    ".creating",
    "testnet.toml",
];

/// The directory of a testnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    root: PathBuf,
}

/// Held while replicas are started or stopped, so that two commands never start one replica twice.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Directory {
    /// The testnet in `root`, whether it is there or not.
    pub fn new(root: impl Into<PathBuf>) -> Directory {
        Directory { root: root.into() }
    }

    /// The path as it was given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path as the system knows it, which names the testnet in the arguments of its processes.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn canonical(&self) -> Result<PathBuf, LaunchError> {
        self.root.canonicalize().map_err(|_| LaunchError::NoTestnet(self.root.clone()))
    }

    /// For people: `./testnet` rather than `testnet`.
    pub fn shown(&self) -> String {
        let text = self.root.display().to_string();
        if self.root.is_absolute() || text.starts_with('.') { text } else { format!("./{text}") }
    }

    /// `genesis.toml`.
    pub fn genesis(&self) -> PathBuf {
        self.root.join("genesis.toml")
    }

    /// `testnet.toml`, written last: with it the testnet is complete.
    pub fn description(&self) -> PathBuf {
        self.root.join("testnet.toml")
    }

    /// `endpoints.env`, which clients read.
    pub fn endpoints(&self) -> PathBuf {
        self.root.join("endpoints.env")
    }

    /// The key of the first client.
    pub fn client_key(&self) -> PathBuf {
        self.root.join("client.key")
    }

    /// The key that registers further clients.
    pub fn admin_key(&self) -> PathBuf {
        self.root.join("admin.key")
    }

    /// Evidence of all replicas, each offence once.
    pub fn evidence(&self) -> PathBuf {
        self.root.join("evidence")
    }

    /// There while a testnet is made, in which nothing ever ran.
    pub fn creating(&self) -> PathBuf {
        self.root.join(".creating")
    }

    /// The directory of one replica.
    pub fn node(&self, id: ReplicaId) -> PathBuf {
        self.root.join(node_name(id))
    }

    /// `node.toml` of a replica.
    pub fn config(&self, id: ReplicaId) -> PathBuf {
        self.node(id).join("node.toml")
    }

    /// The log of a replica, for people.
    pub fn log(&self, id: ReplicaId) -> PathBuf {
        self.node(id).join("node.log")
    }

    /// The number of a replica's process.
    pub fn pid(&self, id: ReplicaId) -> PathBuf {
        self.node(id).join("pid")
    }

    /// Where a running replica is turned.
    pub fn control(&self, id: ReplicaId) -> PathBuf {
        self.node(id).join("control.sock")
    }

    /// What a replica found.
    pub fn found_evidence(&self, id: ReplicaId) -> PathBuf {
        self.node(id).join("data").join(quorate_node::process::EVIDENCE_DIRECTORY)
    }

    /// Whether a complete testnet is here.
    pub fn is_testnet(&self) -> bool {
        self.description().is_file()
    }

    /// Waits for other commands that start or stop replicas here, and keeps others waiting until the lock is dropped.
    ///
    /// # Errors
    /// There is no directory; another command takes too long.
    pub fn lock(&self) -> Result<Lock, LaunchError> {
        let path = self.root.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| LaunchError::file(&path, &error))?;
        let began = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LaunchError::Locked(self.root.clone())),
                Err(error) => return Err(LaunchError::file(&path, &error.into())),
            }
        }
    }

    /// Entries of a testnet that are here, complete or not.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn entries(&self) -> Result<Vec<PathBuf>, LaunchError> {
        let mut found = Vec::new();
        let listed = match fs::read_dir(&self.root) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(LaunchError::file(&self.root, &error)),
        };
        for entry in listed {
            let entry = entry.map_err(|error| LaunchError::file(&self.root, &error))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_node = name.strip_prefix("node").is_some_and(|id| id.parse::<u16>().is_ok());
            if is_node || ENTRIES.contains(&name) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes a testnet and nothing else that may be in its directory.
    ///
    /// # Errors
    /// [`LaunchError::Foreign`] if it is not a testnet, complete or half made; a file that cannot be removed.
    pub fn clear(&self) -> Result<(), LaunchError> {
        let entries = self.entries()?;
        if !self.is_testnet() && !self.creating().exists() {
            return match entries.first() {
                None => Ok(()),
                Some(first) => {
                    let found = first.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                    Err(LaunchError::Foreign { directory: self.root.clone(), found })
                }
            };
        }
        // The two that say what this is go last, so that an interrupted removal can be taken up again.
        let (marks, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| *entry == self.description() || *entry == self.creating());
        for entry in others.iter().chain(&marks) {
            let removed = if entry.is_dir() { fs::remove_dir_all(entry) } else { fs::remove_file(entry) };
            removed.map_err(|error| LaunchError::file(entry, &error))?;
        }
        Ok(())
    }
}

/// `node3`.
pub fn node_name(id: ReplicaId) -> String {
    format!("node{id}")
}

#[cfg(test)]
mod tests;
