//! The tree of blocks: what is certified or proposed above the lowest block kept, and the one committed chain in it.
//!
//! ```text
//!   lowest ── … ── committed ── b ── c      the uncommitted path to the highest QC
//!                       │        └── d       another branch: gone as soon as c or d is committed
//!                       └ everything below is committed and has been handed on, oldest first, once (rule H7)
//! ```
//!
//! Blocks come in three ways: proposed on a parent that is here; fetched from the top down, so that they are orphans until
//! they reach a block that is here; read back from the log. Who inserts an orphan has checked that its digest is one that a
//! verified certificate vouches for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, View};

use crate::hotstuff::block::Block;
use crate::hotstuff::leaders::Counted;
use crate::parameters::Parameters;

/// Fetched blocks that are held before they reach one that is here, at least: see [`orphans_max`].
pub const ORPHANS_LEAST: usize = 4096;
/// Blocks above the committed one beyond so many make the tree drop some that nothing certifies.
pub const BLOCKS_MAX: usize = 4096;
/// Blocks of a chain for each number of it, about: a batch alone is followed by two null blocks, and views fail.
const BLOCKS_A_NUMBER: u64 = 4;

/// A block with what its chain says.
#[derive(Clone, Debug)]
struct Node {
    block: Arc<Block>,
    /// The newest block that the certificates inside this one's chain commit. `None` if that lies below what is held, and
    /// nothing said what it is.
    settled: Option<Arc<Block>>,
    /// The same of every child of this block. Kept, and not looked up when a child comes, since the block that it is may have
    /// been pruned by then: replicas with different roots must judge leaders alike.
    settled_by_child: Option<Arc<Block>>,
}

/// Where a tree begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// A committed block.
    pub block: Arc<Block>,
    /// The newest block that the certificates inside its chain commit.
    pub settled: Option<Arc<Block>>,
    /// The newest block that those inside the chain of any child of it commit.
    pub settled_by_child: Option<Arc<Block>>,
}

impl Root {
    /// The genesis block, which every chain settles.
    pub fn genesis() -> Root {
        let block = Arc::new(Block::genesis());
        Root { settled: Some(Arc::clone(&block)), settled_by_child: Some(Arc::clone(&block)), block }
    }
}

/// How many orphans a replica must be able to hold: who fetched the state of a checkpoint walks from the highest certificate
/// down to it, over as many numbers as may be in flight and those of a checkpoint that came meanwhile. With fewer its tree
/// would never begin anew, however often it fetched.
pub fn orphans_max(parameters: &Parameters) -> usize {
    let numbers = parameters.window.saturating_add(parameters.checkpoint_interval.saturating_mul(2));
    usize::try_from(numbers.saturating_mul(BLOCKS_A_NUMBER)).unwrap_or(usize::MAX).max(ORPHANS_LEAST)
}

/// What became of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// These are in the tree now, parents first: the block and the orphans that waited for it.
    InTree(Vec<Arc<Block>>),
    /// It was there.
    Known,
    /// Its parent is not here: this block is what lacks.
    Lacks(Digest),
    /// It is not above the committed block on its chain: it can never be committed.
    Abandoned,
    /// There is no room for another orphan.
    Full,
}

/// Why a block cannot be committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommitError {
    /// This block, it or an ancestor of it, is not here.
    Lacks(Digest),
    /// Another block was committed in its place: more than f members lied.
    Conflict(Arc<Block>),
}

/// The tree.
#[derive(Debug)]
pub struct BlockTree {
    nodes: BTreeMap<Digest, Node>,
    by_view: BTreeSet<(View, Digest)>,
    orphans: BTreeMap<Digest, Arc<Block>>,
    /// So many of them at most.
    orphans_max: usize,
    /// The orphans by the parents they wait for.
    waiting: BTreeSet<(Digest, Digest)>,
    lowest: Arc<Block>,
    /// Every block of a later view in the tree descends from it.
    committed: Arc<Block>,
}

