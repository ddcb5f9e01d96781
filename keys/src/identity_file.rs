//! Key files: a replica's identity, a client's key.
//!
//! One text file of mode 0600. RFC 7468 allows text outside its blocks; here that text is fixed, so that neither a
//! missing block nor two swapped ones go unnoticed:
//!
//! ```text
//! quorate-identity 1                       quorate-client-key 1
//! consensus                                client
//! -----BEGIN PRIVATE KEY-----              -----BEGIN PRIVATE KEY-----
//! (PKCS#8, base64)                         (PKCS#8, base64)
//! -----END PRIVATE KEY-----                -----END PRIVATE KEY-----
//! transport
//! -----BEGIN PRIVATE KEY-----
//! (PKCS#8, base64)
//! -----END PRIVATE KEY-----
//! ```
//!
//! Encrypted files have `ENCRYPTED PRIVATE KEY` blocks, all under one passphrase, each with a salt of its own.

use std::path::Path;

use quorate_crypto::{SecretKey, Signer as _};
use zeroize::Zeroizing;

use crate::passphrase::{Passphrase, PassphraseSource};
use crate::private_key_block::{self, Encryption, fill_random};
use crate::protected_file::{self, KeyFileError, KeyFileProblem, SECRET_MODE};
use crate::public_file::{PublicClientKey, PublicIdentity};

const FORMAT_VERSION: &str = "1";

/// What a key file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileKind {
    /// A replica: consensus key and transport key.
    Replica,
    /// A client or an administrator: one key, which signs requests and authenticates the TLS link.
    Client,
}

impl KeyFileKind {
    const ALL: [KeyFileKind; 2] = [KeyFileKind::Replica, KeyFileKind::Client];

    const fn heading(self) -> &'static str {
        match self {
            KeyFileKind::Replica => "quorate-identity",
            KeyFileKind::Client => "quorate-client-key",
        }
    }

    const fn sections(self) -> &'static [&'static str] {
        match self {
            KeyFileKind::Replica => &["consensus", "transport"],
            KeyFileKind::Client => &["client"],
        }
    }

    /// The kind for people: "replica identity" or "client key".
    pub const fn name(self) -> &'static str {
        match self {
            KeyFileKind::Replica => "replica identity",
            KeyFileKind::Client => "client key",
        }
    }
}

/// The two secret keys of a replica. Both are wiped from memory when dropped.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Signs statements. Never used for TLS.
    pub consensus: SecretKey,
    /// Authenticates links (RFC 7250 raw public key). Never signs a statement.
    pub transport: SecretKey,
}

/// The one secret key of a client or administrator: it signs requests and authenticates the TLS link. A request never
/// begins like a TLS transcript, so one key for both is safe (see `quorate_crypto::statement`).
#[derive(Clone, Debug)]
pub struct ClientKey(pub SecretKey);

/// Either kind of key file.
#[derive(Clone, Debug)]
pub enum SecretFile {
    /// A replica's.
    Replica(Identity),
    /// A client's.
    Client(ClientKey),
}

/// What can be said of a key file without its passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFileOutline {
    /// Whose keys it holds.
    pub kind: KeyFileKind,
    /// Whether a passphrase is needed.
    pub encrypted: bool,
}

fn fresh_key() -> Result<SecretKey, KeyFileProblem> {
    let mut seed = Zeroizing::new([0; 32]);
    fill_random(seed.as_mut_slice())?;
    Ok(SecretKey::from_seed(&seed))
}

impl Identity {
    /// The identity of two seeds. For tests and simulations; a real one comes from [`Identity::generate`].
    pub fn from_seeds(consensus: &[u8; 32], transport: &[u8; 32]) -> Identity {
        Identity { consensus: SecretKey::from_seed(consensus), transport: SecretKey::from_seed(transport) }
    }

