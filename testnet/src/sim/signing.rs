//! Signatures for simulated runs: a keyed hash in place of a curve.
//!
//! It is unforgeable inside a simulation because secrets live in the keys alone: an actor holds its own key, and the
//! scheme, which knows all secrets, only answers yes or no. It is hundreds of times cheaper than ed25519, which a share of
//! the runs uses instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_crypto::{Claim, Digest, Domain, Ed25519, PublicKey, SecretKey, Signature, SignatureScheme, Signer};

use super::fingerprint::{Fingerprint, mix};

/// A key of the simulated scheme.
#[derive(Clone)]
struct SimulatedKey {
    secret: [u8; 32],
    public: PublicKey,
}

fn keyed_hash(secret: &[u8; 32], message: &[u8]) -> Signature {
    let mut fingerprint = Fingerprint::new();
    fingerprint.part(secret);
    fingerprint.part(message);
    let [one, two] = fingerprint.finish();
    let mut signature = [0; 64];
    for (index, place) in signature.chunks_exact_mut(8).enumerate() {
        let word = mix(one.wrapping_add(two.wrapping_mul(2 * index as u64 + 1)));
        place.copy_from_slice(&word.to_be_bytes());
    }
    Signature(signature)
}

impl Signer for SimulatedKey {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Signature {
        keyed_hash(&self.secret, message)
    }
}

/// Verifies by recomputing: a registry of secrets by public key.
struct KeyedHash {
    secrets: BTreeMap<PublicKey, [u8; 32]>,
}

impl SignatureScheme for KeyedHash {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        self.secrets.get(key).is_some_and(|secret| keyed_hash(secret, message) == *signature)
    }

    fn verify_batch(&self, claims: &[&Claim]) -> bool {
        claims.iter().all(|claim| self.verify(&claim.key, &claim.message, &claim.signature))
    }
}

/// All keys of a run and the scheme that verifies them.
pub(super) struct Keyring {
    keys: Vec<Arc<dyn Signer>>,
    scheme: Arc<dyn SignatureScheme>,
}

impl Keyring {
    /// `count` keys that `seed` decides, of ed25519 or of the simulated scheme.
    pub(super) fn new(seed: u64, count: usize, ed25519: bool) -> Keyring {
        let secrets: Vec<[u8; 32]> = (0..count as u64)
            .map(|index| Digest::of(Domain::Fingerprint, &[b"secret", &seed.to_be_bytes(), &index.to_be_bytes()]).0)
            .collect();
        if ed25519 {
            let keys = secrets.iter().map(|secret| Arc::new(SecretKey::from_seed(secret)) as Arc<dyn Signer>).collect();
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
        let keys = simulated.into_iter().map(|key| Arc::new(key) as Arc<dyn Signer>).collect();
        Keyring { keys, scheme: Arc::new(KeyedHash { secrets }) }
    }

    pub(super) fn key(&self, index: usize) -> Arc<dyn Signer> {
        Arc::clone(&self.keys[index])
    }

    pub(super) fn scheme(&self) -> Arc<dyn SignatureScheme> {
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
}
