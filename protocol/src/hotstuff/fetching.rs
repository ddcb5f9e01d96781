//! Blocks and bodies that are lacking, and a new root for the tree after a state was fetched.
//!
//! ```text
//!   QC or TC for a block that is not here ─► FETCH-BLOCKS ─► block, parent, grandparent … ─► one that is here
//!                                               │ each is the one asked for by its digest: nothing to verify
//!   state fetched at number s ─────────────────► … ─► the newest committed block with number s: the tree begins anew there
//! ```
//!
//! Under steady load a certificate of a later block comes with every round trip. So a proposal that waits for its parent joins
//! the chain as soon as it is certified, which leaves the block to ask for the same one until it has come, and an answer
//! counts as long as it is one of the last few that were asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, ReplicaId, Seq, View};

use crate::engine::{Now, Recipients};
use crate::hotstuff::Replica;
use crate::hotstuff::block::Block;
use crate::hotstuff::message::{BLOCKS_MAX, FetchBlocks};
use crate::hotstuff::tree::{self, BlockTree, Root};
use crate::message::{FETCH_MAX, Message};
use crate::parameters::Micros;

/// What is missing is asked for again after this long, longer with every attempt.
const FETCH_INTERVAL: Micros = 20_000;
/// Bodies are asked for after this long at first: the client has most likely sent them already.
const BODY_PATIENCE: Micros = 3_000;
/// What verifying a body takes at most, about.
const BODY_TIME: Micros = 100;
/// Committed blocks whose bodies are asked for at once.
const BLOCKS_OF_BODIES: usize = 8;
/// Bytes of blocks in one answer, about.
const BLOCKS_BYTES: usize = 512 * 1024;

/// Answers to so many questions for blocks are taken, the last ones: what is wanted may have changed while one was on its way.
const ASKED_MAX: usize = 8;

/// The block asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockFetch {
    block: Digest,
    /// Who said something that names it, until it was asked.
    hint: Option<ReplicaId>,
    next: Micros,
    tries: u32,
    /// Questions asked until nothing is lacking any more: whose turn it is.
    asks: u32,
}

/// The bodies asked for.
#[derive(Clone, Debug)]
pub(super) struct BodyFetch {
    next: Micros,
    tries: u32,
    /// Questions asked until nothing is lacking any more: whose turn it is.
    asks: u32,
    /// The last view whose leader was asked for what its block names.
    author_asked: View,
    /// What was asked for last and has not come.
    asked: Vec<Digest>,
}

impl BlockFetch {
    pub(super) const fn due(&self) -> Micros {
        self.next
    }
}

impl BodyFetch {
    pub(super) const fn due(&self) -> Micros {
        self.next
    }

    const fn new(now: Now) -> BodyFetch {
        let next = now.monotonic + BODY_PATIENCE;
        BodyFetch { next, tries: 0, asks: 0, author_asked: View(0), asked: Vec::new() }
    }

    /// Another candidate may lack other bodies, which must not wait because those of the one before did not come.
    fn begin_view(&mut self, now: Now) {
        self.next = self.next.min(now.monotonic + BODY_PATIENCE);
        self.tries = 0;
    }

    /// Some came: the rest is asked for anew, at once if it was not asked for yet, else in a moment that is longer the more is
    /// still to come, since bodies come one by one and each is verified.
    fn heed_arrivals(&mut self, now: Now, holds: impl Fn(&Digest) -> bool) {
        let before = self.asked.len();
        self.asked.retain(|digest| !holds(digest));
        if self.asked.len() < before {
            let left = self.asked.len() as u64;
            let wait = if left == 0 { 0 } else { BODY_PATIENCE + BODY_TIME * left };
            self.next = self.next.min(now.monotonic + wait);
            self.tries = 0;
        }
    }
}

/// Bytes of a block on the wire, about.
fn weight(block: &Block) -> usize {
    let signers = 2 * block.justify.signers() + block.timeout.as_ref().map_or(0, |timeout| timeout.timeouts.len());
    600 + 32 * block.proposal.requests().len() + 80 * signers
}

/// Whether an honest server would have sent no more: a liar that sends one true block at a time must not stay the server.
fn is_full(blocks: &[Block]) -> bool {
    blocks.len() >= BLOCKS_MAX || blocks.iter().map(weight).sum::<usize>() >= BLOCKS_BYTES / 2
}

