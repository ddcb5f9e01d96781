use super::KeyRange;

#[test]
fn an_empty_end_names_one_key() {
    let range = KeyRange::single("b");
    assert!(range.contains(b"b"));
    assert!(!range.contains(b"b\0"));
    assert!(!range.contains(b"a"));
}

#[test]
fn a_zero_byte_end_names_every_key_from_the_first() {
    let range = KeyRange::from_key("b");
    assert!(!range.contains(b"a\xff"));
    assert!(range.contains(b"b"));
    assert!(range.contains(&[0xff; 9]));
    assert!(KeyRange::all().contains(b"\0"));
}

#[test]
fn an_interval_excludes_its_end() {
    let range = KeyRange::interval("b", "d");
    assert!(range.contains(b"b"));
    assert!(range.contains(b"c\xff"));
    assert!(!range.contains(b"d"));
    assert!(!KeyRange::interval("d", "b").contains(b"c"));
    assert!(!KeyRange::interval("b", "b").contains(b"b"));
}

#[test]
fn a_prefix_ends_before_the_next_prefix() {
    assert_eq!(KeyRange::prefix("/a/"), KeyRange::interval("/a/", "/a0"));
    assert_eq!(KeyRange::prefix([b'a', 0xff, 0xff]), KeyRange::interval([b'a', 0xff, 0xff], "b"));
    assert_eq!(KeyRange::prefix([0xff, 0xff]), KeyRange::from_key([0xff, 0xff]));
    assert_eq!(KeyRange::prefix(""), KeyRange::all());
}
