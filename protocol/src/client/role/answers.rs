//! What an answer of a replica means. Its author is the replica at the other end of the authenticated link, whatever the
//! answer says (rule P12); an answer to nothing that is under way costs no memory.

use quorate_crypto::{Digest, ReplicaId};

use super::{ClientRole, Output, TIME_WIRE, Ticket, Wire, reply_digest};
use crate::client::accusation::Contradiction;
use crate::client::message::{ClientMessage, ReplicaMessage, ReplicaStatus, WatchUpdate};
use crate::client::numbers::Numbers;
use crate::client::role::Number;
use crate::client::serializable_read::{ReadEnding, ReadStep};
use crate::client::submission::{Judgement, RequestEnding};
use crate::client::subscription::Progressed;
use crate::engine::Now;
use crate::reply::{Outcome, Refusal, Reply};

impl ClientRole {
    /// A message that came by the link to `from`.
    pub fn received(&mut self, now: Now, from: ReplicaId, message: ReplicaMessage) {
        if !self.connected.contains(&from) {
            return;
        }
        match message {
            ReplicaMessage::Reply(reply) => self.received_reply(now, from, reply),
            ReplicaMessage::Busy { request, retry_after } => self.received_busy(now, from, request, retry_after),
            ReplicaMessage::Refused { request, reason } => self.received_refusal(now, from, request, reason),
            ReplicaMessage::Read { id, revision, result } => self.received_read(from, id, revision, result),
            ReplicaMessage::Watch { id, update } => self.received_update(now, from, id, update),
            ReplicaMessage::Status { id, status } => self.received_status(now, from, id, status),
            // Receipts are asked for by whoever wants to keep one, by a link of their own.
            ReplicaMessage::Receipt { .. } => {}
        }
    }

    fn received_reply(&mut self, now: Now, from: ReplicaId, reply: Reply) {
        self.agreed.report(from, reply.time, now.monotonic);
        let Some(ticket) = self.by_digest.get(&reply.request).copied() else {
            self.received_late_reply(from, &reply);
            return;
        };
        if let Some(submission) = self.submissions.get_mut(&ticket) {
            submission.reply(from, reply);
        }
        self.judge(now, ticket);
    }

    /// A reply to a request that is settled. Compared only with results: a refusal or "executed earlier" is no lie.
    fn received_late_reply(&mut self, from: ReplicaId, reply: &Reply) {
        let Some(accepted) = self.settled.get(&reply.request) else { return };
        if matches!(reply.outcome, Outcome::Results(_)) && reply_digest(reply) != *accepted {
            self.accuse(from, Contradiction::Reply { request: reply.request, seq: reply.seq });
        }
    }

    fn received_refusal(&mut self, now: Now, from: ReplicaId, request: Digest, reason: Refusal) {
        let Some(ticket) = self.by_digest.get(&request).copied() else { return };
        if let Some(submission) = self.submissions.get_mut(&ticket) {
            submission.refusal(from, request, reason);
        }
        self.judge(now, ticket);
    }

    fn received_busy(&mut self, now: Now, from: ReplicaId, request: Digest, retry_after: u64) {
        let Some(submission) = self.by_digest.get(&request).and_then(|ticket| self.submissions.get_mut(ticket)) else {
            return;
        };
        if let Some(wait) = submission.busy(from, retry_after, &self.committee) {
            let wait = wait.min(self.parameters.busy_wait_max).saturating_mul(1_000);
            // Never sooner than the back-off has it: clients that all come back at once, again and again, keep replicas
            // busy saying so. Spread by digest, so that those refused together do not return together.
            let wait = wait.max(self.parameters.resend_after);
            let spread = wait / 512 * u64::from(request.0[0]);
            submission.resend_at = submission.resend_at.max(now.monotonic.saturating_add(wait).saturating_add(spread));
        }
    }

