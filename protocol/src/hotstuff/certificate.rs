//! What q distinct members make together: quorum certificates out of votes, timeout certificates out of TIMEOUTs.
//!
//! ```text
//!   q BlockVote{view, block, parent view}      ─► QuorumCertificate   (certifies a block)
//!   q Timeout{view, high view} + the highest QC ─► TimeoutCertificate (ends a view without one)
//! ```
//!
//! A certificate's view and digests are the ones its signatures cover (rule H2; relab #289): they are written once, and the
//! signed bytes are made from them. Authors are counted by replica id (rule P1). Whoever reads a certificate from the wire
//! has checked nothing; `claims_of` lists what must hold.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use quorate_crypto::digest::Hasher;
use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{
    Certificate, CertificateError, Claim, Committee, Digest, Domain, Endorsement, Epoch, Incarnation, ReplicaId,
    Signature, Signed, Statement, StatementBody, Verify, View,
};

use crate::hotstuff::block::genesis_digest;

/// What a vote says: the block, its view, and the view of the certificate that the block rests on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub struct Vote {
    /// View of the block.
    pub view: View,
    /// The block.
    pub block: Digest,
    /// View of the block's justifying certificate; below `view`.
    pub parent_view: View,
}

impl Vote {
    /// What a statement votes for, if it is a vote.
    pub const fn of(body: &StatementBody) -> Option<Vote> {
        match body {
            StatementBody::BlockVote { view, block, parent_view } => {
                Some(Vote { view: *view, block: *block, parent_view: *parent_view })
            }
            _ => None,
        }
    }

    /// What is signed.
    pub const fn body(self) -> StatementBody {
        StatementBody::BlockVote { view: self.view, block: self.block, parent_view: self.parent_view }
    }

    /// No block has view 0 but the first, which nobody votes for, and none rests on a certificate of its own view or a
    /// later one.
    pub const fn is_well_formed(self) -> bool {
        self.parent_view.0 < self.view.0
    }
}

/// q votes for one block.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct VoteCertificate {
    /// Configuration epoch of every vote.
    pub epoch: Epoch,
    /// What all of them say.
    pub vote: Vote,
    /// Who said it; strictly ascending by id.
    pub endorsements: Vec<Endorsement>,
}

/// A quorum certificate (QC).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum QuorumCertificate {
    /// Certifies the genesis block, and nothing else, in view 0. Nobody signs it.
    Genesis,
    /// Certifies the block its votes name.
    Votes(VoteCertificate),
}

impl QuorumCertificate {
    /// View of the certified block.
    pub const fn view(&self) -> View {
        match self {
            QuorumCertificate::Genesis => View(0),
            QuorumCertificate::Votes(votes) => votes.vote.view,
        }
    }

    /// The certified block.
    pub fn block(&self) -> Digest {
        match self {
            QuorumCertificate::Genesis => genesis_digest(),
            QuorumCertificate::Votes(votes) => votes.vote.block,
        }
    }

    /// The votes' common content; none of the genesis.
    pub const fn vote(&self) -> Option<Vote> {
        match self {
            QuorumCertificate::Genesis => None,
            QuorumCertificate::Votes(votes) => Some(votes.vote),
        }
    }

    /// The vote of `author` as it was signed, if it is among them.
    pub fn vote_by(&self, author: ReplicaId) -> Option<Signed> {
        self.statements().into_iter().find(|signed| signed.signer() == author)
    }

    /// How many signed it.
    pub const fn signers(&self) -> usize {
        match self {
            QuorumCertificate::Genesis => 0,
            QuorumCertificate::Votes(votes) => votes.endorsements.len(),
        }
    }

    /// The single votes.
    pub fn statements(&self) -> Vec<Signed> {
        match self {
            QuorumCertificate::Genesis => Vec::new(),
            QuorumCertificate::Votes(votes) => votes.certificate().statements().collect(),
        }
    }

    /// A digest over every field, signatures included (rule H7). One block may be certified by several sets of votes.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::QuorumCertificate);
        match self {
            QuorumCertificate::Genesis => hasher.part(&[0]),
            QuorumCertificate::Votes(VoteCertificate { epoch, vote, endorsements }) => {
                hasher.part(&[1]);
                hasher.part(&epoch.0.to_be_bytes());
                hasher.part(&vote.view.0.to_be_bytes());
                hasher.part(&vote.parent_view.0.to_be_bytes());
                hasher.part(vote.block.as_bytes());
                for endorsement in endorsements {
                    hasher.part(&endorsement.signer.0.to_be_bytes());
                    hasher.part(&endorsement.incarnation.0.to_be_bytes());
                    hasher.part(&endorsement.signature.0);
                }
            }
        }
        hasher.finish()
    }

    /// Checks everything but the signatures, which it appends to `claims`.
    pub fn claims_of(&self, committee: &Committee, claims: &mut Vec<Claim>) -> Result<(), CertificateError> {
        let QuorumCertificate::Votes(votes) = self else { return Ok(()) };
        if !votes.vote.is_well_formed() {
            return Err(CertificateError::WrongBody);
        }
        if alive(Mutant::CertificateFieldsUnsigned) {
            return quorate_crypto::certificate::distinct_members(&votes.certificate(), committee);
        }
        votes.certificate().claims_of(committee, committee.quorum(), claims)
    }
}

