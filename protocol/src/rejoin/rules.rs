//! Which life of a replica is believed about what (protocol.md, Rejoin). n_r + L is the line between two lives: the old one
//! signed nothing above it, since every number it signed about is at most L above a checkpoint that was stable before it
//! asked; the new one signs nothing at or below it, since it goes on above a checkpoint at or above it. (Where no such
//! checkpoint has to come first, CHECKPOINTs are an exception: [`checkpoint`].)
//!
//! | rule | source |
//! |---|---|
//! | [`vote`] | the older one's votes above n_r + L and the newer one's at or below are refused |
//! | [`checkpoint`] | where lives are told apart by views, the newer one vouches for any state (docs/deviations.md) |
//! | [`is_superseded`] | the older incarnation's VIEW-CHANGEs are refused |
//! | [`entrance`] | what a NEW-VIEW may rest on |
//! | [`fill_target`] | null requests until n_r + L has a checkpoint |

use quorate_crypto::{Incarnation, ReplicaId, Seq, Statement, View};

use super::Rejoined;

/// Whether a vote counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoteJudgement {
    /// It is of the life that speaks about this number.
    Counts,
    /// Of a life that does not speak about this number.
    Refused,
    /// Of an incarnation whose Rejoin this replica has not executed. It counts in certificates, VIEW-CHANGEs and NEW-VIEWs, so
    /// that a laggard does not lock itself out; alone it can wait until the laggard knows.
    Unknown,
}

/// Judges a statement about `seq`.
pub fn vote(rejoined: &Rejoined, statement: &Statement, seq: Seq, window: u64) -> VoteJudgement {
    let Some(record) = rejoined.get(statement.signer) else {
        return if statement.incarnation == Incarnation(0) { VoteJudgement::Counts } else { VoteJudgement::Unknown };
    };
    let above = seq > record.seq.plus(window);
    match statement.incarnation.cmp(&record.incarnation) {
        std::cmp::Ordering::Greater => VoteJudgement::Unknown,
        std::cmp::Ordering::Equal if above => VoteJudgement::Counts,
        std::cmp::Ordering::Less if !above => VoteJudgement::Counts,
        std::cmp::Ordering::Equal | std::cmp::Ordering::Less => VoteJudgement::Refused,
    }
}

/// Judges a CHECKPOINT about `seq`. Without a gap (HotStuff, where lives are told apart by views) the life that is known vouches
/// for a state at or below its Rejoin, too. The state at a number follows from what was decided, so no two lives say different
/// things about it; and no checkpoint above the Rejoin has to come before the new life begins, so the vote of this replica may
/// be the one that opens a window whose last number is the Rejoin.
pub fn checkpoint(rejoined: &Rejoined, statement: &Statement, seq: Seq, window: u64) -> VoteJudgement {
    if window == 0 && statement.incarnation == rejoined.incarnation(statement.signer) {
        return VoteJudgement::Counts;
    }
    vote(rejoined, statement, seq, window)
}

/// Whether a statement that is about a view as a whole (a VIEW-CHANGE) is of a life that is known to be over.
pub fn is_superseded(rejoined: &Rejoined, statement: &Statement) -> bool {
    statement.incarnation < rejoined.incarnation(statement.signer)
}

/// What a NEW-VIEW that rests on VIEW-CHANGEs of lives that are over permits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entrance {
    /// The view may be entered.
    Open,
    /// Not before this replica has executed more: a Rejoin it does not know yet may close it.
    NotYet,
    /// Never.
    Closed,
}

/// Whether a replica with these own COMMITs (`view`s below the new one, ascending or not) may enter a view whose NEW-VIEW
/// rests on VIEW-CHANGEs of these authors and incarnations.
///
/// A COMMIT about a number above n_r + L may have made a decision together with the new life of the replica that rejoined,
/// and that replica's VIEW-CHANGE of its old life cannot know of it: whoever gave such a COMMIT refuses. Of every quorum
/// that decided and every quorum of the new view one honest replica is in both, so no other decision comes about there.
/// Whoever gave none enters: the view may have been opened long before, with the VIEW-CHANGE of a life that was not over
/// yet, and a laggard, or the replica that just came back, must be able to follow. So does whoever's own VIEW-CHANGE, which
/// carries the proofs of its COMMITs, is among them.
pub fn entrance(
    own: (ReplicaId, Incarnation),
    view: View,
    own_commits: impl Iterator<Item = (View, Seq)>,
    executed: Seq,
    window: u64,
    rested_on: &[(ReplicaId, Incarnation)],
    rejoined: &Rejoined,
) -> Entrance {
    let Some(highest) = own_commits.filter(|(of, _)| *of < view).map(|(_, seq)| seq).max() else {
        return Entrance::Open;
    };
    if rested_on.contains(&own) {
        return Entrance::Open;
    }
    for (author, incarnation) in rested_on {
        let Some(record) = rejoined.get(*author).filter(|record| *incarnation < record.incarnation) else { continue };
        // Of several lives between the two only the last one's number is known: then no own COMMIT is low enough.
        let follows = incarnation.0.checked_add(1) == Some(record.incarnation.0);
        if !follows || highest > record.seq.plus(window) {
            return Entrance::Closed;
        }
    }
    // A Rejoin not executed here is above `executed`, and what its new life signs is L further up at least.
    if highest > executed.plus(window) { Entrance::NotYet } else { Entrance::Open }
}

/// The number up to which an idle cluster goes on, so that a checkpoint at or above n_r + L comes: the first checkpoint there,
/// while the stable one is below it. `None` if nobody waits.
pub fn fill_target(rejoined: &Rejoined, stable: Seq, window: u64, checkpoint_interval: u64) -> Option<Seq> {
    let line = rejoined.iter().map(|(_, record)| record.seq.plus(window)).max()?;
    let target = line.0.checked_next_multiple_of(checkpoint_interval.max(1))?;
    (stable < line).then_some(Seq(target))
}
