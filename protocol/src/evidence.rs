//! Signed contradictions. Evidence convicts exactly its author and can be checked offline by anyone with the genesis file.
//!
//! What convicts (protocol.md, Evidence): two statements of one author that an honest replica never signs both of, or one
//! that is wrong by itself. Bad signatures convict nobody.

use bincode::{Decode, Encode};
use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{
    Claim, Committee, Digest, Incarnation, ReplicaId, Seq, Signed, StatementBody, Verifier, Verify, View,
};
use thiserror::Error;

use crate::hotstuff::message::BlockProposal;
use crate::message::{MessageError, PrePrepare};
use crate::pbft::safety::{self, NewViewError};
use crate::pbft::view_change_message::{NewView, ViewChange};
use crate::request::{Request, RequestError};

/// Most encoded bytes of one piece of evidence: 8 MiB (a NEW-VIEW with the VIEW-CHANGEs it rests on).
pub const EVIDENCE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A proof of misbehaviour.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Evidence {
    /// Two statements of one author that contradict each other.
    Contradiction(Signed, Signed),
    /// A COMMIT, and a VIEW-CHANGE to a later view of the same incarnation, or a later one, that hides what it committed to.
    HiddenCommit(Signed, ViewChange),
    /// A PRE-PREPARE that differs from what the author's own NEW-VIEW carries at that number.
    AgainstOwnNewView(Signed, NewView),
    /// A NEW-VIEW that is not what its own VIEW-CHANGEs compute.
    WrongNewView(NewView, Vec<ViewChange>),
    /// A proposal that names a request whose client signature does not hold.
    InvalidRequest(PrePrepare, Box<Request>),
    /// A HotStuff block that names a request whose client signature does not hold.
    InvalidBlockRequest(Box<BlockProposal>, Box<Request>),
}

/// What a piece of evidence proves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Conviction {
    /// Who is guilty.
    pub accused: ReplicaId,
    /// Of what, in the words of `evidence --json`.
    pub kind: &'static str,
    /// The view, if the offence has one.
    pub view: Option<View>,
    /// The sequence number, if it has one.
    pub seq: Option<Seq>,
}

/// Why evidence convicts nobody.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvidenceError {
    /// Its parts are not by one author of one epoch.
    #[error("the statements are not by one author in one epoch")]
    DifferentAuthors,
    /// Its parts do not contradict each other.
    #[error("the statements do not contradict each other")]
    NoContradiction,
    /// A part does not verify.
    #[error("a part of the evidence does not verify: {0}")]
    Message(#[from] MessageError),
}

/// Whether two statements of one author convict it: one place with two contents, or a vote and a TIMEOUT that hides what the
/// vote rested on.
pub fn contradict(first: &Signed, second: &Signed) -> Option<&'static str> {
    if hides_certificate(first, second) || hides_certificate(second, first) {
        return Some("hidden-certificate");
    }
    let (first, second) = (&first.statement, &second.statement);
    if first.signer != second.signer || first.epoch != second.epoch {
        return None;
    }
    let one_life = first.incarnation == second.incarnation || alive(Mutant::LivesMixedUp);
    match (&first.body, &second.body) {
        (StatementBody::PrePrepare(a), StatementBody::PrePrepare(b)) => {
            (a.view == b.view && a.seq == b.seq && a.digest != b.digest).then_some("two-pre-prepares")
        }
        (StatementBody::Prepare(a), StatementBody::Prepare(b)) => {
            (a.view == b.view && a.seq == b.seq && a.digest != b.digest).then_some("two-prepares")
        }
        (StatementBody::Commit(a), StatementBody::Commit(b)) => {
            (a.view == b.view && a.seq == b.seq && a.digest != b.digest).then_some("two-commits")
        }
        (StatementBody::Checkpoint { seq: a, digest: x }, StatementBody::Checkpoint { seq: b, digest: y }) => {
            (a == b && x != y).then_some("two-checkpoints")
        }
        (StatementBody::Executed { seq: a, results: x }, StatementBody::Executed { seq: b, results: y }) => {
            (a == b && x != y).then_some("two-results")
        }
        (StatementBody::ViewChange { view: a, body: x }, StatementBody::ViewChange { view: b, body: y }) => {
            (one_life && a == b && x != y).then_some("two-view-changes")
        }
        (StatementBody::NewView { view: a, body: x }, StatementBody::NewView { view: b, body: y }) => {
            (one_life && a == b && x != y).then_some("two-new-views")
        }
        (StatementBody::Proposal { view: a, block: x }, StatementBody::Proposal { view: b, block: y }) => {
            (a == b && x != y).then_some("two-proposals")
        }
        (StatementBody::BlockVote { view: a, .. }, StatementBody::BlockVote { view: b, .. }) => {
            (a == b && first.body != second.body).then_some("two-block-votes")
        }
        (StatementBody::Timeout { view: a, .. }, StatementBody::Timeout { view: b, .. }) => {
            (a == b && first.body != second.body).then_some("two-timeouts")
        }
        _ => None,
    }
}

