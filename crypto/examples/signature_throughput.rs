//! How many signatures of 200-byte messages one core verifies a second, singly, in batches, and in batches
//! by keys that are remembered.

use std::time::{Duration, Instant};

use quorate_crypto::{Claim, Ed25519, RememberingEd25519, SecretKey, SignatureScheme as _, Signer as _};

fn claims(count: usize, keys: usize) -> Vec<Claim> {
    (0..count)
        .map(|index| {
            let key = SecretKey::from_seed(&[(index % keys) as u8; 32]);
            let message = vec![index as u8; 200];
            Claim { key: key.public_key(), signature: key.sign(&message), message }
        })
        .collect()
}

fn rate(count: usize, mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let rounds = 512usize.div_ceil(count);
        let start = Instant::now();
        for _ in 0..rounds {
            work();
        }
        best = best.min(start.elapsed() / (rounds * count) as u32);
    }
    1.0 / best.as_secs_f64()
}

fn main() {
    println!("{:>8} {:>8} {:>12} {:>12} {:>12}", "keys", "batch", "single/s", "batch/s", "remembered/s");
    for keys in [1, 4, 16, 256] {
        for count in [8, 64, 256] {
            let claims = claims(count, keys);
            let references: Vec<&Claim> = claims.iter().collect();
            let single = rate(count, || {
                assert!(references.iter().all(|claim| Ed25519.verify(&claim.key, &claim.message, &claim.signature)));
            });
            let batch = rate(count, || assert!(Ed25519.verify_batch(&references)));
            let remembering = RememberingEd25519::default();
            let known = rate(count, || assert!(remembering.verify_batch(&references)));
            println!("{:>8} {count:>8} {single:>12.0} {batch:>12.0} {known:>12.0}", keys.min(count));
        }
    }
}
