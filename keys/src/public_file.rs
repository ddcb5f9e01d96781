//! Public halves, to hand to whoever writes the genesis file.
//!
//! A replica's public file holds both public keys and the consensus key's signature over the pair, so that nobody can
//! put a transport key of their own next to somebody else's consensus key. The signed bytes:
//!
//! ```text
//! offset  0  kind       u8     BINDING_KIND (0x60): no statement, no request (0x40), no TLS transcript (0x20)
//!         1  version    u8     1
//!         2  consensus  32 B   the signer's own key
//!        34  transport  32 B   the key it vouches for
//! ```

use std::path::Path;

use quorate_crypto::{Digest, Ed25519, PublicKey, SecretKey, Signature, SignatureScheme as _, Signer as _};
use serde::Deserialize;

use crate::protected_file::{self, KeyFileError, KeyFileProblem};

/// First byte of the bytes a consensus key signs to vouch for a transport key; a kind of its own.
pub const BINDING_KIND: u8 = 0x60;

const BINDING_VERSION: u8 = 1;
const FORMAT_VERSION: i64 = 1;
/// A public file longer than this many bytes is refused unread.
const PUBLIC_FILE_BYTES_MAX: usize = 4 * 1024;
/// Anyone may read a public file.
const PUBLIC_MODE: u32 = 0o644;

/// A replica's public keys, of which the first vouched for the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicIdentity {
    /// Verifies statements.
    pub consensus: PublicKey,
    /// Authenticates links.
    pub transport: PublicKey,
    /// The consensus key's signature over [`binding_bytes`].
    pub binding: Signature,
}

/// The public key of a client or administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicClientKey {
    /// Verifies requests and authenticates the client's link.
    pub key: PublicKey,
}

/// Either kind of public file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicFile {
    /// A replica's.
    Replica(PublicIdentity),
    /// A client's.
    Client(PublicClientKey),
}

/// The bytes that bind `transport` to `consensus`, in the layout of the module's documentation.
pub fn binding_bytes(consensus: &PublicKey, transport: &PublicKey) -> [u8; 66] {
    let mut bytes = [0; 66];
    bytes[0] = BINDING_KIND;
    bytes[1] = BINDING_VERSION;
    bytes[2..34].copy_from_slice(&consensus.0);
    bytes[34..].copy_from_slice(&transport.0);
    bytes
}

impl PublicIdentity {
    /// The public half of an identity: `consensus` signs for `transport`.
    pub fn bind(consensus: &SecretKey, transport: PublicKey) -> PublicIdentity {
        let consensus_key = consensus.public_key();
        let binding = consensus.sign(&binding_bytes(&consensus_key, &transport));
        PublicIdentity { consensus: consensus_key, transport, binding }
    }

    /// Whether the keys may be used and the consensus key vouches for the transport key.
    pub fn check(&self) -> Result<(), KeyFileProblem> {
        if !self.consensus.is_acceptable() || !self.transport.is_acceptable() {
            return Err(KeyFileProblem::UnacceptableKey);
        }
        if self.consensus == self.transport {
            return Err(KeyFileProblem::OneKeyTwice);
        }
        if !Ed25519.verify(&self.consensus, &binding_bytes(&self.consensus, &self.transport), &self.binding) {
            return Err(KeyFileProblem::BadBinding);
        }
        Ok(())
    }

    /// A digest over both keys, for people to compare. It identifies the whole identity: with one fingerprint per key
    /// they would compare the first and forget the second.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(quorate_crypto::Domain::Fingerprint, &[&self.consensus.0, &self.transport.0])
    }
}

/// The file as TOML. Which fields must be there depends on the kind, which [`PublicFile::parse`] checks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicFileText {
    #[serde(rename = "format_version")]
    _format_version: i64,
    kind: String,
    consensus_key: Option<String>,
    transport_key: Option<String>,
    binding: Option<String>,
    key: Option<String>,
}

#[derive(Deserialize)]
struct VersionOnly {
    format_version: Option<i64>,
}

