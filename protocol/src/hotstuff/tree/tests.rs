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
    for number in 0..ORPHANS_LEAST as u64 {
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
    // The genesis block is committed and does not count.
    assert_eq!((tree.len(), dropped.len()), (BLOCKS_MAX + 1, before - BLOCKS_MAX - 1));
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

/// One empty block finishes a burst, then there is silence.
#[test]
fn a_chain_is_unfinished_until_a_block_of_the_next_view_stands_on_its_last_batch() {
    let mut blocks = chain(1);
    for _ in 0..2 {
        let next = child(blocks.last().expect("one"), Proposal::NULL);
        blocks.push(next);
    }
    let blocks = arcs(&blocks);
    let tree = tree_of(&blocks);
    let unfinished: Vec<bool> = blocks.iter().map(|block| tree.is_unfinished(&block.digest())).collect();
    assert_eq!(unfinished, [false, true, false, false]);
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
    assert_eq!(unfinished, [false, true, true, false, false]);
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
    let root = Root {
        block: Arc::clone(&chain[3]),
        settled: Some(Arc::clone(&chain[1])),
        settled_by_child: Some(Arc::clone(&chain[2])),
    };
    let mut tree = BlockTree::rooted(root.clone(), ORPHANS_LEAST);
    assert_eq!(tree.root(), root);
    assert_eq!(tree.insert(Arc::clone(&chain[2])), Inserted::Abandoned);
    assert_eq!(tree.insert(Arc::clone(&chain[4])), Inserted::InTree(vec![Arc::clone(&chain[4])]));
    assert_eq!(
        tree.settled(&chain[4].digest()),
        Some(&chain[2]),
        "the root's parent is not here, and known all the same"
    );
    assert_eq!(tree.insert(Arc::clone(&chain[5])), Inserted::InTree(vec![Arc::clone(&chain[5])]));
    assert_eq!(tree.settled(&chain[5].digest()), Some(&chain[3]));
}

/// Leaders follow from what a chain settles, so replicas whose trees begin at different blocks must settle alike: the first
/// child of a root as well, whose grandparent is not there any more.
#[test]
fn trees_with_different_roots_name_equal_leaders() {
    let committee = crate::hotstuff::testing::committee(4);
    // Views fail in between, so that standings differ from block to block.
    let mut blocks = chain(3);
    for (fill, view) in
        [(10, 6), (11, 7), (12, 8), (13, 11), (14, 12), (15, 13), (16, 14), (17, 17), (18, 18), (19, 19)]
    {
        let parent = blocks.last().expect("one");
        let next = if parent.view.next().0 == view {
            child(parent, batch(fill))
        } else {
            child_after_timeout(parent, view, batch(fill))
        };
        blocks.push(next);
    }
    let blocks = arcs(&blocks);
    let whole = tree_of(&blocks);
    let differing: BTreeSet<u64> =
        blocks.iter().map(|block| whole.counted(&block.digest()).expect("known").committed_view.0).collect();
    assert!(differing.len() > 5, "the schedule tells roots apart: {differing:?}");
    for root in 1..blocks.len() {
        // Pruned before the children of the root come, and after them; and read back from a log.
        let mut early = tree_of(&blocks[..=root]);
        early.commit(&blocks[root].digest()).expect("held");
        early.prune(&blocks[root].digest());
        let mut again = BlockTree::rooted(early.root(), ORPHANS_LEAST);
        let mut late = tree_of(&blocks);
        late.commit(&blocks[root].digest()).expect("held");
        late.prune(&blocks[root].digest());
        for block in &blocks[root + 1..] {
            early.insert(Arc::clone(block));
            again.insert(Arc::clone(block));
        }
        for block in &blocks[root..] {
            let digest = block.digest();
            for (tree, how) in [(&early, "early"), (&again, "again"), (&late, "late")] {
                assert_eq!(tree.counted(&digest), whole.counted(&digest), "{how}, root {root}, after {:?}", block.view);
                for view in (block.view.0 + 1..block.view.0 + 12).map(View) {
                    let leader =
                        |tree: &BlockTree| tree.counted(&digest).map(|counted| counted.leader(view, &committee));
                    assert_eq!(leader(tree), leader(&whole), "{how}, root {root}, view {view:?}");
                }
            }
        }
    }
}

/// A window that is larger than what the tree holds of proposals must not leave a fresh proposal without room.
#[test]
fn committed_blocks_take_no_room_from_proposals() {
    let genesis = Arc::new(Block::genesis());
    let mut tree = BlockTree::default();
    let mut tip = genesis;
    for view in 1..=BLOCKS_MAX as u64 + 10 {
        let mut content = tip.content().clone();
        (content.view, content.parent) = (View(view), tip.digest());
        tip = Arc::new(Block::new(content));
        tree.insert(Arc::clone(&tip));
        tree.commit(&tip.digest()).expect("held");
    }
    let mut content = tip.content().clone();
    (content.view, content.parent) = (tip.view.next(), tip.digest());
    let fresh = Arc::new(Block::new(content));
    tree.insert(Arc::clone(&fresh));
    assert!(tree.shed(|_| false).is_empty());
    assert!(tree.contains(&fresh.digest()));
}

/// Whatever interval genesis allows, who fetched a checkpoint can walk down to it.
#[test]
fn orphans_have_room_for_every_window_that_genesis_allows() {
    for (window, checkpoint_interval) in [(2, 1), (256, 64), (8_192, 4_096), (65_536, 32_768)] {
        let parameters = Parameters { window, checkpoint_interval, ..Parameters::default() };
        let most = orphans_max(&parameters);
        assert!(most >= ORPHANS_LEAST && most as u64 >= 3 * (window + checkpoint_interval), "{window}: {most}");
    }
    let mut tree = BlockTree::rooted(Root::genesis(), ORPHANS_LEAST + 1);
    let chain = chain(2);
    for number in 0..=ORPHANS_LEAST as u64 {
        let mut content = chain[2].content().clone();
        content.seq = quorate_crypto::Seq(number + 2);
        assert!(matches!(tree.insert(Arc::new(Block::new(content))), Inserted::Lacks(_)), "{number}");
    }
}