    /// Ends, continues or signs again the request behind `ticket`, whichever its answers amount to.
    pub(super) fn judge(&mut self, now: Now, ticket: Ticket) {
        let Some(submission) = self.submissions.get(&ticket) else { return };
        match submission.judge(&self.committee) {
            Judgement::Pending => {}
            Judgement::Executed { reply, matching } => self.executed(now, ticket, reply, matching),
            Judgement::Refused { reason, replicas } => {
                let requests = submission.requests();
                self.end_request(ticket, false, RequestEnding::Refused { reason, replicas, requests });
            }
            Judgement::WrongTime => self.sign_again(now, ticket),
        }
    }

    pub(super) fn executed(&mut self, now: Now, ticket: Ticket, reply: Reply, matching: usize) {
        let Some(submission) = self.submissions.get(&ticket) else { return };
        let own = submission.number.is_some();
        for replica in submission.contradicting(&reply) {
            self.accuse(replica, Contradiction::Reply { request: reply.request, seq: reply.seq });
        }
        if matches!(reply.outcome, Outcome::Results(_)) {
            if own {
                // It executed a moment ago, so its time tells how far the local clock is off.
                self.agreed.confirm(reply.time, now.wall);
            }
            self.remember(&reply);
        }
        self.end_request(ticket, true, RequestEnding::Executed { reply, matching });
    }

    /// Forgets the request behind `ticket` and tells how it ended.
    pub(super) fn end_request(&mut self, ticket: Ticket, settled: bool, ending: RequestEnding) {
        let Some(submission) = self.submissions.remove(&ticket) else { return };
        for digest in submission.digests() {
            self.by_digest.remove(&digest);
        }
        if let Some(number) = submission.number
            && let Some(numbers) = self.numbers_of(number)
        {
            let latest = submission.requests().iter().map(|request| request.content().valid_until).max();
            match latest {
                Some(valid_until) if !settled => numbers.give_up(number.value, valid_until),
                _ => numbers.settle(number.value),
            }
        }
        self.outputs.push_back(Output::Request { ticket, ending });
    }

    /// The numbers that `number` belongs to, unless its session was left.
    fn numbers_of(&mut self, number: Number) -> Option<&mut Numbers> {
        let author = self.authors.get_mut(number.author.0).filter(|author| author.session == number.session)?;
        Some(&mut author.numbers)
    }

    /// f + 1 replicas find the time limit wrong. Asks a quorum for the agreed time, then signs again under the same
    /// number: the two exclude each other.
    fn sign_again(&mut self, now: Now, ticket: Ticket) {
        let Some(submission) = self.submissions.get_mut(&ticket) else { return };
        let Some(since) = submission.asking_time_since else {
            submission.asking_time_since = Some(now.monotonic);
            let everybody = self.everybody();
            self.send(everybody, ClientMessage::Status { id: TIME_WIRE });
            return;
        };
        let Some(time) = self.agreed.reported_since(since, &self.committee) else { return };
        let (Some(number), Some(newest)) = (submission.number, submission.newest().cloned()) else { return };
        self.agreed.confirm(time, now.wall);
        let request = self.sign(now, number, newest.content().operations.clone());
        self.by_digest.insert(request.digest(), ticket);
        let everybody = self.everybody();
        self.send(everybody, ClientMessage::Submit((*request).clone()));
        if let Some(submission) = self.submissions.get_mut(&ticket) {
            submission.add(request);
        }
    }

    fn received_read(&mut self, from: ReplicaId, id: u64, revision: u64, result: Vec<u8>) {
        let Some(Wire::Read(ticket)) = self.wires.get(&id).copied() else { return };
        let Some(read) = self.reads.get_mut(&ticket) else { return };
        let step = read.answer(from, revision, result, &self.committee);
        self.take_read_step(ticket, step);
    }

