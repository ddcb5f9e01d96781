//! HotStuff's certificates and promises, derived again from the paper (Jolteon, figure 3) without the code that the replicas
//! check them with.
//!
//! | what | rule |
//! |---|---|
//! | QC | q distinct votes for one block, signed with the block's view and that of the certificate it rests on |
//! | TC | q distinct TIMEOUTs of one view, with a QC of the highest view that they name |
//! | block | on the block that its QC certifies; in the view after that, or after that of its TC, whose TIMEOUTs name no higher QC |
//! | leader | a block is by who leads its view, and says of all leaders what its chain says ([`super::leadership`]) |
//! | vote | for a block somebody sent, of which all of that holds |
//! | promises | what a replica names in a TIMEOUT is never lower than what its votes, proposals and TIMEOUTs up to that view rest on |
//! | proposal | on the highest QC the replica has shown, or on the one that the TC entering the view carries |
//! | decision | some certified block has its direct parent in the view before, and that is the decided block or extends it |
//!
//! A vote for oneself leaves nobody, and neither does a certificate at once; so a decision counts q - 1 votes that were sent
//! for a certificate: the last is the decider's own. When something was signed cannot be seen, since it is sent again later:
//! no rule here depends on the order in which messages leave. So may a proposal be, of a leader that died before it left, and
//! after the leader's own vote for it: such a vote is judged when its block is sent.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::encoding::encode;
use quorate_crypto::{Committee, Digest, Domain, Endorsement, ReplicaId, Seq, Signed, StatementBody, View};
use quorate_protocol::hotstuff::block::{Block, genesis_digest};
use quorate_protocol::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate, VoteCertificate};
use quorate_protocol::hotstuff::message::{BlockProposal, Timeout};
use quorate_protocol::message::Message;

use super::leadership;
use super::signatures::{Finding, Signatures, hold};

/// How much was derived again.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::sim) struct Derived {
    pub(in crate::sim) quorum: u64,
    pub(in crate::sim) timeout: u64,
    pub(in crate::sim) votes: u64,
    pub(in crate::sim) timeouts: u64,
    pub(in crate::sim) proposals: u64,
    pub(in crate::sim) decisions: u64,
}

/// What one replica promised, in all its lives.
#[derive(Default)]
struct Promised {
    /// By view: the view of the certificate that the block rests on.
    votes: BTreeMap<View, View>,
    /// By view: the view of the highest QC it names.
    timeouts: BTreeMap<View, View>,
    /// By view: the view of the certificate that the block rests on.
    proposals: BTreeMap<View, View>,
}

/// Derives HotStuff's certificates again.
pub(in crate::sim) struct BlockCertificates {
    /// Every block that anybody sent.
    blocks: BTreeMap<Digest, Block>,
    /// Blocks that a certificate names which was found right.
    certified: BTreeSet<Digest>,
    /// Who voted for what, by block, as far as it was sent.
    votes: BTreeMap<(View, Digest), BTreeSet<ReplicaId>>,
    /// Certificates that were found right: they are sent many times.
    right: BTreeSet<Digest>,
    /// Proposals of committed blocks, by number; several only beyond f.
    committed: BTreeMap<Seq, BTreeSet<Digest>>,
    /// Blocks below which everything is entered as committed.
    settled: BTreeSet<Digest>,
    promised: BTreeMap<ReplicaId, Promised>,
    /// Votes of honest replicas for blocks that nobody has sent yet.
    waiting: BTreeMap<Digest, (ReplicaId, Signed)>,
    pub(super) derived: Derived,
}

/// qc.view = v - 1, or tc.view = v - 1 and qc.view >= every high-QC view in the tc.
fn justified(block: &Block) -> bool {
    let (view, rests_on) = (block.view.0, block.justify.view().0);
    let by_timeout = |timeout: &TimeoutCertificate| {
        timeout.view.0 + 1 == view && timeout.timeouts.iter().all(|one| rests_on >= one.high_view.0)
    };
    rests_on < view && (rests_on + 1 == view || block.timeout.as_ref().is_some_and(by_timeout))
}

impl BlockCertificates {
    pub(super) fn new() -> BlockCertificates {
        BlockCertificates {
            blocks: BTreeMap::from([(genesis_digest(), Block::genesis())]),
            certified: BTreeSet::new(),
            votes: BTreeMap::new(),
            right: BTreeSet::new(),
            committed: BTreeMap::new(),
            settled: BTreeSet::new(),
            promised: BTreeMap::new(),
            waiting: BTreeMap::new(),
            derived: Derived::default(),
        }
    }