/// Whether `view_change` hides what `commit` promised: same author, the same incarnation or a later one, a later view, a low
/// watermark below the number, and no proof for it of the COMMIT's view or a later one (the rule whose breach let two honest
/// besu nodes decide differently, besu #1734; here only a liar breaks it). A later incarnation does not remember the COMMIT,
/// but its low watermark is above everything that an earlier one signed about (protocol.md, Rejoin).
pub fn hides_commit(commit: &Signed, view_change: &ViewChange) -> bool {
    let author = &view_change.signed.statement;
    let StatementBody::Commit(ballot) = commit.statement.body else { return false };
    commit.statement.signer == author.signer
        && commit.statement.epoch == author.epoch
        && commit.statement.incarnation <= author.incarnation
        && view_change.view() > ballot.view
        && view_change.body().stable_seq() < ballot.seq
        && !view_change
            .body()
            .slots
            .iter()
            .any(|proof| proof.ballot().seq == ballot.seq && proof.ballot().view >= ballot.view)
}

/// Whether a TIMEOUT hides what its author's vote rested on: the vote's view or a later one, in the same life or a later one,
/// and a lower certificate. Whoever votes keeps the certificate of what it votes for, names no lower one ever after (Jolteon,
/// figure 2), and votes in no view that it gave up, so the vote came first. A new life begins with a certificate of a view
/// that no earlier one voted in (protocol.md, Rejoin). It is HotStuff's counterpart of [`hides_commit`].
pub fn hides_certificate(vote: &Signed, timeout: &Signed) -> bool {
    let (vote, timeout) = (&vote.statement, &timeout.statement);
    let StatementBody::BlockVote { view: voted, parent_view, .. } = vote.body else { return false };
    let StatementBody::Timeout { view, high_view } = timeout.body else { return false };
    vote.signer == timeout.signer
        && vote.epoch == timeout.epoch
        && vote.incarnation <= timeout.incarnation
        && view >= voted
        && high_view < parent_view
}

/// Whether a PRE-PREPARE differs from what its author's NEW-VIEW of that view and incarnation carries at its number.
pub fn against_own_new_view(pre_prepare: &Signed, new_view: &NewView) -> bool {
    let author = &new_view.signed.statement;
    let StatementBody::PrePrepare(ballot) = pre_prepare.statement.body else { return false };
    pre_prepare.statement.signer == author.signer
        && pre_prepare.statement.epoch == author.epoch
        && pre_prepare.statement.incarnation == author.incarnation
        && new_view.view() == ballot.view
        && new_view
            .body()
            .reproposals
            .iter()
            .any(|reproposal| reproposal.seq == ballot.seq && reproposal.digest != ballot.digest)
}