    pub(super) fn take_read_step(&mut self, ticket: Ticket, step: ReadStep) {
        match step {
            ReadStep::Wait => {}
            ReadStep::Remind => {
                let Some(read) = self.reads.get(&ticket).cloned() else { return };
                let silent = self.everybody().into_iter().filter(|replica| !read.answered(*replica)).collect();
                self.ask_read(&read, silent);
            }
            ReadStep::AskAnew => {
                let wire = self.wire(Wire::Read(ticket));
                let Some(read) = self.reads.get_mut(&ticket) else { return };
                let old = std::mem::replace(&mut read.wire, wire);
                let read = read.clone();
                self.wires.remove(&old);
                let everybody = self.everybody();
                self.ask_read(&read, everybody);
            }
            ReadStep::Done(ending) => {
                let Some(read) = self.reads.remove(&ticket) else { return };
                self.wires.remove(&read.wire);
                if let ReadEnding::Read { revision, result, .. } = &ending {
                    for replica in read.contradicting(*revision, result) {
                        self.accuse(replica, Contradiction::Read { revision: *revision });
                    }
                }
                self.outputs.push_back(Output::Read { ticket, ending });
            }
        }
    }

    fn received_update(&mut self, now: Now, from: ReplicaId, id: u64, update: WatchUpdate) {
        let Some(Wire::Watch(ticket, of)) = self.wires.get(&id).copied() else { return };
        let Some(watch) = self.watches.get_mut(&ticket).filter(|_| of == from) else { return };
        let mut progressed = Progressed::default();
        watch.update(from, id, update, now.monotonic, &mut progressed);
        watch.advance(&self.committee, &mut progressed);
        let too_far_ahead = watch.is_too_far_ahead(from);
        if too_far_ahead {
            watch.pause(from);
        }
        let ended_here = watch.wire(from).is_none();
        if ended_here {
            self.wires.remove(&id);
        }
        if too_far_ahead {
            self.send(vec![from], ClientMessage::Unwatch { id });
        }
        for (replica, contradiction) in progressed.accusations {
            self.accuse(replica, contradiction);
        }
        for delivery in progressed.deliveries {
            self.outputs.push_back(Output::Watch { ticket, delivery });
        }
        if progressed.over {
            self.unwatch(ticket);
        } else {
            self.subscribe_where_due(now, ticket);
        }
    }

    fn received_status(&mut self, now: Now, from: ReplicaId, id: u64, status: ReplicaStatus) {
        if status.replica != from {
            self.accuse(from, Contradiction::ForeignStatus { named: status.replica });
            return;
        }
        self.agreed.report(from, status.time, now.monotonic);
        if id == TIME_WIRE {
            let waiting: Vec<Ticket> = self
                .submissions
                .iter()
                .filter(|(_, submission)| submission.asking_time_since.is_some())
                .map(|(ticket, _)| *ticket)
                .collect();
            for ticket in waiting {
                self.judge(now, ticket);
            }
            return;
        }
        match self.wires.get(&id).copied() {
            Some(Wire::Status(ticket)) => {
                let Some(round) = self.status_rounds.get_mut(&ticket) else { return };
                round.replicas.insert(from, status);
                if round.replicas.len() == self.committee.size() {
                    self.end_status(ticket);
                }
            }
            Some(Wire::Locate(ticket)) => {
                let Some(watch) = self.watches.get_mut(&ticket) else { return };
                watch.locate(from, status.revision, &self.committee);
                if !watch.is_locating() {
                    self.wires.remove(&id);
                    self.subscribe_where_due(now, ticket);
                }
            }
            Some(Wire::Read(_) | Wire::Watch(..)) | None => {}
        }
    }

    pub(super) fn end_status(&mut self, ticket: Ticket) {
        let Some(round) = self.status_rounds.remove(&ticket) else { return };
        self.wires.remove(&round.wire);
        let replicas = round.replicas.into_values().collect();
        self.outputs.push_back(Output::Status { ticket, replicas });
    }
}
