//! What a liar has to lie with: its own key and nobody else's.

use std::sync::Arc;

use curve25519_dalek::Scalar;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::clamp_integer;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Committee, Incarnation, ReplicaId, SecretKey, Signature, Signed, Signer, Statement, StatementBody,
};
use quorate_protocol::parameters::Parameters;
use sha2::{Digest as _, Sha512};

/// A key whose holder makes several valid signatures under the same bytes. An honest signer is deterministic; nothing
/// forces a liar to be.
pub trait ManySignatures: Signer {
    /// Another valid signature of `message`, one for each `nonce`.
    fn sign_again(&self, message: &[u8], nonce: u64) -> Signature;
}

impl ManySignatures for SecretKey {
    /// RFC 8032, section 5.1.6, but with a nonce of the signer's choice in place of the one that follows from the key:
    /// the equation that verifies it asks for no particular one.
    fn sign_again(&self, message: &[u8], nonce: u64) -> Signature {
        let expanded: [u8; 64] = Sha512::digest(self.to_seed()).into();
        let (low, prefix) = expanded.split_at(32);
        let mut secret = [0; 32];
        secret.copy_from_slice(low);
        let secret = Scalar::from_bytes_mod_order(clamp_integer(secret));
        let wide = |parts: [&[u8]; 3]| {
            let mut hasher = Sha512::new();
            for part in parts {
                hasher.update(part);
            }
            Scalar::from_bytes_mod_order_wide(&hasher.finalize().into())
        };
        let secret_nonce = wide([prefix, &nonce.to_be_bytes(), message]);
        let commitment = EdwardsPoint::mul_base(&secret_nonce).compress().to_bytes();
        let challenge = wide([&commitment, &self.public_key().0, message]);
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&commitment);
        signature[32..].copy_from_slice(&(secret_nonce + challenge * secret).to_bytes());
        Signature(signature)
    }
}

/// Who a liar is and what it signs with.
#[derive(Clone)]
pub struct Hands {
    /// Who it is.
    pub id: ReplicaId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The members.
    pub committee: Arc<Committee>,
    /// Its own key.
    pub signer: Arc<dyn ManySignatures>,
    /// The numbers everybody shares: it knows how long the others' timers run.
    pub parameters: Parameters,
}

impl Hands {
    /// A statement of the liar's, with this body.
    pub fn statement(&self, body: StatementBody) -> Statement {
        Statement { epoch: self.committee.epoch(), signer: self.id, incarnation: self.incarnation, body }
    }

    /// Signs anything in the liar's own name.
    pub fn sign(&self, body: StatementBody) -> Signed {
        self.sign_statement(self.statement(body))
    }

    /// Signs any statement, whoever it names as its author, with the liar's key.
    pub fn sign_statement(&self, statement: Statement) -> Signed {
        statement.sign(self.committee.cluster(), self.signer.as_ref())
    }

    /// The same statement under another valid signature.
    pub fn sign_again(&self, signed: &Signed, nonce: u64) -> Signed {
        let bytes = signed.statement.bytes(self.committee.cluster());
        Signed { signature: self.signer.sign_again(&bytes, nonce), ..*signed }
    }

    /// Everybody else, ascending.
    pub fn others(&self) -> Vec<ReplicaId> {
        self.committee.ids().filter(|id| *id != self.id).collect()
    }

    /// The same ballot for another digest.
    pub fn other_ballot(ballot: &Ballot) -> Ballot {
        let mut digest = ballot.digest;
        digest.0[0] ^= 0xff;
        Ballot { digest, ..*ballot }
    }
}