fn place(signed: &Signed) -> (Option<View>, Option<Seq>) {
    match signed.statement.body {
        StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) => {
            (Some(ballot.view), Some(ballot.seq))
        }
        StatementBody::ViewChange { view, .. }
        | StatementBody::NewView { view, .. }
        | StatementBody::Proposal { view, .. }
        | StatementBody::BlockVote { view, .. }
        | StatementBody::Timeout { view, .. } => (Some(view), None),
        StatementBody::Checkpoint { seq, .. } | StatementBody::Executed { seq, .. } => (None, Some(seq)),
        StatementBody::Rejoin { .. } => (None, None),
    }
}

impl Evidence {
    /// What the evidence says, before its signatures are checked.
    fn alleged(&self, committee: &Committee, window: u64) -> Result<Conviction, EvidenceError> {
        let convict = |signed: &Signed, kind: &'static str| {
            let (view, seq) = place(signed);
            Ok(Conviction { accused: signed.signer(), kind, view, seq })
        };
        match self {
            Evidence::Contradiction(first, second) => {
                if first.signer() != second.signer() || first.statement.epoch != second.statement.epoch {
                    return Err(EvidenceError::DifferentAuthors);
                }
                convict(first, contradict(first, second).ok_or(EvidenceError::NoContradiction)?)
            }
            Evidence::HiddenCommit(commit, view_change) if hides_commit(commit, view_change) => {
                convict(commit, "hidden-commit")
            }
            Evidence::AgainstOwnNewView(pre_prepare, new_view) if against_own_new_view(pre_prepare, new_view) => {
                convict(pre_prepare, "against-own-new-view")
            }
            Evidence::WrongNewView(new_view, view_changes) => {
                match safety::new_view_holds(new_view, view_changes, committee, window) {
                    Err(NewViewError::WrongChoice) => convict(&new_view.signed, "wrong-new-view"),
                    _ => Err(EvidenceError::NoContradiction),
                }
            }
            Evidence::InvalidRequest(pre_prepare, request)
                if pre_prepare.proposal.requests().contains(&request.digest()) =>
            {
                convict(&pre_prepare.signed, "invalid-request")
            }
            Evidence::InvalidBlockRequest(proposal, request)
                if proposal.block.proposal.requests().contains(&request.digest()) =>
            {
                convict(&proposal.signed, "invalid-request")
            }
            Evidence::HiddenCommit(..)
            | Evidence::AgainstOwnNewView(..)
            | Evidence::InvalidRequest(..)
            | Evidence::InvalidBlockRequest(..) => Err(EvidenceError::NoContradiction),
        }
    }

    fn claims(&self, committee: &Committee, window: u64, claims: &mut Vec<Claim>) -> Result<(), MessageError> {
        match self {
            Evidence::Contradiction(first, second) => {
                first.claims(committee, &(), claims)?;
                second.claims(committee, &(), claims)?;
            }
            Evidence::HiddenCommit(commit, view_change) => {
                commit.claims(committee, &(), claims)?;
                // The author's own signature convicts; the proofs inside need not hold.
                view_change.signed.claims(committee, &(), claims)?;
                if view_change.signed.statement.body
                    != (StatementBody::ViewChange { view: view_change.view(), body: view_change.digest() })
                {
                    return Err(MessageError::WrongStatement);
                }
            }
            Evidence::AgainstOwnNewView(pre_prepare, new_view) => {
                pre_prepare.claims(committee, &(), claims)?;
                new_view.claims(committee, &window, claims)?;
            }
            Evidence::WrongNewView(new_view, view_changes) => {
                new_view.claims(committee, &window, claims)?;
                for view_change in view_changes {
                    view_change.claims(committee, &window, claims)?;
                }
            }
            Evidence::InvalidRequest(pre_prepare, _) => {
                let digest = pre_prepare.proposal.digest();
                let names_it =
                    matches!(pre_prepare.signed.body(), StatementBody::PrePrepare(ballot) if ballot.digest == digest);
                if !names_it {
                    return Err(MessageError::WrongProposal);
                }
                pre_prepare.signed.claims(committee, &(), claims)?;
            }
            Evidence::InvalidBlockRequest(proposal, _) => {
                // The author's own signature convicts; the certificates inside need not hold.
                proposal.check_form(committee)?;
                proposal.signed.claims(committee, &(), claims)?;
            }
        }
        Ok(())
    }

    /// Checks the evidence from nothing but the committee and the window: who it convicts, of what.
    pub fn verify(&self, committee: &Committee, window: u64, verifier: &Verifier) -> Result<Conviction, EvidenceError> {
        let conviction = self.alleged(committee, window)?;
        let mut claims = Vec::new();
        self.claims(committee, window, &mut claims)?;
        if !verifier.check(&claims) {
            return Err(EvidenceError::Message(quorate_crypto::verified::BadSignature.into()));
        }
        if let Evidence::InvalidRequest(_, request) | Evidence::InvalidBlockRequest(_, request) = self {
            let mut claims = Vec::new();
            let shape: Result<(), RequestError> = request.claims(committee, &(), &mut claims);
            if shape.is_ok() && verifier.check(&claims) {
                return Err(EvidenceError::NoContradiction);
            }
        }
        Ok(conviction)
    }

    /// The statements that convict, one or two of one author.
    fn statements(&self) -> (&Signed, Option<&Signed>) {
        match self {
            Evidence::Contradiction(first, second) => (first, Some(second)),
            Evidence::HiddenCommit(commit, view_change) => (commit, Some(&view_change.signed)),
            Evidence::AgainstOwnNewView(pre_prepare, new_view) => (pre_prepare, Some(&new_view.signed)),
            Evidence::WrongNewView(new_view, _) => (&new_view.signed, None),
            Evidence::InvalidRequest(pre_prepare, _) => (&pre_prepare.signed, None),
            Evidence::InvalidBlockRequest(proposal, _) => (&proposal.signed, None),
        }
    }

    /// Whose offence it is, if it is one.
    pub fn author(&self) -> ReplicaId {
        self.statements().0.signer()
    }

    /// The author's life in which the offence was complete.
    pub fn life(&self) -> Incarnation {
        let (first, second) = self.statements();
        let second = second.map(|signed| signed.statement.incarnation);
        second.map_or(first.statement.incarnation, |second| second.max(first.statement.incarnation))
    }

    /// A digest that names the offence, so that it is kept once however often it is seen.
    pub fn offence(&self) -> Digest {
        let part = |signed: &Signed| {
            let (view, seq) = place(signed);
            (signed.signer().0, view.map_or(0, |view| view.0), seq.map_or(0, |seq| seq.0), signed.body().kind() as u8)
        };
        let (label, (signer, view, seq, kind)) = match self {
            // Its vote names it, whichever of the two came first, and names two votes otherwise.
            Evidence::Contradiction(first, second) if hides_certificate(first, second) => (6u8, part(first)),
            Evidence::Contradiction(first, second) if hides_certificate(second, first) => (6, part(second)),
            Evidence::Contradiction(first, _) => (0, part(first)),
            Evidence::HiddenCommit(commit, _) => (1, part(commit)),
            Evidence::AgainstOwnNewView(pre_prepare, _) => (2, part(pre_prepare)),
            Evidence::WrongNewView(new_view, _) => (3, part(&new_view.signed)),
            Evidence::InvalidRequest(pre_prepare, _) => (4, part(&pre_prepare.signed)),
            Evidence::InvalidBlockRequest(proposal, _) => (5, part(&proposal.signed)),
        };
        Digest::of(
            quorate_crypto::Domain::Fingerprint,
            &[&[label, kind], &signer.to_be_bytes(), &view.to_be_bytes(), &seq.to_be_bytes()],
        )
    }
}

#[cfg(test)]
mod tests;
