//! Signed statements: everything a replica can be held to.
//!
//! The signed bytes are laid out by hand, fixed width, big-endian; fields and bytes determine each other, so a statement
//! can travel as its fields and is verified over the one byte string they stand for:
//!
//! ```text
//! offset  0  kind         u8      StatementKind
//!         1  version      u8      STATEMENT_VERSION
//!         2  cluster      32 B    never on the wire: the verifier supplies its own
//!        34  epoch        u64
//!        42  signer       u16
//!        44  incarnation  u32
//!        48  the kind's own fields (see StatementBody)
//! ```
//!
//! No kind is 0x20: TLS 1.3 signs strings that begin with spaces (RFC 8446, section 4.4.3), so no statement is ever a
//! TLS transcript.

use bincode::{Decode, Encode};

use crate::committee::Committee;
use crate::digest::Digest;
use crate::identity::{ClusterId, Epoch, Incarnation, ReplicaId, Seq, View};
use crate::keys::{Signature, Signer};
use crate::verified::{BadSignature, Claim, Verify};

/// Version of the byte layout. Statements of another version do not verify.
pub const STATEMENT_VERSION: u8 = 1;

/// The first byte of every signed statement. Kinds are never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum StatementKind {
    /// PBFT pre-prepare.
    PrePrepare = 1,
    /// PBFT prepare.
    Prepare = 2,
    /// PBFT commit.
    Commit = 3,
    /// PBFT view change.
    ViewChange = 4,
    /// PBFT new view.
    NewView = 5,
    /// Checkpoint.
    Checkpoint = 6,
    /// Results of an executed batch.
    Executed = 7,
    /// A replica without a trusted log asks to rejoin.
    Rejoin = 8,
    /// HotStuff proposal.
    Proposal = 9,
    /// HotStuff vote.
    BlockVote = 10,
    /// HotStuff timeout.
    Timeout = 11,
}

/// Reserved for the binding of a transport key to a consensus key (`quorate-keys`): no statement has it.
pub const BINDING_KIND: u8 = 0x60;

/// First byte of a client request's signed bytes; a kind of its own so that no request is ever a statement.
pub const REQUEST_KIND: u8 = 0x40;

/// View, sequence number and proposal digest: what PRE-PREPARE, PREPARE and COMMIT sign (48 bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct Ballot {
    /// View the vote counts in.
    pub view: View,
    /// Sequence number voted on.
    pub seq: Seq,
    /// d = H(time, payload kind, payload digest). The view is not in it, so it survives view changes.
    pub digest: Digest,
}

/// The kind's own fields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub enum StatementBody {
    /// The primary of `view` assigns `seq` to `digest`.
    PrePrepare(Ballot),
    /// A backup accepted the assignment.
    Prepare(Ballot),
    /// A replica holds a prepared certificate.
    Commit(Ballot),
    /// The signer left every view below `view`; `body` is the digest of the whole message, proofs included.
    ViewChange {
        /// The view asked for.
        view: View,
        /// Digest of the body.
        body: Digest,
    },
    /// The primary of `view` opens it; `body` is the digest of the whole message.
    NewView {
        /// The view opened.
        view: View,
        /// Digest of the body.
        body: Digest,
    },
    /// The state after executing everything up to `seq`.
    Checkpoint {
        /// Sequence number of the checkpoint.
        seq: Seq,
        /// State root.
        digest: Digest,
    },
    /// The results of batch `seq`.
    Executed {
        /// Sequence number of the batch.
        seq: Seq,
        /// Merkle root over the results.
        results: Digest,
    },
    /// The signer has no trusted log and asks to come back in the incarnation of the header.
    Rejoin {
        /// 128 random bits that tell two attempts of one incarnation apart.
        nonce: [u8; 16],
    },
    /// HotStuff: the leader of `view` proposes `block`.
    Proposal {
        /// View of the block.
        view: View,
        /// Digest over every field of the block.
        block: Digest,
    },
    /// HotStuff: a vote, which also signs the view of the parent's certificate.
    BlockVote {
        /// View of the block.
        view: View,
        /// Digest of the block.
        block: Digest,
        /// View of the block's justifying certificate.
        parent_view: View,
    },
    /// HotStuff: the signer gave up on `view`.
    Timeout {
        /// The view given up.
        view: View,
        /// View of the highest QC the signer holds; below `view`.
        high_view: View,
    },
}

