//! What is verified, what is remembered, and that neither leaks to anything else.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::committee::{FaultModel, Member};
use crate::identity::{ClusterId, Epoch, ReplicaId};
use crate::keys::{SecretKey, Signer as _};
use crate::signature_scheme::Ed25519;

/// Counts the claims it is asked about.
#[derive(Default)]
struct Counting {
    asked: AtomicUsize,
}

impl SignatureScheme for Counting {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ed25519.verify(key, message, signature)
    }

    fn verify_batch(&self, claims: &[&Claim]) -> bool {
        self.asked.fetch_add(claims.len(), Ordering::Relaxed);
        Ed25519.verify_batch(claims)
    }
}

/// Accepts everything, and counts.
#[derive(Default)]
struct Trusting(AtomicUsize);

impl SignatureScheme for Trusting {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &Signature) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn verify_batch(&self, claims: &[&Claim]) -> bool {
        self.0.fetch_add(claims.len(), Ordering::Relaxed);
        true
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Letter {
    claims: Vec<Claim>,
    well_formed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Malformed,
    BadSignature,
}

impl From<BadSignature> for Refusal {
    fn from(_: BadSignature) -> Refusal {
        Refusal::BadSignature
    }
}

impl Verify for Letter {
    type Context = ();
    type Error = Refusal;

    fn claims(&self, _: &Committee, (): &(), claims: &mut Vec<Claim>) -> Result<(), Refusal> {
        // Some claims are listed before the structure turns out to be wrong, as happens with nested values.
        claims.extend_from_slice(&self.claims);
        if self.well_formed { Ok(()) } else { Err(Refusal::Malformed) }
    }
}

fn claim(seed: u8, message: &[u8]) -> Claim {
    let key = SecretKey::from_seed(&[seed; 32]);
    Claim { key: key.public_key(), message: message.to_vec(), signature: key.sign(message) }
}

fn letter(claims: Vec<Claim>) -> Letter {
    Letter { claims, well_formed: true }
}

fn committee() -> Committee {
    let members = (0..4).map(|id| Member { id: ReplicaId(id), key: claim(id as u8, b"").key }).collect();
    Committee::new(ClusterId(Digest::ZERO), Epoch(0), FaultModel::Byzantine, members).expect("a committee")
}

fn bad(mut claim: Claim) -> Claim {
    claim.signature.0[40] ^= 1;
    claim
}

fn counting() -> (Arc<Counting>, Verifier) {
    let scheme = Arc::new(Counting::default());
    (Arc::clone(&scheme), Verifier::new(scheme))
}

#[test]
fn a_bad_one_never_spoils_the_others() {
    let committee = committee();
    for place in 0..5 {
        let (_, verifier) = counting();
        let mut letters: Vec<Letter> =
            (0..5).map(|seed| letter(vec![claim(seed, b"one"), claim(seed, b"two")])).collect();
        letters[place].claims[1] = bad(letters[place].claims[1].clone());
        let outcomes = verifier.verify_all(letters.clone(), &committee, &());
        for (index, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(verified) => {
                    assert_ne!(index, place);
                    assert_eq!(verified.into_inner(), letters[index]);
                }
                Err(refusal) => assert_eq!((index, refusal), (place, Refusal::BadSignature)),
            }
        }
    }
}

