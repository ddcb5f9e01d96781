//! What a command says: data on stdout, a failure as one sentence and an exit code.

use std::io::{self, Write as _};

use quorate_keys::genesis::GenesisFileError;
use quorate_keys::{GenesisError, KeyFileError, KeyFileProblem, PassphraseError};

/// Usage or configuration.
const USAGE: u8 = 2;
/// A key or genesis is refused.
const REFUSED: u8 = 4;
/// Ctrl-C at a prompt.
const INTERRUPTED: u8 = 130;

/// Why the command ends, in one sentence, and its exit code.
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) sentence: String,
}

impl Failure {
    pub(crate) fn usage(sentence: impl Into<String>) -> Failure {
        Failure { code: USAGE, sentence: sentence.into() }
    }

    pub(crate) fn refused(sentence: impl Into<String>) -> Failure {
        Failure { code: REFUSED, sentence: sentence.into() }
    }
}

impl From<PassphraseError> for Failure {
    fn from(error: PassphraseError) -> Failure {
        let code = if matches!(error, PassphraseError::Interrupted) { INTERRUPTED } else { USAGE };
        Failure { code, sentence: error.to_string() }
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Failure {
        let code = match &error.problem {
            KeyFileProblem::Passphrase(PassphraseError::Interrupted) => INTERRUPTED,
            _ if error.is_refusal() => REFUSED,
            _ => USAGE,
        };
        Failure { code, sentence: error.to_string() }
    }
}

impl From<GenesisFileError> for Failure {
    fn from(error: GenesisFileError) -> Failure {
        let code = if matches!(error, GenesisFileError::Refused { .. }) { REFUSED } else { USAGE };
        Failure { code, sentence: error.to_string() }
    }
}

impl From<GenesisError> for Failure {
    fn from(error: GenesisError) -> Failure {
        Failure::refused(format!("the genesis is refused: {error}"))
    }
}

/// How results are printed.
#[derive(Clone, Copy)]
pub(crate) struct Report {
    pub(crate) json: bool,
}

impl Report {
    /// Prints `text`, or `object` if JSON is wanted. A reader that went away is not an error.
    pub(crate) fn print(self, text: &str, object: serde_json::Value) -> Result<(), Failure> {
        let output = if self.json { object.to_string() } else { text.to_owned() };
        match writeln!(io::stdout(), "{output}") {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::usage(format!("could not write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }
}
