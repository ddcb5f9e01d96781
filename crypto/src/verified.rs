//! `Verified<T>`: a value whose signatures and structure were checked. Verification is its only constructor, so a state
//! machine that takes `Verified<T>` cannot be handed anything else (CometBFT CSA-2026-001 is the bug this type excludes).

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use crate::committee::Committee;
use crate::digest::{Digest, Domain};
use crate::keys::{PublicKey, Signature};
use crate::mutant::{Mutant, alive};
use crate::signature_scheme::SignatureScheme;

/// One signature to check: `signature` by `key` over `message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who is said to have signed.
    pub key: PublicKey,
    /// The signed bytes.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Signature,
}

impl Claim {
    fn digest(&self) -> Digest {
        Digest::of(Domain::Fingerprint, &[&self.key.0, &self.signature.0, &self.message])
    }
}

/// Something that can be checked against a committee.
///
/// [`Verify::claims`] does every structural check and lists the signatures that must hold; it never decides that a
/// signature need not be checked. Splitting the two lets many values share one batch.
pub trait Verify {
    /// What the check needs to know besides the committee.
    type Context: ?Sized;
    /// Why the value is refused.
    type Error: From<BadSignature>;

    /// Checks structure and appends every signature that must hold.
    fn claims(
        &self,
        committee: &Committee,
        context: &Self::Context,
        claims: &mut Vec<Claim>,
    ) -> Result<(), Self::Error>;
}

/// A signature that does not verify. It convicts nobody: anybody can make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signature does not verify")]
pub struct BadSignature;

/// A value that passed [`Verifier::verify`] (or was made and signed by this very process).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// Narrows a verified value to a part of it: what was checked as a whole was checked in every part.
    pub fn map<U>(self, part: impl FnOnce(T) -> U) -> Verified<U> {
        Verified(part(self.0))
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// How many verified signatures are remembered in each of two generations.
const REMEMBERED: usize = 32 * 1024;

#[derive(Default)]
struct Remembered {
    young: HashSet<Digest>,
    old: HashSet<Digest>,
}

/// Checks claims by one signature scheme and remembers which held, so that a signature seen in a vote and again inside
/// a VIEW-CHANGE is checked once. The memory is bounded (two generations of 32,768).
#[derive(Clone)]
pub struct Verifier {
    scheme: Arc<dyn SignatureScheme>,
    remembered: Arc<Mutex<Remembered>>,
}

impl Verifier {
    /// A verifier by `scheme`. The product uses [`crate::Ed25519`].
    pub fn new(scheme: Arc<dyn SignatureScheme>) -> Verifier {
        Verifier { scheme, remembered: Arc::default() }
    }

    /// Verifies one value.
    pub fn verify<T: Verify>(
        &self,
        value: T,
        committee: &Committee,
        context: &T::Context,
    ) -> Result<Verified<T>, T::Error> {
        let mut claims = Vec::new();
        value.claims(committee, context, &mut claims)?;
        if self.check(&claims) { Ok(Verified(value)) } else { Err(BadSignature.into()) }
    }

    /// Verifies many values in one batch; if the batch fails, one by one, so that a bad one never spoils the others.
    pub fn verify_all<T: Verify>(
        &self,
        values: Vec<T>,
        committee: &Committee,
        context: &T::Context,
    ) -> Vec<Result<Verified<T>, T::Error>> {
        let mut together = Vec::new();
        let mut checked = Vec::with_capacity(values.len());
        for value in values {
            let start = together.len();
            let outcome = value.claims(committee, context, &mut together);
            if outcome.is_err() {
                together.truncate(start);
            }
            checked.push((value, outcome, start..together.len()));
        }
        let all_hold = self.check(&together);
        checked
            .into_iter()
            .map(|(value, outcome, range)| {
                outcome?;
                if all_hold || self.check(&together[range]) { Ok(Verified(value)) } else { Err(BadSignature.into()) }
            })
            .collect()
    }

    /// Whether every claim holds. Claims that held before are not computed again.
    pub fn check(&self, claims: &[Claim]) -> bool {
        let digests: Vec<Digest> = claims.iter().map(Claim::digest).collect();
        let fresh: Vec<(usize, &Claim)> = {
            let remembered = self.remembered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            claims
                .iter()
                .enumerate()
                .filter(|(index, _)| {
                    !remembered.young.contains(&digests[*index]) && !remembered.old.contains(&digests[*index])
                })
                .collect()
        };
        let holds = match fresh.as_slice() {
            _ if alive(Mutant::SignaturesUnchecked) => true,
            [] => true,
            [(_, claim)] => self.scheme.verify(&claim.key, &claim.message, &claim.signature),
            many => self.scheme.verify_batch(&many.iter().map(|(_, claim)| *claim).collect::<Vec<_>>()),
        };
        if holds {
            let mut remembered = self.remembered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (index, _) in &fresh {
                if remembered.young.len() >= REMEMBERED {
                    remembered.old = std::mem::take(&mut remembered.young);
                }
                remembered.young.insert(digests[*index]);
            }
        }
        holds
    }
}

#[cfg(test)]
mod tests;