    /// A new identity from the randomness of the operating system.
    pub fn generate() -> Result<Identity, KeyFileProblem> {
        Ok(Identity { consensus: fresh_key()?, transport: fresh_key()? })
    }

    /// Loads a replica's identity. `source` is asked only if the file is encrypted.
    ///
    /// # Errors
    /// A mode wider than 0600, another owner, a link, another kind of file, damage, a wrong passphrase.
    pub fn load(path: &Path, source: &PassphraseSource) -> Result<Identity, KeyFileError> {
        match SecretFile::load(path, source)? {
            SecretFile::Replica(identity) => Ok(identity),
            SecretFile::Client(_) => Err(wrong_kind(path, KeyFileKind::Replica, KeyFileKind::Client)),
        }
    }

    /// Writes a new identity file of mode 0600 and syncs it. Never overwrites.
    pub fn create(&self, path: &Path, encryption: Option<&Encryption>) -> Result<(), KeyFileError> {
        write(path, KeyFileKind::Replica, &[&self.consensus, &self.transport], encryption)
    }

    /// The public half, the transport key bound to the consensus key by a signature.
    pub fn public(&self) -> PublicIdentity {
        PublicIdentity::bind(&self.consensus, self.transport.public_key())
    }
}

impl ClientKey {
    /// The key of a seed. For tests and simulations; a real one comes from [`ClientKey::generate`].
    pub fn from_seed(seed: &[u8; 32]) -> ClientKey {
        ClientKey(SecretKey::from_seed(seed))
    }

    /// A new key from the randomness of the operating system.
    pub fn generate() -> Result<ClientKey, KeyFileProblem> {
        fresh_key().map(ClientKey)
    }

    /// Loads a client's key; the errors are those of [`Identity::load`].
    pub fn load(path: &Path, source: &PassphraseSource) -> Result<ClientKey, KeyFileError> {
        match SecretFile::load(path, source)? {
            SecretFile::Client(key) => Ok(key),
            SecretFile::Replica(_) => Err(wrong_kind(path, KeyFileKind::Client, KeyFileKind::Replica)),
        }
    }

    /// Writes a new key file of mode 0600 and syncs it. Never overwrites.
    pub fn create(&self, path: &Path, encryption: Option<&Encryption>) -> Result<(), KeyFileError> {
        write(path, KeyFileKind::Client, &[&self.0], encryption)
    }

    /// The public half.
    pub fn public(&self) -> PublicClientKey {
        PublicClientKey { key: self.0.public_key() }
    }
}

/// Loads a client's key: [`ClientKey::load`].
pub fn load_client_key(path: &Path, source: &PassphraseSource) -> Result<ClientKey, KeyFileError> {
    ClientKey::load(path, source)
}

/// Makes a new client key and writes it to `path`.
pub fn create_client_key(path: &Path, encryption: Option<&Encryption>) -> Result<ClientKey, KeyFileError> {
    let key = ClientKey::generate().map_err(|problem| KeyFileError::new(path, problem))?;
    key.create(path, encryption)?;
    Ok(key)
}

impl SecretFile {
    /// Loads a key file of either kind. `source` is asked only if the file is encrypted.
    pub fn load(path: &Path, source: &PassphraseSource) -> Result<SecretFile, KeyFileError> {
        SecretFile::read(path, source).map_err(|problem| KeyFileError::new(path, problem))
    }

    fn read(path: &Path, source: &PassphraseSource) -> Result<SecretFile, KeyFileProblem> {
        let text = protected_file::read_secret(path)?;
        let parsed = KeyFileText::parse(&text)?;
        let passphrase = if parsed.is_encrypted() {
            Some(source.for_opening(path).map_err(KeyFileProblem::Passphrase)?)
        } else {
            None
        };
        parsed.open(passphrase.as_ref())
    }

