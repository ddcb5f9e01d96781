//! Which keys may be configured, and that signing is RFC 8032's.

use super::*;

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).expect("hexadecimal").try_into().expect("length")
}

/// RFC 8032, section 7.1, tests 1 to 3: seed, key, message, signature.
#[test]
fn signatures_are_those_of_the_rfc() {
    let vectors = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, public, message, signature) in vectors {
        let key = SecretKey::from_seed(&array(seed));
        assert_eq!(key.public_key(), PublicKey(array(public)));
        assert_eq!(key.sign(&hex::decode(message).expect("hexadecimal")), Signature(array(signature)));
        assert_eq!(key.to_seed(), array(seed));
        assert!(key.public_key().is_acceptable());
    }
}

/// Keys under which anybody can sign, or that have a second encoding, must not be configured.
#[test]
fn weak_and_ambiguous_keys_are_not_acceptable() {
    let refused = [
        // The eight points of small order.
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        // Their encodings that are not canonical.
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        // y = p + 3 for y = 3, a point of large order.
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        // No point at all.
        "0200000000000000000000000000000000000000000000000000000000000000",
    ];
    for text in refused {
        assert!(!PublicKey(array(text)).is_acceptable(), "{text}");
    }
    // The same y = 3, reduced: acceptable, so that the case above shows what it says.
    assert!(PublicKey(array("0300000000000000000000000000000000000000000000000000000000000000")).is_acceptable());
}

#[test]
fn people_never_see_the_secret() {
    let key = SecretKey::from_seed(&[0x5a; 32]);
    let shown = format!("{key:?}");
    assert!(shown.contains(&format!("{:?}", key.public_key())));
    assert!(!shown.contains("5a5a"), "{shown}");
    assert_eq!(key.public_key().to_hex().len(), 64);
    assert_ne!(key.public_key().fingerprint(), SecretKey::from_seed(&[1; 32]).public_key().fingerprint());
}
