//! Keys and signatures as fixed-width bytes, and the seam through which a state machine signs.

use std::fmt;

use bincode::{Decode, Encode};
use ed25519_dalek::Signer as _;

use crate::digest::{Digest, Domain};

/// An ed25519 public key, compressed (RFC 8032). Whether it is acceptable is decided by verification and by
/// [`PublicKey::is_acceptable`] where keys are configured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// False for encodings that are not canonical and for points of small order: neither may be configured as a key,
    /// since such a key verifies signatures nobody made.
    pub fn is_acceptable(&self) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            !key.is_weak() && key.to_bytes() == self.0 && key.to_edwards().compress().to_bytes() == self.0
        })
    }

    /// A digest of the key, for people to compare.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(Domain::Fingerprint, &[&self.0])
    }

    /// All 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        Digest(self.0).to_hex()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key:{}", Digest(self.0).short())
    }
}

/// An ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sig:{:02x}{:02x}", self.0[0], self.0[1])
    }
}

/// Whoever can sign under one public key. Signing is deterministic: the same bytes give the same signature.
pub trait Signer: Send + Sync {
    /// The key that verifies what [`Signer::sign`] makes.
    fn public_key(&self) -> PublicKey;
    /// Signs `message`.
    fn sign(&self, message: &[u8]) -> Signature;
}

/// An ed25519 secret key, wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretKey(ed25519_dalek::SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed (RFC 8032 private key). Randomness comes from the caller.
    pub fn from_seed(seed: &[u8; 32]) -> SecretKey {
        SecretKey(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, for key files. Whoever calls this wipes the copy.
    pub fn to_seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The underlying key, for PKCS#8 encoding and TLS.
    pub fn as_dalek(&self) -> &ed25519_dalek::SigningKey {
        &self.0
    }
}

impl Signer for SecretKey {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {:?}", self.public_key())
    }
}

#[cfg(test)]
mod tests;
