//! Forged certificates of HotStuff: what the members never said together.

use quorate_crypto::{Certificate, Epoch, ReplicaId, Statement, StatementBody, View};
use quorate_protocol::hotstuff::block::{Block, BlockContent};
use quorate_protocol::hotstuff::certificate::{
    QuorumCertificate, TimeoutCertificate, TimeoutEndorsement, Vote, VoteCertificate,
};
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::blocks::on_other_ground;
use crate::faults::act::Act;
use crate::faults::catalogue::Behaviour;
use crate::faults::forgery::{Flaw, spoil};
use crate::faults::hands::Hands;

/// Between two certificates forged, microseconds.
const FORGERY_INTERVAL: Micros = 20_000;

/// What is wrong with a forged quorum certificate: what may be wrong with any, or the view of the parent's certificate, which
/// votes sign as well.
pub(in crate::faults) const QUORUM_FLAWS: [Option<Flaw>; 7] = [
    Some(Flaw::TooFew),
    Some(Flaw::Duplicate),
    Some(Flaw::NonMember),
    Some(Flaw::WrongEpoch),
    Some(Flaw::WrongView),
    Some(Flaw::WrongDigest),
    None,
];

/// What is wrong with a forged timeout certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::faults) enum TimeoutFlaw {
    /// One author less than a quorum.
    TooFew,
    /// A quorum, but one author stands twice.
    Duplicate,
    /// An author who is not a member.
    NonMember,
    /// Another epoch than the signatures are of.
    WrongEpoch,
    /// Another view than the signatures are of.
    WrongView,
    /// The certificate carried is lower than the highest that the TIMEOUTs name.
    LowerCertificate,
    /// The TIMEOUTs are made to name lower certificates than they do.
    LowerNamed,
}

impl TimeoutFlaw {
    /// All of them.
    pub(in crate::faults) const ALL: [TimeoutFlaw; 7] = [
        TimeoutFlaw::TooFew,
        TimeoutFlaw::Duplicate,
        TimeoutFlaw::NonMember,
        TimeoutFlaw::WrongEpoch,
        TimeoutFlaw::WrongView,
        TimeoutFlaw::LowerCertificate,
        TimeoutFlaw::LowerNamed,
    ];
}

fn stranger(hands: &Hands) -> ReplicaId {
    ReplicaId(hands.committee.ids().map(|id| id.0).max().unwrap_or(0) + 1)
}

/// `votes` with a flaw.
pub(in crate::faults) fn spoil_quorum(hands: &Hands, votes: &VoteCertificate, flaw: Option<Flaw>) -> QuorumCertificate {
    let Some(flaw) = flaw else {
        let Vote { parent_view, view, .. } = votes.vote;
        // Another view than the one signed that a certificate of this view could rest on; there is none below view 1.
        let other = if parent_view.next() < view { parent_view.next() } else { View(parent_view.0.saturating_sub(1)) };
        let vote = Vote { parent_view: if other == parent_view { view } else { other }, ..votes.vote };
        return QuorumCertificate::Votes(VoteCertificate { vote, ..votes.clone() });
    };
    let certificate =
        Certificate { epoch: votes.epoch, body: votes.vote.body(), endorsements: votes.endorsements.clone() };
    let Certificate { epoch, body, endorsements } = spoil(hands, &certificate, flaw);
    let vote = Vote::of(&body).unwrap_or(votes.vote);
    QuorumCertificate::Votes(VoteCertificate { epoch, vote, endorsements })
}

/// `certificate` with a flaw.
pub(in crate::faults) fn spoil_timeouts(
    hands: &Hands,
    certificate: &TimeoutCertificate,
    flaw: TimeoutFlaw,
) -> TimeoutCertificate {
    let quorum = hands.committee.quorum();
    let mut forged = certificate.clone();
    match flaw {
        TimeoutFlaw::TooFew => forged.timeouts.truncate(quorum - 1),
        TimeoutFlaw::Duplicate => {
            forged.timeouts.truncate(quorum);
            if let [.., before, last] = forged.timeouts.as_mut_slice() {
                *last = *before;
            }
        }
        TimeoutFlaw::NonMember => {
            if let Some(last) = forged.timeouts.last_mut() {
                last.signer = stranger(hands);
            }
        }
        TimeoutFlaw::WrongEpoch => forged.epoch = Epoch(forged.epoch.0 + 1),
        TimeoutFlaw::WrongView => forged.view = forged.view.next(),
        TimeoutFlaw::LowerCertificate if forged.high_qc != QuorumCertificate::Genesis => {
            forged.high_qc = QuorumCertificate::Genesis;
        }
        TimeoutFlaw::LowerNamed if forged.high_qc != QuorumCertificate::Genesis => {
            forged.high_qc = QuorumCertificate::Genesis;
            forged.timeouts.iter_mut().for_each(|timeout| timeout.high_view = View(0));
        }
        // Nothing is lower than the genesis: one names more than is carried.
        TimeoutFlaw::LowerCertificate | TimeoutFlaw::LowerNamed => {
            if let Some(first) = forged.timeouts.first_mut() {
                first.high_view = first.high_view.next();
            }
        }
    }
    forged
}

