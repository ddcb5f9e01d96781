//! What a liar has seen of HotStuff: blocks, the certificates on them, and who gave up which view.

use std::collections::{BTreeMap, VecDeque};

use quorate_crypto::{Committee, Digest, ReplicaId, View};
use quorate_protocol::hotstuff::block::Block;
use quorate_protocol::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate};
use quorate_protocol::hotstuff::leaders::{Counted, Standing};
use quorate_protocol::hotstuff::message::Timeout;
use quorate_protocol::message::Message;

/// Blocks remembered.
const BLOCKS_KEPT: usize = 128;
/// Quorum certificates remembered, one a view.
const CERTIFICATES_KEPT: usize = 64;
/// Views whose TIMEOUTs, and whose timeout certificates, are remembered.
const VIEWS_KEPT: usize = 16;

/// A liar's memory. The oldest goes first, whatever it is.
#[derive(Default)]
pub(in crate::faults) struct Chain {
    in_use: bool,
    blocks: BTreeMap<Digest, Block>,
    order: VecDeque<Digest>,
    quorums: BTreeMap<View, QuorumCertificate>,
    timeouts: BTreeMap<View, BTreeMap<ReplicaId, Timeout>>,
    gave_up: BTreeMap<View, TimeoutCertificate>,
    /// The highest view of a quorum certificate that somebody else has shown.
    shown: View,
}

impl Chain {
    /// What somebody else said.
    pub(in crate::faults) fn hear(&mut self, message: &Message) {
        self.note(message);
        let certificates = match message {
            Message::BlockProposal(proposal) => vec![proposal.block.justify.view()],
            Message::QuorumCertificate(certificate) => vec![certificate.view()],
            Message::Timeout(timeout) => vec![timeout.high_qc.view()],
            Message::TimeoutCertificate(certificate) => vec![certificate.high_qc.view()],
            Message::HotStuffStatus(status) => vec![status.high_qc_view],
            _ => Vec::new(),
        };
        self.shown = certificates.into_iter().fold(self.shown, View::max);
    }

    /// Takes what is in a message, whoever says it.
    pub(in crate::faults) fn note(&mut self, message: &Message) {
        match message {
            Message::BlockProposal(proposal) => {
                self.block(&proposal.block);
                self.quorum(&proposal.block.justify);
                if let Some(certificate) = &proposal.block.timeout {
                    self.timeout_certificate(certificate);
                }
            }
            Message::QuorumCertificate(certificate) => self.quorum(certificate),
            Message::Timeout(timeout) => {
                self.quorum(&timeout.high_qc);
                let of_view = self.timeouts.entry(timeout.view()).or_default();
                of_view.insert(timeout.signed.signer(), timeout.clone());
                cut(&mut self.timeouts, VIEWS_KEPT);
            }
            Message::TimeoutCertificate(certificate) => self.timeout_certificate(certificate),
            // Nobody has verified the certificates inside, and a liar wants to know true ones.
            Message::Blocks(blocks) => blocks.iter().for_each(|block| self.block(block)),
            Message::HotStuffStatus(_) | Message::BlockVote(_) | Message::FetchBlocks(_) => {}
            _ => return,
        }
        self.in_use = true;
    }

    fn block(&mut self, block: &Block) {
        let digest = block.digest();
        if self.blocks.insert(digest, block.clone()).is_none() {
            self.order.push_back(digest);
        }
        if self.order.len() > BLOCKS_KEPT
            && let Some(gone) = self.order.pop_front()
        {
            self.blocks.remove(&gone);
        }
    }

    fn quorum(&mut self, certificate: &QuorumCertificate) {
        if matches!(certificate, QuorumCertificate::Votes(_)) {
            self.quorums.insert(certificate.view(), certificate.clone());
            cut(&mut self.quorums, CERTIFICATES_KEPT);
        }
    }

    fn timeout_certificate(&mut self, certificate: &TimeoutCertificate) {
        self.quorum(&certificate.high_qc);
        self.gave_up.insert(certificate.view, certificate.clone());
        cut(&mut self.gave_up, VIEWS_KEPT);
    }

    /// Whether the replicas speak HotStuff at all.
    pub(in crate::faults) const fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// A block by its digest.
    pub(super) fn get(&self, digest: &Digest) -> Option<Block> {
        let genesis = Block::genesis();
        if *digest == genesis.digest() { Some(genesis) } else { self.blocks.get(digest).cloned() }
    }

    /// All blocks, the oldest heard first.
    pub(super) fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.order.iter().filter_map(|digest| self.blocks.get(digest))
    }

    /// Signed quorum certificates of views before this one, lowest first.
    pub(super) fn quorums_before(&self, view: View) -> Vec<&QuorumCertificate> {
        self.quorums.range(..view).map(|(_, certificate)| certificate).collect()
    }

    /// The highest quorum certificate of a view before this one; that of the genesis block if no other is known.
    pub(in crate::faults) fn highest_before(&self, view: View) -> QuorumCertificate {
        self.quorums_before(view).last().map_or(QuorumCertificate::Genesis, |certificate| (*certificate).clone())
    }

    /// The highest view of a quorum certificate that somebody else has shown.
    pub(in crate::faults) const fn shown(&self) -> View {
        self.shown
    }

    /// The newest timeout certificate.
    pub(super) fn newest_timeout_certificate(&self) -> Option<&TimeoutCertificate> {
        self.gave_up.last_key_value().map(|(_, certificate)| certificate)
    }

    /// The TIMEOUT of one view that `author` said last.
    pub(in crate::faults) fn timeout_of(&self, view: View, author: ReplicaId) -> Option<&Timeout> {
        self.timeouts.get(&view)?.get(&author)
    }

    /// A timeout certificate of `view`: one that was heard, or made of the TIMEOUTs that were.
    pub(super) fn timeout_certificate_of(&self, view: View, committee: &Committee) -> Option<TimeoutCertificate> {
        if let Some(certificate) = self.gave_up.get(&view) {
            return Some(certificate.clone());
        }
        let timeouts = self.timeouts.get(&view).filter(|timeouts| timeouts.len() >= committee.quorum())?;
        TimeoutCertificate::collect(timeouts.values().map(|timeout| (&timeout.signed, &timeout.high_qc)))
    }

    /// The standing that a block of `view` by `author` on `parent` must have, if the chain is known far enough.
    pub(super) fn standing(
        &self,
        parent: &Block,
        view: View,
        author: ReplicaId,
        committee: &Committee,
    ) -> Option<Standing> {
        let counted = self.counted(parent)?;
        Some(parent.standing.after(&counted, parent.view, view, author, committee))
    }

    /// What the leaders after a block follow from: it, and the newest block that the certificates inside its chain commit.
    fn counted(&self, block: &Block) -> Option<Counted> {
        let mut at = block.clone();
        while at.view > View(0) {
            let parent = self.get(&at.parent)?;
            if parent.view == View(0) {
                return Some(block.counted(&parent));
            }
            let grandparent = self.get(&parent.parent)?;
            if grandparent.view.next() == parent.view {
                return Some(block.counted(&grandparent));
            }
            at = parent;
        }
        Some(block.counted(&at))
    }
}

fn cut<V>(map: &mut BTreeMap<View, V>, kept: usize) {
    while map.len() > kept {
        map.pop_first();
    }
}
