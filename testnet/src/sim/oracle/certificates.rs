//! Certificates: whatever proves something and leaves an honest replica, derived again from the paper (Castro and Liskov
//! 1999, sections 4.2 to 4.4) without the code that the replicas check them with.
//!
//! Restated here on purpose: the arithmetic of quorums, what a prepared, commit and checkpoint certificate is, what a
//! VIEW-CHANGE must contain, what a NEW-VIEW must carry over, and which life of a replica may speak about a number
//! (protocol.md, Rejoin; `signatures`). Signatures are checked one by one. HotStuff's are in `block_certificates`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_crypto::encoding::encode;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Certificate, Committee, Digest, Domain, Endorsement, Epoch, Protocol, ReplicaId, Seq, Signature, SignatureScheme,
    Signed, StatementBody, View,
};
use quorate_protocol::message::{Committed, Message};
use quorate_protocol::pbft::view_change_message::{NewView, SlotProof, ViewChange};
use quorate_protocol::proposal::Proposal;

use super::block_certificates::BlockCertificates;
use super::signatures::{Finding, Signatures, hold};
use crate::sim::report::Violation;

/// Bodies of VIEW-CHANGEs that are remembered, for NEW-VIEWs that name them. More than any sound run sends.
const VIEW_CHANGES_MAX: usize = 10_000;

/// How many certificates were derived again.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::sim) struct Derived {
    pub(in crate::sim) commit: u64,
    pub(in crate::sim) prepared: u64,
    pub(in crate::sim) checkpoint: u64,
    pub(in crate::sim) view_change: u64,
    pub(in crate::sim) new_view: u64,
}

/// Derives certificates again.
pub(in crate::sim) struct Certificates {
    signatures: Signatures,
    /// HotStuff's.
    blocks: BlockCertificates,
    window: u64,
    /// Messages that were found right: they are sent many times.
    right: BTreeSet<Digest>,
    /// VIEW-CHANGEs that left anybody, by author and digest.
    view_changes: BTreeMap<(ReplicaId, Digest), ViewChange>,
    /// NEW-VIEWs of honest replicas that name a VIEW-CHANGE nobody has sent yet: receivers fetch it, and then it is judged.
    waiting: Vec<(ReplicaId, NewView)>,
    pub(super) derived: Derived,
}

impl Certificates {
    pub(super) fn new(
        committee: Committee,
        scheme: Arc<dyn SignatureScheme>,
        protocol: Protocol,
        window: u64,
        liars: &[ReplicaId],
    ) -> Certificates {
        Certificates {
            signatures: Signatures::new(committee, scheme, protocol, window, liars),
            blocks: BlockCertificates::new(),
            window,
            right: BTreeSet::new(),
            view_changes: BTreeMap::new(),
            waiting: Vec::new(),
            derived: Derived::default(),
        }
    }

    /// A VIEW-CHANGE left somebody, honest or not. A NEW-VIEW may rest on it.
    pub(super) fn seen(&mut self, message: &Message) -> Result<(), Violation> {
        let Message::ViewChange(message) = message else {
            let found = self.blocks.seen(&mut self.signatures, message);
            return found.map_err(|what| Violation::new("certificates", format!("somebody sent {what}")));
        };
        let name = (message.author(), message.digest());
        // A liar may send one body under several signatures, most of which do not hold: one that does is kept.
        let kept = match self.view_changes.get(&name) {
            Some(held) => held == message || self.is_signed(held),
            None => self.view_changes.len() >= VIEW_CHANGES_MAX,
        };
        if kept {
            return Ok(());
        }
        self.view_changes.insert(name, message.clone());
        for (replica, waiting) in std::mem::take(&mut self.waiting) {
            self.left(replica, &Message::NewView(waiting))?;
        }
        Ok(())
    }

    /// The one order has a Rejoin at `seq`.
    pub(super) fn rejoins(&mut self, statement: &Signed, seq: Seq) {
        self.signatures.rejoins(statement, seq);
    }

    /// What a replica signs follows no rule from now on.
    pub(super) fn count_among_faulty(&mut self, replica: ReplicaId) {
        self.signatures.count_among_faulty(replica);
    }

    /// An honest replica took a message, from whomever: the blocks' certificates in it prove what they claim.
    pub(super) fn accepted(&mut self, replica: ReplicaId, message: &Message) -> Result<(), Violation> {
        let found = self.blocks.certificates_in(&mut self.signatures, message);
        found.map_err(|what| Violation::new("certificates", format!("replica {replica} takes {what}")))
    }

