//! Certificates: whatever proves something and leaves an honest replica, derived again from the paper (Castro and Liskov
//! 1999, sections 4.2 to 4.4) without the code that the replicas check them with.
//!
//! Restated here on purpose: the arithmetic of quorums, what a prepared, commit and checkpoint certificate is, what a
//! VIEW-CHANGE must contain, what a NEW-VIEW must carry over, and which life of a replica may speak about a number
//! (protocol.md, Rejoin). Signatures are checked one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_crypto::encoding::encode;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Certificate, Committee, Digest, Domain, Endorsement, Epoch, ReplicaId, Seq, Signature, SignatureScheme, Signed,
    Statement, StatementBody, View,
};
use quorate_protocol::message::{Committed, Message};
use quorate_protocol::pbft::view_change_message::{NewView, SlotProof, ViewChange};
use quorate_protocol::proposal::Proposal;

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
    committee: Committee,
    scheme: Arc<dyn SignatureScheme>,
    window: u64,
    /// Messages that were found right: they are sent many times.
    right: BTreeSet<Digest>,
    /// VIEW-CHANGEs that left anybody, by author and digest.
    view_changes: BTreeMap<(ReplicaId, Digest), ViewChange>,
    /// NEW-VIEWs of honest replicas that name a VIEW-CHANGE nobody has sent yet: receivers fetch it, and then it is judged.
    waiting: Vec<(ReplicaId, NewView)>,
    /// Where the Rejoin executed that began each life of a replica but its first, ascending: life i is at place i - 1.
    lives: BTreeMap<ReplicaId, Vec<Seq>>,
    /// What these sign follows no rule.
    faulty: BTreeSet<ReplicaId>,
    pub(super) derived: Derived,
}

type Finding = Result<(), String>;

fn hold(condition: bool, what: impl FnOnce() -> String) -> Finding {
    if condition { Ok(()) } else { Err(what()) }
}

impl Certificates {
    pub(super) fn new(
        committee: Committee,
        scheme: Arc<dyn SignatureScheme>,
        window: u64,
        liars: &[ReplicaId],
    ) -> Certificates {
        Certificates {
            committee,
            scheme,
            window,
            right: BTreeSet::new(),
            view_changes: BTreeMap::new(),
            waiting: Vec::new(),
            lives: BTreeMap::new(),
            faulty: liars.iter().copied().collect(),
            derived: Derived::default(),
        }
    }

