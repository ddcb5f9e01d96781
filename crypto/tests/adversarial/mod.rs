//! Claims made to tell verifiers apart; a verifier by ZIP-215 written from the specification, which shares only the curve
//! arithmetic with the one under test; and ed25519-zebra, singly and in batches, as another hand's reading of it.

use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity as _;
use quorate_crypto::{
    Claim, Ed25519, PublicKey, RememberingEd25519, SecretKey, Signature, SignatureScheme as _, Signer as _,
};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use sha2::{Digest as _, Sha512};

/// The encodings of small-order points that are not canonical: x = 0 with the sign bit set, or y not reduced.
const NON_CANONICAL_TORSION: [&str; 6] = [
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// The group order l, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let mut hash = Sha512::new();
    hash.update(r);
    hash.update(key);
    hash.update(message);
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

/// Whether s < l, byte by byte from the top.
fn below_order(s: &[u8; 32]) -> bool {
    s.iter().rev().lt(ORDER.iter().rev())
}

/// ZIP-215 as it is written down.
pub fn accepted_by_specification(claim: &Claim) -> bool {
    let r: [u8; 32] = claim.signature.0[..32].try_into().expect("32 bytes");
    let s: [u8; 32] = claim.signature.0[32..].try_into().expect("32 bytes");
    let (Some(key_point), Some(r_point)) =
        (CompressedEdwardsY(claim.key.0).decompress(), CompressedEdwardsY(r).decompress())
    else {
        return false;
    };
    if !below_order(&s) {
        return false;
    }
    let k = challenge(&r, &claim.key.0, &claim.message);
    let right = r_point + key_point * k;
    let mut difference = EdwardsPoint::mul_base(&Scalar::from_bytes_mod_order(s)) - right;
    for _ in 0..3 {
        difference = difference + difference;
    }
    difference == EdwardsPoint::identity()
}

/// What ed25519-zebra says of one claim.
pub fn accepted_by_zebra(claim: &Claim) -> bool {
    let signature = ed25519_zebra::Signature::from(claim.signature.0);
    ed25519_zebra::VerificationKey::try_from(claim.key.0)
        .is_ok_and(|key| key.verify(&signature, &claim.message).is_ok())
}

/// What ed25519-zebra says of a batch, with coefficients of its own.
fn batch_accepted_by_zebra(claims: &[&Claim], random: &mut ChaCha12Rng) -> bool {
    let mut batch = ed25519_zebra::batch::Verifier::new();
    for claim in claims {
        let key = ed25519_zebra::VerificationKeyBytes::from(claim.key.0);
        let signature = ed25519_zebra::Signature::from(claim.signature.0);
        batch.queue((key, signature, claim.message.as_slice()));
    }
    batch.verify(random).is_ok()
}

/// Draws claims of all kinds from a seed.
pub struct Adversary {
    random: ChaCha12Rng,
}

impl Adversary {
    pub fn new(seed: u64) -> Adversary {
        Adversary { random: ChaCha12Rng::seed_from_u64(seed) }
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn scalar(&mut self) -> Scalar {
        Scalar::from_bytes_mod_order_wide(&self.bytes())
    }

    fn message(&mut self) -> Vec<u8> {
        let mut message = vec![0; self.below(80)];
        self.random.fill_bytes(&mut message);
        message
    }

    fn torsion(&mut self) -> EdwardsPoint {
        EIGHT_TORSION[self.below(8)]
    }

    /// Any of the fourteen encodings of small-order points.
    fn torsion_encoding(&mut self) -> [u8; 32] {
        match self.below(14) {
            canonical @ 0..8 => EIGHT_TORSION[canonical].compress().to_bytes(),
            other => hex::decode(NON_CANONICAL_TORSION[other - 8]).expect("hexadecimal").try_into().expect("32 bytes"),
        }
    }

    pub fn honest(&mut self) -> Claim {
        let key = SecretKey::from_seed(&self.bytes());
        let message = self.message();
        Claim { key: key.public_key(), signature: key.sign(&message), message }
    }

    /// A signature that satisfies the equation up to torsion, with torsion in the key, in R, or in both.
    fn mixed(&mut self, key_torsion: EdwardsPoint, r_torsion: EdwardsPoint) -> Claim {
        let (secret, nonce, message) = (self.scalar(), self.scalar(), self.message());
        let key = (EdwardsPoint::mul_base(&secret) + key_torsion).compress().to_bytes();
        let r = (EdwardsPoint::mul_base(&nonce) + r_torsion).compress().to_bytes();
        let s = nonce + challenge(&r, &key, &message) * secret;
        assemble(key, r, s.to_bytes(), message)
    }

    pub fn claim(&mut self) -> Claim {
        let message = self.message();
        match self.below(12) {
            0 => self.honest(),
            1 => {
                let mut claim = self.honest();
                let bit = 1 << self.below(8);
                match self.below(3) {
                    0 => claim.key.0[self.below(32)] ^= bit,
                    1 => claim.signature.0[self.below(64)] ^= bit,
                    _ => claim.message.push(bit),
                }
                claim
            }
            2 => assemble(self.torsion_encoding(), self.torsion_encoding(), [0; 32], message),
            3 => assemble(self.torsion_encoding(), self.torsion_encoding(), self.scalar().to_bytes(), message),
            4 => {
                let s = self.scalar();
                let r = (EdwardsPoint::mul_base(&s) + self.torsion()).compress().to_bytes();
                assemble(self.torsion_encoding(), r, s.to_bytes(), message)
            }
            5 => {
                let secret = self.scalar();
                let key = (EdwardsPoint::mul_base(&secret) + self.torsion()).compress().to_bytes();
                let r = self.torsion_encoding();
                let s = challenge(&r, &key, &message) * secret;
                assemble(key, r, s.to_bytes(), message)
            }
            6 => {
                let (key, r) = (self.torsion(), self.torsion());
                self.mixed(key, r)
            }
            7 => {
                let mut claim = self.honest();
                let mut s: [u8; 32] = claim.signature.0[32..].try_into().expect("32 bytes");
                for _ in 0..=self.below(8) {
                    s = plus_order(s).unwrap_or(s);
                }
                claim.signature.0[32..].copy_from_slice(&s);
                claim
            }
            8 => assemble(self.bytes(), self.bytes(), self.scalar().to_bytes(), message),
            9 => {
                // y from p to p + 18, and either sign: encodings that are not canonical, most of large order.
                let mut key = [0xff; 32];
                key[0] = 0xed + self.below(19) as u8;
                key[31] = if self.below(2) == 0 { 0x7f } else { 0xff };
                let r = if self.below(2) == 0 { key } else { self.torsion_encoding() };
                assemble(key, r, [0; 32], message)
            }
            10 => {
                // R of an honest signature replaced by itself with torsion: k differs, so the equation fails.
                let mut claim = self.honest();
                let r: [u8; 32] = claim.signature.0[..32].try_into().expect("32 bytes");
                let moved = CompressedEdwardsY(r).decompress().expect("a point") + self.torsion();
                claim.signature.0[..32].copy_from_slice(moved.compress().as_bytes());
                claim
            }
            _ => {
                let edge = match self.below(4) {
                    0 => ORDER,
                    1 => (-Scalar::ONE).to_bytes(),
                    2 => [0xff; 32],
                    _ => plus_order(Scalar::ONE.to_bytes()).expect("in range"),
                };
                assemble(self.torsion_encoding(), self.torsion_encoding(), edge, message)
            }
        }
    }
}

fn assemble(key: [u8; 32], r: [u8; 32], s: [u8; 32], message: Vec<u8>) -> Claim {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    Claim { key: PublicKey(key), message, signature: Signature(signature) }
}

/// s + l, if it fits 32 bytes.
fn plus_order(s: [u8; 32]) -> Option<[u8; 32]> {
    let mut sum = [0; 32];
    let mut carry = 0;
    for (place, (left, right)) in sum.iter_mut().zip(s.iter().zip(ORDER)) {
        let total = u16::from(*left) + u16::from(right) + carry;
        *place = total as u8;
        carry = total >> 8;
    }
    (carry == 0).then_some(sum)
}

/// What a run of the comparison saw.
#[derive(Default, Debug, Clone, Copy)]
pub struct Tally {
    /// Claims compared.
    pub cases: usize,
    /// Of these accepted.
    pub accepted: usize,
    /// Batches verified.
    pub batches: usize,
}

/// Compares single checks, batches, each without and with remembered keys, the specification and ed25519-zebra over at least `count` claims.
///
/// # Panics
/// On the first disagreement.
pub fn compare(seed: u64, count: usize) -> Tally {
    let mut adversary = Adversary::new(seed);
    let mut tally = Tally::default();
    let companion = adversary.honest();
    let remembering = RememberingEd25519::default();
    while tally.cases < count {
        let size = 2 + adversary.below(63);
        let claims: Vec<Claim> = (0..size).map(|_| adversary.claim()).collect();
        let mut accepted = Vec::new();
        let mut refused = Vec::new();
        for claim in &claims {
            let single = Ed25519.verify(&claim.key, &claim.message, &claim.signature);
            assert_eq!(single, accepted_by_specification(claim), "single and specification differ: {claim:?}");
            assert_eq!(single, accepted_by_zebra(claim), "single and ed25519-zebra differ: {claim:?}");
            assert_eq!(single, Ed25519.verify_batch(&[claim, &companion]), "single and batch differ: {claim:?}");
            let remembered = remembering.verify(&claim.key, &claim.message, &claim.signature);
            assert_eq!(single, remembered, "remembering changes the verdict: {claim:?}");
            let remembered = remembering.verify_batch(&[claim, &companion]);
            assert_eq!(single, remembered, "remembering changes the verdict of a batch: {claim:?}");
            if single { accepted.push(claim) } else { refused.push(claim) }
        }
        assert!(Ed25519.verify_batch(&accepted), "a batch of accepted claims is refused: {accepted:?}");
        assert!(remembering.verify_batch(&accepted), "a batch of accepted claims is refused: {accepted:?}");
        assert!(batch_accepted_by_zebra(&accepted, &mut adversary.random), "ed25519-zebra differs: {accepted:?}");
        tally.batches += 2 * size + 2;
        if !refused.is_empty() {
            let mut spoilt = accepted.clone();
            let place = adversary.below(spoilt.len() + 1);
            spoilt.insert(place, refused[adversary.below(refused.len())]);
            assert!(!Ed25519.verify_batch(&spoilt), "a batch with a refused claim is accepted: {spoilt:?}");
            assert!(!remembering.verify_batch(&spoilt), "a batch with a refused claim is accepted: {spoilt:?}");
            assert!(!batch_accepted_by_zebra(&spoilt, &mut adversary.random), "ed25519-zebra differs: {spoilt:?}");
            assert!(!Ed25519.verify_batch(&refused), "a batch of refused claims is accepted: {refused:?}");
            tally.batches += 3;
        }
        tally.cases += size;
        tally.accepted += accepted.len();
    }
    tally
}
