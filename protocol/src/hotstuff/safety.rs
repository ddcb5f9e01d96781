//! HotStuff's rules as small pure functions, each with its source and a negative test. The protocol is Jolteon (Gelashvili,
//! Kokoris-Kogias, Sonnino, Spiegelman, Xiang 2021, figure 3), two phases, as published.
//!
//! | function | rule | source |
//! |---|---|---|
//! | [`is_justified`] | qc.view = v - 1, or tc.view = v - 1 and qc.view >= every high-QC view in the tc | Jolteon, "Vote" |
//! | [`may_vote`] | that, and v > last voted and last timed-out view; a TC always unlocks | Jolteon, "Vote"; rule H4 |
//! | [`may_time_out`], [`may_propose`] | one TIMEOUT and one proposal a view | Jolteon, "Timeout", "Propose"; rule H6 |
//! | [`commits`] | a block commits when its direct child in the next view is certified | Jolteon, "Commit"; rule H1 |
//! | [`recovery_view`] | one above the higher of QC and TC | Jolteon, "Advance Round"; rule H5 |
//! | [`joined_view`] | f + 1 TIMEOUTs of a view that is not over are joined | DiemBFT 2021, section 3.4 |
//! | [`fits`] | number, leader and standing follow from the parent | protocol.md, HotStuff |
//! | [`time_is_acceptable`] | the bound doubles per failed view | protocol.md, Agreed time |
//! | [`judge_life`] | an old life speaks up to w, a new one above | protocol.md, Rejoin |
//!
//! Why two phases are enough: let b with direct parent p in consecutive views v + 1, v be certified. Of the q that voted for b
//! f + 1 are honest, and hold QC(p) durably. A later TC names at least one of them, whose TIMEOUT came after its vote and says
//! v or more, so the block after it rests on a QC of view v or more; and by induction over views every such QC certifies p or
//! a descendant.

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Committee, Incarnation, Statement, View};

use crate::hotstuff::block::{Block, BlockContent};
use crate::hotstuff::certificate::QuorumCertificate;
use crate::hotstuff::leaders::Counted;
use crate::hotstuff::promise::Promise;
use crate::rejoin::rules::VoteJudgement;

/// Whether a block's view follows from the certificates it carries, which are checked apart.
pub fn is_justified(block: &BlockContent) -> bool {
    let justify = block.justify.view();
    if justify >= block.view {
        return false;
    }
    let by_timeout = block
        .timeout
        .as_ref()
        .is_some_and(|timeout| timeout.view.next() == block.view && justify >= timeout.highest_named());
    justify.next() == block.view || by_timeout
}

/// Whether a replica that promised so much may vote for a block. There is no lock beside: whatever QC this replica holds, a
/// block that a TC justifies is voted for (rule H4; HotShot #2431 kept a lock that a TC did not open, and stood still).
pub fn may_vote(block: &BlockContent, promise: &Promise) -> bool {
    let locked = alive(Mutant::TimeoutUnlocksNothing) && block.justify.view() < promise.high_qc.view();
    block.view > promise.last_voted
        && (block.view > promise.last_timed_out || alive(Mutant::VotesAfterTimeout))
        && is_justified(block)
        && !locked
}

/// Whether a replica that promised so much may give up on `view`: once, and only while its highest QC is of a view before.
pub fn may_time_out(view: View, promise: &Promise) -> bool {
    view > promise.last_timed_out && view >= promise.last_voted && promise.high_qc.view() < view
}

/// Whether a replica that promised so much may propose in `view`: once, and not after it gave up on it.
pub fn may_propose(view: View, promise: &Promise) -> bool {
    view > promise.last_proposed && view > promise.last_timed_out
}

/// Whether `certificate`, which certifies `block`, commits `parent`: it is the block's direct parent, in the view right before
/// (rule H1; relab #249 committed an ancestor over a gap of views).
pub fn commits(certificate: &QuorumCertificate, block: &Block, parent: &Block) -> bool {
    certificate.block() == block.digest()
        && certificate.view() == block.view
        && block.parent == parent.digest()
        && (parent.view.next() == block.view || alive(Mutant::CommitsAcrossViews))
        && parent.view < block.view
}

