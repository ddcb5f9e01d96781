//! `quorate-keys show`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_keys::{PassphraseSource, PublicFile, SecretFile};
use serde_json::{Map, Value, json};

use crate::outcome::{Failure, Report};

/// Shows the public keys and the fingerprint of FILE; a .pub file is checked, any other is opened as a key file. Nothing
/// secret is ever printed.
#[derive(Args)]
#[command(after_long_help = "Example:\n  quorate-keys show node0.key\n  quorate-keys show node0.pub --json")]
pub(crate) struct Show {
    /// A key file or a public file.
    file: PathBuf,
    /// Read the passphrase from this file, /dev/fd/N, or - for standard input [env: QUORATE_PASSPHRASE_FILE]. Without
    /// it you are asked on the terminal.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Whether `path` is named like a public half.
pub(crate) fn is_public(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pub")
}

/// The public half of an opened key file.
pub(crate) fn public_half(secret: &SecretFile) -> PublicFile {
    match secret {
        SecretFile::Replica(identity) => PublicFile::Replica(identity.public()),
        SecretFile::Client(key) => PublicFile::Client(key.public()),
    }
}

impl Show {
    pub(crate) fn run(self, report: Report) -> Result<(), Failure> {
        let (public, encrypted) = if is_public(&self.file) {
            (PublicFile::load(&self.file)?, None)
        } else {
            let encrypted = SecretFile::outline(&self.file)?.encrypted;
            let source = PassphraseSource::from_environment(self.passphrase_file);
            (public_half(&SecretFile::load(&self.file, &source)?), Some(encrypted))
        };
        let mut fields: Vec<(&str, Value)> = vec![
            ("file", json!(self.file)),
            ("kind", json!(if matches!(public, PublicFile::Replica(_)) { "replica" } else { "client" })),
            ("fingerprint", json!(public.fingerprint().to_hex())),
        ];
        match &public {
            PublicFile::Replica(identity) => fields.extend([
                ("consensus_key", json!(identity.consensus.to_hex())),
                ("transport_key", json!(identity.transport.to_hex())),
                ("binding", json!(hex::encode(identity.binding.0))),
            ]),
            PublicFile::Client(client) => fields.push(("key", json!(client.key.to_hex()))),
        }
        if let Some(encrypted) = encrypted {
            fields.push(("encrypted", json!(encrypted)));
        }
        let mut text = String::new();
        for (name, value) in &fields {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<14} {plain}");
        }
        let mut object = Map::from_iter([("v".to_owned(), json!(1))]);
        object.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        report.print(text.trim_end(), Value::Object(object))
    }
}
