//! The real disk: files of mode 0600 in a directory of mode 0700 that one process holds at a time.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Disk, DiskError, Operation, check_name};

/// Space that must stay free beside what is allocated, in bytes: 64 MiB. Running into it is reported as
/// [`DiskError::DiskFull`] while the file system can still take small metadata changes.
pub const DEFAULT_RESERVE_BYTES: u64 = 64 << 20;

/// Held with flock for as long as the directory is open; not listed.
const LOCK_FILE: &str = "lock";

/// A [`Disk`] on a directory of the file system.
#[derive(Debug)]
pub struct FileDisk {
    path: String,
    directory: File,
    files: BTreeMap<String, File>,
    reserve_bytes: u64,
    poisoned: bool,
    /// Dropped last: closing it releases the lock.
    _lock: File,
}

impl FileDisk {
    /// Creates the directory with mode 0700 if it is missing (its parent must exist; it is synced) and opens it.
    ///
    /// # Errors
    /// As [`FileDisk::open`].
    pub fn create(path: &Path, reserve_bytes: u64) -> Result<FileDisk, DiskError> {
        let shown = path.display().to_string();
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {
                let parent = match path.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                File::open(parent)
                    .and_then(|parent| parent.sync_all())
                    .map_err(|source| failure(Operation::SyncDirectory, &shown, source))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failure(Operation::Create, &shown, error)),
        }
        FileDisk::open(path, reserve_bytes)
    }

    /// Opens an existing directory and takes its lock. `reserve_bytes` of the file system stay free: an allocation
    /// that would touch them is refused as [`DiskError::DiskFull`].
    ///
    /// # Errors
    /// [`DiskError::NotFound`], [`DiskError::Exposed`] if others than the owner have any access,
    /// [`DiskError::Locked`] while another process or another `FileDisk` holds it, [`DiskError::Io`] (a symbolic link
    /// is refused so).
    pub fn open(path: &Path, reserve_bytes: u64) -> Result<FileDisk, DiskError> {
        let shown = path.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(directory) => File::from(directory),
            Err(Errno::NOENT) => return Err(DiskError::NotFound(shown)),
            Err(error) => return Err(failure(Operation::Open, &shown, error.into())),
        };
        let status = rustix::fs::fstat(&directory).map_err(|error| failure(Operation::Open, &shown, error.into()))?;
        let mode = status.st_mode & 0o777;
        if mode & 0o077 != 0 {
            return Err(DiskError::Exposed { path: shown, mode });
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&directory, LOCK_FILE, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failure(Operation::Open, LOCK_FILE, error.into()))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(DiskError::Locked(shown)),
            Err(error) => return Err(failure(Operation::Open, LOCK_FILE, error.into())),
        }
        Ok(FileDisk {
            path: shown,
            directory,
            files: BTreeMap::new(),
            reserve_bytes,
            poisoned: false,
            _lock: File::from(lock),
        })
    }

    fn usable(&self, name: &str) -> Result<(), DiskError> {
        if self.poisoned {
            return Err(DiskError::Poisoned);
        }
        check_name(name)?;
        if name == LOCK_FILE { Err(DiskError::BadName(name.to_owned())) } else { Ok(()) }
    }

    /// The open file, opened on first use and kept.
    fn file(&mut self, name: &str) -> Result<&File, DiskError> {
        self.usable(name)?;
        if !self.files.contains_key(name) {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT) => return Err(DiskError::NotFound(name.to_owned())),
                Err(error) => return Err(failure(Operation::Open, name, error.into())),
            };
            self.files.insert(name.to_owned(), file);
        }
        self.files.get(name).ok_or_else(|| DiskError::NotFound(name.to_owned()))
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let status = rustix::fs::fstatvfs(&self.directory)
            .map_err(|error| failure(Operation::Allocate, &self.path, error.into()))?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }
}

impl Disk for FileDisk {
    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.usable(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => {
                self.files.insert(name.to_owned(), File::from(file));
                Ok(())
            }
            Err(Errno::EXIST) => Err(DiskError::AlreadyExists(name.to_owned())),
            Err(error) => Err(failure(Operation::Create, name, error.into())),
        }
    }

    fn length(&mut self, name: &str) -> Result<Option<u64>, DiskError> {
        match self.file(name) {
            Ok(file) => {
                let metadata = file.metadata().map_err(|error| failure(Operation::Length, name, error))?;
                Ok(Some(metadata.len()))
            }
            Err(DiskError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn allocate(&mut self, name: &str, length: u64) -> Result<(), DiskError> {
        let reserve = self.reserve_bytes;
        let present = self.length(name)?.ok_or_else(|| DiskError::NotFound(name.to_owned()))?;
        if present >= length {
            return Ok(());
        }
        if self.free_bytes()? < (length - present).saturating_add(reserve) {
            return Err(DiskError::DiskFull { operation: Operation::Allocate, file: name.to_owned() });
        }
        let file = self.file(name)?;
        reserve_space(file, length).map_err(|error| failure(Operation::Allocate, name, error))
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file(name)?.read_exact_at(buffer, offset).map_err(|error| failure(Operation::Read, name, error))
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file(name)?.write_all_at(bytes, offset).map_err(|error| failure(Operation::Write, name, error))
    }

    fn sync_data(&mut self, name: &str) -> Result<(), DiskError> {
        let result = self.file(name)?.sync_data();
        result.map_err(|source| {
            self.poisoned = true;
            DiskError::Io { operation: Operation::SyncData, file: name.to_owned(), source }
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.usable(from)?;
        self.usable(to)?;
        match rustix::fs::renameat(&self.directory, from, &self.directory, to) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(DiskError::NotFound(from.to_owned())),
            Err(error) => return Err(failure(Operation::Rename, from, error.into())),
        }
        self.files.remove(to);
        if let Some(file) = self.files.remove(from) {
            self.files.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.usable(name)?;
        self.files.remove(name);
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(DiskError::NotFound(name.to_owned())),
            Err(error) => Err(failure(Operation::Remove, name, error.into())),
        }
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        if self.poisoned {
            return Err(DiskError::Poisoned);
        }
        self.directory.sync_all().map_err(|source| {
            self.poisoned = true;
            DiskError::Io { operation: Operation::SyncDirectory, file: self.path.clone(), source }
        })
    }

    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        if self.poisoned {
            return Err(DiskError::Poisoned);
        }
        let listing = |error: Errno| failure(Operation::List, &self.path, error.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory).map_err(listing)? {
            let entry = entry.map_err(listing)?;
            // Names that are not UTF-8 or break the rule were not made here.
            if let Ok(name) = entry.file_name().to_str()
                && check_name(name).is_ok()
                && name != LOCK_FILE
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

#[cfg(target_os = "linux")]
fn reserve_space(file: &File, length: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(()),
        // A file system without fallocate: the length is set here, and callers that must not run out of space later
        // write zeros over it at once.
        Err(Errno::OPNOTSUPP) => file.set_len(length),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve_space(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)
}

fn failure(operation: Operation, file: &str, source: io::Error) -> DiskError {
    let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
    match source.raw_os_error() {
        Some(code) if full.contains(&code) => DiskError::DiskFull { operation, file: file.to_owned() },
        _ => DiskError::Io { operation, file: file.to_owned(), source },
    }
}

#[cfg(test)]
mod tests;
