//! Everything replicas say to each other.
//!
//! | message | signed | verified by | purpose |
//! |---|---|---|---|
//! | [`PrePrepare`], [`Prepare`], [`Message::Commit`] | yes | the statement | normal case |
//! | [`ViewChange`], [`NewView`] | over the digest of the whole body | `pbft::safety` | changing the primary |
//! | [`Message::Checkpoint`], [`Message::Executed`] | yes | the statement | checkpoints, receipts |
//! | [`Message::Requests`] | by the clients | one by one, so that a bad one never hides good ones | relaying, bodies |
//! | [`Status`] and fetches | no: only the link's peer is affected by them | limits | recovery from loss |
//! | [`Message::CommitCertificate`], [`Message::StableCheckpoint`] | inside | q distinct signatures | catching up |
//! | HotStuff's | `hotstuff::message` says | `hotstuff::message` | blocks, votes, TIMEOUTs and their certificates |
//! | state transfer | no: checked against the certified state root | `merkle_map` | catching up further |

use bincode::{Decode, Encode};
use quorate_crypto::merkle_map::Chunk;
use quorate_crypto::statement::StatementError;
use quorate_crypto::verified::BadSignature;
use quorate_crypto::{
    Certificate, CertificateError, Claim, Committee, Digest, Incarnation, ReplicaId, Seq, Signature, Signed,
    StatementBody, Verify, View,
};
use thiserror::Error;

use crate::hotstuff::block::{Block, BlockError};
use crate::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate};
use crate::hotstuff::message::{self, BlockProposal, FetchBlocks, HotStuffStatus, Timeout};
use crate::pbft::safety::{NewViewError, ProofError};
use crate::pbft::view_change_message::{NewView, ViewChange};
use crate::proposal::Proposal;
use crate::request::Request;
use crate::state::{StateHeader, TableId};

/// Most digests one fetch may name.
pub const FETCH_MAX: usize = 1024;
/// Most slots one STATUS describes.
pub const STATUS_SLOTS_MAX: usize = 64;
/// Most requests in one [`Message::Requests`] (their bytes are bounded by the frame cap).
pub const REQUESTS_MAX: usize = 4096;

/// The primary's assignment of a sequence number to a proposal.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PrePrepare {
    /// `StatementBody::PrePrepare`, by the primary of its view.
    pub signed: Signed,
    /// The proposal whose digest the statement names.
    pub proposal: Proposal,
}

/// A backup accepted an assignment. It carries the primary's own signature along, looked at only when digests differ:
/// then both halves of an equivocation are in one honest replica's hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Prepare {
    /// `StatementBody::Prepare`.
    pub signed: Signed,
    /// The incarnation under which the primary signed the assignment.
    pub primary_incarnation: Incarnation,
    /// The primary's signature over the PRE-PREPARE of the same ballot. Not verified unless it is needed.
    pub primary_signature: Signature,
}

/// What a replica knows of one undecided sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SlotStatus {
    /// The number.
    pub seq: Seq,
    /// Whether a PRE-PREPARE of the sender's view is held, bodies included.
    pub pre_prepared: bool,
    /// Bit i: the PREPARE of member i is held.
    pub prepares: u128,
    /// Bit i: the COMMIT of member i is held.
    pub commits: u128,
}

/// Where a replica stands and what it lacks.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Status {
    /// The view it is in, or moving to.
    pub view: View,
    /// Whether it has entered that view (holds its NEW-VIEW, or the view is 0).
    pub entered: bool,
    /// Its certified low watermark.
    pub stable: Seq,
    /// The highest number executed.
    pub executed: Seq,
    /// Bit i: while moving, the VIEW-CHANGE of member i for `view` is held.
    pub view_changes: u128,
    /// Numbers above `executed` that are not decided yet, lowest first, and the highest it knows of.
    pub slots: Vec<SlotStatus>,
    /// Numbers above `executed` whose proposal is decided but not held, or whose bodies are missing, are listed here
    /// as request digests.
    pub missing_requests: Vec<Digest>,
    /// Proposals known by digest only.
    pub missing_proposals: Vec<Digest>,
    /// Whether it suspects the primary of its view: finds it slow, or holds evidence against it.
    pub suspects: bool,
}

/// A decided proposal with its proof.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Committed {
    /// q COMMITs of one ballot.
    pub certificate: Certificate,
    /// The proposal the ballot names.
    pub proposal: Proposal,
}