fn wait_after(tries: u32) -> Micros {
    FETCH_INTERVAL * u64::from(tries.saturating_add(1).min(10))
}

impl Replica {
    /// The block to ask for: the highest one lacking on the chain of a verified certificate.
    fn lacking_block(&self) -> Option<Digest> {
        let high = self.promise.high_qc.block();
        let view = self.view();
        let waiting = self.waiting.values().map(|(_, proposal)| &proposal.block).filter(|block| block.view >= view);
        let parents = waiting.map(|block| block.parent);
        std::iter::once(high).chain(parents).find_map(|block| self.tree.lacks(&block))
    }

    /// Something that is not here was named by `hint`.
    pub(super) fn want_blocks(&mut self, now: Now, hint: Option<ReplicaId>) {
        let Some(block) = self.lacking_block() else {
            self.block_fetch = None;
            return;
        };
        match &mut self.block_fetch {
            Some(fetch) if fetch.block == block => {
                if fetch.tries == 0 {
                    fetch.hint = fetch.hint.or(hint);
                }
            }
            before => {
                let asks = before.map_or(0, |fetch| fetch.asks);
                self.block_fetch = Some(BlockFetch { block, hint, next: now.monotonic, tries: 0, asks });
            }
        }
    }

    /// Whom to ask: who named it first, then everyone in turn, `asks` being how often somebody was asked.
    fn source(&self, hint: Option<ReplicaId>, asks: u32) -> Option<ReplicaId> {
        if let Some(hint) = hint.filter(|hint| self.foundation.is_peer(*hint)) {
            return Some(hint);
        }
        let others: Vec<ReplicaId> = self.foundation.others().collect();
        let turn = self.id().index().wrapping_add(asks as usize) % others.len().max(1);
        others.get(turn).copied()
    }

    pub(super) fn tend_fetches(&mut self, now: Now) {
        self.want_blocks(now, None);
        if let Some(fetch) = self.block_fetch.filter(|fetch| fetch.next <= now.monotonic)
            && let Some(peer) = self.source(fetch.hint, fetch.asks)
        {
            let down_to = self.tree.committed().seq;
            let question = FetchBlocks { block: fetch.block, down_to, count: BLOCKS_MAX as u32 };
            self.foundation.send(Recipients::One(peer), Message::FetchBlocks(question), None);
            self.asked_blocks.retain(|asked| *asked != fetch.block);
            self.asked_blocks.truncate(ASKED_MAX - 1);
            self.asked_blocks.push_front(fetch.block);
            let next = now.monotonic + wait_after(fetch.tries);
            let (tries, asks) = (fetch.tries.saturating_add(1), fetch.asks.wrapping_add(1));
            self.block_fetch = Some(BlockFetch { next, tries, asks, hint: None, ..fetch });
        }
        self.tend_body_fetch(now);
    }

    /// Bodies that the next committed batches or the candidate name, and that are not here. Those of what is committed come
    /// first: f + 1 honest replicas hold them, and nothing executes without them. But they leave half of the room to the
    /// candidate, without which this replica does not vote; what a candidate names may be made up, so it has no more either
    /// while something else is lacking.
    pub(super) fn lacking_bodies(&self) -> Vec<Digest> {
        self.bodies_lacking_in(BLOCKS_OF_BODIES)
    }

    /// The same of the next block to be delivered and the candidate: what STATUS asks everybody for.
    pub(super) fn bodies_lacking_next(&self) -> Vec<Digest> {
        self.bodies_lacking_in(1)
    }

    fn bodies_lacking_in(&self, blocks: usize) -> Vec<Digest> {
        let candidate = self.candidate.and_then(|candidate| self.tree.get(&candidate.digest));
        let mut seen = BTreeSet::new();
        let committed = self.undelivered.iter().take(blocks);
        let mut lacking: Vec<Digest> = committed.flat_map(|block| self.foundation.lacking(&block.proposal)).collect();
        lacking.retain(|digest| seen.insert(*digest));
        let proposed = candidate.into_iter().flat_map(|block| self.foundation.lacking(&block.proposal));
        let proposed: Vec<Digest> = proposed.filter(|digest| seen.insert(*digest)).collect();
        let later = lacking.split_off(lacking.len().min((FETCH_MAX / 2).max(FETCH_MAX.saturating_sub(proposed.len()))));
        lacking.extend(proposed);
        lacking.extend(later);
        lacking.truncate(FETCH_MAX);
        lacking
    }