#[test]
fn a_malformed_one_is_refused_for_that_and_its_claims_are_not_checked() {
    let (scheme, verifier) = counting();
    let malformed = Letter { claims: vec![bad(claim(1, b"one"))], well_formed: false };
    let fine = letter(vec![claim(2, b"two")]);
    let outcomes = verifier.verify_all(vec![malformed.clone(), fine.clone(), malformed], &committee(), &());
    assert_eq!(outcomes[0], Err(Refusal::Malformed));
    assert_eq!(outcomes[1].as_deref(), Ok(&fine));
    assert_eq!(outcomes[2], Err(Refusal::Malformed));
    assert_eq!(scheme.asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_single_bad_signature_is_refused() {
    let (_, verifier) = counting();
    let refused = verifier.verify(letter(vec![claim(1, b"one"), bad(claim(2, b"two"))]), &committee(), &());
    assert_eq!(refused, Err(Refusal::BadSignature));
    assert!(verifier.verify(letter(vec![]), &committee(), &()).is_ok());
}

#[test]
fn what_held_before_is_not_computed_again() {
    let (scheme, verifier) = counting();
    let claims = [claim(1, b"one"), claim(2, b"two"), claim(3, b"three")];
    assert!(verifier.check(&claims[..2]));
    assert_eq!(scheme.asked.load(Ordering::Relaxed), 2);
    assert!(verifier.clone().check(&claims));
    assert_eq!(scheme.asked.load(Ordering::Relaxed), 3);
    assert!(verifier.check(&claims));
    assert_eq!(scheme.asked.load(Ordering::Relaxed), 3);
}

/// The memory must answer for the whole claim: same key and message with another signature, and so on.
#[test]
fn a_remembered_claim_vouches_for_no_other() {
    let (_, verifier) = counting();
    let (first, second) = (claim(1, b"one"), claim(2, b"two"));
    assert!(verifier.check(&[first.clone(), second.clone()]));
    let other_key = Claim { key: second.key, ..first.clone() };
    let other_message = Claim { message: second.message.clone(), ..first.clone() };
    let longer = Claim { message: b"one\0".to_vec(), ..first.clone() };
    let other_signature = Claim { signature: second.signature, ..first.clone() };
    for wrong in [other_key, other_message, longer, other_signature, bad(first.clone())] {
        assert!(!verifier.check(std::slice::from_ref(&wrong)), "{wrong:?}");
        assert!(!verifier.check(&[first.clone(), wrong.clone(), second.clone()]), "{wrong:?}");
        // Having been refused, it is still not remembered as good.
        assert!(!verifier.check(&[wrong]));
    }
}

/// A batch that fails teaches nothing about any of its claims.
#[test]
fn nothing_of_a_failed_batch_is_remembered() {
    let (scheme, verifier) = counting();
    let (good, wrong) = (claim(1, b"one"), bad(claim(2, b"two")));
    assert!(!verifier.check(&[good.clone(), wrong.clone()]));
    let before = scheme.asked.load(Ordering::Relaxed);
    assert!(verifier.check(&[good]));
    assert_eq!(scheme.asked.load(Ordering::Relaxed), before + 1);
    assert!(!verifier.check(&[wrong]));
}

#[test]
fn the_memory_is_bounded() {
    let scheme = Arc::new(Trusting::default());
    let verifier = Verifier::new(Arc::clone(&scheme) as Arc<dyn SignatureScheme>);
    let numbered = |number: usize| Claim {
        key: PublicKey([0; 32]),
        message: number.to_be_bytes().to_vec(),
        signature: Signature([0; 64]),
    };
    let many = 2 * REMEMBERED + 10;
    for start in (0..many).step_by(1024) {
        let claims: Vec<Claim> = (start..many.min(start + 1024)).map(numbered).collect();
        assert!(verifier.check(&claims));
    }
    {
        let remembered = verifier.remembered.lock().expect("no panic while locked");
        assert!(remembered.young.len() <= REMEMBERED && remembered.old.len() <= REMEMBERED);
    }
    let before = scheme.0.load(Ordering::Relaxed);
    assert!(verifier.check(&[numbered(many - 1)]));
    assert_eq!(scheme.0.load(Ordering::Relaxed), before, "the newest is remembered");
    assert!(verifier.check(&[numbered(0)]));
    assert_eq!(scheme.0.load(Ordering::Relaxed), before + 1, "the oldest is forgotten and checked again");
}

#[test]
fn a_part_of_a_verified_value_is_verified() {
    let (_, verifier) = counting();
    let value = letter(vec![claim(1, b"one")]);
    let verified = verifier.verify(value.clone(), &committee(), &()).expect("it holds");
    assert_eq!(verified.map(|letter| letter.claims).into_inner(), value.claims);
}
