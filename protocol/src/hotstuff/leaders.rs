//! Who leads a view: members take turns, but for those whose recent views failed, as the committed chain tells.
//!
//! ```text
//!   standing(x) = standing(parent of x), a failure for the leader of each view between the two but the first of several;
//!                 if one view alone failed, a failure for x's author, too; if none did, one failure of x's author forgiven
//!   leader(v | b) = the members that are not passed over, ascending, the (v mod their number)-th
//!   passed over   = whom standing(c(b)) names, f at most;
//!                   with f = 1 and a failed view between c(b) and b: who stands blamed most in between, if anybody does,
//!                   unless b is more than 6 views after its parent;
//!                   nobody, if v is more than n views after c(b), with f = 1 more than 20
//!   c(b)          = the newest block that the certificates inside b's own chain commit
//! ```
//!
//! A commit needs three living leaders in a row: two blocks, and one who certifies the second. Of n = 3f + 1 members in turn
//! with f dead some three follow each other, but not of the 2f + 1 that are left when f living ones are passed over, who failed
//! some time ago and live again; then nothing commits, and the standing that says so does not change either. So after n views
//! without a commit everybody has turns again.
//!
//! With f = 1 that would be too late: among four members the dead one has its next turn before the commit that passes it over.
//! But there the one place is enough for the one that has just failed, whoever was passed over before, and the chain above c(b)
//! names it: the three others lead next and commit. That takes six views: after c(b) one block more, two views that fail, two
//! blocks, and the view of who certifies the second. (A failure right after the genesis block waits for its commit.) Where two
//! were away for some views, the first ones that are blamed may be living ones: each costs a block and two views that fail, and
//! when everybody has turns again that must be over, or it costs two more. A block after a long row of failed views says the
//! least about who is dead: of each round of leaders living ones are blamed as well. If its votes went to whom those blames
//! leave over, every next block above the same parent could send them to the dead one. So they go by what is committed.
//!
//! With more places that does not help: living members between two dead ones are blamed with them, and a block that changes who
//! is passed over also changes who its own votes go to.
//!
//! The first of several failed views is not its leader's fault. The votes for the parent, of view u, went to the leader of
//! u + 1, so that the parent is certified at all shows that this leader was there; what it proposed then was lost because the
//! leader of u + 2 did not deliver the certificate. A dead leader always costs two views, the one before its own and its own,
//! and were both leaders blamed alike, the f places of those passed over would go to the living and the dead in turn, for ever.
//! A row of one failed view is its leader's fault, or a lie of the next one, who kept the votes back and built over it: nobody
//! can tell, so both are blamed. Whoever is honest and has turns is forgiven as it brings blocks.
//! The next one is out for half as long, so that of two blamed for the same view the leader is passed over first: one successor
//! always follows the same leader, and were both out alike, f leaders that fork and those who follow them would take the f
//! places in turn, each pair letting the other pair back in. What stays is a liar that frames the leader before it: it is blamed
//! for each such view, but may be forgiven for a block between, while its victim has no turns. That costs one view in five
//! or more; docs/deviations.md has what it takes.
//!
//! Who was passed over for long enough comes back, one member at a time: only the one that has waited longest has turns again,
//! until it brings blocks or fails anew. Were all f dead members to come back at once, they would take f time-outs in a row.
//!
//! b is the block that the certificate entering v rests on. All of it is a function of the chain that ends in b, so whoever
//! holds b names the same leader; every block carries its standing, which its voters recompute (`standing` in
//! [`crate::hotstuff::block::BlockContent`] says why). At most f members are passed over: a liar who leads next can blame the
//! honest leader before it, by keeping that one's certificate back, and must not gain more than a turn by it.
//! (Carousel and DiemBFT version 4 elect from the committed chain for the same reasons.)

use bincode::{Decode, Encode};
use quorate_crypto::{Committee, ReplicaId, View};

/// A member is passed over for so many turns of the whole committee after its first failure.
///
/// Long beside what it costs to try a dead member again, which is two time-outs: views take some milliseconds under load, so
/// that a thousand of them are some seconds. The others lose nothing by leading meanwhile.
const TURNS: u64 = 256;
/// The same for who leads after a single failed view: it may be the victim of the one before it.
const TURNS_OF_THE_NEXT: u64 = TURNS / 2;
/// The time out doubles with every further failure, so often at most.
const DOUBLINGS_MAX: u32 = 6;
/// With f = 1 more failures than these say no more about who is to be passed over: a member that was dead for long and lives
/// again would keep its place from one that has just died until that one had failed as often. With f > 1 each counts: two liars
/// that frame the leaders before them, who are out for longer, would else rank below their victims for ever.
const RANKED_MAX: u32 = 3;
/// With f = 1, how long a gap lasts before everybody has turns: twelve would do after four views with two members away.
const GAP_VIEWS: u64 = 20;
/// A block that is further above its parent says nothing of who has just failed. A dead leader among four takes three views.
const TELLING_VIEWS: u64 = 6;
/// Of a row of failed views so many are blamed on their leaders, the latest: the rest is long ago, and a block must not cost
/// more to judge than this.
const BLAMED_MAX: u64 = 256;

/// What is held against one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Failure {
    /// The member.
    pub replica: ReplicaId,
    /// Its views that failed, less the blocks that it brought after a view that did not fail.
    pub count: u32,
    /// It is passed over in views below this one.
    pub out_until: View,
}

/// Every member with a failure, ascending by id.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Standing(Vec<Failure>);

