use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::pbes2::Pbkdf2Params;
use quorate_crypto::Signer as _;

use super::*;

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

fn cheap(text: &str) -> Encryption {
    Encryption { passphrase: passphrase(text), cost: ScryptCost::new(4).unwrap() }
}

/// An encrypted block with `parameters` and no meaningful contents.
fn block_with(parameters: Parameters) -> String {
    let information = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: parameters.into(),
        encrypted_data: OctetStringRef::new(&[7; 96]).unwrap(),
    };
    SecretDocument::encode_msg(&information).unwrap().to_pem(ENCRYPTED_LABEL, LineEnding::LF).unwrap().to_string()
}

fn scrypt(cost_parameter: u64, block_size: u16, parallelization: u16) -> Parameters {
    let salt = Salt::new([1; 16]).unwrap();
    let kdf = Kdf::Scrypt(ScryptParams { salt, cost_parameter, block_size, parallelization, key_length: None });
    Parameters { kdf, encryption: Cipher::Aes256Cbc { iv: [2; 16] } }
}

#[test]
fn plain_blocks_round_trip_and_are_pinned() {
    let key = SecretKey::from_seed(&[7; 32]);
    let block = encode(&key, None).unwrap();
    // RFC 8410, section 7, with the public key (RFC 5958, version 2).
    assert_eq!(
        *block,
        "-----BEGIN PRIVATE KEY-----\n\
         MFECAQEwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
         gSEA6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=\n\
         -----END PRIVATE KEY-----\n"
    );
    assert!(!is_encrypted(&block));
    assert_eq!(decode(&block, None).unwrap().to_seed(), [7; 32]);
}

#[test]
fn encrypted_blocks_round_trip_under_fresh_salts() {
    let key = SecretKey::from_seed(&[9; 32]);
    let (one, two) = (encode(&key, Some(&cheap("open"))).unwrap(), encode(&key, Some(&cheap("open"))).unwrap());
    assert!(is_encrypted(&one));
    assert_ne!(*one, *two);
    for block in [one, two] {
        assert_eq!(decode(&block, Some(&passphrase("open"))).unwrap().public_key(), key.public_key());
    }
}

#[test]
fn a_wrong_passphrase_never_opens() {
    let block = encode(&SecretKey::from_seed(&[9; 32]), Some(&cheap("open"))).unwrap();
    // Padding alone would let one in 256 through.
    for attempt in 0..600 {
        let opened = decode(&block, Some(&passphrase(&format!("wrong {attempt}"))));
        assert!(matches!(opened, Err(KeyFileProblem::WrongPassphrase)), "{attempt}");
    }
}

#[test]
fn the_recommended_cost_is_within_the_bounds() {
    let block = encode(
        &SecretKey::from_seed(&[9; 32]),
        Some(&Encryption { passphrase: passphrase("open"), cost: ScryptCost::RECOMMENDED }),
    );
    assert!(decode(&block.unwrap(), Some(&passphrase("open"))).is_ok());
    assert_eq!(ScryptCost::new(0), None);
    assert_eq!(ScryptCost::new(21), None);
    assert!(check_cost(&EncryptionScheme::Pbes2(scrypt(1 << 20, 8, 1))).is_ok());
}

#[test]
fn a_file_cannot_demand_unbounded_memory_or_time() {
    for parameters in [scrypt(1 << 21, 8, 1), scrypt(1 << 63, 8, 1), scrypt(1 << 20, 9, 1), scrypt(1 << 10, 8, 17)] {
        let opened = decode(&block_with(parameters), Some(&passphrase("open")));
        assert!(matches!(opened, Err(KeyFileProblem::TooCostly)));
    }
    for parameters in [scrypt(0, 8, 1), scrypt(1, 8, 1), scrypt(1000, 8, 1), scrypt(16, 0, 1), scrypt(16, 8, 0)] {
        let opened = decode(&block_with(parameters), Some(&passphrase("open")));
        assert!(matches!(opened, Err(KeyFileProblem::UnsupportedEncryption)));
    }
}

#[test]
fn other_schemes_are_refused() {
    let pbkdf2 = Kdf::Pbkdf2(Pbkdf2Params::hmac_sha256(1, &[1; 16]).unwrap());
    let weak = Parameters { kdf: pbkdf2, encryption: Cipher::Aes256Cbc { iv: [2; 16] } };
    let short = Parameters { encryption: Cipher::Aes128Cbc { iv: [2; 16] }, ..scrypt(16, 8, 1) };
    for parameters in [weak, short] {
        let opened = decode(&block_with(parameters), Some(&passphrase("open")));
        assert!(matches!(opened, Err(KeyFileProblem::UnsupportedEncryption)));
    }
}

#[test]
fn two_halves_that_do_not_belong_together_are_refused() {
    let mut bytes = ed25519_dalek::pkcs8::KeypairBytes::from(SecretKey::from_seed(&[7; 32]).as_dalek());
    bytes.public_key = Some(ed25519_dalek::pkcs8::PublicKeyBytes(SecretKey::from_seed(&[8; 32]).public_key().0));
    let block = bytes.to_pkcs8_der().unwrap().to_pem(PLAIN_LABEL, LineEnding::LF).unwrap();
    assert!(matches!(decode(&block, None), Err(KeyFileProblem::Malformed(_))));
}

#[test]
fn labels_must_fit() {
    let plain = encode(&SecretKey::from_seed(&[7; 32]), None).unwrap();
    assert!(decode(&plain, Some(&passphrase("open"))).is_err());
    assert!(decode(&plain.replace("PRIVATE KEY", "PUBLIC KEY"), None).is_err());
    assert!(decode("", None).is_err());
}
