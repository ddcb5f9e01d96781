//! Handing statements back: on every new link a replica tells the other side what it holds of it, so that one whose log is
//! not the newest finds out (protocol.md, Restart and lost logs).

use quorate_crypto::{ReplicaId, Signed, Statement, StatementBody, View};

use crate::engine::{Now, Recipients};
use crate::hotstuff::Replica;
use crate::hotstuff::certificate::{TimeoutCertificate, Vote};
use crate::message::{Message, STATUS_SLOTS_MAX};

impl Replica {
    /// On every new link peers hand back the newest statements they hold that the other side signed.
    pub(super) fn handle_link_up(&mut self, now: Now, peer: ReplicaId) {
        if !self.foundation.is_peer(peer) {
            return;
        }
        let by_peer = |signed: &Signed| signed.signer() == peer;
        let mut statements: Vec<Signed> = Vec::new();
        statements.extend(self.collector.newest_of(peer));
        // The newest votes of a replica that only follows are in the certificates of the chain.
        let certificates = self.tree.iter().rev().map(|block| &block.justify);
        let certificates = std::iter::once(&self.promise.high_qc).chain(certificates);
        let voted = certificates.take(STATUS_SLOTS_MAX).find_map(|qc| qc.statements().into_iter().find(by_peer));
        statements.extend(voted);
        statements.extend(self.pacemaker.timeout_of(peer).map(|timeout| timeout.signed));
        let given_up = self.promise.high_tc.iter().flat_map(TimeoutCertificate::statements).find(by_peer);
        statements.extend(given_up);
        let blocks = self.tree.iter().rev();
        let proposed = blocks.filter_map(|block| self.signed.get(&block.digest())).find(|signed| by_peer(signed));
        statements.extend(proposed);
        statements.extend(self.foundation.checkpoints_of(peer));
        if !statements.is_empty() {
            self.foundation.send(Recipients::One(peer), Message::YourStatements(statements), None);
        }
        self.foundation.next_status = now.monotonic;
        self.tend_status(now);
    }

    /// A statement of its own that the log lacks: the log is not the newest, and a replica that cannot know what it signed
    /// must not sign: it rejoins.
    pub(super) fn handle_own_statements(&mut self, now: Now, statements: &[Signed]) {
        if !self.foundation.is_rejoining() && statements.iter().any(|signed| self.lacks_own(&signed.statement)) {
            self.begin_rejoin(now);
        }
    }

    fn lacks_own(&self, statement: &Statement) -> bool {
        if let Some(lacks) = self.foundation.lacks_own(statement) {
            return lacks;
        }
        let promise = &self.promise;
        let differs = |own: Option<&Signed>| own.is_none_or(|own| *own.body() != statement.body);
        let lacks = |view: View, last: View, own: Option<&Signed>| view > last || (view == last && differs(own));
        match statement.body {
            StatementBody::BlockVote { view, .. } => lacks(view, promise.last_voted, promise.vote.as_ref()),
            StatementBody::Timeout { view, .. } => {
                lacks(view, promise.last_timed_out, promise.timeout.as_ref().map(|timeout| &timeout.signed))
            }
            StatementBody::Proposal { view, .. } => lacks(view, promise.last_proposed, promise.proposal.as_ref()),
            _ => false,
        }
    }

    /// The last vote, as what it says.
    pub(super) fn last_vote(&self) -> Option<Vote> {
        self.promise.vote.and_then(|signed| Vote::of(signed.body()))
    }
}
