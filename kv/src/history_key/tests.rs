use proptest::collection::vec;
use proptest::prelude::*;

use super::{MAX_HISTORY_KEY_BYTES, key, place, prefix, split};
use crate::limit::MAX_KEY_BYTES;

/// Bytes in which zeros, runs of zeros and the codes for them are common.
fn awkward_key() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => vec(prop_oneof![Just(0_u8), Just(1), Just(126), Just(127), Just(128), Just(254), Just(255)], 0..4),
        1 => (0_usize..300).prop_map(|zeros| vec![0; zeros]),
        1 => (125_usize..130).prop_map(|zeros| vec![0; zeros]),
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn keeps_the_order_of_keys_and_is_prefix_free(
        a in awkward_key(),
        b in awkward_key(),
        r in any::<u64>(),
        s in any::<u64>(),
    ) {
        let (x, y) = (prefix(&a), prefix(&b));
        prop_assert_eq!(a.cmp(&b), x.cmp(&y));
        if a != b {
            prop_assert!(!x.starts_with(&y) && !y.starts_with(&x));
            prop_assert_eq!(a.cmp(&b), place(&x, r, 7).cmp(&place(&y, s, 5)));
        }
        prop_assert_eq!(key(&x), Some(a));
    }
}

#[test]
fn older_revisions_come_first() {
    let name = prefix(b"a");
    assert!(place(&name, 255, 9) < place(&name, 256, 0));
    assert!(place(&name, 256, 9) < place(&name, 256, 10));
    assert_eq!(split(&place(&name, 7, 3)), Some((name.as_slice(), 7, 3)));
    assert_eq!(split(&[1; 11]), None);
}

#[test]
fn ordinary_keys_grow_by_two_bytes() {
    assert_eq!(prefix(b"abc"), b"abc\0\0");
    assert_eq!(prefix(b""), b"\0\0");
    assert_eq!(prefix(b"a\0"), b"a\0\x01");
    assert_eq!(prefix(b"a\0b"), b"a\0\xfeb\0\0");
}

#[test]
fn a_long_run_directly_before_another_byte() {
    let mut long = vec![0; 127];
    assert_eq!(prefix(&long), [0, 127, 0, 0]);
    long.push(b'a');
    assert_eq!(prefix(&long), [0, 127, 0, 255, b'a', 0, 0]);
    assert_eq!(key(&prefix(&long)), Some(long));
}

#[test]
fn no_key_exceeds_the_stated_length() {
    let alternating: Vec<u8> = (0..MAX_KEY_BYTES).map(|position| (position % 2) as u8).collect();
    assert_eq!(place(&prefix(&alternating), 1, 0).len(), MAX_HISTORY_KEY_BYTES);
    for other in [vec![0; MAX_KEY_BYTES], vec![255; MAX_KEY_BYTES]] {
        assert!(place(&prefix(&other), 1, 0).len() < MAX_HISTORY_KEY_BYTES);
    }
}

#[test]
fn what_is_no_prefix_is_refused() {
    for bytes in [&b""[..], b"abc", b"abc\0", b"a\0\0b", b"a\0\xfe", b"a\0\x7f"] {
        assert_eq!(key(bytes), None, "{bytes:?}");
    }
}