    fn tend_body_fetch(&mut self, now: Now) {
        let lacking = self.lacking_bodies();
        if lacking.is_empty() || alive(Mutant::BodiesNotFetched) {
            self.body_fetch = None;
            return;
        }
        let mut fetch = self.body_fetch.take().unwrap_or_else(|| BodyFetch::new(now));
        fetch.heed_arrivals(now, |digest| self.foundation.bodies.holds(digest));
        let candidate = self.candidate.and_then(|candidate| self.tree.get(&candidate.digest));
        let fresh = candidate.filter(|block| block.view > fetch.author_asked);
        let fresh = fresh.filter(|block| self.foundation.lacking(&block.proposal).next().is_some());
        let fresh = fresh.map(|block| (block.author, block.view));
        if fresh.is_some() {
            fetch.begin_view(now);
        }
        if fetch.next <= now.monotonic {
            fetch.author_asked = fresh.map_or(fetch.author_asked, |(_, view)| view);
            if let Some(peer) = self.source(fresh.map(|(author, _)| author), fetch.asks) {
                self.foundation.send(Recipients::One(peer), Message::FetchRequests(lacking.clone()), None);
            }
            let verified = BODY_PATIENCE + BODY_TIME * lacking.len() as u64;
            fetch.next = now.monotonic + wait_after(fetch.tries).max(verified);
            fetch.tries = fetch.tries.saturating_add(1);
            fetch.asks = fetch.asks.wrapping_add(1);
            fetch.asked = lacking;
        }
        self.body_fetch = Some(fetch);
    }

    pub(super) fn answer_fetch_blocks(&mut self, now: Now, from: ReplicaId, fetch: FetchBlocks) {
        if !self.foundation.may_answer_bulk(now, from) {
            return;
        }
        let mut bytes = 0;
        let mut blocks = Vec::new();
        let mut at = self.tree.get(&fetch.block);
        while let Some(block) = at.filter(|block| block.view > View(0) && block.seq >= fetch.down_to) {
            bytes += weight(block);
            if blocks.len() >= (fetch.count as usize).min(BLOCKS_MAX) || (bytes > BLOCKS_BYTES && !blocks.is_empty()) {
                break;
            }
            blocks.push((**block).clone());
            at = self.tree.parent(block);
        }
        if !blocks.is_empty() {
            self.foundation.charge(from, bytes);
            self.foundation.send(Recipients::One(from), Message::Blocks(blocks), None);
        }
    }

    /// Blocks that were asked for: the first is one that a verified certificate names, directly or through the blocks above
    /// it, the others are its ancestors.
    pub(super) fn handle_blocks(&mut self, now: Now, from: ReplicaId, blocks: Vec<Block>) {
        let Some(first) = blocks.first().map(Block::digest) else { return };
        if !self.asked_blocks.contains(&first) {
            return;
        }
        let is_full = is_full(&blocks);
        for block in blocks {
            if self.tree.contains(&block.digest()) || self.foundation.halted {
                break;
            }
            self.insert_block(now, Arc::new(block), true);
        }
        self.use_new_blocks(now);
        let goes_on = is_full || self.tree.contains(&first);
        self.want_blocks(now, Some(from).filter(|_| goes_on));
    }

    /// A block that a verified certificate names came otherwise than by being asked for.
    pub(super) fn take_certified(&mut self, now: Now, block: Block) {
        self.insert_block(now, Arc::new(block), true);
        self.use_new_blocks(now);
    }

    fn use_new_blocks(&mut self, now: Now) {
        self.try_new_root(now);
        self.revisit_waiting(now);
    }

    /// Whether `block` is what lacks on the chain of a verified certificate.
    pub(super) fn is_lacking(&self, block: &Digest) -> bool {
        self.lacking_block().as_ref() == Some(block)
    }

    /// Proposals that wait for their parents, and that are certified: they join the chain of the highest certificate, as
    /// orphans, instead of being fetched when their view is over. Returns whether there were any.
    pub(super) fn adopt_waiting(&mut self, now: Now) -> bool {
        let high = self.promise.high_qc.block();
        let mut adopted = false;
        while let Some(lacking) = self.tree.lacks(&high) {
            let mut waiting = self.waiting.values().map(|(_, proposal)| &proposal.block);
            let Some(block) = waiting.find(|block| block.digest() == lacking).cloned() else { break };
            self.insert_block(now, Arc::new(block), true);
            adopted = true;
            if self.tree.lacks(&high) == Some(lacking) || self.foundation.halted {
                break;
            }
        }
        adopted
    }

