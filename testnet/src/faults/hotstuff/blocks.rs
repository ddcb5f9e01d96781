//! The lying leader under HotStuff: what its blocks hold and rest on, and who gets which.

use std::collections::BTreeMap;

use quorate_crypto::{ReplicaId, StatementBody, View};
use quorate_protocol::engine::{Recipients, Send};
use quorate_protocol::hotstuff::block::{Block, BlockContent};
use quorate_protocol::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate, Vote};
use quorate_protocol::hotstuff::message::BlockProposal;
use quorate_protocol::message::Message;
use quorate_protocol::proposal::{Payload, Proposal};
use rand::RngExt as _;

use super::own_vote;
use crate::faults::act::Act;
use crate::faults::equivocation;
use crate::faults::hands::Hands;

/// Views a lie is remembered for; older ones are forgotten.
const LIES_KEPT: usize = 256;
/// A slow leader's blocks leave after this share of the view timeout, in tenths: what is then still needed for votes and
/// their certificate fits into the rest.
const SLOW_TENTHS: u64 = 8;

/// What was told in place of the honest block of one view, or beside it.
struct Lie {
    told: BlockProposal,
    /// Who is told it, if not everybody.
    audience: Option<Vec<ReplicaId>>,
    /// Whether the own vote is for it, too.
    voted_for: bool,
}

/// A lying leader's memory of its blocks: sent again, they are the same.
#[derive(Default)]
pub(in crate::faults) struct Blocks {
    lies: BTreeMap<View, Lie>,
    /// When a slow block may leave.
    due: BTreeMap<View, u64>,
}

/// The liar's own proposal, if the message is one.
pub(super) fn own_proposal<'a>(hands: &Hands, message: &'a Message) -> Option<&'a BlockProposal> {
    match message {
        Message::BlockProposal(proposal) if proposal.signed.signer() == hands.id => Some(proposal),
        _ => None,
    }
}

/// Signs a block in the liar's own name.
fn propose(hands: &Hands, content: BlockContent) -> BlockProposal {
    let block = Block::new(content);
    let signed = hands.sign(StatementBody::Proposal { view: block.view, block: block.digest() });
    BlockProposal { signed, block }
}

/// The content of a block that orders something else at the same place.
pub(in crate::faults) fn content_with(block: &Block, proposal: Proposal) -> BlockContent {
    let parent_seq = if block.is_null() { block.seq.0 } else { block.seq.0.saturating_sub(1) };
    let takes_number = u64::from(proposal.payload != Payload::Null);
    BlockContent {
        seq: quorate_crypto::Seq(parent_seq.saturating_add(takes_number)),
        proposal,
        ..block.content().clone()
    }
}

