//! Watches: where to begin, whom to subscribe to and when, and what is asked again since it may have been lost.

use super::{ClientRole, SubmitError, Ticket, WatchStart, Wire};
use crate::client::message::ClientMessage;
use crate::client::subscription::Subscription;
use crate::engine::Now;
use crate::request::Operation;

impl ClientRole {
    /// Subscribes to the events of `range`, until [`ClientRole::unwatch`].
    pub fn watch(&mut self, now: Now, range: Operation, start: WatchStart) -> Result<Ticket, SubmitError> {
        self.check_operations(std::slice::from_ref(&range))?;
        self.check_questions(self.watches.len())?;
        let ticket = self.ticket();
        let watch = match start {
            WatchStart::Now => {
                let id = self.wire(Wire::Locate(ticket));
                self.send(self.everybody(), ClientMessage::Status { id });
                Subscription::from_now(range, id, now.monotonic)
            }
            WatchStart::Revision(revision) => Subscription::new(range, revision),
        };
        self.watches.insert(ticket, watch);
        self.subscribe_where_due(now, ticket);
        Ok(ticket)
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, ticket: Ticket) {
        if let Some(watch) = self.watches.remove(&ticket) {
            for replica in self.everybody() {
                if let Some(wire) = watch.wire(replica) {
                    self.send(vec![replica], ClientMessage::Unwatch { id: wire });
                }
            }
            self.wires.retain(|_, wire| !matches!(wire, Wire::Watch(of, _) | Wire::Locate(of) if *of == ticket));
        }
    }

    /// Asks again what was asked a while ago and has no answer.
    pub(super) fn watch_timer(&mut self, now: Now, ticket: Ticket) {
        let Some(watch) = self.watches.get_mut(&ticket) else { return };
        if let Some(id) = watch.ask_again(now.monotonic) {
            let silent = self.connected.iter().copied().filter(|replica| !watch.has_located(*replica)).collect();
            self.send(silent, ClientMessage::Status { id });
        }
        self.subscribe_where_due(now, ticket);
    }

    /// Subscribes `ticket` wherever it should be and is not, and once more where nothing came of it. The same id is used
    /// then: a replica that has the subscription begins it anew, and what is still on its way of the first counts.
    pub(super) fn subscribe_where_due(&mut self, now: Now, ticket: Ticket) {
        for replica in self.everybody() {
            let Some(watch) = self.watches.get(&ticket) else { return };
            let Some(from_revision) = watch.due(replica, now.monotonic) else { continue };
            let (range, present) = (watch.range.clone(), watch.wire(replica));
            let id = present.unwrap_or_else(|| self.wire(Wire::Watch(ticket, replica)));
            if let Some(watch) = self.watches.get_mut(&ticket) {
                watch.subscribed(replica, id, from_revision, now.monotonic);
            }
            self.send(vec![replica], ClientMessage::Watch { id, range, from_revision });
        }
    }
}