    /// An honest replica under HotStuff decided a number: what certifies it is there.
    pub(super) fn decided(&mut self, replica: ReplicaId, seq: Seq, proposal: &Proposal) -> Result<(), Violation> {
        let decided = self.blocks.decided(&self.signatures, seq, proposal.digest());
        decided.map_err(|what| Violation::new("certificates", format!("replica {replica} decides {what}")))
    }

    /// How many of HotStuff's certificates and promises were derived again.
    pub(super) const fn derived_blocks(&self) -> super::block_certificates::Derived {
        self.blocks.derived
    }

    fn is_signed(&self, message: &ViewChange) -> bool {
        let Signed { statement, signature } = message.signed;
        let by = Endorsement { signer: statement.signer, incarnation: statement.incarnation, signature };
        // The digest names the body alone: a liar may sign it for another epoch as well, or send it under what it signed of
        // another body, which nobody takes.
        let own = StatementBody::ViewChange { view: message.view(), body: message.digest() };
        let fits = statement.epoch == self.signatures.committee.epoch() && statement.body == own;
        fits && self.signatures.signature(statement.epoch, &by, own).is_ok()
    }

    /// NEW-VIEWs of which not everything they rest on was ever sent.
    pub(super) const fn unjudged(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// HotStuff: votes for blocks that nobody ever sent.
    pub(super) fn unjudged_votes(&self) -> u64 {
        self.blocks.unjudged()
    }

    /// A message left an honest replica: every certificate in it proves what it claims.
    pub(super) fn left(&mut self, replica: ReplicaId, message: &Message) -> Result<(), Violation> {
        let proves = matches!(
            message,
            Message::CommitCertificate(_) | Message::StableCheckpoint(_) | Message::ViewChange(_) | Message::NewView(_)
        );
        if !proves {
            let finding = self.blocks.left(&mut self.signatures, replica, message);
            return finding.map_err(|what| Violation::new("certificates", format!("replica {replica} sends {what}")));
        }
        let digest = Digest::of(Domain::Trace, &[&encode(message)]);
        if self.right.contains(&digest) {
            return Ok(());
        }
        if let Message::NewView(message) = message
            && !message.body().view_changes.iter().all(|name| self.view_changes.contains_key(name))
        {
            if !self.waiting.iter().any(|(_, other)| other == message) {
                self.waiting.push((replica, message.clone()));
            }
            return Ok(());
        }
        let finding = match message {
            Message::CommitCertificate(committed) => self.committed(committed),
            Message::StableCheckpoint(certificate) => self.checkpoint(certificate).map(|_| ()),
            Message::ViewChange(message) => self.view_change(message),
            Message::NewView(message) => self.new_view(message),
            _ => Ok(()),
        };
        if let Err(what) = finding {
            return Err(Violation::new("certificates", format!("replica {replica} sends {what}")));
        }
        self.right.insert(digest);
        Ok(())
    }

    /// p = v mod n.
    fn primary(&self, view: View) -> ReplicaId {
        ReplicaId((view.0 % self.signatures.committee.size() as u64) as u16)
    }

    fn committed(&mut self, committed: &Committed) -> Finding {
        let Certificate { epoch, body, endorsements } = &committed.certificate;
        let StatementBody::Commit(ballot) = body else { return Err(format!("COMMITs that say {body:?}")) };
        hold(committed.proposal.digest() == ballot.digest, || format!("another proposal than {ballot:?} names"))?;
        self.derived.commit += 1;
        self.signatures.votes(endorsements, *epoch, *body, self.signatures.quorum())
    }

    fn checkpoint(&mut self, certificate: &Certificate) -> Result<Seq, String> {
        let Certificate { epoch, body, endorsements } = certificate;
        let StatementBody::Checkpoint { seq, .. } = body else { return Err(format!("CHECKPOINTs that say {body:?}")) };
        self.derived.checkpoint += 1;
        self.signatures.votes(endorsements, *epoch, *body, self.signatures.quorum())?;
        Ok(*seq)
    }

    /// The PRE-PREPARE of the view's primary and q - 1 matching PREPAREs of others; or q COMMITs in their stead.
    fn slot(&mut self, proof: &SlotProof, epoch: Epoch) -> Result<Ballot, String> {
        match proof {
            SlotProof::Prepared { ballot, primary, prepares } => {
                self.derived.prepared += 1;
                let leader = self.primary(ballot.view);
                hold(primary.signer == leader, || format!("a PRE-PREPARE of {} in {:?}", primary.signer, ballot.view))?;
                self.signatures.signature(epoch, primary, StatementBody::PrePrepare(*ballot))?;
                let backups = prepares.iter().all(|prepare| prepare.signer != leader);
                hold(backups, || format!("the primary's own PREPARE counted for {ballot:?}"))?;
                self.signatures.votes(
                    prepares,
                    epoch,
                    StatementBody::Prepare(*ballot),
                    self.signatures.quorum() - 1,
                )?;
                Ok(*ballot)
            }
            SlotProof::Committed { ballot, commits } => {
                self.derived.commit += 1;
                self.signatures.votes(commits, epoch, StatementBody::Commit(*ballot), self.signatures.quorum())?;
                Ok(*ballot)
            }
        }
    }

    fn view_change(&mut self, message: &ViewChange) -> Finding {
        self.derived.view_change += 1;
        let name = || format!("VIEW-CHANGE({}) of {}", message.view(), message.author());
        let statement = message.signed.statement;
        let body = StatementBody::ViewChange { view: message.view(), body: message.digest() };
        hold(statement.body == body, || format!("a {} that signs another", name()))?;
        let by = Endorsement {
            signer: statement.signer,
            incarnation: statement.incarnation,
            signature: message.signed.signature,
        };
        self.signatures.signature(statement.epoch, &by, body)?;
        let low = match &message.body().stable {
            Some(certificate) => self.checkpoint(certificate)?,
            None => Seq(0),
        };
        let mut last = low;
        for proof in &message.body().slots {
            let ballot = self.slot(proof, statement.epoch).map_err(|what| format!("a {} with {what}", name()))?;
            let placed = ballot.seq > last && ballot.seq.0 <= low.0 + self.window && ballot.view < message.view();
            hold(placed, || format!("a {} with a proof out of place: {ballot:?} above {last}, low {low}", name()))?;
            last = ballot.seq;
        }
        Ok(())
    }

    /// Section 4.4: min-s is the latest stable checkpoint in V, max-s the highest number in a prepared certificate in V;
    /// each number between carries the digest of the highest view, or the null request.
    fn new_view(&mut self, message: &NewView) -> Finding {
        self.derived.new_view += 1;
        let (view, body) = (message.view(), message.body());
        let name = || format!("NEW-VIEW({view}) of {}", message.author());
        hold(message.author() == self.primary(view), || format!("a {} that it does not lead", name()))?;
        let authors: BTreeSet<ReplicaId> = body.view_changes.iter().map(|(author, _)| *author).collect();
        hold(authors.len() == body.view_changes.len(), || format!("a {} that counts an author twice", name()))?;
        hold(authors.len() >= self.signatures.quorum(), || format!("a {} on {} VIEW-CHANGEs", name(), authors.len()))?;
        let mut low = Seq(0);
        let mut chosen: BTreeMap<Seq, Ballot> = BTreeMap::new();
        for (author, digest) in &body.view_changes {
            let Some(view_change) = self.view_changes.get(&(*author, *digest)).cloned() else {
                return Err(format!("a {} on a VIEW-CHANGE of {author} that never left anybody", name()));
            };
            hold(view_change.view() == view, || format!("a {} on a VIEW-CHANGE({})", name(), view_change.view()))?;
            self.view_change(&view_change)?;
            low = low.max(view_change.body().stable_seq());
            for proof in &view_change.body().slots {
                let ballot = *proof.ballot();
                let best = chosen.entry(ballot.seq).or_insert(ballot);
                if ballot.view > best.view {
                    *best = ballot;
                }
            }
        }
        let high = chosen.keys().next_back().copied().unwrap_or(low);
        let numbers = low.0 + 1..high.0 + 1;
        hold(numbers.clone().count() == body.reproposals.len(), || format!("a {} for other numbers", name()))?;
        let statement = message.signed.statement;
        for (number, reproposal) in numbers.zip(&body.reproposals) {
            let seq = Seq(number);
            let digest = chosen.get(&seq).map_or(Proposal::NULL.digest(), |ballot| ballot.digest);
            hold((reproposal.seq, reproposal.digest) == (seq, digest), || {
                format!("a {} that carries {:?} at {} for {digest:?}", name(), reproposal.digest, reproposal.seq)
            })?;
            let pre_prepare = StatementBody::PrePrepare(Ballot { view, seq, digest });
            let signature: Signature = reproposal.signature;
            let by = Endorsement { signer: statement.signer, incarnation: statement.incarnation, signature };
            self.signatures.signature(statement.epoch, &by, pre_prepare)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
