//! Rot, torn writes, forged and stale frames.

use super::super::frame::{FrameHeader, HEADER_BYTES, fill_blocks};
use super::*;

/// Where frame `number` starts: file, offset and length with its header.
fn place(log: &FrameLog<MemoryDisk>, number: u64) -> (String, u64, u64) {
    let retained = log.retained[(number - log.first.0) as usize];
    let data = SMALL_SEGMENT - BLOCK_BYTES;
    let file = format!("log-{:016x}", retained.position.0 / data);
    (file, BLOCK_BYTES + retained.position.0 % data, (HEADER_BYTES + payload(number).len()) as u64)
}

fn flip(disk: &MemoryDisk, file: &str, offset: u64) {
    let byte = disk.contents(file).unwrap()[offset as usize];
    disk.corrupt(file, offset, &[byte ^ 0x10]);
}

#[test]
fn a_flipped_bit_anywhere_in_the_last_frame_is_found() {
    // Frame 8 is short; every byte of its header and payload in turn.
    let (_, _, length) = place(&written(&MemoryDisk::new(), 8), 8);
    for byte in 0..length {
        let disk = MemoryDisk::new();
        let log = written(&disk, 8);
        let (file, offset, _) = place(&log, 8);
        drop(log);
        flip(&disk, &file, offset + byte);
        let (mut log, frames) = opened(&disk).unwrap();
        assert_frames(&frames, 1, 7);
        let start = (offset as usize)..(offset + BLOCK_BYTES) as usize;
        assert!(disk.contents(&file).unwrap()[start].iter().all(|byte| *byte == 0), "overwritten with zeros");
        append_synced(&mut log, 2);
        drop(log);
        assert_frames(&opened(&disk).unwrap().1, 1, 9);
    }
}

#[test]
fn a_flipped_bit_in_an_earlier_frame_is_damage() {
    for number in 1..=9 {
        let (_, _, length) = place(&written(&MemoryDisk::new(), 10), number);
        let near = (0..length.min(HEADER_BYTES as u64 + 20)).chain([length - 1]);
        for byte in near {
            let disk = MemoryDisk::new();
            let log = written(&disk, 10);
            let (file, offset, _) = place(&log, number);
            if offset + byte >= SMALL_SEGMENT {
                continue;
            }
            drop(log);
            flip(&disk, &file, offset + byte);
            let before = disk.contents(&file);
            let error = opened(&disk).unwrap_err();
            assert!(matches!(error, OpenError::Damaged { frame, .. } if frame.0 == number), "{number} {byte}: {error}");
            assert_eq!(disk.contents(&file), before, "a damaged log is left as it is");
        }
    }
}

#[test]
fn an_earlier_bad_frame_is_damage_even_if_the_one_after_is_torn() {
    let disk = MemoryDisk::new();
    let log = written(&disk, 9);
    let (eighth, ninth) = (place(&log, 8), place(&log, 9));
    drop(log);
    flip(&disk, &eighth.0, eighth.1 + HEADER_BYTES as u64);
    flip(&disk, &ninth.0, ninth.1 + HEADER_BYTES as u64);
    assert!(matches!(opened(&disk), Err(OpenError::Damaged { frame: FrameNumber(8), .. })));
}

#[test]
fn a_torn_header_or_a_torn_body_is_no_frame() {
    for (lost_from, lost_to) in [(0, 512), (512, 1024), (4096, 5000), (0, 5000)] {
        let disk = MemoryDisk::new();
        let log = written(&disk, 2);
        let (file, offset, length) = place(&log, 2);
        assert!(length > 5000 && offset + length <= SMALL_SEGMENT, "frame 2 lies in one segment");
        drop(log);
        disk.corrupt(&file, offset + lost_from, &vec![0; (lost_to - lost_from) as usize]);
        let (mut log, frames) = opened(&disk).unwrap();
        assert_frames(&frames, 1, 1);
        append_synced(&mut log, 1);
        drop(log);
        assert_frames(&opened(&disk).unwrap().1, 1, 2);
    }
}

