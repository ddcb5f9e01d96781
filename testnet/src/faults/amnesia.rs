//! The amnesiac: after a restart it knows nothing of what it voted for, and votes for whatever it is shown first, in
//! views it has left as well. Its VIEW-CHANGEs prove nothing, since it remembers nothing it prepared.
//!
//! Only what is lost with a log is lost: PREPARE answers a proposal, COMMIT a COMMIT of somebody who should know. Under
//! HotStuff a vote answers a block, of a view that is over or was given up, and TIMEOUTs name what others showed.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::statement::Ballot;
use quorate_crypto::{Digest, Seq, StatementBody, StatementKind, View};
use quorate_protocol::hotstuff::block::Block;
use quorate_protocol::hotstuff::certificate::Vote;
use quorate_protocol::hotstuff::message::Timeout;
use quorate_protocol::message::{Message, Prepare};

use super::act::Act;
use super::hotstuff::{own_timeout, own_vote, timeout_with};
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
    /// Views it voted for a block in, as itself or as its honest inside.
    voted_in: BTreeSet<View>,
    /// Its TIMEOUTs: sent again, they are the same.
    timeouts: BTreeMap<View, Timeout>,
}

impl Amnesia {
    pub(super) fn act(&mut self, act: &mut Act<'_>) -> u64 {
        for send in act.sends.iter() {
            if let Some((_, vote)) = own_vote(act.hands, &send.message) {
                self.voted_in.insert(vote.view);
            }
            let (Message::Prepare(Prepare { signed, .. }) | Message::Commit(signed)) = &send.message else { continue };
            if let StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) = signed.body() {
                self.remembered.insert((ballot.view, ballot.seq, signed.body().kind()));
                while self.remembered.len() > VOTES_KEPT {
                    self.remembered.pop_first();
                }
            }
        }
        let forgotten = without_proofs(act) + self.forget_certificates(act);
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
            Heard::Block(proposal) => self.vote_for(act, &proposal.block),
            _ => 0,
        };
        forgotten + voted
    }

    /// Votes for a block although its view is over or was given up, unless it voted in that view since the restart.
    fn vote_for(&mut self, act: &mut Act<'_>, block: &Block) -> u64 {
        let view = block.view;
        let gave_up = act.seen.chain().timeout_of(view, act.hands.id).is_some();
        let over = view < act.standing.view || (view == act.standing.view && gave_up);
        if !over || block.author == act.hands.id || !self.voted_in.insert(view) {
            return 0;
        }
        while self.voted_in.len() > VOTES_KEPT {
            self.voted_in.pop_first();
        }
        let vote = Vote { view, block: block.digest(), parent_view: block.justify.view() };
        act.tell_all(Message::BlockVote(act.hands.sign(vote.body())));
        1
    }

    /// Own TIMEOUTs name the highest certificate that others have shown since the restart.
    fn forget_certificates(&mut self, act: &mut Act<'_>) -> u64 {
        let mut acted = 0;
        for send in act.sends.iter_mut() {
            let Some(honest) = own_timeout(act.hands, &send.message) else { continue };
            let (view, shown) = (honest.view(), act.seen.chain().shown());
            if !self.timeouts.contains_key(&view) && honest.high_qc.view() > shown {
                let known = act.seen.chain().highest_before(shown.next().min(view));
                self.timeouts.insert(view, timeout_with(act.hands, view, known));
                while self.timeouts.len() > VOTES_KEPT {
                    self.timeouts.pop_first();
                }
            }
            if let Some(told) = self.timeouts.get(&view) {
                send.message = Message::Timeout(told.clone());
                acted += 1;
            }
        }
        acted
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