impl Verify for QuorumCertificate {
    type Context = ();
    type Error = CertificateError;

    fn claims(&self, committee: &Committee, (): &(), claims: &mut Vec<Claim>) -> Result<(), CertificateError> {
        self.claims_of(committee, claims)
    }
}

impl VoteCertificate {
    fn certificate(&self) -> Certificate {
        Certificate { epoch: self.epoch, body: self.vote.body(), endorsements: self.endorsements.clone() }
    }
}

/// One author's TIMEOUT inside a timeout certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct TimeoutEndorsement {
    /// The author.
    pub signer: ReplicaId,
    /// The author's incarnation, which is part of the signed bytes.
    pub incarnation: Incarnation,
    /// View of the highest QC the author held.
    pub high_view: View,
    /// The signature over `StatementBody::Timeout`.
    pub signature: Signature,
}

/// A timeout certificate (TC): q distinct members gave up on one view. It carries a QC of the highest view they name, without
/// which it is invalid: whoever enters the next view by it can build on that QC.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct TimeoutCertificate {
    /// Configuration epoch of every TIMEOUT.
    pub epoch: Epoch,
    /// The view given up.
    pub view: View,
    /// Who gave it up; strictly ascending by id.
    pub timeouts: Vec<TimeoutEndorsement>,
    /// A QC of the highest view among them.
    pub high_qc: QuorumCertificate,
}

impl TimeoutCertificate {
    /// Collects TIMEOUTs of one view and epoch, with the QC that each came with. `None` if they differ in either, or if there
    /// is none. A second one of an author is left out.
    pub fn collect<'a>(
        timeouts: impl IntoIterator<Item = (&'a Signed, &'a QuorumCertificate)>,
    ) -> Option<TimeoutCertificate> {
        let mut by_author = BTreeMap::new();
        let mut common: Option<(Epoch, View)> = None;
        let mut highest: Option<&QuorumCertificate> = None;
        for (signed, certificate) in timeouts {
            let StatementBody::Timeout { view, high_view } = *signed.body() else { return None };
            let key = (signed.statement.epoch, view);
            if *common.get_or_insert(key) != key || certificate.view() != high_view {
                return None;
            }
            by_author.entry(signed.signer()).or_insert(TimeoutEndorsement {
                signer: signed.signer(),
                incarnation: signed.statement.incarnation,
                high_view,
                signature: signed.signature,
            });
            if highest.is_none_or(|highest| highest.view() < high_view) {
                highest = Some(certificate);
            }
        }
        let (epoch, view) = common?;
        let timeouts = by_author.into_values().collect();
        Some(TimeoutCertificate { epoch, view, timeouts, high_qc: highest?.clone() })
    }

    /// The highest view of a QC that its TIMEOUTs name.
    pub fn highest_named(&self) -> View {
        self.timeouts.iter().map(|timeout| timeout.high_view).max().unwrap_or(View(0))
    }

    /// The single statements.
    pub fn statements(&self) -> impl Iterator<Item = Signed> + '_ {
        self.timeouts.iter().map(|timeout| Signed {
            statement: Statement {
                epoch: self.epoch,
                signer: timeout.signer,
                incarnation: timeout.incarnation,
                body: StatementBody::Timeout { view: self.view, high_view: timeout.high_view },
            },
            signature: timeout.signature,
        })
    }

    /// A digest over every field, signatures included (rule H7).
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::QuorumCertificate);
        hasher.part(&[2]);
        hasher.part(&self.epoch.0.to_be_bytes());
        hasher.part(&self.view.0.to_be_bytes());
        hasher.part(self.high_qc.digest().as_bytes());
        for timeout in &self.timeouts {
            hasher.part(&timeout.signer.0.to_be_bytes());
            hasher.part(&timeout.incarnation.0.to_be_bytes());
            hasher.part(&timeout.high_view.0.to_be_bytes());
            hasher.part(&timeout.signature.0);
        }
        hasher.finish()
    }

    /// Checks everything but the signatures, which it appends to `claims`.
    pub fn claims_of(&self, committee: &Committee, claims: &mut Vec<Claim>) -> Result<(), CertificateError> {
        if self.epoch != committee.epoch() {
            return Err(CertificateError::WrongEpoch(self.epoch));
        }
        let mut last: Option<ReplicaId> = None;
        for timeout in &self.timeouts {
            if !committee.contains(timeout.signer) {
                return Err(CertificateError::NotAMember(timeout.signer));
            }
            if last.is_some_and(|last| last >= timeout.signer) && !alive(Mutant::SameSignerTwice) {
                return Err(CertificateError::NotDistinct(timeout.signer));
            }
            last = Some(timeout.signer);
        }
        if self.timeouts.len() < committee.quorum() {
            return Err(CertificateError::TooFew { found: self.timeouts.len(), needed: committee.quorum() });
        }
        // Without the QC that the highest of them speaks of, nobody who enters by it could build on that.
        let carries_highest = self.high_qc.view() == self.highest_named() || alive(Mutant::TimeoutsWithoutCertificate);
        if !carries_highest || self.highest_named() >= self.view {
            return Err(CertificateError::WrongBody);
        }
        self.high_qc.claims_of(committee, claims)?;
        for signed in self.statements() {
            signed.claims(committee, &(), claims).map_err(|_| CertificateError::WrongEpoch(self.epoch))?;
        }
        Ok(())
    }
}