#[test]
fn a_payload_that_imitates_frames_forges_none() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, 2);
    // An attacker who knows everything but the key: numbers, groups, places, even the digest of the frame before.
    let guess = LogKey([8; 32]);
    let mut imitation = vec![0; BLOCK_BYTES as usize - HEADER_BYTES];
    for number in 3..12 {
        let mut block = Vec::new();
        let header = FrameHeader::seal(&guess, FrameNumber(number), number, log.tail.previous, b"forged");
        fill_blocks(&mut block, &guess, &header, b"forged");
        imitation.extend_from_slice(&block);
    }
    log.append(&imitation).unwrap();
    log.sync().unwrap();
    let (file, offset, _) = place(&log, 3);
    drop(log);
    let (_, frames) = opened(&disk).unwrap();
    assert_eq!(frames.len(), 3);
    assert!(frames[2].1 == imitation);
    // The same with the real header torn away: what is left of the payload neither passes for a frame nor for proof
    // that later frames were written.
    disk.corrupt(&file, offset, &[0; 512]);
    let (_, frames) = opened(&disk).unwrap();
    assert_frames(&frames, 1, 2);
}

#[test]
fn the_same_frame_under_the_key_of_the_log_would_be_damage() {
    // The counterpart of the test above: what protects is the key alone.
    let disk = MemoryDisk::new();
    let mut log = written(&disk, 2);
    let mut imitation = vec![0; BLOCK_BYTES as usize - HEADER_BYTES];
    let header = FrameHeader::seal(&KEY, FrameNumber(4), 4, log.tail.previous, b"forged");
    let mut block = Vec::new();
    fill_blocks(&mut block, &KEY, &header, b"forged");
    imitation.extend_from_slice(&block);
    log.append(&imitation).unwrap();
    log.sync().unwrap();
    let (file, offset, _) = place(&log, 3);
    drop(log);
    disk.corrupt(&file, offset, &[0; 512]);
    assert!(matches!(opened(&disk), Err(OpenError::Damaged { frame: FrameNumber(3), .. })));
}

#[test]
fn stale_frames_of_a_recycled_segment_are_never_taken() {
    // With one block a frame the frames of every generation of a segment start at the same places.
    let disk = MemoryDisk::new();
    let mut log = FrameLog::create(disk.clone(), &settings()).unwrap();
    for _ in 0..60 {
        let number = log.next_number().0;
        log.append(&number.to_be_bytes()).unwrap();
        log.sync().unwrap();
        log.cut(FrameNumber(number)).unwrap();
        let (reopened, frames) = opened(&disk).unwrap();
        log = reopened;
        let first = log.first_number().0;
        let expected: Vec<_> = (first..=number).map(|n| (FrameNumber(n), n.to_be_bytes().to_vec())).collect();
        assert_eq!(frames, expected);
    }
    let stale = disk.clone().list().unwrap().iter().filter(|name| disk.contents(name).unwrap().contains(&b'Q')).count();
    assert!(stale > 2, "segments were recycled, not made anew");
}

#[test]
fn a_frame_with_a_right_checksum_in_the_wrong_chain_is_damage() {
    let disk = MemoryDisk::new();
    let log = written(&disk, 8);
    let (file, offset, _) = place(&log, 8);
    drop(log);
    let mut block = Vec::new();
    let header = FrameHeader::seal(&KEY, FrameNumber(8), 8, Digest([1; 32]), b"of another history");
    fill_blocks(&mut block, &KEY, &header, b"of another history");
    disk.corrupt(&file, offset, &block);
    assert!(matches!(opened(&disk), Err(OpenError::Damaged { frame: FrameNumber(8), why: "the chain is broken" })));
}

#[test]
fn a_lost_segment_is_damage() {
    let disk = MemoryDisk::new();
    written(&disk, 20);
    let segments: Vec<String> =
        disk.clone().list().unwrap().into_iter().filter(|name| name != "log-superblock").collect();
    assert!(segments.len() > 5);
    let last_used = {
        let (log, _) = opened(&disk).unwrap();
        log.segments.index_of(Position(log.tail.position.0 - 1)) as usize
    };
    for lost in 0..=last_used {
        let disk = MemoryDisk::new();
        written(&disk, 20);
        disk.lose(&segments[lost]);
        if lost + 1 < segments.len() {
            assert!(matches!(opened(&disk), Err(OpenError::Damaged { .. })), "segment {lost}");
        }
    }
    // The last segments lost together, in the middle of a long frame.
    let disk = MemoryDisk::new();
    let log = written(&disk, 11);
    let (file, ..) = place(&log, 11);
    drop(log);
    for name in disk.clone().list().unwrap() {
        if name > file && name != "log-superblock" {
            disk.lose(&name);
        }
    }
    assert!(matches!(opened(&disk), Err(OpenError::Damaged { frame: FrameNumber(11), .. })));
}