impl Blocks {
    /// Every own block becomes another one, the same for everybody, and is voted for.
    pub(in crate::faults) fn replace(
        &mut self,
        act: &mut Act<'_>,
        mut otherwise: impl FnMut(&mut Act<'_>, &Block) -> Option<BlockContent>,
    ) -> u64 {
        let mut acted = 0;
        for index in 0..act.sends.len() {
            let Some(honest) = own_proposal(act.hands, &act.sends[index].message).cloned() else {
                self.vote_for_lie(act, index);
                continue;
            };
            let view = honest.block.view;
            if !self.lies.contains_key(&view) {
                let Some(content) = otherwise(act, &honest.block) else { continue };
                self.keep(view, Lie { told: propose(act.hands, content), audience: None, voted_for: true });
            }
            if let Some(lie) = self.lies.get(&view) {
                act.sends[index].message = Message::BlockProposal(lie.told.clone());
                acted += 1;
            }
        }
        acted
    }

    fn keep(&mut self, view: View, lie: Lie) {
        self.lies.insert(view, lie);
        while self.lies.len() > LIES_KEPT {
            self.lies.pop_first();
        }
    }

    /// The own vote in a view that was lied about is for the lie: what nobody got would be no use.
    fn vote_for_lie(&self, act: &mut Act<'_>, index: usize) {
        let Some((_, vote)) = own_vote(act.hands, &act.sends[index].message) else { return };
        let Some(lie) = self.lies.get(&vote.view).filter(|lie| lie.voted_for) else { return };
        let told = &lie.told.block;
        let vote = Vote { view: vote.view, block: told.digest(), parent_view: told.justify.view() };
        if told.view == vote.view && vote.is_well_formed() {
            act.sends[index].message = Message::BlockVote(act.hands.sign(vote.body()));
        }
    }

    /// Two blocks of one view: another one for half of the others, or for a single one. The own vote is for either.
    pub(super) fn equivocate(&mut self, act: &mut Act<'_>, one_against_rest: bool) -> u64 {
        let mut acted = 0;
        for index in 0..act.sends.len() {
            let Some(honest) = own_proposal(act.hands, &act.sends[index].message).cloned() else {
                self.vote_for_lie(act, index);
                continue;
            };
            let view = honest.block.view;
            if self.lies.contains_key(&view) {
                continue;
            }
            let Some(proposal) = equivocation::another(&honest.block.proposal, act.random) else { continue };
            let mut audience = act.hands.others();
            let count = if one_against_rest { 1 } else { audience.len().div_ceil(2) };
            let start = act.random.random_range(0..audience.len());
            audience.rotate_left(start);
            audience.truncate(count);
            let told = propose(act.hands, content_with(&honest.block, proposal));
            let voted_for = act.random.random_bool(0.5);
            self.keep(view, Lie { told, audience: Some(audience), voted_for });
        }
        let mut out = Vec::with_capacity(act.sends.len());
        for send in std::mem::take(act.sends) {
            let view = own_proposal(act.hands, &send.message).map(|proposal| proposal.block.view);
            let lie = view.and_then(|view| self.lies.get(&view));
            let Some((told, audience)) = lie.and_then(|lie| Some((&lie.told, lie.audience.as_ref()?))) else {
                out.push(send);
                continue;
            };
            acted += 1;
            let to = match send.to {
                Recipients::Others => act.hands.others(),
                Recipients::One(id) => vec![id],
            };
            out.extend(to.into_iter().map(|id| {
                let other = audience.contains(&id);
                let message = if other { Message::BlockProposal(told.clone()) } else { send.message.clone() };
                Send { to: Recipients::One(id), message, after: send.after }
            }));
        }
        *act.sends = out;
        acted
    }

    /// Own blocks leave just before the others' timers run out.
    pub(super) fn slow(&mut self, act: &mut Act<'_>) -> u64 {
        let delay = act.hands.parameters.view_timeout * SLOW_TENTHS / 10;
        let (now, hands, due) = (act.now, act.hands, &mut self.due);
        let acted = act.hold(|message| {
            let view = own_proposal(hands, message)?.block.view;
            let due = *due.entry(view).or_insert(now + delay);
            (due > now).then_some(due)
        });
        while self.due.len() > LIES_KEPT {
            self.due.pop_first();
        }
        acted
    }
}

/// The same batch on another parent: number and standing are what that one's chain asks for, as far as it is known.
pub(super) fn on_other_ground(
    act: &Act<'_>,
    block: &Block,
    justify: QuorumCertificate,
    timeout: Option<TimeoutCertificate>,
) -> Option<BlockContent> {
    let chain = act.seen.chain();
    let parent = chain.get(&justify.block())?;
    let standing = chain.standing(&parent, block.view, block.author, &act.hands.committee);
    let standing = standing.unwrap_or_else(|| block.standing.clone());
    let seq = if block.is_null() { parent.seq } else { parent.seq.next() };
    // Beside the certificate of the view before none of TIMEOUTs is needed, and a block with both would not be one.
    let timeout = timeout.filter(|_| justify.view().next() != block.view);
    let parent = parent.digest();
    Some(BlockContent { parent, seq, justify, timeout, standing, ..block.content().clone() })
}

/// On a certificate older than the newest known. Where the view before was given up that may even be lawful: the leader knows
/// a higher one than the TIMEOUTs name.
pub(super) fn on_older_certificate(act: &mut Act<'_>, block: &Block) -> Option<BlockContent> {
    let before = View(block.view.0.saturating_sub(1));
    let timeout = act.seen.chain().timeout_certificate_of(before, &act.hands.committee);
    let named = timeout.as_ref().map_or(View(0), TimeoutCertificate::highest_named);
    let older = act.seen.chain().quorums_before(block.justify.view());
    let lawful: Vec<_> = older.iter().filter(|certificate| certificate.view() >= named).copied().collect();
    let choice = if timeout.is_some() && !lawful.is_empty() { lawful } else { older };
    if block.justify == QuorumCertificate::Genesis {
        return None;
    }
    let justify = match choice.len() {
        0 => QuorumCertificate::Genesis,
        count => choice[act.random.random_range(0..count)].clone(),
    };
    on_other_ground(act, block, justify, timeout)
}

/// On the parent's parent: the parent, which is certified and not committed yet, would be abandoned.
pub(super) fn on_grandparent(act: &mut Act<'_>, block: &Block) -> Option<BlockContent> {
    if block.justify == QuorumCertificate::Genesis {
        return None;
    }
    let parent = act.seen.chain().get(&block.parent)?;
    let before = View(block.view.0.saturating_sub(1));
    let timeout = act.seen.chain().timeout_certificate_of(before, &act.hands.committee);
    on_other_ground(act, block, parent.justify.clone(), timeout)
}