fn fixed_hex<const N: usize>(field: &str, text: Option<String>) -> Result<[u8; N], KeyFileProblem> {
    let mut bytes = [0; N];
    let text = text.ok_or_else(|| KeyFileProblem::Malformed(format!("{field} is missing")))?;
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| KeyFileProblem::Malformed(format!("{field} is not {} hexadecimal digits", 2 * N)))?;
    Ok(bytes)
}

impl PublicFile {
    /// Parses and checks a public file: acceptable keys, a valid binding.
    pub fn parse(text: &str) -> Result<PublicFile, KeyFileProblem> {
        let VersionOnly { format_version } = toml::from_str(text).map_err(|_| KeyFileProblem::NotAKeyFile)?;
        match format_version {
            Some(FORMAT_VERSION) => {}
            Some(other) => return Err(KeyFileProblem::UnknownFormat(other.to_string())),
            None => return Err(KeyFileProblem::NotAKeyFile),
        }
        let file: PublicFileText =
            toml::from_str(text).map_err(|error| KeyFileProblem::Malformed(error.message().to_owned()))?;
        match file.kind.as_str() {
            "replica" if file.key.is_none() => {
                let identity = PublicIdentity {
                    consensus: PublicKey(fixed_hex("consensus_key", file.consensus_key)?),
                    transport: PublicKey(fixed_hex("transport_key", file.transport_key)?),
                    binding: Signature(fixed_hex("binding", file.binding)?),
                };
                identity.check()?;
                Ok(PublicFile::Replica(identity))
            }
            "client" if file.consensus_key.is_none() && file.transport_key.is_none() && file.binding.is_none() => {
                let key = PublicKey(fixed_hex("key", file.key)?);
                if !key.is_acceptable() {
                    return Err(KeyFileProblem::UnacceptableKey);
                }
                Ok(PublicFile::Client(PublicClientKey { key }))
            }
            "replica" | "client" => Err(KeyFileProblem::Malformed("it has fields of the other kind".to_owned())),
            _ => Err(KeyFileProblem::Malformed("its kind is neither replica nor client".to_owned())),
        }
    }

    /// Loads and checks a public file. Links are followed and any mode will do: nothing in it is secret, and what is
    /// forged in it does not verify.
    pub fn load(path: &Path) -> Result<PublicFile, KeyFileError> {
        protected_file::read_public(path, PUBLIC_FILE_BYTES_MAX)
            .and_then(|text| PublicFile::parse(&text))
            .map_err(|problem| KeyFileError::new(path, problem))
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        match self {
            PublicFile::Replica(identity) => format!(
                "# Public half of a Quorate replica's identity. Safe to share.\n\
                 format_version = {FORMAT_VERSION}\n\
                 kind = \"replica\"\n\
                 consensus_key = \"{}\"\n\
                 transport_key = \"{}\"\n\
                 # The consensus key's signature over both.\n\
                 binding = \"{}\"\n",
                identity.consensus.to_hex(),
                identity.transport.to_hex(),
                hex::encode(identity.binding.0),
            ),
            PublicFile::Client(client) => format!(
                "# Public half of a Quorate client key. Safe to share.\n\
                 format_version = {FORMAT_VERSION}\n\
                 kind = \"client\"\n\
                 key = \"{}\"\n",
                client.key.to_hex(),
            ),
        }
    }

    /// Writes a new public file and syncs it. Never overwrites.
    pub fn create(&self, path: &Path) -> Result<(), KeyFileError> {
        protected_file::create(path, PUBLIC_MODE, &self.to_toml()).map_err(|problem| KeyFileError::new(path, problem))
    }

    /// The fingerprint for people to compare: of the pair for a replica, of the key for a client.
    pub fn fingerprint(&self) -> Digest {
        match self {
            PublicFile::Replica(identity) => identity.fingerprint(),
            PublicFile::Client(client) => client.key.fingerprint(),
        }
    }
}

#[cfg(test)]
mod tests;