#[test]
fn either_copy_of_the_superblock_is_enough() {
    let length = superblock::FILE_BYTES;
    for copy in 0..2 {
        let disk = MemoryDisk::new();
        let mut log = written(&disk, 12);
        log.cut(FrameNumber(10)).unwrap();
        drop(log);
        disk.corrupt("log-superblock", copy * length / 2, &[0xff; 300]);
        let (log, frames) = opened(&disk).unwrap();
        assert_frames(&frames, 10, 12);
        drop(log);
        let bytes = disk.contents("log-superblock").unwrap();
        assert_eq!(bytes[..bytes.len() / 2], bytes[bytes.len() / 2..], "the bad copy is written anew");
    }
}

#[test]
fn any_flipped_bit_in_both_superblocks_is_found() {
    let used = 48 + 133;
    for byte in 0..used {
        let disk = MemoryDisk::new();
        written(&disk, 2);
        flip(&disk, "log-superblock", byte);
        flip(&disk, "log-superblock", byte + BLOCK_BYTES);
        assert!(matches!(opened(&disk), Err(OpenError::Damaged { frame: FrameNumber(0), .. })), "byte {byte}");
    }
}

#[test]
fn an_old_superblock_does_not_bring_cut_frames_back() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, 12);
    let old = disk.contents("log-superblock").unwrap();
    log.cut(FrameNumber(10)).unwrap();
    drop(log);
    disk.corrupt("log-superblock", 0, &old);
    assert!(matches!(opened(&disk), Err(OpenError::Damaged { .. })));
}

#[test]
fn unknown_versions_are_refused() {
    // The superblock: version 2 with a right digest.
    let disk = MemoryDisk::new();
    written(&disk, 2);
    let mut block = disk.contents("log-superblock").unwrap()[..BLOCK_BYTES as usize].to_vec();
    block[11] = 2;
    let digest = Digest::of(quorate_crypto::Domain::Frame, &[b"superblock", &block[..16], &block[48..48 + 133]]);
    block[16..48].copy_from_slice(digest.as_bytes());
    disk.corrupt("log-superblock", BLOCK_BYTES, &block);
    assert!(matches!(opened(&disk), Err(OpenError::UnknownVersion(2))));

    // A segment.
    let disk = MemoryDisk::new();
    written(&disk, 2);
    let mut header = disk.contents("log-0000000000000000").unwrap()[..28].to_vec();
    header[11] = 3;
    let check = Digest::of(quorate_crypto::Domain::Frame, &[&KEY.0, b"segment", &header[..12]]);
    header[12..].copy_from_slice(&check.as_bytes()[..16]);
    disk.corrupt("log-0000000000000000", 0, &header);
    assert!(matches!(opened(&disk), Err(OpenError::UnknownVersion(3))));

    // A frame.
    let disk = MemoryDisk::new();
    let log = written(&disk, 2);
    let (file, offset, _) = place(&log, 2);
    drop(log);
    let mut header = disk.contents(&file).unwrap()[offset as usize..offset as usize + HEADER_BYTES].to_vec();
    header[3] = 4;
    let check = Digest::of(quorate_crypto::Domain::Frame, &[&KEY.0, b"header", &header[..88]]);
    header[88..].copy_from_slice(&check.as_bytes()[..16]);
    disk.corrupt(&file, offset, &header);
    assert!(matches!(opened(&disk), Err(OpenError::UnknownVersion(4))));
}

#[test]
fn a_rotten_segment_header_is_written_anew() {
    let disk = MemoryDisk::new();
    written(&disk, 4);
    let before = disk.contents("log-0000000000000000").unwrap();
    flip(&disk, "log-0000000000000000", 5);
    let (_, frames) = opened(&disk).unwrap();
    assert_frames(&frames, 1, 4);
    assert!(disk.contents("log-0000000000000000").unwrap() == before);
}
