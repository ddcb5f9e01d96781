//! The transport key: the ed25519 key that TLS proves, and the secrets of an endpoint that must survive a restart.
//!
//! It is not the consensus key: a handshake signs bytes the other side chose in part, and a statement of the protocol
//! must never be signed that way.

use std::fmt;
use std::sync::Arc;

use quorate_crypto::keys::{PublicKey, SecretKey, Signer as _};
use ring::{hkdf, hmac};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::error::StartError;

/// SubjectPublicKeyInfo of an ed25519 key up to the key itself (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// PKCS #8 of an ed25519 key up to the seed itself (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// An ed25519 transport key, wiped from memory when dropped.
#[derive(Clone)]
pub struct TransportKey(SecretKey);

impl TransportKey {
    /// The key of a 32-byte seed (the private key of RFC 8032). Randomness comes from the caller.
    pub fn from_seed(seed: &[u8; 32]) -> TransportKey {
        TransportKey(SecretKey::from_seed(seed))
    }

    /// The transport key held in an identity file.
    pub fn from_secret(secret: SecretKey) -> TransportKey {
        TransportKey(secret)
    }

    /// The 32 bytes that others pin.
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// The key as rustls wants it: a raw public key (RFC 7250) in place of a certificate.
    pub(crate) fn certified_key(&self) -> Result<Arc<CertifiedKey>, StartError> {
        let seed = Zeroizing::new(self.0.to_seed());
        let mut document = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
        document.extend_from_slice(&PKCS8_PREFIX);
        document.extend_from_slice(seed.as_slice());
        let signing_key = any_eddsa_type(&PrivatePkcs8KeyDer::from(document.as_slice())).map_err(StartError::Tls)?;
        let identity = CertificateDer::from(raw_public_key(&self.public_key()));
        Ok(Arc::new(CertifiedKey::new(vec![identity], signing_key)))
    }

    /// Signs stateless resets (RFC 9000, section 10.3). Derived, so that a restarted process can reset the links of
    /// the one before it.
    pub(crate) fn reset_key(&self, port: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.derive("stateless-reset", port).as_ref())
    }

    /// Seals Retry tokens. Derived, so that a token given before a restart is good after it.
    pub(crate) fn token_key(&self, port: &str) -> hkdf::Prk {
        hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, self.derive("retry-token", port).as_ref())
    }

    /// Tells connection ids of ours, of this process or one before it, from noise.
    pub(crate) fn connection_id_key(&self, port: &str) -> u64 {
        let tag = self.derive("connection-id", port);
        tag.as_ref().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
    }

    fn derive(&self, purpose: &str, port: &str) -> hmac::Tag {
        let seed = Zeroizing::new(self.0.to_seed());
        hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, seed.as_slice()),
            format!("quorate/1/transport/{purpose}/{port}").as_bytes(),
        )
    }
}

impl fmt::Debug for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportKey of {:?}", self.public_key())
    }
}

/// The 44 bytes that stand for `key` in a handshake.
pub(crate) fn raw_public_key(key: &PublicKey) -> Vec<u8> {
    [SPKI_PREFIX.as_slice(), key.0.as_slice()].concat()
}

/// The key in a handshake's SubjectPublicKeyInfo; `None` unless it is exactly an ed25519 key.
pub(crate) fn public_key_in(spki: &[u8]) -> Option<PublicKey> {
    let key = spki.strip_prefix(SPKI_PREFIX.as_slice())?;
    Some(PublicKey(key.try_into().ok()?))
}

#[cfg(test)]
mod tests;
