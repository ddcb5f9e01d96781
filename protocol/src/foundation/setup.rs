//! What a replica is given once, and signing with it.

use std::sync::Arc;

use quorate_crypto::{Committee, Incarnation, Protocol, ReplicaId, Signed, Signer, Statement, StatementBody, Verifier};

use crate::foundation::Foundation;
use crate::parameters::Parameters;

/// Everything a replica is given once.
#[derive(Clone)]
pub struct Setup {
    /// What the cluster agrees by.
    pub protocol: Protocol,
    /// Who this replica is.
    pub id: ReplicaId,
    /// The incarnation it begins in: 0. Its log says in which one it goes on.
    pub incarnation: Incarnation,
    /// Fresh random bytes of this process: what the nonces of its Rejoins are made of.
    pub rejoin_seed: [u8; 32],
    /// The members.
    pub committee: Arc<Committee>,
    /// The shared parameters.
    pub parameters: Parameters,
    /// Signs for this replica.
    pub signer: Arc<dyn Signer>,
    /// Checks the few signatures that are looked at only when needed.
    pub verifier: Verifier,
}

impl Foundation {
    /// This replica.
    pub(crate) fn id(&self) -> ReplicaId {
        self.setup.id
    }

    /// The shared parameters.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.setup.parameters
    }

    /// The members.
    pub(crate) fn committee(&self) -> &Committee {
        &self.setup.committee
    }

    /// The other members, ascending.
    pub(crate) fn others(&self) -> impl Iterator<Item = ReplicaId> {
        self.peers.keys().copied()
    }

    /// What every statement of this replica begins with. The body is replaced by whoever signs.
    pub(crate) fn header(&self) -> Statement {
        assert!(!self.is_rejoining(), "a replica without a trusted log signs nothing but Rejoin");
        Statement {
            epoch: self.committee().epoch(),
            signer: self.id(),
            incarnation: self.setup.incarnation,
            body: StatementBody::Rejoin { nonce: [0; 16] },
        }
    }

    /// Signs `body` in this life.
    pub(crate) fn sign(&self, body: StatementBody) -> Signed {
        Statement { body, ..self.header() }.sign(self.committee().cluster(), self.setup.signer.as_ref())
    }
}
