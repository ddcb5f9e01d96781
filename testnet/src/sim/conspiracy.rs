//! Beyond f: f + 1 liars that work together, and the evidence that must name them when they succeed.
//!
//! PBFT: whenever a liar's PRE-PREPARE reaches somebody, all liars vote for it there, PREPARE and COMMIT, whatever they told
//! others. HotStuff: every vote goes to one leader, so nobody forks by voting twice alone. There the liars are of two minds:
//! each runs twice with one key, the honest replicas are divided in halves that hear nothing of each other until all is
//! well, and each half has one instance of every liar for company, proposals, votes and TIMEOUTs of its own included.
//!
//! So agreement may break. Then what honest replicas received, taken together, must convict at least f + 1
//! replicas and nobody honest (Sheng et al., BFT protocol forensics, CCS 2021).
//!
//! For HotStuff this takes a pair that is not among those which replicas publish as evidence: a vote that rests on a
//! certificate of view p, and a TIMEOUT of the vote's view or a later one that names a lower certificate than p. Let one half
//! commit b of view v by a certified child in v + 1, and let u be the lowest view above in which a block is certified that
//! does not extend b. If u is v + 1, or another block of v is certified, its voters and b's share f + 1 that voted twice in
//! one view. If it is later, its block rests on a TC whose TIMEOUTs all name views below v, and f + 1 of their authors voted
//! in v + 1 for the child, which rests on the certificate of v.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_crypto::encoding::encode;
use quorate_crypto::{
    Committee, Incarnation, Protocol, ReplicaId, Seq, SignatureScheme, Signed, Statement, StatementBody, StatementKind,
    View,
};
use quorate_protocol::evidence::{contradict, hides_commit};
use quorate_protocol::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate};
use quorate_protocol::message::{Message, PrePrepare, Prepare};
use quorate_protocol::pbft::view_change_message::ViewChange;

use super::plan::{Breakage, Plan};
use super::process::Process;
use super::world::{Event, World};

/// What honest replicas received, by author: what convicts them.
pub(super) struct Forensics {
    committee: Committee,
    scheme: Arc<dyn SignatureScheme>,
    statements: BTreeMap<(ReplicaId, StatementKind, View, Seq), Vec<Signed>>,
    view_changes: BTreeMap<ReplicaId, Vec<ViewChange>>,
    guilty: BTreeSet<ReplicaId>,
}

impl Forensics {
    pub(super) const fn new(committee: Committee, scheme: Arc<dyn SignatureScheme>) -> Forensics {
        Forensics {
            committee,
            scheme,
            statements: BTreeMap::new(),
            view_changes: BTreeMap::new(),
            guilty: BTreeSet::new(),
        }
    }

    /// Those convicted so far.
    pub(super) const fn guilty(&self) -> &BTreeSet<ReplicaId> {
        &self.guilty
    }

    /// An honest replica received a message.
    pub(super) fn received(&mut self, message: &Message) {
        match message {
            Message::PrePrepare(message) => self.statement(message.signed),
            Message::Prepare(message) => self.statement(message.signed),
            Message::Commit(signed) => self.statement(*signed),
            Message::CommitCertificate(committed) => {
                committed.certificate.statements().for_each(|signed| self.statement(signed));
            }
            Message::ViewChange(message) => self.view_change(message),
            Message::BlockProposal(message) => {
                self.statement(message.signed);
                self.quorum_certificate(&message.block.justify);
                message.block.timeout.iter().for_each(|certificate| self.timeout_certificate(certificate));
            }
            Message::BlockVote(signed) => self.statement(*signed),
            Message::Timeout(message) => {
                self.statement(message.signed);
                self.quorum_certificate(&message.high_qc);
            }
            Message::QuorumCertificate(certificate) => self.quorum_certificate(certificate),
            Message::TimeoutCertificate(certificate) => self.timeout_certificate(certificate),
            _ => {}
        }
    }

    fn quorum_certificate(&mut self, certificate: &QuorumCertificate) {
        certificate.statements().into_iter().for_each(|signed| self.statement(signed));
    }

    fn timeout_certificate(&mut self, certificate: &TimeoutCertificate) {
        certificate.statements().for_each(|signed| self.statement(signed));
        self.quorum_certificate(&certificate.high_qc);
    }

    fn signed(&self, signed: &Signed) -> bool {
        let bytes = signed.statement.bytes(self.committee.cluster());
        let key = self.committee.key(signed.signer());
        key.is_some_and(|key| self.scheme.verify(key, &bytes, &signed.signature))
    }