impl Default for BlockTree {
    fn default() -> BlockTree {
        BlockTree::rooted(Root::genesis(), ORPHANS_LEAST)
    }
}

impl BlockTree {
    /// A tree that begins with a committed block and holds at most `orphans_max` blocks that wait for their parents.
    pub fn rooted(root: Root, orphans_max: usize) -> BlockTree {
        let Root { block, settled, settled_by_child } = root;
        let digest = block.digest();
        BlockTree {
            nodes: BTreeMap::from([(digest, Node { block: Arc::clone(&block), settled, settled_by_child })]),
            by_view: BTreeSet::from([(block.view, digest)]),
            orphans: BTreeMap::new(),
            orphans_max,
            waiting: BTreeSet::new(),
            lowest: Arc::clone(&block),
            committed: block,
        }
    }

    /// The lowest block kept with what is to be known of what lies below: a tree can begin with it.
    pub fn root(&self) -> Root {
        let node = self.nodes.get(&self.lowest.digest());
        let (settled, settled_by_child) =
            node.map(|node| (node.settled.clone(), node.settled_by_child.clone())).unwrap_or_default();
        Root { block: Arc::clone(&self.lowest), settled, settled_by_child }
    }

    /// The newest committed block.
    pub const fn committed(&self) -> &Arc<Block> {
        &self.committed
    }

    /// The lowest block kept.
    pub const fn lowest(&self) -> &Arc<Block> {
        &self.lowest
    }

    /// The block of this digest, if it is in the tree.
    pub fn get(&self, digest: &Digest) -> Option<&Arc<Block>> {
        self.nodes.get(digest).map(|node| &node.block)
    }