    /// Anybody sends a message: what it certifies may be decided upon.
    pub(super) fn seen(&mut self, signatures: &mut Signatures, message: &Message) -> Finding {
        let mut waited = Vec::new();
        match message {
            Message::BlockProposal(proposal) => waited.extend(self.learn(&proposal.block)),
            Message::Blocks(blocks) => waited.extend(blocks.iter().filter_map(|block| self.learn(block))),
            Message::BlockVote(signed) => {
                if let StatementBody::BlockVote { view, block, .. } = *signed.body()
                    && signatures.signed(signed).is_ok()
                {
                    self.votes.entry((view, block)).or_default().insert(signed.signer());
                }
            }
            _ => {}
        }
        // Of a liar some hold and others do not, and none of it is its fault alone.
        let _ = self.certificates_in(signatures, message);
        waited.into_iter().try_for_each(|(author, voter, signed)| {
            hold(author == voter, || format!("a block of {author} for which {voter} voted before"))?;
            self.vote(signatures, voter, &signed).map_err(|what| format!("{what}, by {voter}"))
        })
    }

    /// Keeps a block; its author and the vote that waited for it, if one did.
    fn learn(&mut self, block: &Block) -> Option<(ReplicaId, ReplicaId, Signed)> {
        self.blocks.entry(block.digest()).or_insert_with(|| block.clone());
        let (voter, signed) = self.waiting.remove(&block.digest())?;
        Some((block.author, voter, signed))
    }

