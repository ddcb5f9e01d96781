//! Handing statements back: on every new link a replica tells the other side what it holds of it, so that one whose log is
//! not the newest finds out (protocol.md, Restart and lost logs).

use quorate_crypto::statement::Ballot;
use quorate_crypto::{ReplicaId, Signed, Statement, StatementBody, View};

use crate::engine::{Now, Recipients};
use crate::foundation::said_by;
use crate::message::{Message, STATUS_SLOTS_MAX};
use crate::pbft::Replica;
use crate::pbft::slot::ballot_of;

/// Votes handed back at least, if so many are held: the peer's newest, whatever numbers others have touched since.
const HANDED_BACK: usize = 32;

impl Replica {
    /// On every new link peers hand back the newest statements they hold that the other side signed.
    pub(super) fn handle_link_up(&mut self, now: Now, peer: ReplicaId) {
        if !self.foundation.is_peer(peer) {
            return;
        }
        let mut statements: Vec<Signed> = Vec::new();
        for slot in self.slots.values().rev() {
            if statements.len() >= HANDED_BACK {
                break;
            }
            for round in slot.rounds.values() {
                statements.extend(round.pre_prepare.filter(|signed| signed.signer() == peer));
                statements.extend(round.prepares.get(&peer).map(|prepare| prepare.signed));
                statements.extend(round.commits.get(&peer));
            }
            // Of views that were left nothing else is kept.
            let decided = slot.committed.as_ref().and_then(|certificate| said_by(peer, certificate));
            statements.extend(decided.filter(|signed| !statements.contains(signed)));
        }
        statements.truncate(STATUS_SLOTS_MAX - 5);
        let left = self.new_views.values().rev().flat_map(|kept| &kept.view_changes);
        statements.extend(left.map(|message| message.signed).find(|signed| signed.signer() == peer));
        statements.extend(self.view_changes.get(&peer).map(|message| message.signed));
        let opened = self.new_views.values().rev().map(|kept| kept.new_view.signed);
        statements.extend(opened.into_iter().find(|signed| signed.signer() == peer));
        statements.extend(self.foundation.checkpoints_of(peer));
        if !statements.is_empty() {
            self.foundation.send(Recipients::One(peer), Message::YourStatements(statements), None);
        }
        self.foundation.next_status = now.monotonic;
        self.tend_status(now);
    }

    /// A statement of its own that the log lacks, above the stable checkpoint or of a later view: the log is not the
    /// newest, and a replica that cannot know what it signed must not sign: it rejoins.
    pub(super) fn handle_own_statements(&mut self, now: Now, statements: &[Signed]) {
        if !self.foundation.is_rejoining() && statements.iter().any(|signed| self.lacks_own(&signed.statement)) {
            self.begin_rejoin(now);
        }
    }

    fn lacks_own(&self, statement: &Statement) -> bool {
        if let Some(lacks) = self.foundation.lacks_own(statement) {
            return lacks;
        }
        match &statement.body {
            StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) => {
                self.lacks_vote(&statement.body, ballot)
            }
            // The last one is kept after its view was entered, too.
            StatementBody::ViewChange { view, body } => self
                .own_view_change
                .as_ref()
                .is_none_or(|own| own.view() < *view || (own.view() == *view && own.digest() != *body)),
            StatementBody::NewView { view, .. } => {
                let kept = self.new_views.get(view).filter(|kept| kept.new_view.author() == self.foundation.id());
                kept.map_or(*view >= self.view, |kept| kept.new_view.signed.body() != &statement.body)
            }
            _ => false,
        }
    }

    fn lacks_vote(&self, body: &StatementBody, ballot: &Ballot) -> bool {
        if ballot.view > self.view || (ballot.view == self.view && !self.entered && self.view > View(0)) {
            return true;
        }
        if ballot.seq <= self.foundation.stable() {
            return false;
        }
        let slot = self.slots.get(&ballot.seq);
        if ballot.view < self.view {
            // Of a view that was left only the COMMIT of the highest view is kept.
            let committed = slot.and_then(|slot| slot.own_commit.as_ref()).and_then(|own| ballot_of(own.body()));
            let is_commit = matches!(body, StatementBody::Commit(_));
            return is_commit && committed.is_none_or(|own| own.view < ballot.view);
        }
        let round = slot.and_then(|slot| slot.rounds.get(&ballot.view));
        let own = round.and_then(|round| match body {
            StatementBody::PrePrepare(_) => round.pre_prepare,
            StatementBody::Prepare(_) => round.prepares.get(&self.foundation.id()).map(|prepare| prepare.signed),
            _ => round.commits.get(&self.foundation.id()).copied(),
        });
        own.is_none_or(|own| ballot_of(own.body()) != Some(ballot))
    }
}
