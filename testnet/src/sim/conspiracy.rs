//! Beyond f: f + 1 liars that work together, and the evidence that must name them when they succeed.
//!
//! Whenever a liar's PRE-PREPARE reaches somebody, all liars vote for it there, PREPARE and COMMIT, whatever they told
//! others. So agreement may break. Then what honest replicas received, taken together, must convict at least f + 1
//! replicas and nobody honest (Sheng et al., BFT protocol forensics, CCS 2021).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_crypto::encoding::encode;
use quorate_crypto::{
    Committee, Incarnation, ReplicaId, Seq, SignatureScheme, Signed, Statement, StatementBody, StatementKind, View,
};
use quorate_protocol::evidence::{contradict, hides_commit};
use quorate_protocol::message::{Message, PrePrepare, Prepare};
use quorate_protocol::pbft::view_change_message::ViewChange;

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
            _ => {}
        }
    }

    fn signed(&self, signed: &Signed) -> bool {
        let bytes = signed.statement.bytes(self.committee.cluster());
        let key = self.committee.key(signed.signer());
        key.is_some_and(|key| self.scheme.verify(key, &bytes, &signed.signature))
    }

    fn statement(&mut self, signed: Signed) {
        let (StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot)) =
            signed.body()
        else {
            return;
        };
        let place = (signed.signer(), signed.body().kind(), ballot.view, ballot.seq);
        let known = self.statements.get(&place).map(Vec::as_slice).unwrap_or_default();
        // Two of a kind convict; a third adds nothing.
        if known.len() >= 2 || known.contains(&signed) || !self.signed(&signed) {
            return;
        }
        let hidden = || self.view_changes.get(&signed.signer()).into_iter().flatten();
        if known.iter().any(|other| contradict(other, &signed).is_some())
            || hidden().any(|message| hides_commit(&signed, message))
        {
            self.guilty.insert(signed.signer());
        }
        self.statements.entry(place).or_default().push(signed);
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

impl World {
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

    use super::*;
    use crate::sim::signing::Keyring;

    #[test]
    fn two_votes_convict_only_if_they_are_signed() {
        let ring = Keyring::new(1, 4, false);
        let members = (0..4).map(|id| Member { id: ReplicaId(id), key: ring.key(id.into()).public_key() });
        let cluster = ClusterId(Digest([3; 32]));
        let committee =
            Committee::new(cluster, Epoch(0), FaultModel::Byzantine, members.collect()).expect("four members");
        let mut forensics = Forensics::new(committee, ring.scheme());
        let commit = |signer: u16, by: usize, digest: u8| {
            let ballot = Ballot { view: View(0), seq: Seq(1), digest: Digest([digest; 32]) };
            let body = StatementBody::Commit(ballot);
            let statement = Statement { epoch: Epoch(0), signer: ReplicaId(signer), incarnation: Incarnation(0), body };
            Message::Commit(statement.sign(cluster, ring.key(by).as_ref()))
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
