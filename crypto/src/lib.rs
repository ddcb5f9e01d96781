//! The cryptographic vocabulary of Quorate: pure, synchronous, without I/O, clock or randomness of its own.
//!
//! What comes in: bytes and keys. What goes out: digests, signatures, verified values.
//!
//! | module | what it is |
//! |---|---|
//! | [`digest`] | SHA-256 with a domain tag for every use |
//! | [`protocol`] | PBFT or HotStuff |
//! | [`keys`] | ed25519 keys and signatures as fixed-width bytes, the [`keys::Signer`] seam |
//! | [`signature_scheme`] | one ZIP-215 acceptance predicate, single and batch |
//! | [`identity`] | cluster, replica, epoch, incarnation, view, sequence number |
//! | [`committee`] | members of an epoch and the only quorum arithmetic of the project |
//! | [`statement`] | signed statements, fixed width, laid out by hand |
//! | [`certificate`] | sets of distinct signers of one statement |
//! | [`verified`] | `Verified<T>`, which only verification can make |
//! | [`encoding`] | every other byte on wire and disk: bincode behind one small API |
//! | [`merkle_tree`] | a binary Merkle tree over a list, with paths bound to their index |
//! | [`merkle_map`] | an ordered, persistent, authenticated map with canonical shape |

pub mod certificate;
pub mod committee;
pub mod digest;
pub mod encoding;
pub mod identity;
pub mod keys;
pub mod merkle_map;
pub mod merkle_tree;
pub mod mutant;
pub mod protocol;
pub mod signature_scheme;
pub mod statement;
pub mod verified;

pub use certificate::{Certificate, CertificateError, Endorsement};
pub use committee::{Committee, CommitteeError, FaultModel, Member};
pub use digest::{Digest, Domain};
pub use identity::{ClusterId, Epoch, Incarnation, ReplicaId, Seq, View};
pub use keys::{PublicKey, SecretKey, Signature, Signer};
pub use protocol::Protocol;
pub use signature_scheme::{Ed25519, RememberingEd25519, SignatureScheme};
pub use statement::{Signed, Statement, StatementBody, StatementKind};
pub use verified::{Claim, Verified, Verifier, Verify};
