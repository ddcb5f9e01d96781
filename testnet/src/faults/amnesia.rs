//! The amnesiac: after a restart it knows nothing of what it voted for, and votes for whatever it is shown first, in
//! views it has left as well. Its VIEW-CHANGEs prove nothing, since it remembers nothing it prepared.
//!
//! Only what is lost with a log is lost: PREPARE answers a proposal, COMMIT a COMMIT of somebody who should know.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::statement::Ballot;
use quorate_crypto::{Digest, Seq, StatementBody, StatementKind, View};
use quorate_protocol::message::{Message, Prepare};

use super::act::Act;
use super::seen::Heard;
use super::view_change::without_proofs;

/// Votes remembered since the last restart.
const VOTES_KEPT: usize = 512;

/// What is remembered since the process began: nothing at first, whatever the log says.
#[derive(Default)]
pub(super) struct Amnesia {
    voted: BTreeMap<(View, Seq, StatementKind), Digest>,
    /// Views its honest inside voted in with its log at hand, as far as they were seen.
    remembered: BTreeSet<(View, Seq, StatementKind)>,
}

impl Amnesia {
    pub(super) fn act(&mut self, act: &mut Act<'_>) -> u64 {
        for send in act.sends.iter() {
            let (Message::Prepare(Prepare { signed, .. }) | Message::Commit(signed)) = &send.message else { continue };
            if let StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) = signed.body() {
                self.remembered.insert((ballot.view, ballot.seq, signed.body().kind()));
                while self.remembered.len() > VOTES_KEPT {
                    self.remembered.pop_first();
                }
            }
        }
        let forgotten = without_proofs(act);
        let voted = match act.heard {
            Heard::Proposed(message) => {
                let StatementBody::PrePrepare(ballot) = *message.signed.body() else { return forgotten };
                let prepare = Prepare {
                    signed: act.hands.sign(StatementBody::Prepare(ballot)),
                    primary_incarnation: message.signed.statement.incarnation,
                    primary_signature: message.signed.signature,
                };
                self.vote(act, &ballot, Message::Prepare(prepare), StatementKind::Prepare)
            }
            Heard::Committed(ballot) => {
                let commit = Message::Commit(act.hands.sign(StatementBody::Commit(*ballot)));
                self.vote(act, ballot, commit, StatementKind::Commit)
            }
            _ => 0,
        };
        forgotten + voted
    }

    /// Votes for what it was shown, unless its honest inside is about to, or it did since the restart.
    fn vote(&mut self, act: &mut Act<'_>, ballot: &Ballot, vote: Message, kind: StatementKind) -> u64 {
        let place = (ballot.view, ballot.seq, kind);
        let leads = act.hands.committee.primary(ballot.view) == act.hands.id;
        let present = ballot.view == act.standing.view && act.standing.entered;
        let over = ballot.seq <= act.standing.stable;
        let knows = self.remembered.contains(&place) || self.voted.contains_key(&place);
        if over || knows || (leads && kind == StatementKind::Prepare) || (present && kind == StatementKind::Prepare) {
            return 0;
        }
        self.voted.insert(place, ballot.digest);
        while self.voted.len() > VOTES_KEPT {
            self.voted.pop_first();
        }
        act.tell_all(vote);
        1
    }
}
