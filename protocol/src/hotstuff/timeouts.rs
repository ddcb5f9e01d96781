//! Entering views and giving up on them (Jolteon, figure 3, "Timeout" and "Advance Round").

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, ReplicaId, StatementBody, Verified, View};

use crate::engine::{Departure, Now, Recipients};
use crate::hotstuff::certificate::{Collected, TimeoutCertificate};
use crate::hotstuff::message::Timeout;
use crate::hotstuff::pacemaker::Entry;
use crate::hotstuff::{Replica, safety};
use crate::message::Message;
use crate::parameters::Micros;
use crate::pending::Relayed;
use crate::request::Request;

/// Bytes of requests relayed at once.
const RELAY_BYTES_MAX: usize = 512 * 1024;

impl Replica {
    /// Enters the view that the highest certificates open, if it is later than the present one.
    pub(super) fn enter_view(&mut self, now: Now) {
        let high_qc = self.promise.high_qc.view();
        let view = safety::recovery_view(high_qc, self.promise.high_tc_view());
        let by_quorum = high_qc.next() == view;
        let voted = self.promise.last_voted == self.promise.high_tc_view();
        let entry = if by_quorum { Entry::Quorum } else { Entry::Timeout { voted } };
        let (left, owed_since) = (self.view(), self.pacemaker.started());
        if !self.pacemaker.enter(view, entry) {
            return;
        }
        // Whoever jumps over views has not seen whether those leaders came.
        let view_timeout = self.foundation.parameters().view_timeout;
        if left.next() != view {
            self.slow_leaders.came(now.monotonic, owed_since, view_timeout);
        } else if by_quorum {
            self.slow_leaders.certified(self.leader(), now.monotonic, owed_since, view_timeout);
        } else {
            self.slow_leaders.failed(now.monotonic, owed_since, view_timeout);
        }
        if !by_quorum && self.leader() != self.id() {
            self.slow_leaders.await_leader(self.leader(), false, now.monotonic);
        }
        let lost = self.candidate.take().is_some_and(|candidate| !self.stands(&candidate.digest));
        if lost || !by_quorum {
            self.give_back_lost();
        }
        self.revisit_waiting(now);
    }

    /// Whether a block is committed or on the way to the highest certificate, as far as that is known.
    fn stands(&self, block: &Digest) -> bool {
        let path = self.tree.path(&self.promise.high_qc.block()).unwrap_or_default();
        path.iter().any(|above| above.digest() == *block) || self.tree.is_committed(block)
    }

    /// The block of a view that failed may never be certified, and neither that of a view whose leader had another one
    /// certified: what such blocks named waits again, unless it stands elsewhere. They stay in the tree until a commit abandons
    /// them, and with nothing unproposed nothing would ever commit.
    fn give_back_lost(&mut self) {
        let standing = self.standing_requests();
        self.foundation.pending.reset_proposed(|digest| standing.contains(digest));
        let above = self.tree.iter().rev().take_while(|block| block.view > self.tree.committed().view);
        let named = above.flat_map(|block| block.proposal.requests()).filter(|digest| !standing.contains(digest));
        self.lost_requests = named.copied().collect();
    }