    /// Checks protection and form of a key file without opening it.
    pub fn outline(path: &Path) -> Result<KeyFileOutline, KeyFileError> {
        let text = protected_file::read_secret(path).map_err(|problem| KeyFileError::new(path, problem))?;
        let parsed = KeyFileText::parse(&text).map_err(|problem| KeyFileError::new(path, problem))?;
        Ok(KeyFileOutline { kind: parsed.kind, encrypted: parsed.is_encrypted() })
    }
}

fn wrong_kind(path: &Path, expected: KeyFileKind, found: KeyFileKind) -> KeyFileError {
    KeyFileError::new(path, KeyFileProblem::WrongKind { expected: expected.name(), found: found.name() })
}

fn write(
    path: &Path,
    kind: KeyFileKind,
    keys: &[&SecretKey],
    encryption: Option<&Encryption>,
) -> Result<(), KeyFileError> {
    let compose = || {
        // Reserved at once, so that growing leaves no copy of a secret behind.
        let mut text = Zeroizing::new(String::with_capacity(protected_file::KEY_FILE_BYTES_MAX));
        for part in [kind.heading(), " ", FORMAT_VERSION, "\n"] {
            text.push_str(part);
        }
        for (section, key) in kind.sections().iter().zip(keys) {
            let block = private_key_block::encode(key, encryption)?;
            text.push_str(section);
            text.push('\n');
            text.push_str(block.trim_end());
            text.push('\n');
        }
        protected_file::create(path, SECRET_MODE, &text)
    };
    compose().map_err(|problem| KeyFileError::new(path, problem))
}

/// The parts of a key file, not yet decoded.
struct KeyFileText<'a> {
    kind: KeyFileKind,
    blocks: Vec<&'a str>,
}

impl<'a> KeyFileText<'a> {
    fn parse(text: &'a str) -> Result<KeyFileText<'a>, KeyFileProblem> {
        let (first, mut rest) = text.split_once('\n').ok_or(KeyFileProblem::NotAKeyFile)?;
        let (heading, version) = first.split_once(' ').ok_or(KeyFileProblem::NotAKeyFile)?;
        let kind =
            KeyFileKind::ALL.into_iter().find(|kind| kind.heading() == heading).ok_or(KeyFileProblem::NotAKeyFile)?;
        if version != FORMAT_VERSION {
            return Err(KeyFileProblem::UnknownFormat(version.chars().take(20).collect()));
        }
        let mut blocks = Vec::with_capacity(kind.sections().len());
        for section in kind.sections() {
            let missing = || KeyFileProblem::Malformed(format!("the {section} key is missing or cut off"));
            let after_label =
                rest.strip_prefix(section).and_then(|after| after.strip_prefix('\n')).ok_or_else(missing)?;
            let end_line = after_label.find("-----END ").ok_or_else(missing)?;
            let end = after_label[end_line..].find('\n').map(|offset| end_line + offset).ok_or_else(missing)?;
            blocks.push(&after_label[..end]);
            rest = &after_label[end + 1..];
        }
        if !rest.trim().is_empty() {
            return Err(KeyFileProblem::Malformed("there is more after the last key".to_owned()));
        }
        Ok(KeyFileText { kind, blocks })
    }

    fn is_encrypted(&self) -> bool {
        self.blocks.iter().any(|block| private_key_block::is_encrypted(block))
    }

    fn open(&self, passphrase: Option<&Passphrase>) -> Result<SecretFile, KeyFileProblem> {
        let mut keys = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            keys.push(private_key_block::decode(block, passphrase)?);
        }
        match (self.kind, keys.as_slice()) {
            (KeyFileKind::Replica, [consensus, transport]) => {
                if consensus.public_key() == transport.public_key() {
                    return Err(KeyFileProblem::OneKeyTwice);
                }
                Ok(SecretFile::Replica(Identity { consensus: consensus.clone(), transport: transport.clone() }))
            }
            (KeyFileKind::Client, [key]) => Ok(SecretFile::Client(ClientKey(key.clone()))),
            _ => Err(KeyFileProblem::Malformed("the number of keys is wrong".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
