//! Opening and creating files that hold secrets.
//!
//! What is checked is checked on the opened descriptor, never on the name: between a check of a name and its opening
//! somebody could put another file there. The last component of a path is never followed if it is a symbolic link
//! (`O_NOFOLLOW`); directories above it may be links.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use zeroize::Zeroizing;

use crate::passphrase::PassphraseError;

/// A key file longer than this many bytes is refused unread. The longest this crate writes is under 1 KiB.
pub const KEY_FILE_BYTES_MAX: usize = 16 * 1024;

/// The only mode a secret file is made with. One with fewer bits is accepted, one with more is refused.
pub const SECRET_MODE: u32 = 0o600;

/// Why a key file was not read or written.
#[derive(Debug)]
pub enum KeyFileProblem {
    /// The operating system refused; holds what was tried.
    Io(&'static str, io::Error),
    /// The path names a symbolic link.
    Symlink,
    /// The path names a directory, pipe or device.
    NotAFile,
    /// Others than the owner may use the file, or it is executable. Holds the permission bits.
    WideMode(u32),
    /// The file belongs to another user.
    WrongOwner {
        /// User id of the file's owner.
        owner: u32,
        /// User id this process runs as.
        ours: u32,
    },
    /// Longer than the cap in bytes.
    TooLong(usize),
    /// Not a key file at all.
    NotAKeyFile,
    /// A format this program does not know. Holds the version as written.
    UnknownFormat(String),
    /// A key file of another kind.
    WrongKind {
        /// What was asked for.
        expected: &'static str,
        /// What the file says it is.
        found: &'static str,
    },
    /// The first line is right, what follows is not. Holds what is wrong.
    Malformed(String),
    /// No passphrase could be had for an encrypted file.
    Passphrase(PassphraseError),
    /// The passphrase does not open the file, or the file is damaged: the two cannot be told apart.
    WrongPassphrase,
    /// The file asks for another key derivation or cipher than this crate writes.
    UnsupportedEncryption,
    /// The file asks for more memory or time than a key file may cost.
    TooCostly,
    /// Two keys that must differ are equal.
    OneKeyTwice,
    /// A public key that nobody may use: of small order or in a non-canonical encoding.
    UnacceptableKey,
    /// The consensus key did not sign the transport key next to it.
    BadBinding,
    /// The file exists already.
    Exists,
    /// The operating system gave no randomness.
    Randomness,
}

impl fmt::Display for KeyFileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFileProblem::Io(what, error) => write!(f, "could not {what}: {error}"),
            KeyFileProblem::Symlink => f.write_str("is a symbolic link; give the path of the key file itself"),
            KeyFileProblem::NotAFile => f.write_str("is not a regular file"),
            KeyFileProblem::WideMode(mode) => {
                write!(f, "has mode {mode:04o}, which is wider than 0600; run chmod 600 on it, and make a new key if others may have read it")
            }
            KeyFileProblem::WrongOwner { owner, ours } => {
                write!(f, "belongs to user {owner}, but this process runs as user {ours}; change the owner or run as user {owner}")
            }
            KeyFileProblem::TooLong(limit) => write!(f, "is longer than {limit} bytes, which no file of this kind is"),
            KeyFileProblem::NotAKeyFile => f.write_str("is not a file made by `quorate-keys new`"),
            KeyFileProblem::UnknownFormat(version) => {
                write!(f, "has format {version:?}, but this program knows format 1 only; use the program that wrote it")
            }
            KeyFileProblem::WrongKind { expected, found } => write!(f, "holds a {found}, where a {expected} is needed"),
            KeyFileProblem::Malformed(what) => write!(f, "is damaged: {what}; restore it from a backup"),
            KeyFileProblem::Passphrase(error) => write!(f, "is encrypted, and no passphrase could be had: {error}"),
            KeyFileProblem::WrongPassphrase => f.write_str("could not be decrypted: the passphrase is wrong or the file is damaged"),
            KeyFileProblem::UnsupportedEncryption => {
                f.write_str("is encrypted in another way than scrypt with AES-256-CBC; make a new key with `quorate-keys new --encrypt`")
            }
            KeyFileProblem::TooCostly => f.write_str("asks for more than 1 GiB of memory or 16 passes to be decrypted, and is refused"),
            KeyFileProblem::OneKeyTwice => {
                f.write_str("uses one key as consensus and as transport key; make a new identity with `quorate-keys new`")
            }
            KeyFileProblem::UnacceptableKey => f.write_str("holds a public key that is not an acceptable ed25519 key"),
            KeyFileProblem::BadBinding => {
                f.write_str("holds a transport key that its consensus key did not sign; take the .pub file from its owner again")
            }
            KeyFileProblem::Exists => f.write_str("exists already and is never overwritten; choose another name"),
            KeyFileProblem::Randomness => f.write_str("was not made: the operating system gave no randomness"),
        }
    }
}

