//! Who is who in a Quorate cluster: identity files, public halves and the genesis file.
//!
//! What comes in: files, a passphrase, randomness of the operating system. What goes out: [`Identity`] and
//! [`ClientKey`] to sign with, and a [`Genesis`] that passed every check, with the [`quorate_crypto::ClusterId`] and
//! the [`quorate_crypto::Committee`] of epoch 0 that follow from it.
//!
//! | module | what it is |
//! |---|---|
//! | [`identity_file`] | a replica's two secret keys, or a client's one, in one file of mode 0600 |
//! | [`public_file`] | the public half, with the signature that binds a transport key to its consensus key |
//! | [`private_key_block`] | one ed25519 key as a PKCS#8 PEM block, plain or encrypted |
//! | [`passphrase`] | where a passphrase comes from: a file, a descriptor, a terminal; never an argument |
//! | [`protected_file`] | opening and creating files that hold secrets |
//! | [`genesis`] | the file that defines a cluster, its validation and its digest |
//!
//! The `quorate-keys` command is the same thing for people.

pub mod genesis;
pub mod identity_file;
pub mod passphrase;
pub mod private_key_block;
pub mod protected_file;
pub mod public_file;

pub use genesis::{Genesis, GenesisContents, GenesisError, Parameters};
pub use identity_file::{ClientKey, Identity, SecretFile};
pub use passphrase::{Passphrase, PassphraseError, PassphraseSource};
pub use private_key_block::{Encryption, ScryptCost};
pub use protected_file::{KeyFileError, KeyFileProblem};
pub use public_file::{PublicClientKey, PublicFile, PublicIdentity};
pub use quorate_crypto::Protocol;
