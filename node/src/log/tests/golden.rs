//! The bytes on disk, pinned: a change here is a new format version.

use super::super::frame::{FrameHeader, Parsed, fill_blocks};
use super::*;

#[test]
fn frame_header() {
    let header = FrameHeader::seal(&KEY, FrameNumber(0x0102), 0x0304, Digest([0xab; 32]), b"promise");
    let bytes = header.to_bytes(&KEY);
    assert_eq!(FrameHeader::parse(&KEY, &bytes), Parsed::Header(header));
    assert_eq!(FrameHeader::parse(&LogKey([8; 32]), &bytes), Parsed::Nothing);
    assert_eq!(
        hex::encode(&bytes[..56]),
        format!("51460001000000070000000000000102{}{}", "0000000000000304", "ab".repeat(32))
    );
    assert_eq!(
        hex::encode(&bytes[56..]),
        "571a79ebb0306ad02656eace8f9df81cf187ad4949fb0b79bf1a9f6eadfbd39649b350f28e24039eb0ddb7fae5568928"
    );
    let mut block = Vec::new();
    fill_blocks(&mut block, &KEY, &header, b"promise");
    assert_eq!(block.len() as u64, BLOCK_BYTES);
    assert_eq!(&block[104..111], b"promise");
    assert!(block[111..].iter().all(|byte| *byte == 0));
}

#[test]
fn superblock() {
    let disk = MemoryDisk::new();
    written(&disk, 0);
    let bytes = disk.contents("log-superblock").unwrap();
    assert_eq!(bytes.len() as u64, superblock::FILE_BYTES);
    assert_eq!(bytes[..BLOCK_BYTES as usize], bytes[BLOCK_BYTES as usize..]);
    assert_eq!(hex::encode(&bytes[..16]), "51524d53555045520000000100000085");
    let body = [
        "01",               // log
        &"09".repeat(32),   // cluster
        "0002",             // replica
        "0101",             // trusted, made for a new cluster
        "0000000000000001", // generation
        "0000000000004000", // segment size
        &"07".repeat(32),   // key
        "0000000000000000", // first position
        "0000000000000001", // first number
        &"00".repeat(32),   // digest of the frame before
    ]
    .concat();
    assert_eq!(hex::encode(&bytes[48..48 + body.len() / 2]), body);
    assert_eq!(hex::encode(&bytes[16..48]), "4bb976ac5da41dbdeca89c03bfdb63e77b7a9bb7e3a401a90599d7ab299910db");
}

#[test]
fn segment_header() {
    let disk = MemoryDisk::new();
    written(&disk, 0);
    let bytes = disk.contents("log-0000000000000000").unwrap();
    assert_eq!(bytes.len() as u64, SMALL_SEGMENT);
    assert_eq!(hex::encode(&bytes[..28]), "51524d5345474d54000000016623db02329a0fbcdf1a8cc0fbc38bda");
    assert!(bytes[28..].iter().all(|byte| *byte == 0));
    assert_eq!(disk.clone().list().unwrap(), ["log-0000000000000000", "log-0000000000000001", "log-superblock"]);
}
