//! PBFT's safety rules as small pure functions, each with its source and a negative test.
//!
//! | function | rule | source |
//! |---|---|---|
//! | [`in_watermarks`] | h < n <= h + L | Castro and Liskov 1999, section 4.2 |
//! | [`may_accept`] | one digest per (view, number), inside the watermarks, only in the view entered | section 4.2 |
//! | [`prepared`] | PRE-PREPARE and q - 1 matching PREPAREs of distinct backups | section 4.2 |
//! | [`committed`] | q matching COMMITs of distinct replicas | section 4.2 |
//! | [`view_change_claims`] | a VIEW-CHANGE proves everything it names | section 4.4 |
//! | [`choose`] | highest view wins, gaps become null requests | section 4.4, rules P3, P4, P6 |
//! | [`new_view_holds`] | q distinct VIEW-CHANGEs, the right primary, recomputed | section 4.4, rule P2 |
//! | [`join_view`] | f + 1 replicas in later views are followed | section 4.5.2 |

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Certificate, CertificateError, Claim, Committee, Digest, Epoch, Incarnation, ReplicaId, Seq, Signed, StatementBody,
    View,
};
use thiserror::Error;

use crate::message::Prepare;
use crate::pbft::view_change_message::{NewView, NewViewBody, SlotProof, ViewChange, ViewChangeBody};
use crate::proposal::Proposal;

/// Why a VIEW-CHANGE is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofError {
    /// View 0 is entered without a view change.
    #[error("nobody changes to view 0")]
    ViewZero,
    /// The stable certificate is not of a checkpoint.
    #[error("the stable certificate is not of a checkpoint")]
    NotACheckpoint,
    /// Numbers repeat, are out of order or outside the watermarks.
    #[error("number {0} is repeated, out of order or outside the watermarks")]
    SlotOutOfPlace(Seq),
    /// A proof is of the view asked for, or a later one.
    #[error("the proof for number {0} is not of an earlier view")]
    ViewTooHigh(Seq),
    /// The PRE-PREPARE is not by its view's primary, or the primary also stands among the backups.
    #[error("the proof for number {0} names the wrong primary")]
    WrongPrimary(Seq),
    /// The certificate inside is invalid.
    #[error("the proof does not hold: {0}")]
    Certificate(#[from] CertificateError),
}

/// Why a NEW-VIEW is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NewViewError {
    /// Its author does not lead the view.
    #[error("{0} does not lead the view it opens")]
    NotThePrimary(ReplicaId),
    /// It rests on fewer than q VIEW-CHANGEs, on one author twice, or on strangers.
    #[error("it does not rest on a quorum of distinct members")]
    NoQuorum,
    /// The numbers carried over are not ascending without gaps or exceed the window.
    #[error("the numbers carried over have gaps or exceed the window")]
    BadRange,
    /// A VIEW-CHANGE it names is not the one at hand.
    #[error("the VIEW-CHANGE of {0} is not the one named")]
    WrongViewChange(ReplicaId),
    /// What it carries over is not what its VIEW-CHANGEs compute.
    #[error("it does not carry over what its VIEW-CHANGEs compute")]
    WrongChoice,
    /// Its author rejoined, and its own VIEW-CHANGE of that life is not among those it rests on.
    #[error("replica {0} rejoined, so its NEW-VIEW must rest on its own VIEW-CHANGE as well")]
    LacksOwnViewChange(ReplicaId),
    /// A proof does not hold.
    #[error(transparent)]
    Proof(ProofError),
}

/// h < n <= h + L.
pub fn in_watermarks(seq: Seq, stable: Seq, window: u64) -> bool {
    seq > stable && (seq <= stable.plus(window) || alive(Mutant::WatermarkIgnored))
}

/// Whether a backup may vote for `digest` at (`view`, `seq`): it is in that view, the number is inside the watermarks,
/// and it has neither accepted another digest there nor seen another digest decided.
pub fn may_accept(
    ballot: &Ballot,
    entered_view: Option<View>,
    stable: Seq,
    window: u64,
    accepted: Option<&Digest>,
    decided: Option<&Digest>,
) -> bool {
    (entered_view == Some(ballot.view) || alive(Mutant::VotesInOtherViews))
        && in_watermarks(ballot.seq, stable, window)
        && (accepted.is_none_or(|digest| *digest == ballot.digest) || alive(Mutant::AcceptsTwice))
        && (decided.is_none_or(|digest| *digest == ballot.digest) || alive(Mutant::AcceptsAgainstDecided))
}

