//! What HotStuff replicas say to each other, beside what all engines share ([`crate::message`]).
//!
//! | message | signed | to | purpose |
//! |---|---|---|---|
//! | [`BlockProposal`] | by the leader, over the block's digest | all | a block |
//! | `BlockVote` | `StatementBody::BlockVote` | the next leader | q of them make a QC |
//! | [`Timeout`] | `StatementBody::Timeout` | all | q of them make a TC |
//! | `QuorumCertificate`, `TimeoutCertificate` | inside | who lacks them | entering a view |
//! | `FetchBlocks`, `Blocks` | no: checked against the digest asked for | one | catching up |
//! | [`HotStuffStatus`] | no: only the link's peer is affected by it | all | recovery from loss |
//!
//! Limits and lengths come first, signatures last (rules X2, X3). A TIMEOUT is refused without the QC whose view it names.
//! The certificates inside `Blocks` are not verified: such a block is taken only if its digest is the one that a verified
//! certificate names, directly or through the blocks above it, and then f + 1 honest voters have verified it.

use bincode::{Decode, Encode};
use quorate_crypto::{Claim, Committee, Digest, Seq, Signed, StatementBody, Verify, View};

use crate::hotstuff::block::{Block, BlockError};
use crate::hotstuff::certificate::{QuorumCertificate, Vote};
use crate::message::{FETCH_MAX, MessageError};

/// Most blocks in one answer.
pub const BLOCKS_MAX: usize = 32;

/// A leader's block of its view.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct BlockProposal {
    /// `StatementBody::Proposal`, by the block's author.
    pub signed: Signed,
    /// The block whose digest the statement names.
    pub block: Block,
}

/// A replica gives up on a view.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Timeout {
    /// `StatementBody::Timeout`.
    pub signed: Signed,
    /// The QC whose view the statement names: the highest its author holds.
    pub high_qc: QuorumCertificate,
}

/// Asks for a block and those below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct FetchBlocks {
    /// The newest block asked for.
    pub block: Digest,
    /// Blocks with this number or a lower one end the answer.
    pub down_to: Seq,
    /// So many at most.
    pub count: u32,
}

/// Where a replica stands and what it lacks.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct HotStuffStatus {
    /// The view it is in.
    pub view: View,
    /// View of its highest QC.
    pub high_qc_view: View,
    /// The block of its highest QC.
    pub high_qc_block: Digest,
    /// View of its highest TC; 0 without one.
    pub high_tc_view: View,
    /// Its certified low watermark.
    pub stable: Seq,
    /// The highest number it committed without a gap.
    pub committed: Seq,
    /// The highest number it executed.
    pub executed: Seq,
    /// Whether it holds a proposal of `view`.
    pub proposed: bool,
    /// Bit i: the vote of member i in `view` is held.
    pub votes: u128,
    /// Bit i: the TIMEOUT of member i in `view` is held.
    pub timeouts: u128,
    /// Bodies of requests that it lacks.
    pub missing_requests: Vec<Digest>,
}

impl BlockProposal {
    /// Structure, then every signature that must hold: the author's, and those in the certificates.
    pub fn claims_of(&self, committee: &Committee, claims: &mut Vec<Claim>) -> Result<(), MessageError> {
        self.check_form(committee)?;
        self.signed.claims(committee, &(), claims)?;
        Ok(self.block.claims_of(committee, claims)?)
    }

    /// Whether the statement is the author's over this block, and the block could be one at all.
    pub fn check_form(&self, committee: &Committee) -> Result<(), MessageError> {
        let named = StatementBody::Proposal { view: self.block.view, block: self.block.digest() };
        if *self.signed.body() != named {
            return Err(MessageError::WrongStatement);
        }
        if self.signed.signer() != self.block.author {
            return Err(MessageError::NotThePrimary { signer: self.signed.signer(), view: self.block.view });
        }
        Ok(self.block.check_form(committee)?)
    }
}

impl Timeout {
    /// The view given up.
    pub const fn view(&self) -> View {
        match self.signed.statement.body {
            StatementBody::Timeout { view, .. } => view,
            _ => View(0),
        }
    }

    /// Structure, then every signature that must hold.
    pub fn claims_of(&self, committee: &Committee, claims: &mut Vec<Claim>) -> Result<(), MessageError> {
        let StatementBody::Timeout { view, high_view } = *self.signed.body() else {
            return Err(MessageError::WrongStatement);
        };
        if high_view >= view || high_view != self.high_qc.view() {
            return Err(MessageError::WrongStatement);
        }
        self.signed.claims(committee, &(), claims)?;
        Ok(self.high_qc.claims_of(committee, claims)?)
    }
}

impl Verify for BlockProposal {
    type Context = ();
    type Error = MessageError;

    fn claims(&self, committee: &Committee, (): &(), claims: &mut Vec<Claim>) -> Result<(), MessageError> {
        self.claims_of(committee, claims)
    }
}

impl Verify for Timeout {
    type Context = ();
    type Error = MessageError;

    fn claims(&self, committee: &Committee, (): &(), claims: &mut Vec<Claim>) -> Result<(), MessageError> {
        self.claims_of(committee, claims)
    }
}

/// What must hold of a vote.
pub fn vote_claims(signed: &Signed, committee: &Committee, claims: &mut Vec<Claim>) -> Result<(), MessageError> {
    if !Vote::of(signed.body()).is_some_and(Vote::is_well_formed) {
        return Err(MessageError::WrongStatement);
    }
    Ok(signed.claims(committee, &(), claims)?)
}

/// Blocks that were asked for: not too many, each the parent of the one before. Nothing of them is verified.
pub fn check_blocks(blocks: &[Block], committee: &Committee) -> Result<(), MessageError> {
    at_most(blocks.len(), BLOCKS_MAX)?;
    blocks.iter().try_for_each(|block| block.check_form(committee))?;
    let is_chain = blocks.windows(2).all(|pair| pair[0].parent == pair[1].digest());
    if is_chain { Ok(()) } else { Err(MessageError::Block(BlockError::WrongParent)) }
}

impl FetchBlocks {
    /// The cap.
    pub fn check(&self) -> Result<(), MessageError> {
        at_most(self.count as usize, BLOCKS_MAX)
    }
}

impl HotStuffStatus {
    /// The cap.
    pub fn check(&self) -> Result<(), MessageError> {
        at_most(self.missing_requests.len(), FETCH_MAX)
    }
}

fn at_most(found: usize, limit: usize) -> Result<(), MessageError> {
    if found > limit { Err(MessageError::TooMany { found, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
