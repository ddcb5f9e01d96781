//! Blocks: what a leader proposes, and what is certified, chained and committed.
//!
//! A block's digest covers every field of it, the certificates it rests on and all their signatures included (rule H7): who
//! fetches a block by the digest that a certificate names gets exactly what the voters judged, and need not judge it again.
//!
//! ```text
//!   digest = H(block; view u64 | parent 32 B | seq u64 | d 32 B | digest of the QC | digest of the TC, or nothing
//!              | author u16 | per replica with a failure: id u16, failures u32, out until u64)
//! ```
//!
//! Every part stands behind its length; numbers are big-endian. d = H(time, payload kind, payload digest) as in PBFT.
//!
//! Beside the fields of the paper a block has `seq`, since batches are numbered and null blocks take no number, and
//! `standing`, from which the leaders of later views follow ([`crate::hotstuff::leaders`]): it could be computed from the
//! whole chain, but who fetched a state instead of the chain has no whole chain.

use std::ops::Deref;
use std::sync::OnceLock;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use quorate_crypto::digest::Hasher;
use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{CertificateError, Claim, Committee, Digest, Domain, ReplicaId, Seq, View};
use thiserror::Error;

use crate::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate};
use crate::hotstuff::leaders::{Counted, Standing};
use crate::hotstuff::safety;
use crate::proposal::{Payload, Proposal};

/// Most requests in one block: as many as a genesis file may allow (`batch_requests_max`). What this cluster allows is judged
/// before the vote.
pub const REQUESTS_MAX: usize = 65_536;

/// The fields of a block.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct BlockContent {
    /// The view it is proposed in.
    pub view: View,
    /// The block it extends: the one that `justify` certifies.
    pub parent: Digest,
    /// The number of its batch; that of its parent if it is a null block.
    pub seq: Seq,
    /// What is ordered. A null block orders nothing: it only carries a certificate that commits blocks before it.
    pub proposal: Proposal,
    /// The certificate of its parent.
    pub justify: QuorumCertificate,
    /// How the view before ended, if not with `justify`.
    pub timeout: Option<TimeoutCertificate>,
    /// The leader of its view.
    pub author: ReplicaId,
    /// Which leaders have failed, as this block's chain tells.
    pub standing: Standing,
}

/// A block. Its digest is computed when it is made or decoded, so it always fits the content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    content: BlockContent,
    digest: Digest,
}

/// Why a block is refused, whatever is known of its parent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlockError {
    /// Only the genesis block has view 0.
    #[error("only the genesis block has view 0")]
    ViewZero,
    /// Its parent is not the block that its certificate names.
    #[error("the parent is not the block that the certificate names")]
    WrongParent,
    /// Its view follows neither from its certificate nor from its timeout certificate.
    #[error("view {0} follows from neither certificate of the block")]
    NotJustified(View),
    /// A timeout certificate beside a quorum certificate of the view before: such a block would have two forms.
    #[error("a timeout certificate that nothing needs")]
    NeedlessTimeout,
    /// More requests, authors or failures than any block may name.
    #[error("the block names too much")]
    TooLarge,
    /// Its number cannot be that of any block on its parent.
    #[error("number {0} does not fit the block")]
    WrongNumber(Seq),
    /// A certificate inside is invalid.
    #[error("a certificate in the block does not hold: {0}")]
    Certificate(#[from] CertificateError),
}

impl BlockContent {
    fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::Block);
        hasher.part(&self.view.0.to_be_bytes());
        hasher.part(self.parent.as_bytes());
        hasher.part(&self.seq.0.to_be_bytes());
        hasher.part(self.proposal.digest().as_bytes());
        if !alive(Mutant::BlockLacksCertificates) {
            hasher.part(self.justify.digest().as_bytes());
            hasher.part(
                self.timeout.as_ref().map(TimeoutCertificate::digest).as_ref().map_or(&[][..], |digest| &digest.0),
            );
        }
        hasher.part(&self.author.0.to_be_bytes());
        for failure in self.standing.failures() {
            hasher.part(&failure.replica.0.to_be_bytes());
            hasher.part(&failure.count.to_be_bytes());
            hasher.part(&failure.out_until.0.to_be_bytes());
        }
        hasher.finish()
    }
}

impl Block {
    /// Makes a block; its content is not checked.
    pub fn new(content: BlockContent) -> Block {
        let digest = content.digest();
        Block { content, digest }
    }

    /// The block every chain begins with: a constant that needs no certificate.
    pub fn genesis() -> Block {
        Block::new(BlockContent {
            view: View(0),
            parent: Digest::ZERO,
            seq: Seq(0),
            proposal: Proposal::NULL,
            justify: QuorumCertificate::Genesis,
            timeout: None,
            author: ReplicaId(0),
            standing: Standing::default(),
        })
    }

    /// What the leaders of the views after it follow from, if its chain commits that other block.
    pub fn counted(&self, committed: &Block) -> Counted {
        Counted {
            view: self.view,
            parent_view: self.justify.view(),
            standing: self.standing.clone(),
            committed_view: committed.view,
            committed: committed.standing.clone(),
        }
    }

    /// The digest over every field.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The fields.
    pub const fn content(&self) -> &BlockContent {
        &self.content
    }

    /// Whether it orders nothing and takes no number.
    pub fn is_null(&self) -> bool {
        self.content.proposal.payload == Payload::Null
    }

    /// Everything that can be checked without its parent, but the signatures.
    pub fn check_form(&self, committee: &Committee) -> Result<(), BlockError> {
        if self.view == View(0) {
            return Err(BlockError::ViewZero);
        }
        let signed = self.justify.signers().max(self.timeout.as_ref().map_or(0, |timeout| timeout.timeouts.len()));
        let members = signed.max(self.standing.failures().len());
        if self.proposal.requests().len() > REQUESTS_MAX || members > committee.size() {
            return Err(BlockError::TooLarge);
        }
        if self.parent != self.justify.block() {
            return Err(BlockError::WrongParent);
        }
        let least = u64::from(!self.is_null());
        if self.seq.0 < least || (self.justify == QuorumCertificate::Genesis && self.seq.0 != least) {
            return Err(BlockError::WrongNumber(self.seq));
        }
        if self.timeout.is_some() && self.justify.view().next() == self.view {
            return Err(BlockError::NeedlessTimeout);
        }
        if !safety::is_justified(self) {
            return Err(BlockError::NotJustified(self.view));
        }
        Ok(())
    }

    /// [`Block::check_form`], and appends every signature that must hold.
    pub fn claims_of(&self, committee: &Committee, claims: &mut Vec<Claim>) -> Result<(), BlockError> {
        self.check_form(committee)?;
        self.justify.claims_of(committee, claims)?;
        if let Some(timeout) = &self.timeout {
            timeout.claims_of(committee, claims)?;
        }
        Ok(())
    }
}

/// The digest of the genesis block.
pub fn genesis_digest() -> Digest {
    static GENESIS: OnceLock<Digest> = OnceLock::new();
    *GENESIS.get_or_init(|| Block::genesis().digest())
}

impl Deref for Block {
    type Target = BlockContent;

    fn deref(&self) -> &BlockContent {
        &self.content
    }
}

impl Encode for Block {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.content.encode(encoder)
    }
}

impl<Context> Decode<Context> for Block {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Block::new(BlockContent::decode(decoder)?))
    }
}

bincode::impl_borrow_decode!(Block);

#[cfg(test)]
mod tests;