/// The prepared certificate's PREPAREs: those of q - 1 distinct backups that match `ballot`. `None` while there are too
/// few. `prepares` is keyed by verified author, so no author counts twice (rule P1).
pub fn prepared<'a>(
    ballot: &Ballot,
    prepares: &'a BTreeMap<ReplicaId, Prepare>,
    committee: &Committee,
) -> Option<Vec<&'a Prepare>> {
    let primary = committee.primary(ballot.view);
    let matching: Vec<&Prepare> = prepares
        .iter()
        .filter(|(author, prepare)| {
            (**author != primary || alive(Mutant::PrimaryPrepares))
                && prepare.signed.signer() == **author
                && (prepare.signed.statement.body == StatementBody::Prepare(*ballot)
                    || alive(Mutant::PrepareOfAnything))
        })
        .map(|(_, prepare)| prepare)
        .collect();
    let needed = committee.quorum() - 1 - usize::from(alive(Mutant::PreparedTooSoon));
    (matching.len() >= needed).then_some(matching)
}

/// The commit certificate: q COMMITs of distinct authors that match `ballot`.
pub fn committed(ballot: &Ballot, commits: &BTreeMap<ReplicaId, Signed>, committee: &Committee) -> Option<Certificate> {
    let matching: Vec<&Signed> = commits
        .iter()
        .filter(|(author, signed)| {
            signed.signer() == **author
                && (signed.statement.body == StatementBody::Commit(*ballot) || alive(Mutant::CommitOfAnything))
        })
        .map(|(_, signed)| signed)
        .collect();
    if matching.len() < committee.quorum() - usize::from(alive(Mutant::CommittedTooSoon)) {
        return None;
    }
    Certificate::collect(matching)
}

/// Checks a VIEW-CHANGE's body and appends every signature it rests on.
pub fn view_change_claims(
    body: &ViewChangeBody,
    epoch: Epoch,
    committee: &Committee,
    window: u64,
    claims: &mut Vec<Claim>,
) -> Result<(), ProofError> {
    if body.view == View(0) {
        return Err(ProofError::ViewZero);
    }
    if let Some(certificate) = &body.stable {
        if !matches!(certificate.body, StatementBody::Checkpoint { .. }) {
            return Err(ProofError::NotACheckpoint);
        }
        certificate.claims_of(committee, committee.quorum(), claims)?;
    }
    let stable = body.stable_seq();
    let mut last = stable;
    for proof in &body.slots {
        let ballot = proof.ballot();
        if ballot.seq <= last || !in_watermarks(ballot.seq, stable, window) {
            return Err(ProofError::SlotOutOfPlace(ballot.seq));
        }
        last = ballot.seq;
        if ballot.view >= body.view && !alive(Mutant::ProofOfAnyView) {
            return Err(ProofError::ViewTooHigh(ballot.seq));
        }
        slot_proof_claims(proof, epoch, committee, claims)?;
    }
    Ok(())
}

/// Checks one proof: enough distinct authors, the right primary, one ballot.
pub fn slot_proof_claims(
    proof: &SlotProof,
    epoch: Epoch,
    committee: &Committee,
    claims: &mut Vec<Claim>,
) -> Result<(), ProofError> {
    match proof {
        SlotProof::Prepared { ballot, primary, prepares } => {
            let leader = committee.primary(ballot.view);
            let wrong = primary.signer != leader || prepares.iter().any(|endorsement| endorsement.signer == leader);
            if wrong && !alive(Mutant::ProofOfAnyPrimary) {
                return Err(ProofError::WrongPrimary(ballot.seq));
            }
            let pre_prepare =
                Certificate { epoch, body: StatementBody::PrePrepare(*ballot), endorsements: vec![*primary] };
            pre_prepare.claims_of(committee, 1, claims)?;
            let votes = Certificate { epoch, body: StatementBody::Prepare(*ballot), endorsements: prepares.clone() };
            votes.claims_of(committee, committee.quorum() - 1, claims)?;
        }
        SlotProof::Committed { ballot, commits } => {
            let votes = Certificate { epoch, body: StatementBody::Commit(*ballot), endorsements: commits.clone() };
            votes.claims_of(committee, committee.quorum(), claims)?;
        }
    }
    Ok(())
}

/// What a set of VIEW-CHANGEs says the new view must carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The highest stable checkpoint among them, with its certificate. Its certificate makes it usable whoever sent it,
    /// so the computation never depends on who else knows it (rule P6; fabric #1111).
    pub stable: Option<Certificate>,
    /// A digest for every number above it up to the highest proven one.
    pub slots: Vec<(Seq, Digest)>,
}

impl Choice {
    /// The low watermark of the new view.
    pub fn stable_seq(&self) -> Seq {
        match self.stable.as_ref().map(|certificate| certificate.body) {
            Some(StatementBody::Checkpoint { seq, .. }) => seq,
            _ => Seq(0),
        }
    }
}