    /// After a state was fetched: lets the tree begin at the newest committed block with the state's number, once the chain
    /// from the highest QC down to it is here, and a little further, since the leaders after it follow from what lies below.
    ///
    /// A block of the chain is known to be committed if a certified child in the next view stands on it; so is everything
    /// below. Until some block at or above the state's number is, there is nothing to begin with.
    pub(super) fn try_new_root(&mut self, now: Now) {
        let number = self.foundation.delivered;
        if self.tree.committed().seq >= number {
            return;
        }
        let mut chain: Vec<Arc<Block>> = Vec::new();
        let mut at = self.promise.high_qc.block();
        while let Some(block) = self.tree.orphan(&at).or_else(|| self.tree.get(&at)) {
            at = block.parent;
            chain.push(Arc::clone(block));
        }
        let Some(root) = root_of(&chain, number) else { return };
        let Some(settled) = settled_of(&chain[root..]) else { return };
        let above: Vec<Arc<Block>> = chain.drain(..root).collect();
        let below = chain.get(1).and_then(|parent| tree::settled_by_child(&chain[0], parent, Some(&settled)));
        let new_root = Root { block: Arc::clone(&chain[0]), settled: Some(settled), settled_by_child: below };
        let new = BlockTree::rooted(new_root, tree::orphans_max(self.foundation.parameters()));
        let old = std::mem::replace(&mut self.tree, new);
        self.undelivered.clear();
        self.candidate = None;
        let gone: Vec<Arc<Block>> = old.iter().cloned().collect();
        self.forget_blocks(&gone);
        let new_root = Arc::clone(&chain[0]);
        self.foundation.name_requests(&new_root.proposal, false);
        for block in above.into_iter().rev() {
            self.insert_block(now, block, true);
        }
        self.base_is_due = true;
        self.place_lines(true);
        self.check_attempt();
    }
}

/// Where in a chain, newest first, whose first block is certified, the newest committed block with `number` is.
fn root_of(chain: &[Arc<Block>], number: Seq) -> Option<usize> {
    let committed = 1 + chain.windows(2).position(|pair| pair[1].view.next() == pair[0].view)?;
    let root = committed + chain[committed..].iter().position(|block| block.seq <= number)?;
    (chain[root].seq == number).then_some(root)
}

/// The newest block that the certificates inside the chain of the first one commit.
fn settled_of(chain: &[Arc<Block>]) -> Option<Arc<Block>> {
    if let Some(genesis) = chain.last().filter(|block| block.view == View(0)) {
        let settled = chain.windows(3).find(|three| three[2].view.next() == three[1].view);
        return Some(Arc::clone(settled.map_or(genesis, |three| &three[2])));
    }
    chain.windows(3).find(|three| three[2].view.next() == three[1].view).map(|three| Arc::clone(&three[2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(monotonic: Micros) -> Now {
        Now { monotonic, wall: 0 }
    }

    /// Bodies of one answer come in parts, as they are verified: the rest of them is not asked for again with every part, and
    /// what an answer left out is soon.
    #[test]
    fn what_is_on_its_way_is_not_asked_for_with_every_arrival() {
        let digests: Vec<Digest> = (0..200).map(|place| Digest([place; 32])).collect();
        let mut fetch = BodyFetch::new(at(0));
        (fetch.next, fetch.asked) = (200_000, digests.clone());
        fetch.heed_arrivals(at(1_000), |_| false);
        assert_eq!(fetch.next, 200_000, "nothing came");
        fetch.heed_arrivals(at(1_000), |digest| digest.0[0] < 50);
        assert_eq!(fetch.next, 1_000 + BODY_PATIENCE + 150 * BODY_TIME);
        fetch.heed_arrivals(at(2_000), |digest| digest.0[0] < 199);
        assert_eq!(fetch.next, 2_000 + BODY_PATIENCE + BODY_TIME, "one is left: it was left out, most likely");
        fetch.heed_arrivals(at(3_000), |_| true);
        assert_eq!(fetch.next, 3_000);
    }
}
