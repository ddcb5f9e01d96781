//! Blocks and bodies that are lacking, and a new root for the tree after a state was fetched.
//!
//! ```text
//!   QC or TC for a block that is not here ─► FETCH-BLOCKS ─► block, parent, grandparent … ─► one that is here
//!                                               │ each is the one asked for by its digest: nothing to verify
//!   state fetched at number s ─────────────────► … ─► the newest committed block with number s: the tree begins anew there
//! ```

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
/// Committed blocks whose bodies are asked for at once.
const BLOCKS_OF_BODIES: usize = 8;
/// Bytes of blocks in one answer, about.
const BLOCKS_BYTES: usize = 512 * 1024;

/// The block asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockFetch {
    block: Digest,
    /// Who said something that names it.
    hint: Option<ReplicaId>,
    next: Micros,
    tries: u32,
}

/// The bodies asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyFetch {
    next: Micros,
    tries: u32,
    /// How many were lacking when they were asked for last.
    lacking: usize,
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
}

fn wait_after(tries: u32) -> Micros {
    FETCH_INTERVAL * u64::from(tries.saturating_add(1).min(10))
}

impl Replica {
    /// The block to ask for: the highest one lacking on the chain of a verified certificate.
    fn lacking_block(&self) -> Option<Digest> {
        let high = self.promise.high_qc.block();
        let parents = self.waiting.values().map(|(_, proposal)| proposal.block.parent);
        std::iter::once(high).chain(parents).find_map(|block| self.tree.lacks(&block))
    }

    /// Something that is not here was named by `hint`.
    pub(super) fn want_blocks(&mut self, now: Now, hint: Option<ReplicaId>) {
        let Some(block) = self.lacking_block() else {
            self.block_fetch = None;
            return;
        };
        match &mut self.block_fetch {
            Some(fetch) if fetch.block == block => fetch.hint = fetch.hint.or(hint),
            _ => self.block_fetch = Some(BlockFetch { block, hint, next: now.monotonic, tries: 0 }),
        }
    }

    /// Whom to ask: who named it first, then everyone in turn.
    fn source(&self, hint: Option<ReplicaId>, tries: u32) -> Option<ReplicaId> {
        if let Some(hint) = hint.filter(|hint| tries == 0 && *hint != self.id()) {
            return Some(hint);
        }
        let others: Vec<ReplicaId> = self.foundation.others().collect();
        let turn = (self.id().index() + tries as usize) % others.len().max(1);
        others.get(turn).copied()
    }

    pub(super) fn tend_fetches(&mut self, now: Now) {
        self.want_blocks(now, None);
        if let Some(fetch) = self.block_fetch.filter(|fetch| fetch.next <= now.monotonic)
            && let Some(peer) = self.source(fetch.hint, fetch.tries)
        {
            let down_to = self.tree.committed().seq;
            let question = FetchBlocks { block: fetch.block, down_to, count: BLOCKS_MAX as u32 };
            self.foundation.send(Recipients::One(peer), Message::FetchBlocks(question), None);
            let next = now.monotonic + wait_after(fetch.tries);
            self.block_fetch = Some(BlockFetch { next, tries: fetch.tries.saturating_add(1), ..fetch });
        }
        self.tend_body_fetch(now);
    }

    /// Bodies that the candidate or the next committed batches name, and that are not here.
    pub(super) fn lacking_bodies(&self) -> Vec<Digest> {
        let candidate = self.candidate.and_then(|candidate| self.tree.get(&candidate.digest));
        let blocks = self.undelivered.iter().take(BLOCKS_OF_BODIES).chain(candidate);
        let lacking: BTreeSet<Digest> = blocks.flat_map(|block| self.foundation.lacking(&block.proposal)).collect();
        lacking.into_iter().take(FETCH_MAX).collect()
    }

    fn tend_body_fetch(&mut self, now: Now) {
        let lacking = self.lacking_bodies();
        if lacking.is_empty() || alive(Mutant::BodiesNotFetched) {
            self.body_fetch = None;
            return;
        }
        let first = BodyFetch { next: now.monotonic + BODY_PATIENCE, tries: 0, lacking: lacking.len() };
        let mut fetch = *self.body_fetch.get_or_insert(first);
        if fetch.lacking > lacking.len() && fetch.tries > 0 {
            // Some came: the next are asked for at once.
            fetch = BodyFetch { next: now.monotonic, tries: 0, lacking: lacking.len() };
        }
        fetch.lacking = lacking.len();
        if fetch.next <= now.monotonic {
            let candidate = self.candidate.and_then(|candidate| self.tree.get(&candidate.digest));
            let author = candidate.map(|block| block.author);
            if let Some(peer) = self.source(author, fetch.tries) {
                self.foundation.send(Recipients::One(peer), Message::FetchRequests(lacking), None);
            }
            fetch.next = now.monotonic + wait_after(fetch.tries);
            fetch.tries = fetch.tries.saturating_add(1);
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
            let signers =
                2 * block.justify.signers() + block.timeout.as_ref().map_or(0, |timeout| timeout.timeouts.len());
            bytes += 600 + 32 * block.proposal.requests().len() + 80 * signers;
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

    /// Blocks that were asked for: the first is the one a verified certificate names, the others are its ancestors.
    pub(super) fn handle_blocks(&mut self, now: Now, from: ReplicaId, blocks: Vec<Block>) {
        let asked = self.block_fetch.map(|fetch| fetch.block);
        if blocks.first().map(Block::digest) != asked {
            return;
        }
        for block in blocks {
            if self.tree.contains(&block.digest()) || self.foundation.halted {
                break;
            }
            self.insert_block(now, Arc::new(block), true);
        }
        self.try_new_root(now);
        self.revisit_waiting(now);
        self.want_blocks(now, Some(from));
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