/// TIMEOUTs of a quorum of the others that none of them signed: the liar's own key is under all of them. Its own word is not
/// among them, since it would be a true one.
pub(in crate::faults) fn made_up(hands: &Hands, view: View, high_qc: QuorumCertificate) -> TimeoutCertificate {
    let high_view = high_qc.view();
    let others = hands.others().into_iter().take(hands.committee.quorum());
    let timeouts = others.map(|signer| {
        let statement = Statement { signer, ..hands.statement(StatementBody::Timeout { view, high_view }) };
        let signed = hands.sign_statement(statement);
        TimeoutEndorsement { signer, incarnation: hands.incarnation, high_view, signature: signed.signature }
    });
    TimeoutCertificate { epoch: hands.committee.epoch(), view, timeouts: timeouts.collect(), high_qc }
}

fn any_flaw(random: &mut ChaCha8Rng) -> TimeoutFlaw {
    TimeoutFlaw::ALL[random.random_range(0..TimeoutFlaw::ALL.len())]
}

/// A forged certificate of a block that was certified once, or of the one in `certificate`.
fn forged_quorum(act: &mut Act<'_>, certificate: &QuorumCertificate) -> Option<QuorumCertificate> {
    let QuorumCertificate::Votes(votes) = certificate else { return None };
    let flaw = QUORUM_FLAWS[act.random.random_range(0..QUORUM_FLAWS.len())];
    Some(spoil_quorum(act.hands, votes, flaw))
}

/// The block rests on a forged certificate: of its parent, or of a block that nobody proposed.
pub(super) fn on_forged_quorum(act: &mut Act<'_>, block: &Block) -> Option<BlockContent> {
    let justify = forged_quorum(act, &block.justify)?;
    Some(BlockContent { parent: justify.block(), justify, ..block.content().clone() })
}

/// The block rests on its grandparent's certificate, as if the view before had been given up.
pub(super) fn after_forged_timeouts(act: &mut Act<'_>, block: &Block) -> Option<BlockContent> {
    let before = View(block.view.0.checked_sub(1).filter(|view| *view > 0)?);
    let justify = if block.justify.view() == before {
        act.seen.chain().get(&block.parent)?.justify.clone()
    } else {
        block.justify.clone()
    };
    let forged = match act.seen.chain().timeout_certificate_of(before, &act.hands.committee) {
        Some(true_one) => {
            let flaw = any_flaw(act.random);
            spoil_timeouts(act.hands, &true_one, flaw)
        }
        None => made_up(act.hands, before, justify.clone()),
    };
    on_other_ground(act, block, justify, Some(forged))
}

/// A forged quorum certificate for anybody.
pub(super) fn tell_forged_quorum(act: &mut Act<'_>) -> u64 {
    let known = act.seen.chain().quorums_before(View(u64::MAX)).len();
    if known == 0 || act.sends.is_empty() || !act.pace.allows(Behaviour::ForgeQc, act.now, FORGERY_INTERVAL) {
        return 0;
    }
    let index = act.random.random_range(0..known);
    let certificate = act.seen.chain().quorums_before(View(u64::MAX))[index].clone();
    let Some(forged) = forged_quorum(act, &certificate) else { return 0 };
    let to = act.anybody();
    act.tell(to, Message::QuorumCertificate(forged));
    1
}

/// A forged timeout certificate for anybody.
pub(super) fn tell_forged_timeouts(act: &mut Act<'_>) -> u64 {
    if act.sends.is_empty() || !act.pace.allows(Behaviour::ForgeTc, act.now, FORGERY_INTERVAL) {
        return 0;
    }
    let forged = match act.seen.chain().newest_timeout_certificate().cloned() {
        Some(true_one) if act.random.random_bool(0.7) => {
            let flaw = any_flaw(act.random);
            spoil_timeouts(act.hands, &true_one, flaw)
        }
        _ => {
            let view = View(act.standing.view.0.saturating_add(act.random.random_range(0..3)));
            made_up(act.hands, view, act.seen.chain().highest_before(view))
        }
    };
    let to = act.anybody();
    act.tell(to, Message::TimeoutCertificate(forged));
    1
}
