//! The seam between durable formats and the medium they live on: named files in one directory, synchronous.
//!
//! What comes in: names, offsets, bytes. What goes out: bytes, and typed errors. The log and the snapshot store are
//! written against [`Disk`] alone; [`FileDisk`] is the real one, [`MemoryDisk`] loses unsynced bytes, tears writes and
//! fails on demand.
//!
//! What is assumed of a medium: a 512-byte sector is written whole or not at all; after [`Disk::sync_data`] returned
//! the bytes written to that file before it survive a power cut, its length included; after [`Disk::sync_directory`]
//! returned so do the names. Nothing is assumed about the order in which unsynced bytes and names reach the medium.
//!
//! A failed sync leaves it unknown which bytes are durable, and asking again would be answered with success while the
//! bytes are gone (Rebello et al., USENIX ATC 2020). The disk therefore refuses every operation after one (rule X4)
//! and the process must end.

use std::fmt;

use thiserror::Error;

mod file;
mod memory;

pub use file::{DEFAULT_RESERVE_BYTES, FileDisk};
pub use memory::{Fault, MemoryDisk};

/// The longest file name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// The largest piece in which callers write, in bytes: a single write never holds the medium for long.
pub const WRITE_SLICE_BYTES: usize = 1 << 20;

/// The smallest unit a medium writes atomically, in bytes (see the module's assumptions).
pub const SECTOR_BYTES: usize = 512;

/// Named files in one directory. Names are 1 to [`MAX_NAME_BYTES`] bytes of lower-case ASCII letters, digits, `-`, `_`
/// and `.`, not starting with `.`; others are refused with [`DiskError::BadName`].
///
/// Every method may return [`DiskError::Io`], and [`DiskError::Poisoned`] once a sync has failed.
pub trait Disk: Send {
    /// Creates an empty file. Durable after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// [`DiskError::AlreadyExists`], [`DiskError::DiskFull`].
    fn create(&mut self, name: &str) -> Result<(), DiskError>;

    /// Length of a file in bytes, `None` if there is no such file.
    fn length(&mut self, name: &str) -> Result<Option<u64>, DiskError>;

    /// Makes the file at least `length` bytes long, the new part zero, with its space reserved on the medium so that
    /// writing there later cannot run out of space. Never shortens.
    ///
    /// # Errors
    /// [`DiskError::DiskFull`] when the space, or the reserve that must stay free beside it, is not there.
    fn allocate(&mut self, name: &str, length: u64) -> Result<(), DiskError>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`DiskError::Io`] also when the file ends before the buffer is full.
    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `offset`. Durable after [`Disk::sync_data`], before which any subset of the sectors
    /// may survive a power cut.
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// fdatasync: returns when everything written to the file is durable. A failure poisons the disk.
    fn sync_data(&mut self, name: &str) -> Result<(), DiskError>;

    /// Gives the file another name, replacing a file of that name. Durable after [`Disk::sync_directory`].
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file. Durable after [`Disk::sync_directory`].
    fn remove(&mut self, name: &str) -> Result<(), DiskError>;

    /// fsync of the directory: returns when every create, rename and remove is durable. A failure poisons the disk.
    fn sync_directory(&mut self) -> Result<(), DiskError>;

    /// The names in use, in ascending order.
    fn list(&mut self) -> Result<Vec<String>, DiskError>;
}

/// What was being done when an error came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opening a file or the directory.
    Open,
    /// [`Disk::create`].
    Create,
    /// [`Disk::length`].
    Length,
    /// [`Disk::allocate`].
    Allocate,
    /// [`Disk::read_at`].
    Read,
    /// [`Disk::write_at`].
    Write,
    /// [`Disk::sync_data`].
    SyncData,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_directory`].
    SyncDirectory,
    /// [`Disk::list`].
    List,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Open => "open",
            Operation::Create => "create",
            Operation::Length => "read the length of",
            Operation::Allocate => "allocate",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::SyncData => "sync",
            Operation::Rename => "rename",
            Operation::Remove => "remove",
            Operation::SyncDirectory => "sync the directory of",
            Operation::List => "list",
        })
    }
}

/// Why an operation on a [`Disk`] failed.
#[derive(Debug, Error)]
pub enum DiskError {
    /// ENOSPC or EDQUOT, or the free-space reserve would be touched. Nothing was changed that matters; the operation
    /// can be tried again when there is space.
    #[error("no space left to {operation} {file}")]
    DiskFull {
        /// What was tried.
        operation: Operation,
        /// On which file.
        file: String,
    },
    /// Any other failure. After one on a write or sync the process must end.
    #[error("cannot {operation} {file}: {source}")]
    Io {
        /// What was tried.
        operation: Operation,
        /// On which file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An earlier sync failed, so that nobody knows what is durable (rule X4).
    #[error("the disk refuses everything since a sync failed; end the process and start it again")]
    Poisoned,
    /// Another process, or another [`FileDisk`] of this one, holds the directory.
    #[error("{0} is in use by another process")]
    Locked(String),
    /// The directory can be read or entered by others than its owner.
    #[error("{path} has mode {mode:03o}; it must be 700, since the secrets that protect the log are in it")]
    Exposed {
        /// The directory.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no such file.
    #[error("there is no file {0}")]
    NotFound(String),
    /// The file to create exists.
    #[error("the file {0} exists already")]
    AlreadyExists(String),
    /// A name outside the rule of [`Disk`].
    #[error("{0:?} is not a valid file name here")]
    BadName(String),
}

impl DiskError {
    /// Whether the operation can be tried again once there is space.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, DiskError::DiskFull { .. })
    }

    /// Whether the medium does not give back what was written to it: bytes that cannot be read, or a file that was there
    /// a moment ago. A file that may not be opened (permissions, too many open files) is not lost.
    pub fn is_unreadable(&self) -> bool {
        match self {
            DiskError::Io { operation: Operation::Read | Operation::Length, .. } | DiskError::NotFound(_) => true,
            DiskError::Io { operation: Operation::Open, source, .. } => {
                source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
            }
            _ => false,
        }
    }
}

/// The rule for names (see [`Disk`]).
fn check_name(name: &str) -> Result<(), DiskError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.starts_with('.') || !name.bytes().all(allowed) {
        return Err(DiskError::BadName(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