/// Computes the new view from verified VIEW-CHANGEs (Castro and Liskov 1999, section 4.4): for every number the proof of
/// the highest view wins (rule P3; go-ibft PR #52), a number nobody proved becomes the null request.
pub fn choose<'a>(view_changes: impl IntoIterator<Item = &'a ViewChange>) -> Choice {
    let mut stable: Option<&Certificate> = None;
    let mut stable_seq = Seq(0);
    let mut best: BTreeMap<Seq, (View, Digest)> = BTreeMap::new();
    for view_change in view_changes {
        let body = view_change.body();
        if body.stable_seq() > stable_seq && (stable.is_none() || !alive(Mutant::FirstCheckpointWins)) {
            stable_seq = body.stable_seq();
            stable = body.stable.as_ref();
        }
        for proof in &body.slots {
            let ballot = proof.ballot();
            let candidate = (ballot.view, ballot.digest);
            let entry = best.entry(ballot.seq).or_insert(candidate);
            if candidate.0 > entry.0 && !alive(Mutant::LowestViewWins)
                || candidate.0 < entry.0 && alive(Mutant::LowestViewWins)
            {
                *entry = candidate;
            }
        }
    }
    let null = Proposal::NULL.digest();
    let highest = best.keys().next_back().copied().unwrap_or(stable_seq);
    let slots = (stable_seq.0 + 1..=highest.0)
        .map(|seq| (Seq(seq), best.get(&Seq(seq)).map_or(null, |(_, digest)| *digest)))
        .collect();
    Choice { stable: stable.cloned(), slots }
}

/// What can be checked of a NEW-VIEW without its VIEW-CHANGEs.
pub fn new_view_shape(
    body: &NewViewBody,
    author: ReplicaId,
    committee: &Committee,
    window: u64,
) -> Result<(), NewViewError> {
    if body.view == View(0) || author != committee.primary(body.view) && !alive(Mutant::NewViewOfAnybody) {
        return Err(NewViewError::NotThePrimary(author));
    }
    let distinct: BTreeSet<ReplicaId> =
        body.view_changes.iter().map(|(author, _)| *author).filter(|author| committee.contains(*author)).collect();
    let repeats = distinct.len() != body.view_changes.len() || distinct.len() < committee.quorum();
    if repeats && !alive(Mutant::NewViewSendersRepeat) {
        return Err(NewViewError::NoQuorum);
    }
    let consecutive = body.reproposals.windows(2).all(|pair| pair[0].seq.next() == pair[1].seq);
    if !consecutive || body.reproposals.len() as u64 > window {
        return Err(NewViewError::BadRange);
    }
    Ok(())
}

/// Rule P2: a NEW-VIEW rests on q distinct VIEW-CHANGEs for its view, is by that view's primary, and carries exactly
/// what they compute. `view_changes` are verified. One whose author rejoined contains the author's own VIEW-CHANGE: its low
/// watermark is above everything an earlier life assigned in that view.
pub fn new_view_holds(
    new_view: &NewView,
    view_changes: &[ViewChange],
    committee: &Committee,
    window: u64,
) -> Result<Choice, NewViewError> {
    let body = new_view.body();
    new_view_shape(body, new_view.author(), committee, window)?;
    if view_changes.len() != body.view_changes.len() {
        return Err(NewViewError::NoQuorum);
    }
    for ((author, digest), view_change) in body.view_changes.iter().zip(view_changes) {
        let same =
            view_change.author() == *author && view_change.digest() == *digest && view_change.view() == body.view;
        if !same {
            return Err(NewViewError::WrongViewChange(*author));
        }
    }
    let author = &new_view.signed.statement;
    let is_own = |message: &ViewChange| {
        message.author() == author.signer && message.signed.statement.incarnation == author.incarnation
    };
    if author.incarnation > Incarnation(0) && !view_changes.iter().any(is_own) {
        return Err(NewViewError::LacksOwnViewChange(author.signer));
    }
    let choice = choose(view_changes);
    let carried: Vec<(Seq, Digest)> =
        body.reproposals.iter().map(|reproposal| (reproposal.seq, reproposal.digest)).collect();
    if carried != choice.slots && !alive(Mutant::NewViewNotRecomputed) {
        return Err(NewViewError::WrongChoice);
    }
    Ok(choice)
}

/// The view to join: the highest one that f + 1 other replicas have reached or passed, if it is later than `current`.
/// At least one of them is honest (Castro and Liskov 1999, section 4.5.2). A single liar far ahead moves nobody.
pub fn join_view(views: &BTreeMap<ReplicaId, View>, current: View, committee: &Committee) -> Option<View> {
    let mut later: Vec<View> = views.values().copied().filter(|view| *view > current).collect();
    later.sort_unstable_by(|left, right| right.cmp(left));
    let followed = if alive(Mutant::JoinsAlone) { 1 } else { committee.one_honest() };
    later.get(followed - 1).copied()
}

/// Whether a backup's clock agrees with a fresh proposal's time. The bound doubles per failed view up to a cap, so a
/// cluster whose clocks disagree still moves.
pub fn time_is_acceptable(header: u64, clock: u64, bound: u64, cap: u64, failed_views: u32) -> bool {
    let widened = bound.saturating_mul(1u64 << failed_views.min(32)).min(cap.max(bound));
    header.abs_diff(clock) <= widened || alive(Mutant::AnyTimeGoes)
}

#[cfg(test)]
mod tests;
