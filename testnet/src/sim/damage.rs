//! What goes wrong for good on a disk while nobody looks: rot, writes that landed elsewhere, writes that never landed.
//!
//! All of it is found at the next start or never matters. A log that is damaged anywhere but in its last frame must not
//! be used; the last frame cannot be told from a torn one, which is why damage counts its replica among the f.

use quorate_node::disk::MemoryDisk;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::plan::Damage;

/// Bytes of a block of the log, the unit in which writes go astray.
const BLOCK: usize = 4096;

/// Damages one file of `directory`; false if it holds nothing that could be damaged.
pub(super) fn apply(directory: &MemoryDisk, damage: Damage, choice: u64) -> bool {
    let random = &mut ChaCha12Rng::seed_from_u64(choice);
    let mut written: Vec<(String, usize)> = Vec::new();
    let mut contents = Vec::new();
    for name in directory.names() {
        let Some(bytes) = directory.contents(&name) else { continue };
        for (index, block) in bytes.chunks(BLOCK).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                written.push((name.clone(), index * BLOCK));
                contents.push(block.to_vec());
            }
        }
    }
    if written.is_empty() {
        return false;
    }
    let victim = random.random_range(0..written.len());
    let (name, offset) = &written[victim];
    let block = &contents[victim];
    match damage {
        Damage::BitRot => {
            let mut rotten = block.clone();
            let used = block.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
            for _ in 0..random.random_range(1..=3) {
                rotten[random.random_range(0..used)] ^= 1 << random.random_range(0..8);
            }
            // Two flips of one bit would be no rot.
            if rotten == *block {
                rotten[0] ^= 1;
            }
            directory.corrupt(name, *offset as u64, &rotten);
        }
        Damage::LostWrite => directory.corrupt(name, *offset as u64, &vec![0; block.len()]),
        Damage::Misdirected => {
            let (other, place) = &written[random.random_range(0..written.len())];
            directory.corrupt(name, *offset as u64, &vec![0; block.len()]);
            directory.corrupt(other, *place as u64, block);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use quorate_node::disk::Disk as _;

    use super::*;

    fn disk() -> MemoryDisk {
        let mut disk = MemoryDisk::new().directory("log");
        disk.create("one").unwrap();
        let bytes: Vec<u8> = (0..4 * BLOCK).map(|index| 1 + (index / BLOCK) as u8).collect();
        disk.write_at("one", 0, &bytes).unwrap();
        disk.sync_data("one").unwrap();
        disk
    }

    #[test]
    fn damage_changes_what_was_synced() {
        for damage in [Damage::BitRot, Damage::LostWrite, Damage::Misdirected] {
            for choice in 0..20 {
                let disk = disk();
                let before = disk.contents("one").unwrap();
                assert!(apply(&disk, damage, choice));
                disk.power_cut(1);
                assert_ne!(disk.contents("one").unwrap(), before, "{damage:?} {choice}");
            }
        }
        assert!(!apply(&MemoryDisk::new(), Damage::BitRot, 1), "an empty disk cannot rot");
    }
}