/// What the leaders of the views after a block follow from: that block, and the newest one that its chain commits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// View of the block.
    pub view: View,
    /// View of its parent.
    pub parent_view: View,
    /// Its standing.
    pub standing: Standing,
    /// View of the newest block that its chain commits.
    pub committed_view: View,
    /// The standing of that one.
    pub committed: Standing,
}

impl Counted {
    /// The leader of `view`, which is after the block's.
    pub fn leader(&self, view: View, committee: &Committee) -> ReplicaId {
        let out = self.passed_over(view, committee);
        let turns: Vec<ReplicaId> = committee.ids().filter(|id| !out.contains(id)).collect();
        // Never empty: at most f of n members are passed over.
        turns[(view.0 % turns.len() as u64) as usize]
    }

    /// Who is passed over in `view`, at most f.
    pub fn passed_over(&self, view: View, committee: &Committee) -> Vec<ReplicaId> {
        let patience = if committee.faults() == 1 { GAP_VIEWS } else { committee.size() as u64 };
        if view.0.saturating_sub(self.committed_view.0) > patience {
            return Vec::new();
        }
        // While every view brings a block, the committed one is the grandparent.
        let gap = self.view.0.saturating_sub(self.committed_view.0) > 2;
        let tells = self.view.0.saturating_sub(self.parent_view.0) <= TELLING_VIEWS;
        if gap
            && tells
            && committee.faults() == 1
            && let Some(fresh) = self.standing.blamed_since(&self.committed)
        {
            return vec![fresh];
        }
        self.committed.passed_over(view, committee)
    }
}

impl Standing {
    /// What is held against whom, ascending by id.
    pub fn failures(&self) -> &[Failure] {
        &self.0
    }

    /// Who is passed over in `view`, at most f: those with the most failures, which with f = 1 count up to three, then
    /// those out longest, then by id. Of those whose time is over only the one that waited longest has turns again.
    pub fn passed_over(&self, view: View, committee: &Committee) -> Vec<ReplicaId> {
        let over = self.0.iter().filter(|failure| failure.out_until <= view);
        let tried = over.min_by_key(|failure| (failure.out_until, failure.replica)).map(|failure| failure.replica);
        let ranked_max = if committee.faults() == 1 { RANKED_MAX } else { u32::MAX };
        let mut out: Vec<&Failure> = self.0.iter().filter(|failure| Some(failure.replica) != tried).collect();
        out.sort_by(|left, right| {
            let rank = |failure: &Failure| (failure.count.min(ranked_max), failure.out_until);
            let by_blame = rank(right).cmp(&rank(left));
            by_blame.then(left.replica.cmp(&right.replica))
        });
        out.truncate(committee.faults());
        out.into_iter().map(|failure| failure.replica).collect()
    }

    /// Who was blamed most since `before`; of several, who is out longest, then by id. After one failed view that is its leader,
    /// unless the next one had failed more often before.
    fn blamed_since(&self, before: &Standing) -> Option<ReplicaId> {
        let mut worst: Option<(u32, View, ReplicaId)> = None;
        for failure in &self.0 {
            let known = before.0.iter().find(|known| known.replica == failure.replica);
            let (count, out_until) = known.map_or((0, View(0)), |known| (known.count, known.out_until));
            let more = failure.count.saturating_sub(count);
            // Blame alone changes this, and may set it lower: the count may have been forgiven meanwhile. It hardly ever comes
            // to the same view again.
            let is_fresh = failure.out_until != out_until;
            if is_fresh && worst.is_none_or(|(most, longest, _)| (more, failure.out_until) > (most, longest)) {
                worst = Some((more, failure.out_until, failure.replica));
            }
        }
        worst.map(|(_, _, member)| member)
    }

    /// The standing of a block of `view` by `author`, whose parent has this one and the view `parent_view`. `counted` says
    /// who led the views after the parent.
    #[must_use]
    pub fn after(
        &self,
        counted: &Counted,
        parent_view: View,
        view: View,
        author: ReplicaId,
        committee: &Committee,
    ) -> Standing {
        let mut next = self.clone();
        let first = parent_view.0.saturating_add(1);
        let excused = u64::from(first.saturating_add(1) < view.0);
        let first = first.saturating_add(excused).max(view.0.saturating_sub(BLAMED_MAX));
        for failed in (first..view.0).map(View) {
            next.blame(counted.leader(failed, committee), failed, TURNS, committee);
        }
        match view.0.saturating_sub(parent_view.0) {
            1 => next.forgive(author),
            2 => next.blame(author, View(view.0 - 1), TURNS_OF_THE_NEXT, committee),
            _ => {}
        }
        next
    }

    /// The member brought a block right after a view that did not fail.
    fn forgive(&mut self, author: ReplicaId) {
        if let Ok(place) = self.0.binary_search_by_key(&author, |failure| failure.replica) {
            // A failure that counts nothing stands in no block that an honest replica voted for.
            self.0[place].count = self.0[place].count.saturating_sub(1);
            if self.0[place].count == 0 {
                self.0.remove(place);
            }
        }
    }

    fn blame(&mut self, member: ReplicaId, view: View, turns: u64, committee: &Committee) {
        let place = match self.0.binary_search_by_key(&member, |failure| failure.replica) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, Failure { replica: member, count: 0, out_until: View(0) });
                place
            }
        };
        let failure = &mut self.0[place];
        failure.count = failure.count.saturating_add(1);
        let out = (turns * committee.size() as u64) << (failure.count - 1).min(DOUBLINGS_MAX);
        failure.out_until = View(view.0.saturating_add(out));
    }
}

#[cfg(test)]
mod tests;
