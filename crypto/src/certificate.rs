//! Certificates: one statement body endorsed by distinct members.
//!
//! Authors are counted by replica id, in release builds too (rule P1; besu #1671, monad-bft #2086, relab #244): several
//! signatures of one author count once and make the certificate invalid, never bigger.

use bincode::{Decode, Encode};

use crate::committee::Committee;
use crate::identity::{Epoch, Incarnation, ReplicaId};
use crate::keys::Signature;
use crate::mutant::{Mutant, alive};
use crate::statement::{Signed, Statement, StatementBody};
use crate::verified::{BadSignature, Claim, Verify};

/// One author's signature under the common body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Endorsement {
    /// The author.
    pub signer: ReplicaId,
    /// The author's incarnation, which is part of the signed bytes.
    pub incarnation: Incarnation,
    /// The signature.
    pub signature: Signature,
}

/// A statement body with the endorsements of distinct authors, ordered by author.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Certificate {
    /// Configuration epoch of every endorsement.
    pub epoch: Epoch,
    /// What all of them said.
    pub body: StatementBody,
    /// Who said it; strictly ascending by id.
    pub endorsements: Vec<Endorsement>,
}

/// Why a certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Fewer distinct authors than needed.
    #[error("{found} distinct authors where {needed} are needed")]
    TooFew {
        /// Distinct authors present.
        found: usize,
        /// Distinct authors needed.
        needed: usize,
    },
    /// Authors repeat or are out of order.
    #[error("authors are not strictly ascending at {0}")]
    NotDistinct(ReplicaId),
    /// An author is not a member.
    #[error("replica {0} is not a member of the committee")]
    NotAMember(ReplicaId),
    /// The certificate names another epoch.
    #[error("the certificate is of epoch {0}")]
    WrongEpoch(Epoch),
    /// The body is not of the expected kind or does not fit its place.
    #[error("the certificate does not say what its place requires")]
    WrongBody,
    /// A signature does not verify.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
}

impl Certificate {
    /// Collects signed statements of one body. `None` if they differ in body or epoch; a second statement of one author
    /// is left out.
    pub fn collect<'a>(statements: impl IntoIterator<Item = &'a Signed>) -> Option<Certificate> {
        let mut by_author = std::collections::BTreeMap::new();
        let mut common: Option<(Epoch, StatementBody)> = None;
        for signed in statements {
            let key = (signed.statement.epoch, signed.statement.body);
            if *common.get_or_insert(key) != key {
                return None;
            }
            by_author.entry(signed.statement.signer).or_insert(Endorsement {
                signer: signed.statement.signer,
                incarnation: signed.statement.incarnation,
                signature: signed.signature,
            });
        }
        let (epoch, body) = common?;
        Some(Certificate { epoch, body, endorsements: by_author.into_values().collect() })
    }

    /// The single statements of the certificate.
    pub fn statements(&self) -> impl Iterator<Item = Signed> + '_ {
        self.endorsements.iter().map(|endorsement| Signed {
            statement: Statement {
                epoch: self.epoch,
                signer: endorsement.signer,
                incarnation: endorsement.incarnation,
                body: self.body,
            },
            signature: endorsement.signature,
        })
    }

    /// The authors.
    pub fn signers(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.endorsements.iter().map(|endorsement| endorsement.signer)
    }

    /// Checks everything but the signatures, which it appends to `claims`: epoch, membership, at least `needed`
    /// distinct authors.
    pub fn claims_of(
        &self,
        committee: &Committee,
        needed: usize,
        claims: &mut Vec<Claim>,
    ) -> Result<(), CertificateError> {
        distinct_members(self, committee)?;
        if self.endorsements.len() < needed {
            return Err(CertificateError::TooFew { found: self.endorsements.len(), needed });
        }
        for signed in self.statements() {
            signed.claims(committee, &(), claims).map_err(|_| CertificateError::WrongEpoch(self.epoch))?;
        }
        Ok(())
    }
}

/// Rule P1: authors are members, each once.
pub fn distinct_members(certificate: &Certificate, committee: &Committee) -> Result<(), CertificateError> {
    if certificate.epoch != committee.epoch() && !alive(Mutant::EpochIgnored) {
        return Err(CertificateError::WrongEpoch(certificate.epoch));
    }
    let mut last: Option<ReplicaId> = None;
    for signer in certificate.signers() {
        if !committee.contains(signer) {
            return Err(CertificateError::NotAMember(signer));
        }
        if last.is_some_and(|last| last >= signer) && !alive(Mutant::SameSignerTwice) {
            return Err(CertificateError::NotDistinct(signer));
        }
        last = Some(signer);
    }
    Ok(())
}

impl Verify for Certificate {
    /// How many distinct authors are needed.
    type Context = usize;
    type Error = CertificateError;

    fn claims(&self, committee: &Committee, needed: &usize, claims: &mut Vec<Claim>) -> Result<(), CertificateError> {
        self.claims_of(committee, *needed, claims)
    }
}

#[cfg(test)]
mod tests;
