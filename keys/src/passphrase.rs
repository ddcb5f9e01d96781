//! Where a passphrase comes from. Never an argument and never an environment variable's value: both are visible to
//! other processes. A file, a descriptor (`/dev/fd/3`), standard input (`-`) or the terminal.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::protected_file::{KeyFileProblem, read_secret_bytes};

mod terminal;

/// Longest passphrase in bytes.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;

/// The environment variable that names the file a passphrase is read from.
pub const PASSPHRASE_FILE_VARIABLE: &str = "QUORATE_PASSPHRASE_FILE";

/// A passphrase, wiped from memory when dropped and never printed.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// Why no passphrase could be had.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// No source was named and there is no terminal to ask on.
    #[error("name its file with --passphrase-file or {PASSPHRASE_FILE_VARIABLE}, or run on a terminal")]
    NoSource,
    /// The file cannot be read.
    #[error("could not read the passphrase from {}: {error}", path.display())]
    Unreadable {
        /// The file as named.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may read the file.
    #[error("the passphrase file {} has mode {mode:04o}, which is wider than 0600; run chmod 600 on it", path.display())]
    WideMode {
        /// The file as named.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Nothing was given.
    #[error("the passphrase is empty")]
    Empty,
    /// More than the cap.
    #[error("the passphrase is longer than {PASSPHRASE_BYTES_MAX} bytes")]
    TooLong,
    /// Asked twice, got two answers.
    #[error("the two passphrases differ")]
    Differ,
    /// The terminal failed.
    #[error("the terminal could not be used: {0}")]
    Terminal(io::Error),
    /// Ctrl-C or end of input at the prompt.
    #[error("the prompt was interrupted")]
    Interrupted,
}

impl Passphrase {
    /// A passphrase of 1 to [`PASSPHRASE_BYTES_MAX`] bytes.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Passphrase, PassphraseError> {
        if bytes.is_empty() {
            return Err(PassphraseError::Empty);
        }
        if bytes.len() > PASSPHRASE_BYTES_MAX {
            return Err(PassphraseError::TooLong);
        }
        Ok(Passphrase(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first line of `path`, without its line ending. A regular file must be of mode 0600 or less; links are
    /// followed, since secret stores mount files that way. `-` is standard input.
    pub fn read(path: &Path) -> Result<Passphrase, PassphraseError> {
        let unreadable = |error| PassphraseError::Unreadable { path: path.to_owned(), error };
        let limit = PASSPHRASE_BYTES_MAX + 2;
        let read = if path == Path::new("-") {
            read_secret_bytes(io::stdin().lock(), limit)
        } else {
            let file = File::open(path).map_err(unreadable)?;
            let status = file.metadata().map_err(unreadable)?;
            let mode = status.mode() & 0o7777;
            if status.is_file() && mode & 0o077 != 0 {
                return Err(PassphraseError::WideMode { path: path.to_owned(), mode });
            }
            read_secret_bytes(file, limit)
        };
        let mut contents = read.map_err(|problem| match problem {
            KeyFileProblem::Io(_, error) => unreadable(error),
            _ => PassphraseError::TooLong,
        })?;
        let end = contents.iter().position(|byte| *byte == b'\n').unwrap_or(contents.len());
        let end = if end > 0 && contents[end - 1] == b'\r' { end - 1 } else { end };
        contents.truncate(end);
        Passphrase::new(contents)
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Where to look for a passphrase when one is needed; nothing is read or asked before.
#[derive(Clone, Debug)]
pub enum PassphraseSource {
    /// There is none: encrypted files are refused.
    None,
    /// It is in memory already.
    Given(Passphrase),
    /// A file, a descriptor as `/dev/fd/N`, or `-` for standard input.
    File(PathBuf),
    /// Ask on the controlling terminal, without echo.
    Terminal,
}

impl PassphraseSource {
    /// `flag` if given, else the file that `QUORATE_PASSPHRASE_FILE` names, else the terminal.
    pub fn from_environment(flag: Option<PathBuf>) -> PassphraseSource {
        let named = flag
            .or_else(|| std::env::var_os(PASSPHRASE_FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from));
        named.map_or(PassphraseSource::Terminal, PassphraseSource::File)
    }

    /// The passphrase that opens `file`.
    pub fn for_opening(&self, file: &Path) -> Result<Passphrase, PassphraseError> {
        match self {
            PassphraseSource::Terminal => terminal::ask(&format!("Passphrase for {}: ", file.display())),
            _ => self.without_asking(),
        }
    }

    /// The passphrase for a new file; a terminal is asked twice.
    pub fn for_creating(&self, file: &Path) -> Result<Passphrase, PassphraseError> {
        let PassphraseSource::Terminal = self else { return self.without_asking() };
        let first = terminal::ask(&format!("New passphrase for {}: ", file.display()))?;
        let second = terminal::ask("The same passphrase again: ")?;
        if first.as_bytes() == second.as_bytes() { Ok(first) } else { Err(PassphraseError::Differ) }
    }

    fn without_asking(&self) -> Result<Passphrase, PassphraseError> {
        match self {
            PassphraseSource::None | PassphraseSource::Terminal => Err(PassphraseError::NoSource),
            PassphraseSource::Given(passphrase) => Ok(passphrase.clone()),
            PassphraseSource::File(path) => Passphrase::read(path),
        }
    }
}

#[cfg(test)]
mod tests;
