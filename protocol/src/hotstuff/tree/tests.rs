use super::*;
use crate::hotstuff::testing::{batch, chain, child, child_after_timeout};
use crate::proposal::Proposal;

fn arcs(blocks: &[Block]) -> Vec<Arc<Block>> {
    blocks.iter().cloned().map(Arc::new).collect()
}

fn tree_of(blocks: &[Arc<Block>]) -> BlockTree {
    let mut tree = BlockTree::default();
    for block in &blocks[1..] {
        assert_eq!(tree.insert(Arc::clone(block)), Inserted::InTree(vec![Arc::clone(block)]));
    }
    tree
}

/// Rule H7: ancestors are handed on oldest first, each exactly once.
#[test]
fn rule_h7_ancestors_are_committed_oldest_first_and_once() {
    let chain = arcs(&chain(5));
    let mut tree = tree_of(&chain);
    assert_eq!(tree.commit(&chain[3].digest()).map(|commit| commit.committed), Ok(chain[1..=3].to_vec()));
    assert_eq!(tree.commit(&chain[3].digest()), Ok(Committing::default()), "once");
    assert_eq!(tree.commit(&chain[1].digest()), Ok(Committing::default()), "an ancestor of what is committed");
    assert_eq!(tree.commit(&chain[5].digest()).map(|commit| commit.committed), Ok(chain[4..=5].to_vec()));
    assert_eq!(tree.committed(), &chain[5]);
}

#[test]
fn a_commit_drops_the_other_branches_and_keeps_what_extends_it() {
    let mut blocks = chain(3);
    let rival = child_after_timeout(&blocks[1], 5, batch(50));
    let rival_child = child(&rival, batch(51));
    let extending = child(&blocks[3], batch(60));
    blocks.extend([rival, rival_child, extending]);
    let blocks = arcs(&blocks);
    let mut tree = tree_of(&blocks);
    let commit = tree.commit(&blocks[3].digest()).expect("held");
    assert_eq!(commit.committed, blocks[1..=3]);
    let gone: BTreeSet<Digest> = commit.abandoned.iter().map(|block| block.digest()).collect();
    assert_eq!(gone, BTreeSet::from([blocks[4].digest(), blocks[5].digest()]));
    assert!(tree.contains(&blocks[6].digest()));
    assert_eq!(tree.insert(Arc::clone(&blocks[4])), Inserted::Abandoned, "it does not come back");
    let beside = Arc::new(child_after_timeout(&blocks[2], 9, batch(70)));
    assert_eq!(tree.insert(beside), Inserted::Abandoned, "a later view on a block below the committed one");
}

#[test]
fn what_is_missing_is_named_and_orphans_join_once_it_comes() {
    let chain = arcs(&chain(5));
    let mut tree = BlockTree::default();
    assert_eq!(tree.lacks(&chain[5].digest()), Some(chain[5].digest()));
    assert_eq!(tree.insert(Arc::clone(&chain[5])), Inserted::Lacks(chain[4].digest()));
    assert_eq!(tree.insert(Arc::clone(&chain[4])), Inserted::Lacks(chain[3].digest()));
    assert_eq!(tree.insert(Arc::clone(&chain[2])), Inserted::Lacks(chain[1].digest()));
    assert_eq!(tree.lacks(&chain[5].digest()), Some(chain[3].digest()));
    assert_eq!(tree.commit(&chain[4].digest()), Err(CommitError::Lacks(chain[4].digest())));
    assert_eq!(tree.insert(Arc::clone(&chain[1])), Inserted::InTree(chain[1..=2].to_vec()));
    assert_eq!(tree.lacks(&chain[5].digest()), Some(chain[3].digest()));
    assert_eq!(tree.insert(Arc::clone(&chain[3])), Inserted::InTree(chain[3..=5].to_vec()), "parents first");
    assert_eq!((tree.lacks(&chain[5].digest()), tree.orphans()), (None, 0));
    assert_eq!(tree.insert(Arc::clone(&chain[3])), Inserted::Known);
    assert_eq!(tree.path(&chain[5].digest()), Some(chain[1..=5].to_vec()));
}

#[test]
fn orphans_that_came_too_late_go_with_the_commit_that_passes_them() {
    let blocks = chain(4);
    let stray = child(&child_after_timeout(&blocks[1], 3, batch(50)), batch(51));
    let blocks = arcs(&blocks);
    let mut tree = tree_of(&blocks);
    assert!(matches!(tree.insert(Arc::new(stray)), Inserted::Lacks(_)));
    tree.commit(&blocks[3].digest()).expect("held");
    assert_eq!(tree.orphans(), 1, "of a later view");
    tree.commit(&blocks[4].digest()).expect("held");
    assert_eq!(tree.orphans(), 0);
}

