//! The bytes of entries on disk, pinned: a change here is a new format version.

use super::*;

#[test]
fn entries() {
    let mut payload = Vec::new();
    entry::put(&mut payload, 3, b"key", b"value");
    entry::remove(&mut payload, 4, b"gone");
    let commit = Commit {
        seq: Seq(0x0102),
        root: Digest([0xaa; 32]),
        header: b"head".to_vec(),
        table_digests: vec![Digest([0xbb; 32])],
    };
    entry::commit(&mut payload, &commit);
    let expected = [
        "01030000000300000005".to_owned() + "6b657976616c7565",
        "020400000004676f6e65".to_owned(),
        format!("030000000000000102{}000000000000000468656164", "aa".repeat(32)),
        format!("0000000000000001{}", "bb".repeat(32)),
    ];
    assert_eq!(hex::encode(&payload), expected.concat());
    let parsed: Vec<Entry<'_>> = entry::parse(&payload).map(Result::unwrap).collect();
    assert_eq!(parsed.len(), 3);
    assert_eq!(parsed[2], Entry::Commit(commit));
}