/// The view a replica is in that holds these certificates: one above the higher of the two (rule H5; babylon-node #243 took
/// the QC and was thrown back). They carry everything there is to know about views, after a restart, too.
pub fn recovery_view(high_qc: View, high_tc: View) -> View {
    if alive(Mutant::RecoversFromQuorumOnly) {
        return high_qc.next();
    }
    high_qc.max(high_tc).next()
}

/// The view whose TIMEOUT a replica in `present` joins: the highest one that f + 1 members have given up or passed, if it is
/// not over. At least one of them is honest; a single liar far ahead moves nobody (rule P9).
pub fn joined_view(given_up: impl Iterator<Item = View>, present: View, committee: &Committee) -> Option<View> {
    let mut views: Vec<View> = given_up.filter(|view| *view >= present).collect();
    views.sort_unstable_by(|left, right| right.cmp(left));
    let followed = if alive(Mutant::JoinsAlone) { 1 } else { committee.one_honest() };
    views.get(followed - 1).copied()
}

/// Why a block does not fit its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misfit {
    /// Its number is not the parent's, or the next one if it orders something.
    WrongNumber,
    /// Its author does not lead its view.
    NotTheLeader,
    /// Its standing is not what its chain says.
    WrongStanding,
}

/// Whether a block fits on `parent`. `counted` is what the leaders of the views after the parent follow from.
pub fn fits(block: &Block, parent: &Block, counted: &Counted, committee: &Committee) -> Result<(), Misfit> {
    let number = if block.is_null() { parent.seq } else { parent.seq.next() };
    if block.seq != number {
        return Err(Misfit::WrongNumber);
    }
    if block.author != counted.leader(block.view, committee) && !alive(Mutant::AnybodyLeads) {
        return Err(Misfit::NotTheLeader);
    }
    if block.standing != parent.standing.after(counted, parent.view, block.view, block.author, committee) {
        return Err(Misfit::WrongStanding);
    }
    Ok(())
}

/// Whether a replica's clock agrees with a fresh block's time. The bound doubles per failed view up to a cap, so a cluster
/// whose clocks disagree still moves. A null block has no time.
pub fn time_is_acceptable(header: u64, clock: u64, bound: u64, cap: u64, failed_views: u32) -> bool {
    header.abs_diff(clock) <= widened(bound, cap, failed_views) || alive(Mutant::AnyTimeGoes)
}

/// By how much a block's time is further ahead of the clock than the bound allows: so long later it is acceptable.
pub fn early_by(header: u64, clock: u64, bound: u64, cap: u64, failed_views: u32) -> u64 {
    header.saturating_sub(clock).saturating_sub(widened(bound, cap, failed_views))
}

fn widened(bound: u64, cap: u64, failed_views: u32) -> u64 {
    bound.saturating_mul(1u64 << failed_views.min(32)).min(cap.max(bound))
}

/// Whether a vote or TIMEOUT of `view` is of the life that speaks there. `began` says in which incarnation its author was seen
/// to rejoin last, and w, the view of the block that holds the Rejoin: every signature of a life before is of a view up to w,
/// since the certificate of the view before it and QC(w) have an honest author in common that is not the one that rejoined.
pub fn judge_life(statement: &Statement, view: View, began: Option<(Incarnation, View)>) -> VoteJudgement {
    let (incarnation, line) = began.unwrap_or((Incarnation(0), View(0)));
    let new = began.is_none() || view > line;
    match statement.incarnation.cmp(&incarnation) {
        std::cmp::Ordering::Greater => VoteJudgement::Unknown,
        std::cmp::Ordering::Equal if new => VoteJudgement::Counts,
        std::cmp::Ordering::Less if !new => VoteJudgement::Counts,
        std::cmp::Ordering::Equal | std::cmp::Ordering::Less => VoteJudgement::Refused,
    }
}

#[cfg(test)]
mod tests;