    /// Whether it is in the tree.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.nodes.contains_key(digest)
    }

    /// Whether it is in the tree, or waits for its parent.
    pub fn holds(&self, digest: &Digest) -> bool {
        self.nodes.contains_key(digest) || self.orphans.contains_key(digest)
    }

    /// The parent of a block, if it is in the tree.
    pub fn parent(&self, block: &Block) -> Option<&Arc<Block>> {
        self.get(&block.parent)
    }

    /// The newest block that the certificates inside the chain of `digest` commit.
    pub fn settled(&self, digest: &Digest) -> Option<&Arc<Block>> {
        self.nodes.get(digest)?.settled.as_ref()
    }

    /// What the leaders of the views after block `digest` follow from.
    pub fn counted(&self, digest: &Digest) -> Option<Counted> {
        let node = self.nodes.get(digest)?;
        node.settled.as_ref().map(|settled| node.block.counted(settled))
    }

    /// Whether the chain of `digest` orders something that neither the certificates inside it commit nor one for `digest`
    /// itself would.
    pub fn is_unfinished(&self, digest: &Digest) -> bool {
        let Some(node) = self.nodes.get(digest) else { return false };
        let parent = self.get(&node.block.parent);
        if parent.is_some_and(|parent| parent.view.next() == node.block.view && parent.seq == node.block.seq) {
            return false;
        }
        node.settled.as_ref().is_none_or(|settled| settled.seq < node.block.seq)
    }

    /// All blocks of `view`.
    pub fn of_view(&self, view: View) -> impl Iterator<Item = &Arc<Block>> {
        let range = self.by_view.range((view, Digest::ZERO)..=(view, Digest([0xff; 32])));
        range.filter_map(|(_, digest)| self.get(digest))
    }

    /// All blocks, lowest view first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Block>> {
        self.by_view.iter().filter_map(|(_, digest)| self.get(digest))
    }

    /// How many blocks are in the tree.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but the root. A tree is never empty.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() <= 1
    }

    /// How many blocks wait for their parents.
    pub fn orphans(&self) -> usize {
        self.orphans.len()
    }

    /// Adds a block that was proposed or that a certificate vouches for. As an orphan, if its parent is not here.
    pub fn insert(&mut self, block: Arc<Block>) -> Inserted {
        let digest = block.digest();
        if self.nodes.contains_key(&digest) {
            return Inserted::Known;
        }
        if block.view <= self.committed.view {
            return Inserted::Abandoned;
        }
        if !self.nodes.contains_key(&block.parent) {
            if self.orphans.len() >= self.orphans_max && !self.orphans.contains_key(&digest) {
                return Inserted::Full;
            }
            self.waiting.insert((block.parent, digest));
            self.orphans.insert(digest, block);
            return Inserted::Lacks(self.lacks(&digest).unwrap_or(digest));
        }
        let mut added = Vec::new();
        let mut next = vec![block];
        while let Some(block) = next.pop() {
            let digest = block.digest();
            let range = self.waiting.range((digest, Digest::ZERO)..=(digest, Digest([0xff; 32])));
            for child in range.copied().collect::<Vec<_>>() {
                self.waiting.remove(&child);
                next.extend(self.orphans.remove(&child.1));
            }
            if self.extends_committed(&block.parent) {
                self.add(Arc::clone(&block));
                added.push(block);
            }
        }
        if added.is_empty() { Inserted::Abandoned } else { Inserted::InTree(added) }
    }

    /// Whether a child of this block extends the committed chain: one that leaves it below its tip can never be committed.
    fn extends_committed(&self, parent: &Digest) -> bool {
        let tip = self.committed.digest();
        *parent == tip || self.get(parent).is_some_and(|parent| parent.view > self.committed.view)
    }

    fn add(&mut self, block: Arc<Block>) {
        let Some(parent) = self.nodes.get(&block.parent) else { return };
        let settled = parent.settled_by_child.clone();
        let settled_by_child = settled_by_child(&block, &parent.block, settled.as_ref());
        self.by_view.insert((block.view, block.digest()));
        self.nodes.insert(block.digest(), Node { block, settled, settled_by_child });
    }

    /// The block to fetch before the chain of `digest` is complete; `None` if it is.
    pub fn lacks(&self, digest: &Digest) -> Option<Digest> {
        let mut at = *digest;
        while let Some(orphan) = self.orphans.get(&at) {
            at = orphan.parent;
        }
        (!self.nodes.contains_key(&at)).then_some(at)
    }

    /// Forgets every block that waits for its parent.
    pub fn drop_orphans(&mut self) {
        self.orphans.clear();
        self.waiting.clear();
    }

    /// The block waiting for its parent under this digest.
    pub fn orphan(&self, digest: &Digest) -> Option<&Arc<Block>> {
        self.orphans.get(digest)
    }

    /// The chain above the committed block up to `digest`, oldest first. `None` if it is not complete, or does not extend
    /// the committed block.
    pub fn path(&self, digest: &Digest) -> Option<Vec<Arc<Block>>> {
        self.walk(digest).ok()
    }

    fn walk(&self, digest: &Digest) -> Result<Vec<Arc<Block>>, CommitError> {
        let mut path = Vec::new();
        let mut at = *digest;
        while at != self.committed.digest() {
            let block = self.get(&at).ok_or(CommitError::Lacks(at))?;
            if block.view <= self.committed.view {
                return Err(CommitError::Conflict(Arc::clone(block)));
            }
            at = block.parent;
            path.push(Arc::clone(block));
        }
        if !alive(Mutant::CommitsNewestFirst) {
            path.reverse();
        }
        Ok(path)
    }

    /// Commits a block with its uncommitted ancestors and returns them, oldest first; nothing if it was committed before. What
    /// is left of other branches, orphans included, can never be committed and is dropped: `abandoned` tells of it.
    pub fn commit(&mut self, digest: &Digest) -> Result<Committing, CommitError> {
        if self.is_committed(digest) {
            return Ok(Committing::default());
        }
        let committed = self.walk(digest)?;
        let tip = self.get(digest).map(Arc::clone).ok_or(CommitError::Lacks(*digest))?;
        let chain: BTreeSet<Digest> = committed.iter().map(|block| block.digest()).collect();
        let before = self.committed.view;
        self.committed = tip;
        let mut kept: BTreeSet<Digest> = BTreeSet::from([self.committed.digest()]);
        let mut gone = Vec::new();
        for (view, digest) in self.by_view.iter().filter(|(view, _)| *view > before) {
            let Some(node) = self.nodes.get(digest) else { continue };
            let extends = *view > self.committed.view && kept.contains(&node.block.parent);
            if extends {
                kept.insert(*digest);
            } else if !chain.contains(digest) {
                gone.push(*digest);
            }
        }
        let over = self.committed.view;
        self.orphans.retain(|_, orphan| orphan.view > over);
        let orphans = &self.orphans;
        self.waiting.retain(|(_, orphan)| orphans.contains_key(orphan));
        Ok(Committing { committed, abandoned: self.remove(gone) })
    }

    /// Whether a block is on the committed chain, as far down as it is kept.
    pub fn is_committed(&self, digest: &Digest) -> bool {
        let Some(view) = self.get(digest).map(|block| block.view) else { return false };
        let mut at = Some(&self.committed);
        while let Some(block) = at.filter(|block| block.view > view) {
            at = self.parent(block);
        }
        at.is_some_and(|block| block.digest() == *digest)
    }

    /// Forgets what lies below `root`, a committed block, and returns it.
    pub fn prune(&mut self, root: &Digest) -> Vec<Arc<Block>> {
        if !self.is_committed(root) {
            return Vec::new();
        }
        let Some(root) = self.get(root).map(Arc::clone) else { return Vec::new() };
        let gone = self.by_view.iter().filter(|(view, _)| *view < root.view).map(|(_, digest)| *digest).collect();
        self.lowest = root;
        self.remove(gone)
    }

    /// How many blocks stand above the committed one, on all branches.
    fn uncommitted(&self) -> usize {
        self.by_view.range((self.committed.view.next(), Digest::ZERO)..).count()
    }

    /// Drops leaves that `is_needed` does not speak for, lowest view first, until no more than [`BLOCKS_MAX`] blocks stand
    /// above the committed one: what is proposed and never certified must not fill the memory. What is committed does not
    /// count. It goes with the checkpoints, and where those are far apart nothing new would have room beside it.
    pub fn shed(&mut self, is_needed: impl Fn(&Block) -> bool) -> Vec<Arc<Block>> {
        let mut dropped = Vec::new();
        while self.uncommitted() > BLOCKS_MAX {
            let parents: BTreeSet<Digest> = self.nodes.values().map(|node| node.block.parent).collect();
            let loose = |block: &&Arc<Block>| {
                block.view > self.committed.view && !parents.contains(&block.digest()) && !is_needed(block)
            };
            let excess = self.uncommitted() - BLOCKS_MAX;
            let gone: Vec<Digest> = self.iter().filter(loose).take(excess).map(|block| block.digest()).collect();
            if gone.is_empty() {
                break;
            }
            dropped.extend(self.remove(gone));
        }
        dropped
    }

    fn remove(&mut self, digests: Vec<Digest>) -> Vec<Arc<Block>> {
        let removed = digests.into_iter().filter_map(|digest| {
            let node = self.nodes.remove(&digest)?;
            self.by_view.remove(&(node.block.view, digest));
            Some(node.block)
        });
        removed.collect()
    }
}

/// What the chain of a child of `block` commits: the child carries the certificate of `block`, which commits `parent` if the
/// two are in consecutive views; if not, there is nothing newer than what the chain of `block` itself commits.
pub fn settled_by_child(block: &Block, parent: &Arc<Block>, settled: Option<&Arc<Block>>) -> Option<Arc<Block>> {
    if parent.view.next() == block.view { Some(Arc::clone(parent)) } else { settled.cloned() }
}

/// What a commit changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committing {
    /// Committed now, oldest first.
    pub committed: Vec<Arc<Block>>,
    /// Dropped from other branches.
    pub abandoned: Vec<Arc<Block>>,
}

#[cfg(test)]
mod tests;
