//! What the passing of time means: sending again, giving up, subscribing again.

use super::{ClientRole, TIME_WIRE, Ticket};
use crate::client::message::ClientMessage;
use crate::client::serializable_read::{ReadEnding, ReadStep};
use crate::client::submission::RequestEnding;
use crate::engine::Now;
use crate::parameters::Micros;

impl ClientRole {
    /// When [`ClientRole::timer`] is next due, monotonic.
    pub fn wake(&self) -> Option<Micros> {
        let requests = self.submissions.values().map(|submission| submission.resend_at.min(submission.give_up_at));
        let reads = self.reads.values().map(|read| read.remind_at.min(read.give_up_at));
        let rounds = self.status_rounds.values().map(|round| round.give_up_at);
        let watches = self.watches.values().filter_map(|watch| watch.wake(&self.connected));
        requests.chain(reads).chain(rounds).chain(watches).min()
    }

    /// Does what is due. Calling it too often is harmless.
    pub fn timer(&mut self, now: Now) {
        let tickets: Vec<Ticket> = self.submissions.keys().copied().collect();
        for ticket in tickets {
            self.request_timer(now, ticket);
        }
        let tickets: Vec<Ticket> = self.reads.keys().copied().collect();
        for ticket in tickets {
            let step = self.reads.get_mut(&ticket).map_or(ReadStep::Wait, |read| read.timer(now.monotonic));
            self.take_read_step(ticket, step);
        }
        let tickets: Vec<Ticket> = self.status_rounds.keys().copied().collect();
        for ticket in tickets {
            if self.status_rounds.get(&ticket).is_some_and(|round| now.monotonic >= round.give_up_at) {
                self.end_status(ticket);
            }
        }
        let tickets: Vec<Ticket> = self.watches.keys().copied().collect();
        for ticket in tickets {
            self.watch_timer(now, ticket);
        }
    }

    /// Whether a replica may have the request behind `ticket`. Saved bytes that are replayed were sent before.
    pub fn may_have_arrived(&self, ticket: Ticket) -> bool {
        self.submissions.get(&ticket).is_some_and(|submission| submission.sent || submission.number.is_none())
    }

    /// Stops waiting for a request, read or status at once, as if its patience had ended.
    pub fn give_up(&mut self, ticket: Ticket) {
        if let Some(submission) = self.submissions.get(&ticket) {
            let (heard, requests) = (submission.heard(self.connected.len()), submission.requests());
            self.end_request(ticket, false, RequestEnding::Unknown { heard, requests });
        }
        if self.reads.contains_key(&ticket) {
            self.take_read_step(ticket, ReadStep::Done(ReadEnding::NoAgreement { answered: 0 }));
        }
        self.end_status(ticket);
    }

    fn request_timer(&mut self, now: Now, ticket: Ticket) {
        let Some(submission) = self.submissions.get_mut(&ticket) else { return };
        if now.monotonic >= submission.give_up_at {
            self.give_up(ticket);
            return;
        }
        if now.monotonic < submission.resend_at {
            return;
        }
        if let Some((reply, matching)) = submission.executed_without_results(&self.committee) {
            self.executed(now, ticket, reply, matching);
            return;
        }
        submission.resent(now.monotonic, self.parameters.resend_after_max);
        let asking = submission.asking_time_since.is_some();
        let requests = submission.requests();
        let everybody = self.everybody();
        for request in requests {
            self.send(everybody.clone(), ClientMessage::Submit((*request).clone()));
        }
        if asking {
            self.send(everybody, ClientMessage::Status { id: TIME_WIRE });
        }
    }
}
