//! One ed25519 secret key as a PKCS#8 PEM block: RFC 5958 with the algorithm of RFC 8410, the public key included (so
//! that damage is noticed; tools that know only version 1 of PKCS#8, such as OpenSSL, do not read it), in the textual
//! form of RFC 7468. If asked, encrypted by PBES2 (RFC 8018) with scrypt (RFC 7914) and AES-256-CBC.

use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use pkcs8::der::pem::LineEnding;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{EncryptionScheme as Cipher, Kdf, Parameters, Salt, ScryptParams};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use quorate_crypto::SecretKey;
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::passphrase::Passphrase;
use crate::protected_file::KeyFileProblem;

const PLAIN_LABEL: &str = "PRIVATE KEY";
const ENCRYPTED_LABEL: &str = "ENCRYPTED PRIVATE KEY";
const BLOCK_SIZE_R: u16 = 8;
const PARALLELIZATION_P: u16 = 1;

/// Most memory that decrypting a key file may take: 1 GiB.
const SCRYPT_BYTES_MAX: u64 = 1 << 30;
/// Most passes over that memory.
const PARALLELIZATION_MAX: u16 = 16;

/// What one guess of a passphrase costs: 2^n rounds over 2^n KiB of memory (scrypt's N, with r = 8 and p = 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScryptCost(u8);

impl ScryptCost {
    /// N = 2^17: 128 MiB and a quarter of a second, as OWASP recommends.
    pub const RECOMMENDED: ScryptCost = ScryptCost(17);

    /// The cost 2^`exponent`; `None` outside 1..=20 (1 GiB).
    pub const fn new(exponent: u8) -> Option<ScryptCost> {
        if exponent >= 1 && exponent <= 20 { Some(ScryptCost(exponent)) } else { None }
    }
}

/// How a new key file is encrypted.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// Opens the file.
    pub passphrase: Passphrase,
    /// What a guess costs.
    pub cost: ScryptCost,
}

fn malformed(what: &str) -> KeyFileProblem {
    KeyFileProblem::Malformed(what.to_owned())
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), KeyFileProblem> {
    SysRng.try_fill_bytes(bytes).map_err(|_| KeyFileProblem::Randomness)
}

/// Encodes `key`; with `encryption`, under a fresh salt and initialisation vector.
pub(crate) fn encode(key: &SecretKey, encryption: Option<&Encryption>) -> Result<Zeroizing<String>, KeyFileProblem> {
    let plain = key.as_dalek().to_pkcs8_der().map_err(|_| malformed("the key could not be encoded"))?;
    let (label, document) = match encryption {
        None => (PLAIN_LABEL, plain),
        Some(encryption) => {
            let information =
                plain.decode_msg::<PrivateKeyInfoRef<'_>>().map_err(|_| malformed("the key could not be encoded"))?;
            let parameters = fresh_parameters(encryption.cost)?;
            let encrypted = information
                .encrypt_with_params(parameters, encryption.passphrase.as_bytes())
                .map_err(|_| malformed("the key could not be encrypted"))?;
            (ENCRYPTED_LABEL, encrypted)
        }
    };
    document.to_pem(label, LineEnding::LF).map_err(|_| malformed("the key could not be encoded"))
}

fn fresh_parameters(cost: ScryptCost) -> Result<Parameters, KeyFileProblem> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    fill_random(&mut salt)?;
    fill_random(&mut iv)?;
    let scrypt = ScryptParams {
        salt: Salt::new(salt).map_err(|_| malformed("the salt could not be encoded"))?,
        cost_parameter: 1 << cost.0,
        block_size: BLOCK_SIZE_R,
        parallelization: PARALLELIZATION_P,
        key_length: None,
    };
    Ok(Parameters { kdf: Kdf::Scrypt(scrypt), encryption: Cipher::Aes256Cbc { iv } })
}

/// Whether `block` says that it is encrypted. Whether it is well formed is another question.
pub(crate) fn is_encrypted(block: &str) -> bool {
    block.lines().next() == Some("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

/// Decodes one block. `passphrase` must be given iff the block [`is_encrypted`].
pub(crate) fn decode(block: &str, passphrase: Option<&Passphrase>) -> Result<SecretKey, KeyFileProblem> {
    let (label, document) = SecretDocument::from_pem(block).map_err(|_| malformed("a block is not valid PEM"))?;
    let plain = match (label, passphrase) {
        (PLAIN_LABEL, None) => document,
        (ENCRYPTED_LABEL, Some(passphrase)) => decrypt(&document, passphrase)?,
        _ => return Err(malformed("a block has an unexpected label")),
    };
    let wrong =
        || if passphrase.is_some() { KeyFileProblem::WrongPassphrase } else { malformed("a block is not PKCS#8") };
    let information = plain.decode_msg::<PrivateKeyInfoRef<'_>>().map_err(|_| wrong())?;
    let key = ed25519_dalek::SigningKey::try_from(information)
        .map_err(|_| malformed("a block is not an ed25519 key, or its two halves do not belong together"))?;
    Ok(SecretKey::from_seed(&Zeroizing::new(key.to_bytes())))
}

fn decrypt(document: &SecretDocument, passphrase: &Passphrase) -> Result<SecretDocument, KeyFileProblem> {
    let encrypted = document
        .decode_msg::<EncryptedPrivateKeyInfoRef<'_>>()
        .map_err(|_| malformed("a block is not encrypted PKCS#8"))?;
    check_cost(&encrypted.encryption_algorithm)?;
    encrypted.decrypt(passphrase.as_bytes()).map_err(|_| KeyFileProblem::WrongPassphrase)
}

/// Refuses, before a byte is allocated, what would cost too much, and every scheme that this crate does not write.
fn check_cost(scheme: &EncryptionScheme) -> Result<(), KeyFileProblem> {
    let EncryptionScheme::Pbes2(Parameters { kdf: Kdf::Scrypt(scrypt), encryption: Cipher::Aes256Cbc { .. } }) = scheme
    else {
        return Err(KeyFileProblem::UnsupportedEncryption);
    };
    let rounds = scrypt.cost_parameter;
    let (block_size, passes) = (u64::from(scrypt.block_size), scrypt.parallelization);
    if rounds < 2 || !rounds.is_power_of_two() || block_size == 0 || passes == 0 {
        return Err(KeyFileProblem::UnsupportedEncryption);
    }
    let memory = rounds.checked_mul(128 * block_size);
    if passes > PARALLELIZATION_MAX || memory.is_none_or(|bytes| bytes > SCRYPT_BYTES_MAX) {
        return Err(KeyFileProblem::TooCostly);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
