//! Forged certificates: what the members never said together.

use quorate_crypto::{Certificate, Endorsement, Epoch, ReplicaId, StatementBody};
use quorate_protocol::message::{Committed, Message};
use quorate_protocol::proposal::Proposal;
use rand::RngExt as _;

use super::act::Act;
use super::hands::Hands;

/// What is wrong with a forged certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// One author less than a quorum.
    TooFew,
    /// A quorum of endorsements, but one author stands twice.
    Duplicate,
    /// An author who is not a member.
    NonMember,
    /// Another epoch than the signatures are of.
    WrongEpoch,
    /// Another view, or number, than the signatures are of.
    WrongView,
    /// Another digest than the signatures are of.
    WrongDigest,
}

impl Flaw {
    /// All of them.
    pub(super) const ALL: [Flaw; 6] =
        [Flaw::TooFew, Flaw::Duplicate, Flaw::NonMember, Flaw::WrongEpoch, Flaw::WrongView, Flaw::WrongDigest];
}

/// A forged commit certificate, or a forged certificate of a stable checkpoint, made of signatures that were seen.
pub(super) fn any(act: &mut Act<'_>) -> Option<Message> {
    let flaw = Flaw::ALL[act.random.random_range(0..Flaw::ALL.len())];
    if act.random.random_bool(0.3)
        && let Some(certificate) = act.seen.stable_certificate()
    {
        return Some(Message::StableCheckpoint(spoil(act.hands, certificate, flaw)));
    }
    let known: Vec<_> = act
        .seen
        .commits()
        .iter()
        .filter_map(|(ballot, commits)| Some((act.seen.proposal(&ballot.digest)?, commits)))
        .collect();
    if known.is_empty() {
        return None;
    }
    let (proposal, commits) = known[act.random.random_range(0..known.len())];
    let certificate = spoil(act.hands, &Certificate::collect(commits.values())?, flaw);
    Some(Message::CommitCertificate(fitting(certificate, proposal)))
}

/// A proposal whose digest is the one the certificate names, so that nothing but the certificate is wrong.
fn fitting(mut certificate: Certificate, proposal: &Proposal) -> Committed {
    let mut proposal = proposal.clone();
    if let StatementBody::Commit(ballot) = &mut certificate.body
        && ballot.digest != proposal.digest()
    {
        proposal.time = proposal.time.wrapping_add(1);
        ballot.digest = proposal.digest();
    }
    Committed { certificate, proposal }
}

/// `certificate` with a flaw.
pub(super) fn spoil(hands: &Hands, certificate: &Certificate, flaw: Flaw) -> Certificate {
    let quorum = hands.committee.quorum();
    let mut certificate = certificate.clone();
    // Padded to a quorum where fewer were seen: a forger has only its own signature to add, or copies.
    if let Some(last) = certificate.endorsements.last().copied() {
        while certificate.endorsements.len() < quorum {
            certificate.endorsements.push(last);
        }
    }
    match flaw {
        Flaw::TooFew => certificate.endorsements.truncate(quorum - 1),
        Flaw::Duplicate => {
            certificate.endorsements.truncate(quorum);
            if let [.., before, last] = certificate.endorsements.as_mut_slice() {
                *last = *before;
            }
        }
        Flaw::NonMember => {
            let stranger = ReplicaId(hands.committee.ids().map(|id| id.0).max().unwrap_or(0) + 1);
            if let Some(last) = certificate.endorsements.last_mut() {
                *last = Endorsement { signer: stranger, ..*last };
            }
        }
        Flaw::WrongEpoch => certificate.epoch = Epoch(certificate.epoch.0 + 1),
        Flaw::WrongView => match &mut certificate.body {
            StatementBody::Commit(ballot) => ballot.view = ballot.view.next(),
            StatementBody::Checkpoint { seq, .. } => *seq = seq.plus(hands.parameters.checkpoint_interval),
            StatementBody::BlockVote { view, .. } => *view = view.next(),
            _ => {}
        },
        Flaw::WrongDigest => match &mut certificate.body {
            StatementBody::Commit(ballot) => *ballot = Hands::other_ballot(ballot),
            StatementBody::Checkpoint { digest, .. } => digest.0[3] ^= 1,
            StatementBody::BlockVote { block, .. } => block.0[3] ^= 1,
            _ => {}
        },
    }
    certificate
}