/// A replica-to-replica message.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Message {
    /// PBFT PRE-PREPARE.
    PrePrepare(PrePrepare),
    /// PBFT PREPARE.
    Prepare(Prepare),
    /// PBFT COMMIT.
    Commit(Signed),
    /// PBFT VIEW-CHANGE with full proofs.
    ViewChange(ViewChange),
    /// PBFT NEW-VIEW, naming VIEW-CHANGEs by digest.
    NewView(NewView),
    /// CHECKPOINT.
    Checkpoint(Signed),
    /// EXECUTED: the results root of one batch.
    Executed(Signed),
    /// Client requests, relayed or asked for.
    Requests(Vec<Request>),
    /// Where the sender stands.
    Status(Status),
    /// Asks for request bodies.
    FetchRequests(Vec<Digest>),
    /// Asks for proposals.
    FetchProposals(Vec<Digest>),
    /// Proposals asked for; each is checked against its own digest.
    Proposals(Vec<Proposal>),
    /// Asks for a VIEW-CHANGE that a NEW-VIEW names.
    FetchViewChange {
        /// The view asked for.
        view: View,
        /// Its author.
        author: ReplicaId,
        /// Digest of its body.
        body: Digest,
    },
    /// Decided numbers for a laggard.
    CommitCertificate(Committed),
    /// The certificate of a stable checkpoint.
    StableCheckpoint(Certificate),
    /// Asks for the header of the state at a checkpoint.
    FetchState {
        /// The checkpoint.
        seq: Seq,
    },
    /// The header, checked against the certified state root.
    State {
        /// The header.
        header: StateHeader,
    },
    /// Asks for chunks of one table.
    FetchChunk {
        /// The checkpoint.
        seq: Seq,
        /// The table.
        table: TableId,
        /// Nibble path of the chunk's root.
        path: Vec<u8>,
    },
    /// A chunk, checked against the digest expected at its path (rule P14).
    Chunk {
        /// The checkpoint.
        seq: Seq,
        /// The table.
        table: TableId,
        /// Nibble path of the chunk's root.
        path: Vec<u8>,
        /// The chunk.
        chunk: Chunk,
    },
    /// The server no longer holds that state.
    StateGone {
        /// The checkpoint asked for.
        seq: Seq,
    },
    /// The newest statements the sender holds that the receiver itself signed, handed back on every new link.
    YourStatements(Vec<Signed>),
    /// HotStuff: a leader's block.
    BlockProposal(BlockProposal),
    /// HotStuff: a vote, for the leader of the next view.
    BlockVote(Signed),
    /// HotStuff: the sender gives up on a view.
    Timeout(Timeout),
    /// HotStuff: a block is certified.
    QuorumCertificate(QuorumCertificate),
    /// HotStuff: a view was given up.
    TimeoutCertificate(TimeoutCertificate),
    /// HotStuff: asks for blocks.
    FetchBlocks(FetchBlocks),
    /// HotStuff: blocks asked for, each the parent of the one before; checked against the digest asked for.
    Blocks(Vec<Block>),
    /// HotStuff: where the sender stands.
    HotStuffStatus(HotStuffStatus),
}

/// Why a message is refused. The sender is not thereby convicted; the link may be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The statement does not verify.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The statement is of another kind than its message, or does not fit it.
    #[error("the signed statement does not fit the message that carries it")]
    WrongStatement,
    /// The author is not the primary of the view.
    #[error("{signer} is not the primary of view {view}")]
    NotThePrimary {
        /// The author.
        signer: ReplicaId,
        /// The view.
        view: View,
    },
    /// The proposal's digest is not the one signed.
    #[error("the proposal is not the one signed")]
    WrongProposal,
    /// A list is longer than its cap.
    #[error("a list of {found} where at most {limit} are allowed")]
    TooMany {
        /// Entries found.
        found: usize,
        /// The cap.
        limit: usize,
    },
    /// A certificate does not verify.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A proof inside a VIEW-CHANGE does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A NEW-VIEW does not hold.
    #[error(transparent)]
    NewView(#[from] NewViewError),
    /// A block could not be one.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A signature does not verify.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
}

fn at_most(found: usize, limit: usize) -> Result<(), MessageError> {
    if found > limit { Err(MessageError::TooMany { found, limit }) } else { Ok(()) }
}

/// What the checks need besides the committee.
#[derive(Clone, Debug)]
pub struct MessageLimits {
    /// L; bounds the slots of VIEW-CHANGE and NEW-VIEW.
    pub window: u64,
}

impl Verify for Message {
    type Context = MessageLimits;
    type Error = MessageError;