    /// Votes for blocks that nobody ever sent.
    pub(super) fn unjudged(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Every certificate in a message that its receiver is to believe proves what it claims.
    pub(super) fn certificates_in(&mut self, signatures: &mut Signatures, message: &Message) -> Finding {
        match message {
            Message::BlockProposal(proposal) => self.certificates_of(signatures, &proposal.block),
            Message::Timeout(timeout) => self.quorum_certificate(signatures, &timeout.high_qc),
            Message::QuorumCertificate(certificate) => self.quorum_certificate(signatures, certificate),
            Message::TimeoutCertificate(certificate) => self.timeout_certificate(signatures, certificate),
            _ => Ok(()),
        }
    }

    fn certificates_of(&mut self, signatures: &mut Signatures, block: &Block) -> Finding {
        self.quorum_certificate(signatures, &block.justify)?;
        let timeout = block.timeout.as_ref();
        timeout.map_or(Ok(()), |timeout| self.timeout_certificate(signatures, timeout))
    }

    fn quorum_certificate(&mut self, signatures: &mut Signatures, certificate: &QuorumCertificate) -> Finding {
        let QuorumCertificate::Votes(VoteCertificate { epoch, vote, endorsements }) = certificate else {
            return Ok(());
        };
        let name = Digest::of(Domain::Trace, &[&encode(certificate)]);
        if self.right.contains(&name) {
            return Ok(());
        }
        self.derived.quorum += 1;
        let body = StatementBody::BlockVote { view: vote.view, block: vote.block, parent_view: vote.parent_view };
        signatures.votes(endorsements, *epoch, body, signatures.quorum())?;
        // An honest replica is among the voters.
        let Some(block) = self.blocks.get(&vote.block) else {
            return Err(format!("a certificate for {:?} of {}, which nobody proposed", vote.block, vote.view));
        };
        let says = (block.view, block.justify.view());
        hold(says == (vote.view, vote.parent_view), || {
            format!("a certificate {vote:?} for a block that says {says:?}")
        })?;
        self.right.insert(name);
        if self.certified.insert(vote.block) {
            self.commit_by(signatures, vote.block);
        }
        Ok(())
    }

    fn timeout_certificate(&mut self, signatures: &mut Signatures, certificate: &TimeoutCertificate) -> Finding {
        let name = Digest::of(Domain::Trace, &[&encode(certificate)]);
        if self.right.contains(&name) {
            return Ok(());
        }
        self.derived.timeout += 1;
        let TimeoutCertificate { epoch, view, timeouts, high_qc } = certificate;
        hold(*epoch == signatures.committee.epoch(), || format!("a TC of epoch {epoch}"))?;
        let authors: BTreeSet<ReplicaId> = timeouts.iter().map(|timeout| timeout.signer).collect();
        let enough = authors.len() == timeouts.len() && authors.len() >= signatures.quorum();
        hold(enough, || format!("a TC({view}) of {authors:?}, {} TIMEOUTs", timeouts.len()))?;
        for timeout in timeouts {
            let body = StatementBody::Timeout { view: *view, high_view: timeout.high_view };
            let by =
                Endorsement { signer: timeout.signer, incarnation: timeout.incarnation, signature: timeout.signature };
            signatures.signature(*epoch, &by, body)?;
        }
        let highest = timeouts.iter().map(|timeout| timeout.high_view).max().unwrap_or_default();
        let carried = high_qc.view();
        hold(carried == highest && highest < *view, || {
            format!("a TC({view}) with a certificate of {carried} whose TIMEOUTs name {highest}")
        })?;
        self.quorum_certificate(signatures, high_qc)?;
        self.right.insert(name);
        Ok(())
    }

    /// A certified block commits its parent, if that is of the view before, and all below it.
    fn commit_by(&mut self, signatures: &mut Signatures, certified: Digest) {
        let Some(mut next) = self.committed_by(&certified).map(Block::digest) else { return };
        while self.settled.insert(next) {
            let Some(block) = self.blocks.get(&next) else { return };
            if !block.is_null() {
                signatures.commits(block.seq, block.view);
                self.committed.entry(block.seq).or_default().insert(block.proposal.digest());
            }
            next = block.parent;
        }
    }

    fn committed_by(&self, certified: &Digest) -> Option<&Block> {
        let child = self.blocks.get(certified)?;
        self.blocks.get(&child.parent).filter(|parent| parent.view.0 + 1 == child.view.0)
    }

    /// An honest replica decided this proposal at this number.
    pub(super) fn decided(&mut self, signatures: &Signatures, seq: Seq, proposal: Digest) -> Finding {
        self.derived.decisions += 1;
        if self.committed.get(&seq).is_some_and(|committed| committed.contains(&proposal)) {
            return Ok(());
        }
        let needed = signatures.quorum() - 1;
        let nearly = self.votes.iter().rev().filter(|(_, voters)| voters.len() >= needed);
        for ((_, certified), _) in nearly {
            let mut block = self.committed_by(certified);
            while let Some(one) = block.filter(|one| one.seq >= seq) {
                if one.seq == seq && one.proposal.digest() == proposal {
                    return Ok(());
                }
                block = self.blocks.get(&one.parent);
            }
        }
        Err(format!("{proposal:?} at {seq}, which no certificate commits"))
    }

    /// A message leaves an honest replica.
    pub(super) fn left(&mut self, signatures: &mut Signatures, replica: ReplicaId, message: &Message) -> Finding {
        self.certificates_in(signatures, message)?;
        match message {
            Message::BlockProposal(proposal) => self.proposal(signatures, replica, proposal)?,
            Message::BlockVote(signed) => self.vote(signatures, replica, signed)?,
            Message::Timeout(timeout) => self.timeout(signatures, timeout)?,
            _ => {}
        }
        own_statements(replica, message).iter().try_for_each(|signed| self.promise(replica, signed))
    }

    fn proposal(&mut self, signatures: &Signatures, replica: ReplicaId, proposal: &BlockProposal) -> Finding {
        self.derived.proposals += 1;
        let BlockProposal { signed, block } = proposal;
        let (view, author) = (block.view, signed.signer());
        signatures.signed(signed)?;
        let names = StatementBody::Proposal { view, block: block.digest() };
        hold(*signed.body() == names && author == block.author, || {
            format!("a proposal that signs {:?}", signed.body())
        })?;
        self.sound(&signatures.committee, block)?;
        if author != replica {
            return Ok(());
        }
        // The TC's certificate is chosen where only by that one the replica leads.
        let rests_on = block.justify.view();
        let by_timeout = block.timeout.as_ref().is_some_and(|timeout| timeout.high_qc.view() == rests_on);
        let shown = self.promised.get(&replica).map_or(View(0), |promised| promised.shown_below(view));
        hold(rests_on >= shown || by_timeout, || {
            format!("a block of {view} on a certificate of {rests_on}, and has shown one of {shown}")
        })
    }

    /// What every voter looks at, whatever it promised.
    fn sound(&self, committee: &Committee, block: &Block) -> Finding {
        let name = || format!("a block of {} on a certificate of {}", block.view, block.justify.view());
        hold(justified(block), || format!("{}, which does not justify it", name()))?;
        let certifies = match &block.justify {
            QuorumCertificate::Genesis => genesis_digest(),
            QuorumCertificate::Votes(votes) => votes.vote.block,
        };
        hold(block.parent == certifies, || format!("{}, on another block than that certifies", name()))?;
        let Some(parent) = self.blocks.get(&block.parent) else { return Ok(()) };
        let number = parent.seq.0 + u64::from(!block.is_null());
        hold(block.seq.0 == number, || format!("{}, with number {} for {number}", name(), block.seq))?;
        leadership::follows(&self.blocks, committee, block)
    }

    fn vote(&mut self, signatures: &mut Signatures, replica: ReplicaId, signed: &Signed) -> Finding {
        self.derived.votes += 1;
        signatures.signed(signed)?;
        let StatementBody::BlockVote { view, block: voted, parent_view } = *signed.body() else {
            return Err(format!("a vote that says {:?}", signed.body()));
        };
        let Some(block) = self.blocks.get(&voted).cloned() else {
            // It has to be its own: nobody else could have it.
            let (first, _) = *self.waiting.entry(voted).or_insert((replica, *signed));
            return hold(first == replica, || {
                format!("a vote in {view} for {voted:?}, as {first} did, and nobody sent it")
            });
        };
        let says = (block.view, block.justify.view());
        hold(says == (view, parent_view), || {
            format!("a vote in {view}, parent in {parent_view}, for a block that says {says:?}")
        })?;
        self.certificates_of(signatures, &block).map_err(|what| format!("a vote in {view} for a block with {what}"))?;
        self.sound(&signatures.committee, &block).map_err(|what| format!("a vote for {what}"))
    }

    fn timeout(&mut self, signatures: &Signatures, timeout: &Timeout) -> Finding {
        self.derived.timeouts += 1;
        signatures.signed(&timeout.signed)?;
        let StatementBody::Timeout { view, high_view } = *timeout.signed.body() else {
            return Err(format!("a TIMEOUT that says {:?}", timeout.signed.body()));
        };
        let carried = timeout.high_qc.view();
        hold(carried == high_view && high_view < view, || {
            format!("TIMEOUT({view}) that names {high_view} and carries a certificate of {carried}")
        })
    }

    /// Holds a statement against everything its author ever promised.
    fn promise(&mut self, replica: ReplicaId, signed: &Signed) -> Finding {
        let rests_on =
            |blocks: &BTreeMap<Digest, Block>, block: &Digest| blocks.get(block).map(|one| one.justify.view());
        let promised = self.promised.entry(replica).or_default();
        match *signed.body() {
            StatementBody::BlockVote { view, parent_view, .. } => {
                promised.votes.insert(view, parent_view);
                promised.not_above_later_timeouts("a vote", view, parent_view)
            }
            StatementBody::Proposal { view, block } => {
                let Some(rests_on) = rests_on(&self.blocks, &block) else { return Ok(()) };
                promised.proposals.insert(view, rests_on);
                promised.not_above_later_timeouts("a proposal", view, rests_on)
            }
            StatementBody::Timeout { view, high_view } => {
                promised.timeouts.insert(view, high_view);
                promised.not_above_later_timeouts("a TIMEOUT", view, high_view)?;
                let shown = promised.shown_up_to(view);
                hold(high_view >= shown, || {
                    format!("TIMEOUT({view}) that names {high_view}, and up to that view has shown {shown}")
                })
            }
            _ => Ok(()),
        }
    }
}

impl Promised {
    /// The highest certificate shown in views below this one.
    fn shown_below(&self, view: View) -> View {
        let all = [&self.votes, &self.timeouts, &self.proposals];
        all.iter().flat_map(|views| views.range(..view)).map(|(_, shown)| *shown).max().unwrap_or_default()
    }