#[test]
fn orphans_are_bounded() {
    let mut tree = BlockTree::default();
    let chain = chain(2);
    for number in 0..ORPHANS_MAX as u64 {
        let mut content = chain[2].content().clone();
        content.seq = quorate_crypto::Seq(number + 2);
        assert!(matches!(tree.insert(Arc::new(Block::new(content))), Inserted::Lacks(_)));
    }
    let mut content = chain[2].content().clone();
    content.seq = quorate_crypto::Seq(1 << 40);
    assert_eq!(tree.insert(Arc::new(Block::new(content))), Inserted::Full);
    tree.drop_orphans();
    assert_eq!(tree.orphans(), 0);
}

/// What is proposed and never certified does not fill the memory.
#[test]
fn leaves_nobody_needs_are_shed_lowest_view_first() {
    let chain = arcs(&chain(1));
    let mut tree = tree_of(&chain);
    let last = BLOCKS_MAX as u64 + 10;
    for view in 3..=last {
        // Only the view differs; what justifies it is checked before a block gets here.
        let mut content = chain[1].content().clone();
        (content.view, content.parent) = (View(view), chain[1].digest());
        tree.insert(Arc::new(Block::new(content)));
    }
    let before = tree.len();
    let dropped = tree.shed(|block| block.view == View(3));
    assert_eq!((tree.len(), dropped.len()), (BLOCKS_MAX, before - BLOCKS_MAX));
    assert!(tree.of_view(View(3)).count() == 1 && tree.of_view(View(4)).count() == 0);
    assert!(tree.of_view(View(last)).count() == 1);
    assert!(tree.shed(|_| true).is_empty());
}

#[test]
fn pruning_leaves_the_chain_from_the_root_on() {
    let chain = arcs(&chain(5));
    let mut tree = tree_of(&chain);
    assert!(tree.prune(&chain[3].digest()).is_empty(), "not committed");
    tree.commit(&chain[4].digest()).expect("held");
    assert_eq!(tree.prune(&chain[3].digest()), chain[..3]);
    assert_eq!((tree.lowest(), tree.len()), (&chain[3], 3));
    assert!(tree.is_committed(&chain[3].digest()) && !tree.is_committed(&chain[5].digest()));
    assert_eq!(tree.settled(&chain[3].digest()), Some(&chain[1]), "what leaders follow from outlives the pruning");
    assert_eq!(tree.commit(&chain[5].digest()).map(|commit| commit.committed), Ok(vec![Arc::clone(&chain[5])]));
}

/// Two empty blocks finish a burst, then there is silence.
#[test]
fn a_chain_is_unfinished_until_two_blocks_stand_on_its_last_batch() {
    let mut blocks = chain(1);
    for _ in 0..2 {
        let next = child(blocks.last().expect("one"), Proposal::NULL);
        blocks.push(next);
    }
    let blocks = arcs(&blocks);
    let tree = tree_of(&blocks);
    let unfinished: Vec<bool> = blocks.iter().map(|block| tree.is_unfinished(&block.digest())).collect();
    assert_eq!(unfinished, [false, true, true, false]);
    // Over a gap of views nothing is committed, so one more is needed.
    let mut blocks = chain(1);
    let mut next = child_after_timeout(&blocks[1], 3, Proposal::NULL);
    for _ in 0..3 {
        blocks.push(next.clone());
        next = child(&next, Proposal::NULL);
    }
    let blocks = arcs(&blocks);
    let tree = tree_of(&blocks);
    let unfinished: Vec<bool> = blocks.iter().map(|block| tree.is_unfinished(&block.digest())).collect();
    assert_eq!(unfinished, [false, true, true, true, false]);
}

#[test]
fn what_a_chain_settles_is_what_its_own_certificates_commit() {
    let mut blocks = chain(3);
    blocks.push(child_after_timeout(&blocks[3], 6, batch(9)));
    blocks.push(child(&blocks[4], batch(10)));
    blocks.push(child(&blocks[5], batch(11)));
    let blocks = arcs(&blocks);
    let tree = tree_of(&blocks);
    let settled = |index: usize| tree.settled(&blocks[index].digest()).expect("known").view.0;
    assert_eq!((0..=6).map(settled).collect::<Vec<_>>(), [0, 0, 0, 1, 2, 2, 6]);
}

#[test]
fn a_tree_may_begin_above_the_genesis() {
    let chain = arcs(&chain(6));
    let mut tree = BlockTree::rooted(Arc::clone(&chain[3]), Some(Arc::clone(&chain[1])));
    assert_eq!(tree.insert(Arc::clone(&chain[2])), Inserted::Abandoned);
    assert_eq!(tree.insert(Arc::clone(&chain[4])), Inserted::InTree(vec![Arc::clone(&chain[4])]));
    assert_eq!(tree.settled(&chain[4].digest()), Some(&chain[1]), "the root's parent is not here");
    assert_eq!(tree.insert(Arc::clone(&chain[5])), Inserted::InTree(vec![Arc::clone(&chain[5])]));
    assert_eq!(tree.settled(&chain[5].digest()), Some(&chain[3]));
}