    fn claims(
        &self,
        committee: &Committee,
        limits: &MessageLimits,
        claims: &mut Vec<Claim>,
    ) -> Result<(), MessageError> {
        match self {
            Message::PrePrepare(message) => message.claims(committee, claims),
            Message::Prepare(message) => {
                let StatementBody::Prepare(ballot) = message.signed.statement.body else {
                    return Err(MessageError::WrongStatement);
                };
                // The primary's PRE-PREPARE stands for its prepare (Castro and Liskov 1999, section 4.2).
                if message.signed.signer() == committee.primary(ballot.view) {
                    return Err(MessageError::WrongStatement);
                }
                Ok(message.signed.claims(committee, &(), claims)?)
            }
            Message::Commit(signed) => {
                statement(signed, committee, claims, |body| matches!(body, StatementBody::Commit(_)))
            }
            Message::Checkpoint(signed) => {
                statement(signed, committee, claims, |body| matches!(body, StatementBody::Checkpoint { .. }))
            }
            Message::Executed(signed) => {
                statement(signed, committee, claims, |body| matches!(body, StatementBody::Executed { .. }))
            }
            Message::ViewChange(message) => message.claims(committee, &limits.window, claims),
            Message::NewView(message) => message.claims(committee, &limits.window, claims),
            Message::Requests(requests) => at_most(requests.len(), REQUESTS_MAX),
            Message::Status(status) => {
                at_most(status.slots.len(), STATUS_SLOTS_MAX)?;
                at_most(status.missing_requests.len(), FETCH_MAX)?;
                at_most(status.missing_proposals.len(), FETCH_MAX)
            }
            Message::FetchRequests(digests) | Message::FetchProposals(digests) => at_most(digests.len(), FETCH_MAX),
            Message::Proposals(proposals) => at_most(proposals.len(), FETCH_MAX),
            Message::CommitCertificate(committed) => committed.claims(committee, claims),
            Message::StableCheckpoint(certificate) => {
                if !matches!(certificate.body, StatementBody::Checkpoint { .. }) {
                    return Err(MessageError::WrongStatement);
                }
                Ok(certificate.claims_of(committee, committee.quorum(), claims)?)
            }
            Message::YourStatements(statements) => {
                at_most(statements.len(), STATUS_SLOTS_MAX)?;
                statements.iter().try_for_each(|signed| Ok(signed.claims(committee, &(), claims)?))
            }
            Message::BlockProposal(proposal) => proposal.claims_of(committee, claims),
            Message::BlockVote(signed) => message::vote_claims(signed, committee, claims),
            Message::Timeout(timeout) => timeout.claims_of(committee, claims),
            Message::QuorumCertificate(certificate) => Ok(certificate.claims_of(committee, claims)?),
            Message::TimeoutCertificate(certificate) => Ok(certificate.claims_of(committee, claims)?),
            Message::FetchBlocks(fetch) => fetch.check(),
            Message::Blocks(blocks) => message::check_blocks(blocks, committee),
            Message::HotStuffStatus(status) => status.check(),
            Message::FetchViewChange { .. }
            | Message::FetchState { .. }
            | Message::State { .. }
            | Message::FetchChunk { .. }
            | Message::Chunk { .. }
            | Message::StateGone { .. } => Ok(()),
        }
    }
}

fn statement(
    signed: &Signed,
    committee: &Committee,
    claims: &mut Vec<Claim>,
    fits: fn(&StatementBody) -> bool,
) -> Result<(), MessageError> {
    if !fits(signed.body()) {
        return Err(MessageError::WrongStatement);
    }
    Ok(signed.claims(committee, &(), claims)?)
}

impl PrePrepare {
    fn claims(&self, committee: &Committee, claims: &mut Vec<Claim>) -> Result<(), MessageError> {
        let StatementBody::PrePrepare(ballot) = self.signed.statement.body else {
            return Err(MessageError::WrongStatement);
        };
        if self.signed.signer() != committee.primary(ballot.view) {
            return Err(MessageError::NotThePrimary { signer: self.signed.signer(), view: ballot.view });
        }
        if self.proposal.digest() != ballot.digest {
            return Err(MessageError::WrongProposal);
        }
        Ok(self.signed.claims(committee, &(), claims)?)
    }
}

impl Committed {
    fn claims(&self, committee: &Committee, claims: &mut Vec<Claim>) -> Result<(), MessageError> {
        let StatementBody::Commit(ballot) = self.certificate.body else {
            return Err(MessageError::WrongStatement);
        };
        if self.proposal.digest() != ballot.digest {
            return Err(MessageError::WrongProposal);
        }
        Ok(self.certificate.claims_of(committee, committee.quorum(), claims)?)
    }
}