    /// A VIEW-CHANGE left somebody, honest or not. A NEW-VIEW may rest on it.
    pub(super) fn seen(&mut self, message: &Message) -> Result<(), Violation> {
        let Message::ViewChange(message) = message else { return Ok(()) };
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

    /// The one order has a Rejoin at `seq`: the first of the next incarnation begins a life, any other changes nothing.
    pub(super) fn rejoins(&mut self, statement: &Signed, seq: Seq) {
        let lives = self.lives.entry(statement.signer()).or_default();
        if statement.statement.incarnation.0 as usize == lives.len() + 1 {
            lives.push(seq);
        }
    }

    /// What a replica signs follows no rule from now on.
    pub(super) fn count_among_faulty(&mut self, replica: ReplicaId) {
        self.faulty.insert(replica);
    }

    fn is_signed(&self, message: &ViewChange) -> bool {
        let Signed { statement, signature } = message.signed;
        let by = Endorsement { signer: statement.signer, incarnation: statement.incarnation, signature };
        // The digest names the body alone: a liar may sign it for another epoch as well, or send it under what it signed of
        // another body, which nobody takes.
        let own = StatementBody::ViewChange { view: message.view(), body: message.digest() };
        let fits = statement.epoch == self.committee.epoch() && statement.body == own;
        fits && self.signature(statement.epoch, &by, own).is_ok()
    }

    /// NEW-VIEWs of which not everything they rest on was ever sent.
    pub(super) const fn unjudged(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// A message left an honest replica: every certificate in it proves what it claims.
    pub(super) fn left(&mut self, replica: ReplicaId, message: &Message) -> Result<(), Violation> {
        let proves = matches!(
            message,
            Message::CommitCertificate(_) | Message::StableCheckpoint(_) | Message::ViewChange(_) | Message::NewView(_)
        );
        if !proves {
            return Ok(());
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

    /// f = floor((n - 1) / 3).
    fn faults(&self) -> usize {
        (self.committee.size() - 1) / 3
    }

    /// The least q with which two quorums share an honest replica: 2q - n > f.
    fn quorum(&self) -> usize {
        usize::midpoint(self.committee.size(), self.faults()) + 1
    }

    /// p = v mod n.
    fn primary(&self, view: View) -> ReplicaId {
        ReplicaId((view.0 % self.committee.size() as u64) as u16)
    }

    fn signature(&self, epoch: Epoch, by: &Endorsement, body: StatementBody) -> Finding {
        let key = self.committee.key(by.signer).ok_or_else(|| format!("a vote of stranger {}", by.signer))?;
        self.life(by, body)?;
        let statement = Statement { epoch, signer: by.signer, incarnation: by.incarnation, body };
        let bytes = statement.bytes(self.committee.cluster());
        hold(self.scheme.verify(key, &bytes, &by.signature), || {
            format!("a vote that {} never signed: {body:?}", by.signer)
        })
    }

    /// With n_r the number where a Rejoin executed, the life before it signs nothing above n_r + L, the one after it nothing
    /// at or below: a replica that keeps to this never contradicts what it has forgotten.
    fn life(&self, by: &Endorsement, body: StatementBody) -> Finding {
        let seq = match body {
            StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) => {
                ballot.seq
            }
            StatementBody::Checkpoint { seq, .. } => seq,
            _ => return Ok(()),
        };
        if self.faulty.contains(&by.signer) {
            return Ok(());
        }
        let life = by.incarnation.0 as usize;
        let lives = self.lives.get(&by.signer).map_or(&[][..], Vec::as_slice);
        let name = || format!("a vote of {} in life {life}, which has rejoined at {lives:?}, for {body:?}", by.signer);
        hold(life <= lives.len(), name)?;
        let line = |place: usize| lives.get(place).map(|rejoined| rejoined.0 + self.window);
        hold(life == 0 || line(life - 1).is_none_or(|line| seq.0 > line), name)?;
        hold(line(life).is_none_or(|line| seq.0 <= line), name)
    }

    fn votes(&self, votes: &[Endorsement], epoch: Epoch, body: StatementBody, needed: usize) -> Finding {
        hold(epoch == self.committee.epoch(), || format!("a certificate of epoch {epoch}"))?;
        let authors: BTreeSet<ReplicaId> = votes.iter().map(|vote| vote.signer).collect();
        hold(authors.len() == votes.len(), || format!("an author twice under {body:?}"))?;
        hold(authors.len() >= needed, || format!("{} of {needed} votes for {body:?}", authors.len()))?;
        votes.iter().try_for_each(|vote| self.signature(epoch, vote, body))
    }

    fn committed(&mut self, committed: &Committed) -> Finding {
        let Certificate { epoch, body, endorsements } = &committed.certificate;
        let StatementBody::Commit(ballot) = body else { return Err(format!("COMMITs that say {body:?}")) };
        hold(committed.proposal.digest() == ballot.digest, || format!("another proposal than {ballot:?} names"))?;
        self.derived.commit += 1;
        self.votes(endorsements, *epoch, *body, self.quorum())
    }

    fn checkpoint(&mut self, certificate: &Certificate) -> Result<Seq, String> {
        let Certificate { epoch, body, endorsements } = certificate;
        let StatementBody::Checkpoint { seq, .. } = body else { return Err(format!("CHECKPOINTs that say {body:?}")) };
        self.derived.checkpoint += 1;
        self.votes(endorsements, *epoch, *body, self.quorum())?;
        Ok(*seq)
    }

    /// The PRE-PREPARE of the view's primary and q - 1 matching PREPAREs of others; or q COMMITs in their stead.
    fn slot(&mut self, proof: &SlotProof, epoch: Epoch) -> Result<Ballot, String> {
        match proof {
            SlotProof::Prepared { ballot, primary, prepares } => {
                self.derived.prepared += 1;
                let leader = self.primary(ballot.view);
                hold(primary.signer == leader, || format!("a PRE-PREPARE of {} in {:?}", primary.signer, ballot.view))?;
                self.signature(epoch, primary, StatementBody::PrePrepare(*ballot))?;
                let backups = prepares.iter().all(|prepare| prepare.signer != leader);
                hold(backups, || format!("the primary's own PREPARE counted for {ballot:?}"))?;
                self.votes(prepares, epoch, StatementBody::Prepare(*ballot), self.quorum() - 1)?;
                Ok(*ballot)
            }
            SlotProof::Committed { ballot, commits } => {
                self.derived.commit += 1;
                self.votes(commits, epoch, StatementBody::Commit(*ballot), self.quorum())?;
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
        self.signature(statement.epoch, &by, body)?;
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
        hold(authors.len() >= self.quorum(), || format!("a {} on {} VIEW-CHANGEs", name(), authors.len()))?;
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
            self.signature(statement.epoch, &by, pre_prepare)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_crypto::{ClusterId, FaultModel, Incarnation, Member};
    use quorate_protocol::pbft::view_change_message::ViewChangeBody;

    use super::*;
    use crate::sim::signing::Keyring;

    const CLUSTER: ClusterId = ClusterId(Digest([3; 32]));

    struct Four {
        ring: Keyring,
        oracle: Certificates,
    }

    impl Four {
        fn new() -> Four {
            let ring = Keyring::new(1, 4, false);
            let members = (0..4).map(|id| Member { id: ReplicaId(id), key: ring.key(id.into()).public_key() });
            let committee =
                Committee::new(CLUSTER, Epoch(0), FaultModel::Byzantine, members.collect()).expect("four members");
            let oracle = Certificates::new(committee, ring.scheme(), 16, &[ReplicaId(3)]);
            Four { ring, oracle }
        }

        fn sign(&self, signer: u16, body: StatementBody) -> Signed {
            Four::header(signer, body).sign(CLUSTER, self.ring.key(signer.into()).as_ref())
        }

        fn header(signer: u16, body: StatementBody) -> Statement {
            Statement { epoch: Epoch(0), signer: ReplicaId(signer), incarnation: Incarnation(0), body }
        }

        fn endorse(&self, signer: u16, body: StatementBody) -> Endorsement {
            let signature = self.sign(signer, body).signature;
            Endorsement { signer: ReplicaId(signer), incarnation: Incarnation(0), signature }
        }

        fn prepared(&self, view: u64, seq: u64, digest: Digest) -> SlotProof {
            let ballot = Ballot { view: View(view), seq: Seq(seq), digest };
            let leader = (view % 4) as u16;
            let backups = (0..4).filter(|id| *id != leader).take(2);
            SlotProof::Prepared {
                ballot,
                primary: self.endorse(leader, StatementBody::PrePrepare(ballot)),
                prepares: backups.map(|id| self.endorse(id, StatementBody::Prepare(ballot))).collect(),
            }
        }

        fn view_change(&self, author: u16, view: u64, slots: Vec<SlotProof>) -> ViewChange {
            let body = ViewChangeBody { view: View(view), stable: None, slots };
            let header = Four::header(author, StatementBody::Rejoin { nonce: [0; 16] });
            ViewChange::sign(body, header, CLUSTER, self.ring.key(author.into()).as_ref())
        }

        fn new_view(&self, view: u64, view_changes: &[ViewChange], chosen: &[(Seq, Digest)]) -> Message {
            let author = (view % 4) as u16;
            let header = Four::header(author, StatementBody::Rejoin { nonce: [0; 16] });
            let named = view_changes.iter().map(|message| (message.author(), message.digest())).collect();
            let key = self.ring.key(author.into());
            Message::NewView(NewView::sign(View(view), named, chosen, header, CLUSTER, key.as_ref()))
        }

        fn judge(&mut self, message: &Message) -> Result<(), Violation> {
            self.oracle.left(ReplicaId(1), message)
        }
    }

    #[test]
    fn a_commit_certificate_needs_a_quorum_of_distinct_members() {
        let mut four = Four::new();
        let proposal = Proposal::NULL;
        let ballot = Ballot { view: View(0), seq: Seq(1), digest: proposal.digest() };
        let body = StatementBody::Commit(ballot);
        let with = |four: &Four, signers: &[u16]| {
            let endorsements = signers.iter().map(|id| four.endorse(*id, body)).collect();
            let certificate = Certificate { epoch: Epoch(0), body, endorsements };
            Message::CommitCertificate(Committed { certificate, proposal: proposal.clone() })
        };
        let good = with(&four, &[0, 1, 2]);
        assert_eq!(four.judge(&good), Ok(()));
        for signers in [&[0, 1][..], &[0, 1, 1], &[]] {
            let bad = with(&four, signers);
            assert!(four.judge(&bad).is_err(), "{signers:?}");
        }
        let mut forged = with(&four, &[0, 1, 2]);
        if let Message::CommitCertificate(committed) = &mut forged {
            committed.certificate.endorsements[1].signature.0[3] ^= 1;
        }
        assert!(four.judge(&forged).is_err(), "a bent signature");
    }

    #[test]
    fn a_new_view_must_carry_what_the_paper_computes() {
        let mut four = Four::new();
        let (low, high) = (Digest([1; 32]), Digest([2; 32]));
        let view_changes = [
            four.view_change(0, 6, vec![four.prepared(1, 2, low)]),
            four.view_change(1, 6, vec![four.prepared(4, 2, high)]),
            four.view_change(3, 6, Vec::new()),
        ];
        // A liar sends its body first under what it signed of another one, which everybody refuses.
        let mut mixed = view_changes[1].clone();
        mixed.signed = four.view_change(1, 6, Vec::new()).signed;
        assert_eq!(four.oracle.seen(&Message::ViewChange(mixed)), Ok(()));
        for message in &view_changes {
            let message = Message::ViewChange(message.clone());
            assert_eq!(four.oracle.seen(&message), Ok(()));
            assert_eq!(four.judge(&message), Ok(()));
        }
        let null = Proposal::NULL.digest();
        let right = four.new_view(6, &view_changes, &[(Seq(1), null), (Seq(2), high)]);
        assert_eq!(four.judge(&right), Ok(()));
        for (what, chosen) in [
            ("the lower view's value", vec![(Seq(1), null), (Seq(2), low)]),
            ("a gap filled with an operation", vec![(Seq(1), low), (Seq(2), high)]),
            ("a number left out", vec![(Seq(2), high)]),
            ("nothing", vec![]),
        ] {
            let wrong = four.new_view(6, &view_changes, &chosen);
            assert!(four.judge(&wrong).is_err(), "{what}");
        }
        let too_few = four.new_view(6, &view_changes[..2], &[(Seq(1), null), (Seq(2), high)]);
        assert!(four.judge(&too_few).is_err(), "two VIEW-CHANGEs");
        // What nobody has sent yet is judged when it is sent.
        let late = four.view_change(2, 6, vec![four.prepared(5, 3, low)]);
        let named = [view_changes[0].clone(), view_changes[1].clone(), late.clone()];
        let hiding = four.new_view(6, &named, &[(Seq(1), null), (Seq(2), high)]);
        assert_eq!((four.judge(&hiding), four.oracle.unjudged()), (Ok(()), 1));
        assert!(four.oracle.seen(&Message::ViewChange(late)).is_err(), "it leaves number 3 out");
    }

    /// A stable checkpoint by this replica, in this life of it, and two others in their first.
    fn stable(four: &Four, replica: u16, life: u32, seq: u64) -> Message {
        let body = StatementBody::Checkpoint { seq: Seq(seq), digest: Digest([7; 32]) };
        let others = (1..4).filter(|id| *id != replica).take(2);
        let mut endorsements: Vec<Endorsement> = others.map(|id| four.endorse(id, body)).collect();
        let header = Statement { incarnation: Incarnation(life), ..Four::header(replica, body) };
        let signature = header.sign(CLUSTER, four.ring.key(replica.into()).as_ref()).signature;
        endorsements.push(Endorsement { signer: ReplicaId(replica), incarnation: Incarnation(life), signature });
        Message::StableCheckpoint(Certificate { epoch: Epoch(0), body, endorsements })
    }

    #[test]
    fn each_life_speaks_about_its_own_numbers() {
        let rejoin = |four: &mut Four, signer: u16, life: u32, seq: u64| {
            let body = StatementBody::Rejoin { nonce: [0; 16] };
            let statement = Statement { incarnation: Incarnation(life), ..Four::header(signer, body) };
            let signed = statement.sign(CLUSTER, four.ring.key(signer.into()).as_ref());
            four.oracle.rejoins(&signed, Seq(seq));
        };
        let mut four = Four::new();
        let unborn = stable(&four, 0, 1, 40);
        assert!(four.judge(&unborn).is_err(), "no Rejoin executed");
        // The second of the same incarnation changes nothing, and neither does one that skips a life.
        for (life, seq) in [(1, 10), (1, 12), (3, 13), (2, 50)] {
            rejoin(&mut four, 0, life, seq);
        }
        // The window is 16: the lines are at 26 and at 66.
        for (replica, life, seq, right) in [
            (0, 0, 26, true),
            (0, 0, 27, false),
            (0, 1, 26, false),
            (0, 1, 27, true),
            (0, 1, 66, true),
            (0, 1, 67, false),
            (0, 2, 66, false),
            (0, 2, 67, true),
            (0, 3, 90, false),
            // A liar says what it likes.
            (3, 5, 40, true),
        ] {
            let message = stable(&four, replica, life, seq);
            assert_eq!(four.judge(&message).is_ok(), right, "replica {replica} in life {life} about {seq}");
        }
        let unborn = stable(&four, 0, 4, 90);
        four.oracle.count_among_faulty(ReplicaId(0));
        assert!(four.judge(&unborn).is_ok(), "neither does whose log was damaged follow a rule");
    }

    #[test]
    fn a_view_change_needs_proofs_of_earlier_views_inside_the_window() {
        let mut four = Four::new();
        let digest = Digest([1; 32]);
        let mut short = four.prepared(1, 2, digest);
        if let SlotProof::Prepared { prepares, .. } = &mut short {
            prepares.pop();
        }
        let bad = [
            four.view_change(0, 6, vec![four.prepared(6, 2, digest)]),
            four.view_change(0, 6, vec![four.prepared(1, 17, digest)]),
            four.view_change(0, 6, vec![four.prepared(1, 3, digest), four.prepared(1, 2, digest)]),
            four.view_change(0, 6, vec![short]),
        ];
        for message in bad {
            assert!(four.judge(&Message::ViewChange(message.clone())).is_err(), "{:?}", message.body());
        }
    }
}