    fn statement(&mut self, signed: Signed) {
        let (view, seq) = match *signed.body() {
            StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) => {
                (ballot.view, ballot.seq)
            }
            StatementBody::Proposal { view, .. }
            | StatementBody::BlockVote { view, .. }
            | StatementBody::Timeout { view, .. } => (view, Seq(0)),
            _ => return,
        };
        let place = (signed.signer(), signed.body().kind(), view, seq);
        let known = self.statements.get(&place).map(Vec::as_slice).unwrap_or_default();
        // Two of a kind convict; a third adds nothing.
        if known.len() >= 2 || known.contains(&signed) || !self.signed(&signed) {
            return;
        }
        let hidden = || self.view_changes.get(&signed.signer()).into_iter().flatten();
        let is_guilty =
            known.iter().chain(self.of_the_other_kind(&signed)).any(|other| contradict(other, &signed).is_some())
                || hidden().any(|message| hides_commit(&signed, message));
        if is_guilty {
            self.guilty.insert(signed.signer());
        }
        self.statements.entry(place).or_default().push(signed);
    }

    /// HotStuff: the votes of a TIMEOUT's author, or the TIMEOUTs of a voter.
    fn of_the_other_kind(&self, signed: &Signed) -> impl Iterator<Item = &Signed> {
        let kind = match signed.body() {
            StatementBody::BlockVote { .. } => Some(StatementKind::Timeout),
            StatementBody::Timeout { .. } => Some(StatementKind::BlockVote),
            _ => None,
        };
        let author = signed.signer();
        let range = kind.map(|kind| (author, kind, View(0), Seq(0))..=(author, kind, View(u64::MAX), Seq(u64::MAX)));
        range.into_iter().flat_map(|range| self.statements.range(range)).flat_map(|(_, signed)| signed)
    }

    fn view_change(&mut self, message: &ViewChange) {
        let author = message.author();
        let known = self.view_changes.get(&author).map(Vec::as_slice).unwrap_or_default();
        // A frame that was bent on its way may carry a sound signature over what it no longer says.
        let own = StatementBody::ViewChange { view: message.view(), body: message.digest() };
        let fits = *message.signed.body() == own && self.signed(&message.signed);
        if !fits || known.iter().any(|other| other.signed == message.signed) {
            return;
        }
        let commits = self.statements.iter().filter(|(place, _)| place.0 == author).flat_map(|(_, signed)| signed);
        let twice = known.iter().any(|other| contradict(&other.signed, &message.signed).is_some());
        if twice || commits.clone().any(|commit| hides_commit(commit, message)) {
            self.guilty.insert(author);
        }
        self.view_changes.entry(author).or_default().push(message.clone());
    }
}

impl Plan {
    /// How many liars are of two minds: the first so many replicas, each of which has a second process.
    pub(super) fn second_minds(&self) -> usize {
        if self.beyond_f && self.protocol == Protocol::HotStuff { self.liars.len() } else { 0 }
    }

    /// Whether a breakage takes place beside liars of two minds. Their division is the only one there is.
    pub(super) fn leaves_room_for(&self, breakage: &Breakage) -> bool {
        let one_process =
            matches!(breakage, Breakage::Crash { .. } | Breakage::Pause { .. } | Breakage::SlowSync { .. });
        self.second_minds() == 0 || one_process
    }
}

impl World {
    /// Whether two processes hear nothing of each other, since liars of two minds keep them apart.
    pub(super) fn are_kept_apart(&self, one: usize, other: usize) -> bool {
        let minds = self.plan.second_minds();
        let replicas = self.plan.replicas;
        let half = |process: usize| {
            let first = process < minds;
            let second = process >= replicas;
            if first || second { usize::from(second) } else { (process - minds) % 2 }
        };
        minds > 0 && !self.healed && half(one) != half(other)
    }

    /// What the division came to, for the counters.
    pub(super) fn count_minds(&mut self) {
        let honest = self.processes.iter().filter(|process| !process.liar);
        if self.plan.second_minds() > 0 && honest.filter_map(Process::status).any(|status| status.decided > Seq(0)) {
            self.counters.happened("beyond f: decided something while divided");
        }
    }

