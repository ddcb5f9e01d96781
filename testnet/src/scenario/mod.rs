//! Scenario files: a cluster, its load, what goes wrong from when to when, and what must come of it.
//!
//! What comes in: a TOML file. What goes out: a [`Verdict`], a line for every expectation. The same file is played in
//! the simulator, where one seed decides everything, or on real processes.
//!
//! ```text
//!   file ──► Scenario ──┬─► simulated: sim::script in virtual time ──┬─► Observed ──► Verdict
//!                       └─► real: launcher, control socket, signals ─┘
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `file` | the form of the file; every mistake is told with its line |
//! | `timeline` | events as they are written, as spans with a beginning and an end |
//! | `expectations` | what must come of it, and what did |
//! | `simulated` | playing it in virtual time |
//! | `real` | playing it on processes of this machine |

use std::fmt;
use std::path::{Path, PathBuf};

use quorate_keys::Protocol;

use crate::sim::script::Script;

pub mod expectations;
pub mod file;
pub mod real;
pub mod simulated;
pub mod timeline;

pub use expectations::{Expectations, Observed, Verdict};

/// A scenario that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Where it came from.
    pub path: PathBuf,
    /// What it is about, one line.
    pub title: String,
    /// What the replicas run.
    pub protocol: Protocol,
    /// The seed in the simulator.
    pub seed: u64,
    /// What happens.
    pub script: Script,
    /// Parameters of the genesis file that are not the default.
    pub parameters: Vec<(String, u64)>,
    /// What must come of it.
    pub expectations: Expectations,
}

/// A file that is no scenario: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; none if the file cannot be read at all.
    pub line: Option<usize>,
    /// One sentence.
    pub sentence: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}: {}", self.path.display(), self.sentence),
            None => write!(f, "{}: {}", self.path.display(), self.sentence),
        }
    }
}

impl std::error::Error for Mistake {}

impl Scenario {
    /// Judges what came of it.
    pub fn judge(&self, observed: &Observed) -> Verdict {
        self.expectations.under(self.protocol).judge(observed)
    }

    /// Reads a file, to be played under `protocol`, or under what it says itself.
    ///
    /// # Errors
    /// The first mistake in it; a lie that means nothing under that protocol is one.
    pub fn read(path: &Path, protocol: Option<Protocol>) -> Result<Scenario, Mistake> {
        let mistake = |sentence| Mistake { path: path.to_owned(), line: None, sentence };
        let text = std::fs::read_to_string(path).map_err(|error| mistake(format!("cannot be read: {error}")))?;
        Scenario::parse(path, &text, protocol)
    }

    /// Reads the text of a file, to be played under `protocol`, or under what it says itself.
    ///
    /// # Errors
    /// The first mistake in it; a lie that means nothing under that protocol is one.
    pub fn parse(path: &Path, text: &str, protocol: Option<Protocol>) -> Result<Scenario, Mistake> {
        file::parse(path, text, protocol).map_err(|(line, sentence)| Mistake { path: path.to_owned(), line, sentence })
    }
}

#[cfg(test)]
mod tests;
