//! The one acceptance predicate for signatures: ZIP-215 (cofactored), for single checks and batches alike (rule X1).
//!
//! It is part of what evidence means: whoever verifies offline must accept exactly what the replicas accepted. A
//! signature (R, s) by key A over message M is accepted iff
//!
//! - A and R are encodings of curve points, canonical or not;
//! - s is less than the group order l;
//! - \[8\]\[s\]B = \[8\]R + \[8\]\[k\]A with k = SHA-512(R, A, M), over the bytes as they were given.
//!
//! Multiplying by the cofactor is what lets a random combination of such equations hold exactly when each one does.
//! Without it a batch accepts other sets than single checks (Chalkias, Garillot and Nikolaenko 2020, "Taming the many
//! EdDSAs", section 3).

use ed25519_zebra::{VerificationKey, VerificationKeyBytes, batch};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::digest::{Domain, Hasher};
use crate::keys::{PublicKey, Signature};
use crate::verified::Claim;

/// How signatures are checked. The product has one, [`Ed25519`]; the simulator adds a fast one of its own.
pub trait SignatureScheme: Send + Sync {
    /// Whether `signature` by `key` over `message` is accepted.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool;
    /// Whether every claim is accepted: equal to the conjunction of single checks for every input.
    fn verify_batch(&self, claims: &[&Claim]) -> bool;
}

/// ed25519 by ZIP-215.
///
/// It remembers no decompressed keys: for the few keys of a committee a batch decompresses each once anyway, and for
/// single checks it would save a tenth, which [`crate::Verifier`] saves many times over by not checking twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ed25519;

impl SignatureScheme for Ed25519 {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let Ok(key) = VerificationKey::try_from(key.0) else { return false };
        key.verify(&ed25519_zebra::Signature::from(signature.0), message).is_ok()
    }

    fn verify_batch(&self, claims: &[&Claim]) -> bool {
        match claims {
            [] => true,
            [claim] => self.verify(&claim.key, &claim.message, &claim.signature),
            many => {
                let mut batch = batch::Verifier::new();
                for claim in many {
                    let key = VerificationKeyBytes::from(claim.key.0);
                    let signature = ed25519_zebra::Signature::from(claim.signature.0);
                    batch.queue((key, signature, claim.message.as_slice()));
                }
                batch.verify(coefficients(many)).is_ok()
            }
        }
    }
}

/// The coefficients of a batch's random linear combination.
///
/// Soundness needs coefficients that whoever made the signatures could not foresee: knowing them, two false signatures
/// could be made to cancel each other. They need not be secret, nor differ from replica to replica. This crate has no
/// randomness of its own, so they are derived from all that is claimed (Fiat and Shamir): changing any bit of any key,
/// message or signature draws all of them anew, and hitting a set of false claims that passes takes about 2^125 tries.
/// The same claims are thus judged the same way on every replica and in every replay.
fn coefficients(claims: &[&Claim]) -> ChaCha20Rng {
    let mut hasher = Hasher::new(Domain::SignatureBatch);
    for claim in claims {
        hasher.part(&claim.key.0);
        hasher.part(&claim.signature.0);
        hasher.part(&claim.message);
    }
    ChaCha20Rng::from_seed(hasher.finish().0)
}

#[cfg(test)]
mod tests;