    /// A liar's PRE-PREPARE goes to some replicas: all liars vote for it there.
    pub(super) fn conspire(&mut self, recipients: &[usize], message: &PrePrepare) {
        let StatementBody::PrePrepare(ballot) = *message.signed.body() else { return };
        let liars: Vec<usize> = (0..self.processes.len()).filter(|index| self.processes[*index].liar).collect();
        for liar in liars {
            let sign = |body| {
                let id = ReplicaId(liar as u16);
                Statement { epoch: self.cluster.committee.epoch(), signer: id, incarnation: Incarnation(0), body }
                    .sign(self.cluster.committee.cluster(), self.processes[liar].signer.as_ref())
            };
            let mut votes = Vec::new();
            if message.signed.signer().index() != liar {
                votes.push(Message::Prepare(Prepare {
                    signed: sign(StatementBody::Prepare(ballot)),
                    primary_incarnation: message.signed.statement.incarnation,
                    primary_signature: message.signed.signature,
                }));
            }
            votes.push(Message::Commit(sign(StatementBody::Commit(ballot))));
            for vote in votes {
                self.counters.happened("beyond f: votes of conspirators");
                let bytes = Arc::new(encode(&vote));
                for to in recipients.iter().copied().filter(|to| !self.processes[*to].liar) {
                    let life = self.processes[to].life;
                    for delay in self.network.between_replicas(&mut self.random, liar, to, self.now) {
                        let bytes = Arc::clone(&bytes);
                        self.queue.push(self.now + delay, Event::ToReplica { from: liar, to, life, bytes });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_crypto::statement::Ballot;
    use quorate_crypto::{ClusterId, Digest, Epoch, FaultModel, Member};
    use quorate_protocol::hotstuff::message::Timeout;

    use super::*;
    use crate::sim::signing::Keyring;

    const CLUSTER: ClusterId = ClusterId(Digest([3; 32]));

    fn four() -> (Keyring, Forensics) {
        let ring = Keyring::new(1, 4, false);
        let members = (0..4).map(|id| Member { id: ReplicaId(id), key: ring.key(id.into()).public_key() });
        let committee =
            Committee::new(CLUSTER, Epoch(0), FaultModel::Byzantine, members.collect()).expect("four members");
        let forensics = Forensics::new(committee, ring.scheme());
        (ring, forensics)
    }

    #[test]
    fn a_timeout_that_hides_what_a_vote_rested_on_convicts() {
        // View of the vote, of the certificate it rests on, of the TIMEOUT, and of the certificate that it names.
        for (voted, rests_on, gave_up, names, guilty) in
            [(6, 5, 6, 4, true), (6, 5, 9, 4, true), (6, 5, 9, 5, false), (6, 5, 9, 7, false), (6, 5, 5, 4, false)]
        {
            for vote_first in [true, false] {
                let (ring, mut forensics) = four();
                let sign = |body| {
                    Statement { epoch: Epoch(0), signer: ReplicaId(1), incarnation: Incarnation(0), body }
                        .sign(CLUSTER, ring.key(1).as_ref())
                };
                let block = Digest([1; 32]);
                let vote = StatementBody::BlockVote { view: View(voted), block, parent_view: View(rests_on) };
                let timeout = StatementBody::Timeout { view: View(gave_up), high_view: View(names) };
                let timeout = Timeout { signed: sign(timeout), high_qc: QuorumCertificate::Genesis };
                let mut messages = [Message::BlockVote(sign(vote)), Message::Timeout(timeout)];
                if !vote_first {
                    messages.reverse();
                }
                for message in &messages {
                    forensics.received(message);
                }
                assert_eq!(!forensics.guilty().is_empty(), guilty, "{voted} on {rests_on}, {gave_up} names {names}");
            }
        }
    }

    #[test]
    fn two_votes_convict_only_if_they_are_signed() {
        let (ring, mut forensics) = four();
        let commit = |signer: u16, by: usize, digest: u8| {
            let ballot = Ballot { view: View(0), seq: Seq(1), digest: Digest([digest; 32]) };
            let body = StatementBody::Commit(ballot);
            let statement = Statement { epoch: Epoch(0), signer: ReplicaId(signer), incarnation: Incarnation(0), body };
            Message::Commit(statement.sign(CLUSTER, ring.key(by).as_ref()))
        };
        // Somebody else's signature frames nobody, and the same vote twice is one vote.
        for message in [commit(1, 1, 1), commit(1, 2, 2), commit(1, 1, 1), commit(2, 2, 1)] {
            forensics.received(&message);
        }
        assert!(forensics.guilty().is_empty());
        forensics.received(&commit(1, 1, 2));
        assert_eq!(forensics.guilty().iter().copied().collect::<Vec<_>>(), [ReplicaId(1)]);
    }
}
