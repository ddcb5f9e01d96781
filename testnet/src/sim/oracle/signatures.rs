//! Signatures, quorums and lives, restated: what the certificates of both protocols are derived from ([`super::certificates`],
//! [`super::block_certificates`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_crypto::{
    Committee, Endorsement, Epoch, Protocol, ReplicaId, Seq, SignatureScheme, Signed, Statement, StatementBody, View,
};

pub(super) type Finding = Result<(), String>;

pub(super) fn hold(condition: bool, what: impl FnOnce() -> String) -> Finding {
    if condition { Ok(()) } else { Err(what()) }
}

/// What says whether a signature counts.
pub(super) struct Signatures {
    pub(super) committee: Committee,
    scheme: Arc<dyn SignatureScheme>,
    /// How far above the number of a Rejoin the line between two lives is: L under PBFT, where a window of numbers is in
    /// flight; nothing under HotStuff, where numbers are decided one by one.
    gap: u64,
    /// Where the Rejoin executed that began each life of a replica but its first, ascending: life i is at place i - 1.
    lives: BTreeMap<ReplicaId, Vec<Seq>>,
    /// HotStuff: the views of the blocks that certificates commit, by number. One each, unless agreement is broken.
    views: BTreeMap<Seq, BTreeSet<View>>,
    /// What these sign follows no rule.
    faulty: BTreeSet<ReplicaId>,
}

impl Signatures {
    pub(super) fn new(
        committee: Committee,
        scheme: Arc<dyn SignatureScheme>,
        protocol: Protocol,
        window: u64,
        liars: &[ReplicaId],
    ) -> Signatures {
        let gap = match protocol {
            Protocol::Pbft => window,
            Protocol::HotStuff => 0,
        };
        Signatures {
            committee,
            scheme,
            gap,
            lives: BTreeMap::new(),
            views: BTreeMap::new(),
            faulty: liars.iter().copied().collect(),
        }
    }

    /// The one order has a Rejoin at `seq`: the first of the next incarnation begins a life, any other changes nothing.
    pub(super) fn rejoins(&mut self, statement: &Signed, seq: Seq) {
        let lives = self.lives.entry(statement.signer()).or_default();
        if statement.statement.incarnation.0 as usize == lives.len() + 1 {
            lives.push(seq);
        }
    }

    /// A block of this view with this number is committed.
    pub(super) fn commits(&mut self, seq: Seq, view: View) {
        self.views.entry(seq).or_default().insert(view);
    }

    /// What a replica signs follows no rule from now on.
    pub(super) fn count_among_faulty(&mut self, replica: ReplicaId) {
        self.faulty.insert(replica);
    }

    /// f = floor((n - 1) / 3).
    pub(super) fn faults(&self) -> usize {
        (self.committee.size() - 1) / 3
    }

    /// The least q with which two quorums share an honest replica: 2q - n > f.
    pub(super) fn quorum(&self) -> usize {
        usize::midpoint(self.committee.size(), self.faults()) + 1
    }

    pub(super) fn signature(&self, epoch: Epoch, by: &Endorsement, body: StatementBody) -> Finding {
        let key = self.committee.key(by.signer).ok_or_else(|| format!("a vote of stranger {}", by.signer))?;
        self.life(by, body)?;
        let statement = Statement { epoch, signer: by.signer, incarnation: by.incarnation, body };
        let bytes = statement.bytes(self.committee.cluster());
        hold(self.scheme.verify(key, &bytes, &by.signature), || {
            format!("a vote that {} never signed: {body:?}", by.signer)
        })
    }

    /// A statement that travels alone.
    pub(super) fn signed(&self, signed: &Signed) -> Finding {
        let Statement { epoch, signer, incarnation, body } = signed.statement;
        hold(epoch == self.committee.epoch(), || format!("a statement of epoch {epoch}"))?;
        self.signature(epoch, &Endorsement { signer, incarnation, signature: signed.signature }, body)
    }

    /// A replica that keeps to this never contradicts what it has forgotten (protocol.md, Rejoin). With n_r the number where
    /// a Rejoin executed and w the view of the block that holds it:
    ///
    /// | | the life before it | the one after it |
    /// |---|---|---|
    /// | PBFT | nothing above n_r + L | nothing at or below |
    /// | HotStuff, about views | nothing in a view after w | nothing in w or before |
    /// | HotStuff, about numbers | nothing above n_r | nothing at or below, but CHECKPOINT |
    fn life(&self, by: &Endorsement, body: StatementBody) -> Finding {
        let lines: &dyn Fn(Seq) -> Option<u64> = &|seq| Some(seq.0 + self.gap);
        // A number that two blocks bear is beyond f; one whose block nobody has certified in public yet draws no line.
        let views: &dyn Fn(Seq) -> Option<u64> = &|seq| {
            let views = self.views.get(&seq).filter(|views| views.len() == 1)?;
            views.first().map(|view| view.0)
        };
        let (about, line) = match body {
            StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) => {
                (ballot.seq.0, lines)
            }
            StatementBody::Checkpoint { seq, .. } | StatementBody::Executed { seq, .. } => (seq.0, lines),
            StatementBody::Proposal { view, .. }
            | StatementBody::BlockVote { view, .. }
            | StatementBody::Timeout { view, .. } => (view.0, views),
            _ => return Ok(()),
        };
        if self.faulty.contains(&by.signer) {
            return Ok(());
        }
        let life = by.incarnation.0 as usize;
        let lives = self.lives.get(&by.signer).map_or(&[][..], Vec::as_slice);
        let name = || format!("a vote of {} in life {life}, which has rejoined at {lives:?}, for {body:?}", by.signer);
        hold(life <= lives.len(), name)?;
        let line = |place: usize| lives.get(place).and_then(|rejoined| line(*rejoined));
        // What was decided says what state there is at a number: no life contradicts another about it.
        let vouches_for_any = self.gap == 0 && matches!(body, StatementBody::Checkpoint { .. });
        hold(life == 0 || vouches_for_any || line(life - 1).is_none_or(|line| about > line), name)?;
        hold(line(life).is_none_or(|line| about <= line), name)
    }

    pub(super) fn votes(&self, votes: &[Endorsement], epoch: Epoch, body: StatementBody, needed: usize) -> Finding {
        hold(epoch == self.committee.epoch(), || format!("a certificate of epoch {epoch}"))?;
        let authors: BTreeSet<ReplicaId> = votes.iter().map(|vote| vote.signer).collect();
        hold(authors.len() == votes.len(), || format!("an author twice under {body:?}"))?;
        hold(authors.len() >= needed, || format!("{} of {needed} votes for {body:?}", authors.len()))?;
        votes.iter().try_for_each(|vote| self.signature(epoch, vote, body))
    }
}