/// A problem and the file that has it: one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: KeyFileProblem,
}

impl KeyFileError {
    pub(crate) fn new(path: &Path, problem: KeyFileProblem) -> KeyFileError {
        KeyFileError { path: path.to_owned(), problem }
    }

    /// Whether the file itself is refused (exit code 4), as opposed to a mistake in how it was asked for, such as a
    /// path that does not exist or a missing passphrase (exit code 2).
    pub fn is_refusal(&self) -> bool {
        !matches!(
            self.problem,
            KeyFileProblem::Io(..)
                | KeyFileProblem::Passphrase(_)
                | KeyFileProblem::Exists
                | KeyFileProblem::Randomness
        )
    }
}

/// Opens `path` for reading without following a link and without waiting on a pipe; refuses anything but a regular
/// file. Returns the file with its owner and permission bits.
fn open_regular(path: &Path) -> Result<(File, u32, u32), KeyFileProblem> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
        // FreeBSD says MLINK where POSIX says LOOP.
        if error == rustix::io::Errno::LOOP || error == rustix::io::Errno::MLINK {
            KeyFileProblem::Symlink
        } else {
            KeyFileProblem::Io("open it", error.into())
        }
    })?;
    let status = rustix::fs::fstat(&descriptor).map_err(|error| KeyFileProblem::Io("inspect it", error.into()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(KeyFileProblem::NotAFile);
    }
    Ok((File::from(descriptor), status.st_uid, status.st_mode & 0o7777))
}

/// Whether a file with these attributes may hold a secret of the user `ours` (threats.md, 5.4).
fn check_protection(owner: u32, mode: u32, ours: u32) -> Result<(), KeyFileProblem> {
    if owner != ours {
        return Err(KeyFileProblem::WrongOwner { owner, ours });
    }
    if mode & !SECRET_MODE != 0 {
        return Err(KeyFileProblem::WideMode(mode));
    }
    Ok(())
}

/// Reads at most `limit` bytes into memory that is wiped; it never grows, so no copy stays behind.
pub(crate) fn read_secret_bytes(source: impl io::Read, limit: usize) -> Result<Zeroizing<Vec<u8>>, KeyFileProblem> {
    let mut source = source.take(limit as u64 + 1);
    let mut contents = Zeroizing::new(vec![0; limit + 1]);
    let mut length = 0;
    while length <= limit {
        match source.read(&mut contents[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(KeyFileProblem::Io("read it", error)),
        }
    }
    if length > limit {
        return Err(KeyFileProblem::TooLong(limit));
    }
    contents.truncate(length);
    Ok(contents)
}

/// Reads a secret file after checking type, owner and mode on the opened descriptor.
///
/// # Errors
/// Everything of [`KeyFileProblem`] that concerns a file as such, and [`KeyFileProblem::Malformed`] for text that is
/// not UTF-8.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyFileProblem> {
    let (file, owner, mode) = open_regular(path)?;
    check_protection(owner, mode, rustix::process::geteuid().as_raw())?;
    let contents = read_secret_bytes(file, KEY_FILE_BYTES_MAX)?;
    match std::str::from_utf8(&contents) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(KeyFileProblem::Malformed("it is not text".to_owned())),
    }
}

/// Reads a public file of at most `limit` bytes; links are followed, modes do not matter.
pub(crate) fn read_public(path: &Path, limit: usize) -> Result<String, KeyFileProblem> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(|error| KeyFileProblem::Io("open it", error))?;
    if !file.metadata().map_err(|error| KeyFileProblem::Io("inspect it", error))?.is_file() {
        return Err(KeyFileProblem::NotAFile);
    }
    let contents = read_secret_bytes(file, limit)?;
    match std::str::from_utf8(&contents) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(KeyFileProblem::Malformed("it is not text".to_owned())),
    }
}

/// Creates `path` with exactly `mode` (whatever the umask), writes `contents`, syncs file and directory. A file that
/// could not be written whole is removed again.
///
/// # Errors
/// [`KeyFileProblem::Exists`] if anything, a dangling link included, has that name; [`KeyFileProblem::Io`].
pub(crate) fn create(path: &Path, mode: u32, contents: &str) -> Result<(), KeyFileProblem> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            KeyFileProblem::Exists
        } else {
            KeyFileProblem::Io("create it", error)
        }
    })?;
    let written = file
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(contents.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_directory_of(path));
    written.map_err(|error| {
        // Half a key is worse than none; if even this fails the first error is the one to tell.
        let _ = std::fs::remove_file(path);
        KeyFileProblem::Io("write it", error)
    })
}

/// Makes the name of a new file durable (rule X4).
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