impl StatementBody {
    /// The kind byte.
    pub const fn kind(&self) -> StatementKind {
        match self {
            StatementBody::PrePrepare(_) => StatementKind::PrePrepare,
            StatementBody::Prepare(_) => StatementKind::Prepare,
            StatementBody::Commit(_) => StatementKind::Commit,
            StatementBody::ViewChange { .. } => StatementKind::ViewChange,
            StatementBody::NewView { .. } => StatementKind::NewView,
            StatementBody::Checkpoint { .. } => StatementKind::Checkpoint,
            StatementBody::Executed { .. } => StatementKind::Executed,
            StatementBody::Rejoin { .. } => StatementKind::Rejoin,
            StatementBody::Proposal { .. } => StatementKind::Proposal,
            StatementBody::BlockVote { .. } => StatementKind::BlockVote,
            StatementBody::Timeout { .. } => StatementKind::Timeout,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut number = |value: u64| out.extend_from_slice(&value.to_be_bytes());
        match self {
            StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) => {
                number(ballot.view.0);
                number(ballot.seq.0);
                out.extend_from_slice(ballot.digest.as_bytes());
            }
            StatementBody::ViewChange { view, body } | StatementBody::NewView { view, body } => {
                number(view.0);
                out.extend_from_slice(body.as_bytes());
            }
            StatementBody::Checkpoint { seq, digest } | StatementBody::Executed { seq, results: digest } => {
                number(seq.0);
                out.extend_from_slice(digest.as_bytes());
            }
            StatementBody::Rejoin { nonce } => out.extend_from_slice(nonce),
            StatementBody::Proposal { view, block } => {
                number(view.0);
                out.extend_from_slice(block.as_bytes());
            }
            StatementBody::BlockVote { view, block, parent_view } => {
                number(view.0);
                number(parent_view.0);
                out.extend_from_slice(block.as_bytes());
            }
            StatementBody::Timeout { view, high_view } => {
                number(view.0);
                number(high_view.0);
            }
        }
    }
}

/// What is said, by whom, in which epoch and incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct Statement {
    /// Configuration epoch.
    pub epoch: Epoch,
    /// The author; the only one (rule P12).
    pub signer: ReplicaId,
    /// The author's incarnation.
    pub incarnation: Incarnation,
    /// What is said.
    pub body: StatementBody,
}

impl Statement {
    /// The signed bytes, in the layout of the module's documentation.
    pub fn bytes(&self, cluster: ClusterId) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.push(self.body.kind() as u8);
        out.push(STATEMENT_VERSION);
        out.extend_from_slice(cluster.0.as_bytes());
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.signer.0.to_be_bytes());
        out.extend_from_slice(&self.incarnation.0.to_be_bytes());
        self.body.write(&mut out);
        out
    }

    /// Signs the statement.
    pub fn sign(self, cluster: ClusterId, signer: &dyn Signer) -> Signed {
        Signed { signature: signer.sign(&self.bytes(cluster)), statement: self }
    }
}

/// A statement and its author's signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct Signed {
    /// The statement.
    pub statement: Statement,
    /// The author's signature over [`Statement::bytes`].
    pub signature: Signature,
}

/// Why a signed statement is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The author is not a member of the committee.
    #[error("replica {0} is not a member of the committee")]
    NotAMember(ReplicaId),
    /// The statement names another epoch.
    #[error("the statement is of epoch {0}")]
    WrongEpoch(Epoch),
    /// The signature does not verify.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
}

impl Signed {
    /// The author.
    pub const fn signer(&self) -> ReplicaId {
        self.statement.signer
    }

    /// What is said.
    pub const fn body(&self) -> &StatementBody {
        &self.statement.body
    }
}

impl Verify for Signed {
    type Context = ();
    type Error = StatementError;

    fn claims(&self, committee: &Committee, (): &(), claims: &mut Vec<Claim>) -> Result<(), StatementError> {
        if self.statement.epoch != committee.epoch() {
            return Err(StatementError::WrongEpoch(self.statement.epoch));
        }
        let key = *committee.key(self.statement.signer).ok_or(StatementError::NotAMember(self.statement.signer))?;
        claims.push(Claim { key, message: self.statement.bytes(committee.cluster()), signature: self.signature });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
