//! `quorate-keys new`.

use std::path::{Path, PathBuf};

use clap::Args;
use quorate_keys::identity_file::create_client_key;
use quorate_keys::{Encryption, Identity, KeyFileError, PassphraseSource, PublicFile, ScryptCost};
use serde_json::json;

use crate::outcome::{Failure, Report};

/// Makes a new identity (or, with --client, a client key) in FILE, readable by you alone, and its public half beside it
/// with the extension .pub. Neither is ever overwritten.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  quorate-keys new node0.key
  quorate-keys new admin.key --client --encrypt --passphrase-file /run/secrets/admin
  quorate-keys new admin.key --client --encrypt --passphrase-file /dev/fd/3 3< <(pass show quorate/admin)")]
pub(crate) struct New {
    /// The key file to make.
    file: PathBuf,
    /// Encrypt it with a passphrase (PKCS#8, scrypt, AES-256-CBC).
    #[arg(long)]
    encrypt: bool,
    /// Make a client or admin key instead of a replica's identity.
    #[arg(long)]
    client: bool,
    /// Read the passphrase from this file, /dev/fd/N, or - for standard input [env: QUORATE_PASSPHRASE_FILE]. Without
    /// it you are asked on the terminal.
    #[arg(long, value_name = "FILE", requires = "encrypt")]
    passphrase_file: Option<PathBuf>,
}

/// The public half's path: the same name with the extension .pub.
pub(crate) fn public_path(key: &Path) -> PathBuf {
    key.with_extension("pub")
}

impl New {
    pub(crate) fn run(self, report: Report) -> Result<(), Failure> {
        let public_path = public_path(&self.file);
        if public_path == self.file {
            return Err(Failure::usage(format!(
                "{} is the name of a public half; give the secret file another extension, such as .key",
                self.file.display()
            )));
        }
        // Before the secret exists, so that no key is left without its public half; creating checks again.
        for path in [&self.file, &public_path] {
            if path.symlink_metadata().is_ok() {
                return Err(Failure::usage(format!(
                    "{} exists already and is never overwritten; choose another name",
                    path.display()
                )));
            }
        }
        let encryption = if self.encrypt {
            let passphrase = PassphraseSource::from_environment(self.passphrase_file).for_creating(&self.file)?;
            Some(Encryption { passphrase, cost: ScryptCost::RECOMMENDED })
        } else {
            None
        };
        let public = if self.client {
            PublicFile::Client(create_client_key(&self.file, encryption.as_ref())?.public())
        } else {
            let identity = Identity::generate().map_err(|problem| KeyFileError { path: self.file.clone(), problem })?;
            identity.create(&self.file, encryption.as_ref())?;
            PublicFile::Replica(identity.public())
        };
        public.create(&public_path)?;
        eprintln!(
            "wrote {} (secret, mode 0600, {}) and {} (public)",
            self.file.display(),
            if self.encrypt { "encrypted" } else { "not encrypted" },
            public_path.display()
        );
        let fingerprint = public.fingerprint().to_hex();
        report.print(
            &format!("fingerprint {fingerprint}"),
            json!({
                "v": 1,
                "kind": if self.client { "client" } else { "replica" },
                "file": self.file,
                "public_file": public_path,
                "encrypted": self.encrypt,
                "fingerprint": fingerprint,
            }),
        )
    }
}