    /// Takes requests in. A liar may have named one in a block that is lost, before its client sent it to the others: for them
    /// it is not on its way.
    pub(super) fn handle_requests(&mut self, now: Now, from: Option<ReplicaId>, requests: Vec<Verified<Request>>) {
        let leads = self.leader() == self.id();
        let mut lost: Vec<Digest> = requests.iter().map(|request| request.digest()).collect();
        lost.retain(|digest| self.lost_requests.contains(digest));
        self.foundation.handle_requests(now, from, requests, leads);
        if !lost.is_empty() {
            let standing = self.standing_requests();
            for digest in lost.iter().filter(|digest| !standing.contains(digest)) {
                self.foundation.pending.not_proposed(digest);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Now, from: ReplicaId, timeout: Timeout) {
        self.learn_certificate(now, Some(from), &timeout.high_qc.clone());
        let signed = timeout.signed;
        if signed.signer() == self.id() || !self.life_counts(&signed, timeout.view()) {
            return;
        }
        self.check_timeout(&signed);
        match self.pacemaker.add(timeout) {
            Collected::New => self.use_timeouts(now),
            Collected::Contradicts(held) => self.foundation.accuse_pair(Some(held), &signed),
            Collected::Nothing => {}
        }
    }

    /// f + 1 TIMEOUTs are joined, q of one view make a certificate.
    fn use_timeouts(&mut self, now: Now) {
        if let Some(view) = self.pacemaker.joins(self.promise.last_timed_out, self.foundation.committee()) {
            self.give_up(now, view, Departure::Joined);
        }
        if let Some(certificate) = self.pacemaker.certificate(self.foundation.committee()) {
            self.learn_timeout_certificate(now, None, &certificate);
        }
    }

    /// Signs TIMEOUT of `view`, if that was not done before. From now on nothing else is signed in it or an earlier one.
    fn give_up(&mut self, now: Now, view: View, why: Departure) {
        if self.foundation.is_rejoining() || !safety::may_time_out(view, &self.promise) {
            return;
        }
        let high_qc = self.promise.high_qc.clone();
        let signed = self.foundation.sign(StatementBody::Timeout { view, high_view: high_qc.view() });
        let timeout = Timeout { signed, high_qc };
        self.promise.timed_out(timeout.clone());
        let record = self.record_promise();
        self.foundation.send(Recipients::Others, Message::Timeout(timeout.clone()), Some(record));
        self.views_given_up += 1;
        self.last_departure = Some(why);
        self.pacemaker.add(timeout);
        if let Some(certificate) = self.pacemaker.certificate(self.foundation.committee()) {
            self.learn_timeout_certificate(now, None, &certificate);
        }
    }

    /// A verified TC: a higher view may begin.
    pub(super) fn learn_timeout_certificate(
        &mut self,
        now: Now,
        from: Option<ReplicaId>,
        certificate: &TimeoutCertificate,
    ) {
        let known = self.tree.contains(&certificate.high_qc.block());
        if self.promise.high_tc.as_ref().is_none_or(|held| held.view < certificate.view) {
            for signed in certificate.statements().collect::<Vec<_>>() {
                self.check_timeout(&signed);
            }
        }
        self.promise.raise_timeout(certificate);
        self.enter_view(now);
        self.commit_by(now, &certificate.high_qc);
        if !known {
            self.want_blocks(now, from);
        }
    }

    /// A process that slept must not fire a timer that measured its own sleep.
    pub(super) fn notice_pause(&mut self, now: Now) {
        let slept = now.monotonic.saturating_sub(self.foundation.last_step);
        if self.foundation.last_step > 0 {
            self.pacemaker.notice_pause(now, slept, &self.foundation.setup.parameters);
        }
        self.foundation.last_step = now.monotonic;
    }

    /// Whether anything is owed: a request that may be proposed and is not, a block that orders something and is not committed
    /// here or not by what its own chain says, a deadline of the service.
    pub(super) fn is_work_outstanding(&self, now: Now) -> bool {
        let path = self.tree.path(&self.promise.high_qc.block()).unwrap_or_default();
        let tip = path.last().unwrap_or(self.tree.committed());
        let may_propose = self.in_window(tip.seq.next());
        let candidate = self.candidate.and_then(|candidate| self.tree.get(&candidate.digest));
        let waits = self.foundation.pending.unproposed() > 0 || self.foundation.deadline_is_due(now);
        // What is committed here may rest on a certificate that is on no chain, such as one that a TIMEOUT brought: others
        // learn of it only by a chain that says so itself.
        let told = !self.tree.is_unfinished(&self.promise.high_qc.block());
        !told || (waits && may_propose) || path.iter().chain(candidate).any(|block| !block.is_null())
    }

    pub(super) fn tend_timer(&mut self, now: Now) {
        let given_up = self.promise.last_timed_out >= self.view();
        let owed = self.is_work_outstanding(now);
        let runs = !self.foundation.is_rejoining() && !given_up && owed;
        if !owed {
            self.slow_leaders.rest();
        }
        let setup = &self.foundation.setup;
        self.pacemaker.tend(now, runs, &setup.parameters, &setup.committee);
        let started = self.pacemaker.started();
        if let Some(deadline) = self.slow_leaders.deadline(started, &setup.committee, setup.parameters.view_timeout) {
            self.pacemaker.hurry(deadline);
        }
    }

    pub(super) fn check_timer(&mut self, now: Now) {
        if self.pacemaker.is_expired(now) && !alive(Mutant::NoViewTimer) {
            let slow = self.pacemaker.is_hurried();
            self.give_up(now, self.view(), if slow { Departure::SlowPrimary } else { Departure::TimerExpired });
        }
    }

    /// Requests are relayed to all at half of the view timeout, if nobody has proposed them: a client may have sent them here
    /// alone.
    fn relay_delay(&self) -> Micros {
        self.foundation.parameters().view_timeout / 2
    }

    pub(super) fn relay_due(&self) -> Option<Micros> {
        self.foundation.pending.unrelayed_since().map(|since| since + self.relay_delay())
    }

    pub(super) fn tend_relays(&mut self, now: Now) {
        let before = now.monotonic.saturating_sub(self.relay_delay());
        let again = 2 * self.foundation.parameters().view_timeout;
        let relay = self.foundation.pending.to_relay(now.monotonic, before, Relayed::ToAll, again, RELAY_BYTES_MAX);
        self.foundation.relay(Recipients::Others, &relay);
    }
}
