//! Signatures for simulated runs: a keyed hash in place of a curve.
//!
//! It is unforgeable inside a simulation because secrets live in the keys alone: an actor holds its own key, and the
//! scheme, which knows all secrets, only answers yes or no. It is hundreds of times cheaper than ed25519, which a share of
//! the runs uses instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_crypto::{Claim, Digest, Domain, Ed25519, PublicKey, SecretKey, Signature, SignatureScheme, Signer};

use super::fingerprint::{Fingerprint, mix};
use crate::faults::ManySignatures;

/// A key of the simulated scheme.
#[derive(Clone)]
struct SimulatedKey {
    secret: [u8; 32],
    public: PublicKey,
}

/// As with a curve, one key makes many signatures of one message, one for each nonce: the second half.
fn keyed_hash(secret: &[u8; 32], message: &[u8], nonce: &[u8; 32]) -> Signature {
    let mut fingerprint = Fingerprint::new();
    fingerprint.part(secret);
    fingerprint.part(message);
    fingerprint.part(nonce);
    let [one, two] = fingerprint.finish();
    let mut signature = [0; 64];
    let (hash, rest) = signature.split_at_mut(32);
    for (index, place) in hash.chunks_exact_mut(8).enumerate() {
        let word = mix(one.wrapping_add(two.wrapping_mul(2 * index as u64 + 1)));
        place.copy_from_slice(&word.to_be_bytes());
    }
    rest.copy_from_slice(nonce);
    Signature(signature)
}

/// The nonce of an honest signer.
const HONEST: [u8; 32] = [0; 32];

impl Signer for SimulatedKey {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Signature {
        keyed_hash(&self.secret, message, &HONEST)
    }
}

impl ManySignatures for SimulatedKey {
    fn sign_again(&self, message: &[u8], nonce: u64) -> Signature {
        let mut wide = HONEST;
        wide[..8].copy_from_slice(&nonce.to_be_bytes());
        keyed_hash(&self.secret, message, &wide)
    }
}

/// Verifies by recomputing: a registry of secrets by public key.
struct KeyedHash {
    secrets: BTreeMap<PublicKey, [u8; 32]>,
}

impl SignatureScheme for KeyedHash {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let mut nonce = HONEST;
        nonce.copy_from_slice(&signature.0[32..]);
        self.secrets.get(key).is_some_and(|secret| keyed_hash(secret, message, &nonce) == *signature)
    }

    fn verify_batch(&self, claims: &[&Claim]) -> bool {
        claims.iter().all(|claim| self.verify(&claim.key, &claim.message, &claim.signature))
    }
}

/// All keys of a run and the scheme that verifies them.
pub(crate) struct Keyring {
    keys: Vec<Arc<dyn ManySignatures>>,
    scheme: Arc<dyn SignatureScheme>,
}

impl Keyring {
    /// `count` keys that `seed` decides, of ed25519 or of the simulated scheme.
    pub(crate) fn new(seed: u64, count: usize, ed25519: bool) -> Keyring {
        let secrets: Vec<[u8; 32]> = (0..count as u64)
            .map(|index| Digest::of(Domain::Fingerprint, &[b"secret", &seed.to_be_bytes(), &index.to_be_bytes()]).0)
            .collect();
        if ed25519 {
            let keys = secrets
                .iter()
                .map(|secret| Arc::new(SecretKey::from_seed(secret)) as Arc<dyn ManySignatures>)
                .collect();
            return Keyring { keys, scheme: Arc::new(Ed25519) };
        }
        let simulated: Vec<SimulatedKey> = secrets
            .iter()
            .map(|secret| SimulatedKey {
                secret: *secret,
                public: PublicKey(Digest::of(Domain::Fingerprint, &[b"public", secret]).0),
            })
            .collect();
        let secrets = simulated.iter().map(|key| (key.public, key.secret)).collect();
        let keys = simulated.into_iter().map(|key| Arc::new(key) as Arc<dyn ManySignatures>).collect();
        Keyring { keys, scheme: Arc::new(KeyedHash { secrets }) }
    }

    pub(crate) fn key(&self, index: usize) -> Arc<dyn ManySignatures> {
        Arc::clone(&self.keys[index])
    }

    pub(crate) fn scheme(&self) -> Arc<dyn SignatureScheme> {
        Arc::clone(&self.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_key_and_message_alone() {
        let ring = Keyring::new(1, 2, false);
        let (one, two) = (ring.key(0), ring.key(1));
        let signature = one.sign(b"message");
        assert!(ring.scheme().verify(&one.public_key(), b"message", &signature));
        assert!(!ring.scheme().verify(&two.public_key(), b"message", &signature));
        assert!(!ring.scheme().verify(&one.public_key(), b"massage", &signature));
        for index in 0..64 {
            let mut bent = signature;
            bent.0[index] ^= 1;
            assert!(!ring.scheme().verify(&one.public_key(), b"message", &bent));
        }
    }
    #[test]
    fn a_key_makes_several_signatures_that_all_hold() {
        for ed25519 in [false, true] {
            let ring = Keyring::new(1, 1, ed25519);
            let key = ring.key(0);
            let signatures = [key.sign(b"message"), key.sign_again(b"message", 1), key.sign_again(b"message", 2)];
            for (index, signature) in signatures.iter().enumerate() {
                assert!(ring.scheme().verify(&key.public_key(), b"message", signature), "{index}, ed25519 {ed25519}");
                assert!(!ring.scheme().verify(&key.public_key(), b"massage", signature));
                assert!(signatures[..index].iter().all(|other| other != signature));
            }
        }
    }
}