    /// And this one included.
    fn shown_up_to(&self, view: View) -> View {
        self.shown_below(view.next())
    }

    /// Every TIMEOUT of this view or a later one was signed after what is said here, and names no lower certificate.
    fn not_above_later_timeouts(&self, what: &str, view: View, rests_on: View) -> Finding {
        let lower = self.timeouts.range(view..).find(|(_, named)| **named < rests_on);
        lower.map_or(Ok(()), |(later, named)| {
            Err(format!("{what} in {view} that rests on {rests_on}, and TIMEOUT({later}) that names only {named}"))
        })
    }
}

/// What `replica` itself says in a message of HotStuff, its votes and TIMEOUTs inside certificates included: a leader's own
/// vote leaves it nowhere else.
pub(super) fn own_statements(replica: ReplicaId, message: &Message) -> Vec<Signed> {
    let mut own = Vec::new();
    let mut of_quorum = |certificate: &QuorumCertificate| {
        own.extend(certificate.statements().into_iter().filter(|signed| signed.signer() == replica));
    };
    let mut said: Vec<Signed> = Vec::new();
    match message {
        Message::BlockProposal(proposal) => {
            of_quorum(&proposal.block.justify);
            said.extend(proposal.block.timeout.iter().flat_map(TimeoutCertificate::statements));
            said.push(proposal.signed);
        }
        Message::BlockVote(signed) => said.push(*signed),
        Message::Timeout(timeout) => {
            of_quorum(&timeout.high_qc);
            said.push(timeout.signed);
        }
        Message::QuorumCertificate(certificate) => of_quorum(certificate),
        Message::TimeoutCertificate(certificate) => {
            of_quorum(&certificate.high_qc);
            said.extend(certificate.statements());
        }
        _ => {}
    }
    own.extend(said.into_iter().filter(|signed| signed.signer() == replica));
    own
}

#[cfg(test)]
mod tests;
