//! Who leads a view under HotStuff, derived again from the rules that `quorate_protocol::hotstuff::leaders` states, and from
//! every block that anybody sent: no replica's own tree is asked.
//!
//! A replica whose tree begins late, after a restart or a transfer, must come to the same leaders as all others, or nobody's
//! blocks are voted for.

use std::collections::BTreeMap;

use quorate_crypto::{Committee, Digest, ReplicaId, View};
use quorate_protocol::hotstuff::block::Block;

use super::signatures::{Finding, hold};

/// Turns of the whole committee that a member is out after its first failure.
const TURNS: u64 = 256;
/// How often that doubles at most.
const DOUBLINGS: u32 = 6;
/// Of a row of failed views the last so many are blamed on anybody.
const BLAMED: u64 = 256;

/// With one fault so many failures and more make a member as bad as any.
const RANKED: u32 = 3;
/// Views after a commit in which somebody is passed over with one fault; with more they are as many as members.
const GAP: u64 = 20;
/// Further above its parent a block does not tell who has just failed.
const TELLING: u64 = 6;

/// What is held against members: how many views, and until which view they are out.
type Standing = BTreeMap<ReplicaId, (u32, u64)>;

/// Whether a block is by the leader of its view, and says of all leaders what its chain says. Without the whole chain nothing
/// can be said.
pub(super) fn follows(blocks: &BTreeMap<Digest, Block>, committee: &Committee, block: &Block) -> Finding {
    let Some(parent) = blocks.get(&block.parent) else { return Ok(()) };
    let Some(committed) = committed(blocks, parent) else { return Ok(()) };
    let name = || format!("a block of {} by {}", block.view, block.author);
    let leader = leader(parent, committed, committee, block.view.0);
    hold(leader == block.author, || format!("{}, and {leader} leads there by {}", name(), committed.view))?;
    let mut expected = standing(parent);
    let failed = parent.view.0 + 1..block.view.0;
    // Of several the first is not its leader's fault.
    let excused = usize::from(failed.end > failed.start + 1);
    let blamed: Vec<u64> = failed.clone().skip(excused).filter(|view| view + BLAMED >= block.view.0).collect();
    let mut guilty: Vec<(ReplicaId, u64, u64)> =
        blamed.into_iter().map(|view| (self::leader(parent, committed, committee, view), view, TURNS)).collect();
    // Of one alone nobody can tell whether its leader was away or the next one kept the votes back, who is out for half as long.
    guilty.extend((failed.end == failed.start + 1).then_some((block.author, failed.start, TURNS / 2)));
    for (member, view, turns) in guilty {
        let (count, out_until) = expected.entry(member).or_default();
        *count += 1;
        *out_until = view + ((turns * committee.size() as u64) << (*count - 1).min(DOUBLINGS));
    }
    // A block right after its parent's view takes one failure of its author back.
    if failed.end == failed.start
        && let Some((count, _)) = expected.get_mut(&block.author)
    {
        *count -= 1;
        expected.retain(|_, (count, _)| *count > 0);
    }
    let says = standing(block);
    hold(says == expected, || format!("{} that says {says:?} of the leaders for {expected:?}", name()))
}

fn standing(block: &Block) -> Standing {
    let entry = |failure: &quorate_protocol::hotstuff::leaders::Failure| {
        (failure.replica, (failure.count, failure.out_until.0))
    };
    block.standing.failures().iter().map(entry).collect()
}

/// The newest block that the certificates inside the chain of `block` commit; the first of all if there is none.
fn committed<'a>(blocks: &'a BTreeMap<Digest, Block>, block: &'a Block) -> Option<&'a Block> {
    let mut at = block;
    while at.view > View(0) {
        let certified = blocks.get(&at.parent)?;
        if certified.view == View(0) {
            return Some(certified);
        }
        let below = blocks.get(&certified.parent)?;
        if below.view.0 + 1 == certified.view.0 {
            return Some(below);
        }
        at = certified;
    }
    Some(at)
}

/// The leader of `view` by the chain that ends in `tip`, which commits `committed`.
fn leader(tip: &Block, committed: &Block, committee: &Committee, view: u64) -> ReplicaId {
    let members = committee.size() as u64;
    let mut out = passed_over(standing(committed), committee, view);
    let tells = tip.view.0 <= tip.justify.view().0 + TELLING;
    if faults(committee) == 1 && tells && tip.view.0 > committed.view.0 + 2 {
        // There is a gap above what is committed: who failed there is worse than whoever failed before.
        let known = standing(committed);
        let fresh = standing(tip).into_iter().filter_map(|(replica, (count, out_until))| {
            let (count_before, until_before) = known.get(&replica).copied().unwrap_or_default();
            (out_until != until_before).then(|| (count.saturating_sub(count_before), out_until, replica))
        });
        let fresh = worst(fresh.collect(), committee);
        out = if fresh.is_empty() { out } else { fresh };
    }
    if view > committed.view.0 + if faults(committee) == 1 { GAP } else { members } {
        out.clear();
    }
    let turns: Vec<ReplicaId> = (0..members as u16).map(ReplicaId).filter(|member| !out.contains(member)).collect();
    turns[(view % turns.len() as u64) as usize]
}

fn passed_over(standing: Standing, committee: &Committee, view: u64) -> Vec<ReplicaId> {
    // Of those whose time is over one is tried again: who has waited longest.
    let over = standing.iter().filter(|(_, (_, out_until))| *out_until <= view);
    let tried = over.map(|(replica, (_, until))| (*until, *replica)).min().map(|(_, replica)| replica);
    let ranked = if faults(committee) == 1 { RANKED } else { u32::MAX };
    let others = standing.into_iter().filter(|(replica, _)| Some(*replica) != tried);
    worst(others.map(|(replica, (count, out_until))| (count.min(ranked), out_until, replica)).collect(), committee)
}

/// Those with the highest count, then those out longest, then the first: f of them.
fn worst(mut failures: Vec<(u32, u64, ReplicaId)>, committee: &Committee) -> Vec<ReplicaId> {
    failures.sort_by_key(|(count, out_until, replica)| (u32::MAX - count, u64::MAX - out_until, *replica));
    failures.truncate(faults(committee));
    failures.into_iter().map(|(_, _, replica)| replica).collect()
}

fn faults(committee: &Committee) -> usize {
    (committee.size() - 1) / 3
}
