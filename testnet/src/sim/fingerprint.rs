//! A fast 128-bit fingerprint for what needs no cryptography: the trace of a run, and signatures inside a simulation, where
//! nobody computes but our own code. Equal on every machine.

/// Odd constants from the fractional parts of the golden ratio and of the square root of two.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const ROOT_TWO: u64 = 0x6A09_E667_F3BC_C909;

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): every bit depends on every other.
pub(super) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Takes bytes in and gives 128 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fingerprint {
    one: u64,
    two: u64,
}

impl Fingerprint {
    pub(super) const fn new() -> Fingerprint {
        Fingerprint { one: GOLDEN, two: ROOT_TWO }
    }

    fn word(&mut self, word: u64) {
        self.one = (self.one ^ word).wrapping_mul(ROOT_TWO).rotate_left(29);
        self.two = (self.two.rotate_left(23) ^ word).wrapping_mul(GOLDEN);
    }

    /// Takes a part in, its length included, so that parts cannot run into each other.
    pub(super) fn part(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    pub(super) const fn finish(self) -> [u64; 2] {
        let one = mix(self.one ^ self.two.rotate_left(32));
        [one, mix(self.two.wrapping_add(one))]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bit_and_every_border_between_parts_counts() {
        let of = |parts: &[&[u8]]| {
            let mut fingerprint = Fingerprint::new();
            for part in parts {
                fingerprint.part(part);
            }
            fingerprint.finish()
        };
        let mut seen = BTreeSet::new();
        let bytes: Vec<u8> = (0..100).collect();
        assert!(seen.insert(of(&[&bytes])));
        for place in 0..800 {
            let mut bent = bytes.clone();
            bent[place / 8] ^= 1 << (place % 8);
            assert!(seen.insert(of(&[&bent])), "bit {place}");
        }
        for length in 0..100 {
            assert!(seen.insert(of(&[&bytes[..length]])), "{length} bytes");
            assert!(seen.insert(of(&[&bytes[..length], &bytes[length..]])), "parts of {length}");
        }
    }
}
