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

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha512};

use crate::digest::{Domain, Hasher};
use crate::keys::{PublicKey, Signature};
use crate::mutant::{Mutant, alive};
use crate::verified::Claim;

/// How signatures are checked. The product has one predicate, [`Ed25519`]; the simulator adds a fast one of its own.
pub trait SignatureScheme: Send + Sync {
    /// Whether `signature` by `key` over `message` is accepted.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool;
    /// Whether every claim is accepted: equal to the conjunction of single checks for every input.
    fn verify_batch(&self, claims: &[&Claim]) -> bool;
}

/// ed25519 by ZIP-215. Remembers nothing; for whoever checks many signatures by the same keys there is
/// [`RememberingEd25519`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Ed25519;

impl SignatureScheme for Ed25519 {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        decompress(&key.0).is_some_and(|point| equation_holds(key, &point, message, signature))
    }

    fn verify_batch(&self, claims: &[&Claim]) -> bool {
        match claims {
            [] => true,
            [claim] => self.verify(&claim.key, &claim.message, &claim.signature),
            many => {
                let (keys, places) = distinct_keys(many);
                let points: Option<Vec<EdwardsPoint>> = keys.iter().map(|key| decompress(&key.0)).collect();
                points.is_some_and(|points| combination_holds(many, &places, &points))
            }
        }
    }
}

/// [`Ed25519`], the same predicate, with the points of recent keys remembered.
///
/// To find the point that a key encodes takes about as long as the key's whole part in a batch, and the keys of a
/// committee and of its busy clients return in every batch. Keys are remembered only once a signature of theirs held, so
/// that false signatures push nobody's out.
#[derive(Default)]
pub struct RememberingEd25519 {
    points: Mutex<Points>,
}

/// How many keys are remembered in each of two generations: about 3 MiB both together.
const KEYS_REMEMBERED: usize = 4096;

#[derive(Default)]
struct Points {
    young: HashMap<PublicKey, EdwardsPoint>,
    old: HashMap<PublicKey, EdwardsPoint>,
}

impl Points {
    /// The point of `key`, if it is remembered. One that is still in use moves to the young.
    fn find(&mut self, key: &PublicKey) -> Option<EdwardsPoint> {
        if let Some(point) = self.young.get(key) {
            return Some(*point);
        }
        let point = self.old.remove(key)?;
        self.remember(*key, point);
        Some(point)
    }

    fn remember(&mut self, key: PublicKey, point: EdwardsPoint) {
        if self.young.len() >= KEYS_REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, point);
    }
}

impl RememberingEd25519 {
    fn points(&self) -> std::sync::MutexGuard<'_, Points> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignatureScheme for RememberingEd25519 {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let remembered = self.points().find(key);
        let Some(point) = remembered.or_else(|| decompress(&key.0)) else { return false };
        let holds = equation_holds(key, &point, message, signature);
        if holds && remembered.is_none() {
            self.points().remember(*key, point);
        }
        holds
    }

    fn verify_batch(&self, claims: &[&Claim]) -> bool {
        match claims {
            [] => true,
            [claim] => self.verify(&claim.key, &claim.message, &claim.signature),
            many => {
                let (keys, places) = distinct_keys(many);
                let remembered: Vec<Option<EdwardsPoint>> = {
                    let mut points = self.points();
                    keys.iter().map(|key| points.find(key)).collect()
                };
                // Not under the lock: it takes long, and other threads check other batches meanwhile.
                let points: Option<Vec<EdwardsPoint>> = keys
                    .iter()
                    .zip(&remembered)
                    .map(|(key, remembered)| remembered.or_else(|| decompress(&key.0)))
                    .collect();
                let Some(points) = points else { return false };
                let holds = combination_holds(many, &places, &points);
                if holds && remembered.contains(&None) {
                    let mut known = self.points();
                    for ((key, point), _) in keys.iter().zip(&points).zip(&remembered).filter(|(_, was)| was.is_none())
                    {
                        known.remember(**key, *point);
                    }
                }
                holds
            }
        }
    }
}

/// The point that 32 bytes encode, canonically or not. The bytes decide what they encode, so what was found once may be
/// remembered; two encodings of one point are two keys.
fn decompress(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*bytes).decompress()
}

/// The parts of a signature: R as it was given, and s if it is below the group order.
fn parts(signature: &Signature) -> ([u8; 32], Option<Scalar>) {
    let (mut r, mut s) = ([0; 32], [0; 32]);
    r.copy_from_slice(&signature.0[..32]);
    s.copy_from_slice(&signature.0[32..]);
    (r, Scalar::from_canonical_bytes(s).into())
}

/// k = SHA-512(R, A, M), over the bytes as they were given.
fn challenge(r: &[u8; 32], key: &PublicKey, message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(r).chain_update(key.0).chain_update(message);
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

/// The predicate for one signature by `key`, which encodes `point`.
fn equation_holds(key: &PublicKey, point: &EdwardsPoint, message: &[u8], signature: &Signature) -> bool {
    let (r, Some(s)) = parts(signature) else { return false };
    let Some(r_point) = decompress(&r) else { return false };
    let k = challenge(&r, key, message);
    // [s]B - [k]A, which is R up to what the cofactor takes away.
    let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-point, &s);
    (r_point - expected).mul_by_cofactor().is_identity()
}

/// Every key of the claims once, and for each claim the place of its key.
fn distinct_keys<'a>(claims: &[&'a Claim]) -> (Vec<&'a PublicKey>, Vec<usize>) {
    let mut keys = Vec::new();
    let mut known = HashMap::with_capacity(claims.len());
    let places = claims
        .iter()
        .map(|claim| {
            *known.entry(&claim.key).or_insert_with(|| {
                keys.push(&claim.key);
                keys.len() - 1
            })
        })
        .collect();
    (keys, places)
}

/// The predicate for many signatures at once: with a coefficient z of 128 bits for each,
/// \[8\](\[-sum(z s)\]B + sum(\[z\]R) + sum(\[z k\]A)) = 0. Claims by one key share a term; `places` says which of `points`
/// is each claim's key.
fn combination_holds(claims: &[&Claim], places: &[usize], points: &[EdwardsPoint]) -> bool {
    if alive(Mutant::BatchUnchecked) {
        return true;
    }
    let mut random = coefficients(claims);
    let mut base = Scalar::ZERO;
    let mut of_keys = vec![Scalar::ZERO; points.len()];
    let mut scalars = Vec::with_capacity(claims.len());
    let mut r_points = Vec::with_capacity(claims.len());
    for (claim, place) in claims.iter().zip(places) {
        let (r, Some(s)) = parts(&claim.signature) else { return false };
        let Some(r_point) = decompress(&r) else { return false };
        let mut z = [0; 16];
        random.fill_bytes(&mut z);
        let z = Scalar::from(u128::from_le_bytes(z));
        base -= z * s;
        of_keys[*place] += z * challenge(&r, &claim.key, &claim.message);
        scalars.push(z);
        r_points.push(r_point);
    }
    let scalars = of_keys.iter().chain(&scalars).chain(std::iter::once(&base));
    let all = points.iter().chain(&r_points).chain(std::iter::once(&ED25519_BASEPOINT_POINT));
    EdwardsPoint::vartime_multiscalar_mul(scalars, all).mul_by_cofactor().is_identity()
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