impl Verify for TimeoutCertificate {
    type Context = ();
    type Error = CertificateError;

    fn claims(&self, committee: &Committee, (): &(), claims: &mut Vec<Claim>) -> Result<(), CertificateError> {
        self.claims_of(committee, claims)
    }
}

/// What became of a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collected {
    /// It is the first of its author in its view.
    New,
    /// It was there, or is of a view that is over or far off.
    Nothing,
    /// Its author voted for another block, or differently for the same one: this is the earlier vote.
    Contradicts(Signed),
}

/// Votes a leader collects: one of each author in each of three views, the present one, the one before and the one after
/// (rule P9).
#[derive(Debug, Default)]
pub struct VoteCollector {
    votes: BTreeMap<View, BTreeMap<ReplicaId, Signed>>,
}

impl VoteCollector {
    /// Adds a verified vote. The first of each author in a view counts.
    pub fn add(&mut self, signed: Signed, present: View) -> Collected {
        let Some(vote) = Vote::of(signed.body()) else { return Collected::Nothing };
        let kept = vote.view.0.saturating_add(1) >= present.0 && vote.view <= present.next();
        if !kept {
            return Collected::Nothing;
        }
        self.votes = self.votes.split_off(&View(present.0.saturating_sub(1)));
        match self.votes.entry(vote.view).or_default().entry(signed.signer()) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(signed);
                Collected::New
            }
            std::collections::btree_map::Entry::Occupied(held) if held.get().body() == signed.body() => {
                Collected::Nothing
            }
            std::collections::btree_map::Entry::Occupied(held) => Collected::Contradicts(*held.get()),
        }
    }

    /// A certificate for a block of `view`, once q votes for one are there. `holds` says whether signatures verify. Votes come
    /// verified; should one not hold all the same it is thrown out, and never stops the certificate of q good ones (rule H3;
    /// relab #227).
    pub fn certificate(
        &mut self,
        view: View,
        committee: &Committee,
        holds: impl Fn(&[Claim]) -> bool,
    ) -> Option<QuorumCertificate> {
        let votes = self.votes.get_mut(&view)?;
        let mut by_vote: BTreeMap<Vote, usize> = BTreeMap::new();
        for vote in votes.values().filter_map(|signed| Vote::of(signed.body())) {
            *by_vote.entry(vote).or_default() += 1;
        }
        let (winner, _) = by_vote.into_iter().find(|(_, count)| *count >= committee.quorum())?;
        let certificate = collect(votes, winner, committee)?;
        let mut claims = Vec::new();
        if certificate.claims_of(committee, &mut claims).is_ok() && holds(&claims) {
            return Some(certificate);
        }
        if alive(Mutant::BadVoteSpoils) {
            return None;
        }
        votes.retain(|_, signed| {
            let mut claims = Vec::new();
            signed.claims(committee, &(), &mut claims).is_ok() && holds(&claims)
        });
        collect(votes, winner, committee)
    }

    /// How many voted in `view`.
    pub fn count(&self, view: View) -> usize {
        self.votes.get(&view).map_or(0, BTreeMap::len)
    }

    /// Whether `author` voted in `view`.
    pub fn holds(&self, view: View, author: ReplicaId) -> bool {
        self.votes.get(&view).is_some_and(|votes| votes.contains_key(&author))
    }

    /// The newest vote of `author` that is held.
    pub fn newest_of(&self, author: ReplicaId) -> Option<&Signed> {
        self.votes.values().rev().find_map(|votes| votes.get(&author))
    }
}

fn collect(votes: &BTreeMap<ReplicaId, Signed>, winner: Vote, committee: &Committee) -> Option<QuorumCertificate> {
    let matching = votes.values().filter(|signed| *signed.body() == winner.body());
    let Certificate { epoch, endorsements, .. } = Certificate::collect(matching)?;
    let enough = endorsements.len() >= committee.quorum();
    enough.then_some(QuorumCertificate::Votes(VoteCertificate { epoch, vote: winner, endorsements }))
}

#[cfg(test)]
mod tests;
