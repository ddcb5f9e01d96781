//! What a liar has and keeps to itself: quorum certificates that only it could make, and blocks that others ask for.

use std::collections::BTreeMap;

use quorate_crypto::View;
use quorate_protocol::hotstuff::block::{Block, BlockContent};
use quorate_protocol::hotstuff::certificate::Vote;
use quorate_protocol::hotstuff::message::Timeout;
use quorate_protocol::message::Message;
use quorate_protocol::proposal::Proposal;
use rand::RngExt as _;

use super::timeouts;
use crate::faults::act::Act;

/// Views whose TIMEOUTs are remembered.
const VIEWS_KEPT: usize = 64;

/// The certificates of the views before its own, which nobody else has: the votes went to the liar alone.
#[derive(Default)]
pub(super) struct HiddenCertificates {
    /// TIMEOUTs that say less than the liar knows.
    told: BTreeMap<View, Timeout>,
}

/// The view of the highest quorum certificate that a message gives away.
fn gives_away(message: &Message) -> Option<View> {
    match message {
        Message::BlockProposal(proposal) => Some(proposal.block.justify.view()),
        Message::QuorumCertificate(certificate) => Some(certificate.view()),
        Message::TimeoutCertificate(certificate) => Some(certificate.high_qc.view()),
        // A vote for the liar's own block, which stays with it.
        Message::BlockVote(signed) => Vote::of(signed.body()).map(|vote| vote.parent_view),
        Message::Blocks(blocks) => blocks.iter().map(|block| block.justify.view()).max(),
        _ => None,
    }
}

impl HiddenCertificates {
    /// Nothing leaves that shows a certificate which nobody else has shown; the view it is of is given up instead.
    pub(super) fn act(&mut self, act: &mut Act<'_>) -> u64 {
        let shown = act.seen.chain().shown();
        let mut hidden = None;
        let mut out = Vec::with_capacity(act.sends.len());
        let mut acted = 0;
        for mut send in std::mem::take(act.sends) {
            let view = gives_away(&send.message).filter(|view| *view > shown);
            if view.is_some() {
                hidden = hidden.max(view);
                acted += 1;
                continue;
            }
            if let Some(timeout) = timeouts::own_timeout(act.hands, &send.message)
                && timeout.high_qc.view() > shown
            {
                send.message = Message::Timeout(self.timeout(act, timeout.view(), shown));
                acted += 1;
            }
            if let Message::HotStuffStatus(status) = &mut send.message
                && status.high_qc_view > shown
            {
                let known = act.seen.chain().highest_before(shown.next());
                (status.high_qc_view, status.high_qc_block) = (known.view(), known.block());
            }
            out.push(send);
        }
        *act.sends = out;
        if let Some(view) = hidden
            && !self.told.contains_key(&view)
            && act.seen.chain().timeout_of(view, act.hands.id).is_none()
        {
            let timeout = self.timeout(act, view, shown);
            act.tell_all(Message::Timeout(timeout));
        }
        acted
    }

    /// The TIMEOUT of a view with the highest certificate that is no secret: the same one each time.
    fn timeout(&mut self, act: &Act<'_>, view: View, shown: View) -> Timeout {
        if let Some(told) = self.told.get(&view) {
            return told.clone();
        }
        let known = act.seen.chain().highest_before(shown.next().min(view));
        let timeout = timeouts::sign(act.hands, view, known);
        self.told.insert(view, timeout.clone());
        while self.told.len() > VIEWS_KEPT {
            self.told.pop_first();
        }
        timeout
    }
}

/// Whoever asks for blocks gets none, one at a time, or one of another chain.
pub(super) fn blocks(act: &mut Act<'_>) -> u64 {
    let mut acted = 0;
    let mut out = Vec::with_capacity(act.sends.len());
    for mut send in std::mem::take(act.sends) {
        let Message::Blocks(blocks) = &mut send.message else {
            out.push(send);
            continue;
        };
        acted += 1;
        match act.random.random_range(0..3) {
            0 => continue,
            1 if blocks.len() > 1 => blocks.truncate(1),
            _ => {
                let Some(other) = blocks.first().map(|first| of_another_chain(act, first)) else { continue };
                *blocks = vec![other];
            }
        }
        out.push(send);
    }
    *act.sends = out;
    acted
}

/// A block of the same view that is not the one asked for, or one like it that orders something else.
fn of_another_chain(act: &Act<'_>, asked: &Block) -> Block {
    let seen = act.seen.chain().blocks().rev();
    let other = seen.filter(|block| block.view == asked.view).find(|block| block.digest() != asked.digest());
    other.cloned().unwrap_or_else(|| {
        let proposal = Proposal { time: asked.proposal.time.wrapping_add(1), ..asked.proposal.clone() };
        Block::new(BlockContent { proposal, ..asked.content().clone() })
    })
}
