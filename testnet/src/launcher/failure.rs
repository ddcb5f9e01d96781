//! What can go wrong with a testnet: one sentence each, with what to do next.

use std::io;
use std::path::{Path, PathBuf};

use quorate_crypto::ReplicaId;
use thiserror::Error;

/// Why the launcher could not do what it was asked. All are exit code 2.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// There is no testnet in the directory.
    #[error("there is no testnet in {}: start one with `quorate-testnet up`, or name another with --dir DIR", .0.display())]
    NoTestnet(PathBuf),
    /// The directory holds something else.
    #[error(
        "{} holds {found} but no testnet.toml, so it is not a testnet and nothing there is touched: name another directory with --dir DIR",
        directory.display()
    )]
    Foreign {
        /// The directory.
        directory: PathBuf,
        /// What is in it.
        found: String,
    },
    /// A file of the testnet cannot be used.
    #[error("{} {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The operating system refused.
    #[error("{what} failed: {error}; {advice}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// Another command is at work in the directory.
    #[error("another quorate-testnet is at work in {}; wait until it has finished", .0.display())]
    Locked(PathBuf),
    /// A port is taken.
    #[error(
        "port {port} ({purpose} of replica {replica}) is in use by another program: stop that, choose others with --port-base N, or take any free ones with --any-port"
    )]
    PortInUse {
        /// The port.
        port: u16,
        /// What it is for.
        purpose: &'static str,
        /// Whose it would be.
        replica: ReplicaId,
    },
    /// The ports asked for do not exist.
    #[error("{0}")]
    Ports(String),
    /// What was asked for does not fit what is there.
    #[error("{0}")]
    Usage(String),
    /// There is no such replica.
    #[error("there is no replica {id}: this testnet has replicas 0 to {}", replicas - 1)]
    NoReplica {
        /// The number given.
        id: u16,
        /// n.
        replicas: usize,
    },
    /// A replica ended while it was started.
    #[error("replica {replica} ended with {ending} when it was started: {last}; its log is {}", log.display())]
    Died {
        /// Which.
        replica: ReplicaId,
        /// Exit code or signal.
        ending: String,
        /// The last line of its log.
        last: String,
        /// Its log.
        log: PathBuf,
    },
    /// The replicas did not come up in time.
    #[error("{0}")]
    Late(String),
    /// A replica does not run, or does not answer.
    #[error("replica {replica} {problem}")]
    Replica {
        /// Which.
        replica: ReplicaId,
        /// What is the matter, and what to do.
        problem: String,
    },
}

impl LaunchError {
    /// An error of the system about a file.
    pub fn file(path: &Path, error: &io::Error) -> LaunchError {
        LaunchError::File {
            path: path.to_owned(),
            problem: format!("cannot be used ({error}); check its owner and mode"),
        }
    }
}
