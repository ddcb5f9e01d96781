//! Mutations of a byte string, as AFL and libFuzzer make them.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// Numbers at which code tends to change its mind.
const EDGES: [u64; 11] = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// Longest input, in bytes.
pub(super) const INPUT_MAX: usize = 64 * 1024;

/// `input` with one to six changes; pieces of `other` may be in it.
pub(super) fn mutated(input: &[u8], other: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.random_range(1..=6) {
        change(&mut bytes, other, random);
    }
    bytes.truncate(INPUT_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut ChaCha8Rng) {
    let place = random.random_range(0..=bytes.len());
    let run = random.random_range(1..=32).min(bytes.len() - place);
    match random.random_range(0..9) {
        0 if run > 0 => bytes[place] ^= 1 << random.random_range(0..8),
        1 if run > 0 => bytes[place] = random.random(),
        2 if run > 0 => bytes[place] = bytes[place].wrapping_add(random.random_range(0..=16)).wrapping_sub(8),
        3 => {
            bytes.drain(place..place + run);
        }
        4 => {
            let copy = bytes[place..place + run].to_vec();
            bytes.splice(place..place, copy);
        }
        5 => bytes.truncate(place),
        6 if !other.is_empty() => {
            let from = random.random_range(0..other.len());
            let length = random.random_range(1..=64).min(other.len() - from);
            bytes.splice(place..place + run, other[from..from + length].iter().copied());
        }
        7 => {
            let edge = EDGES[random.random_range(0..EDGES.len())];
            let width = [1, 2, 4, 8][random.random_range(0..4)];
            let number = if random.random() {
                edge.to_be_bytes()[8 - width..].to_vec()
            } else {
                edge.to_le_bytes()[..width].to_vec()
            };
            let end = (place + width).min(bytes.len());
            bytes.splice(place..end, number);
        }
        _ => {
            let more: Vec<u8> = (0..random.random_range(1..=16)).map(|_| random.random()).collect();
            bytes.splice(place..place, more);
        }
    }
}
