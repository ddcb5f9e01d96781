//! Clients whose requests a backup had to ask this primary for: they send them to some replicas only, or more of them than
//! are taken on, and each replica took others. A vote waits for every body, and behind it all that others have proposed,
//! so for a while such a client's bodies are sent to everybody beside the proposals that name them.

use std::collections::BTreeMap;

use quorate_crypto::{Digest, PublicKey};

use crate::engine::{Now, Recipients};
use crate::message::Message;
use crate::parameters::Micros;
use crate::pbft::Replica;

/// Clients at a time: a backup that asks for what it holds makes this primary send no more than theirs twice.
const CLIENTS_MAX: usize = 8;
/// Bytes of bodies sent beside one proposal. What is left is asked for.
const BYTES_MAX: usize = 16 * 1024;

/// Whose bodies are missed, and until when that counts.
#[derive(Debug, Default)]
pub(super) struct Scarce {
    until: BTreeMap<PublicKey, Micros>,
}

impl Scarce {
    /// A body of `client` was missed; that counts for `span`.
    fn note(&mut self, now: Micros, client: PublicKey, span: Micros) {
        if self.until.len() >= CLIENTS_MAX && !self.until.contains_key(&client) {
            self.until.retain(|_, until| *until > now);
        }
        if self.until.len() < CLIENTS_MAX || self.until.contains_key(&client) {
            self.until.insert(client, now.saturating_add(span));
        }
    }

    fn contains(&self, now: Micros, client: &PublicKey) -> bool {
        self.until.get(client).is_some_and(|until| *until > now)
    }
}

impl Replica {
    /// A peer asked for requests of these clients, and this replica had them.
    pub(super) fn note_scarce(&mut self, now: Now, clients: &[PublicKey]) {
        if self.leads() {
            let span = self.foundation.parameters().view_timeout;
            for client in clients.iter().take(CLIENTS_MAX) {
                self.scarce.note(now.monotonic, *client, span);
            }
        }
    }

    /// Sends the scarce ones of a batch to everybody.
    pub(super) fn send_scarce(&mut self, now: Now, batch: &[Digest]) {
        if self.scarce.until.is_empty() {
            return;
        }
        let bodies = batch.iter().filter_map(|digest| self.foundation.bodies.get(digest));
        let mut bytes = 0;
        let scarce = bodies.filter(|body| self.scarce.contains(now.monotonic, &body.content().client));
        let few = scarce.take_while(|body| {
            bytes += body.weight();
            bytes <= BYTES_MAX
        });
        let requests: Vec<_> = few.map(|body| (***body).clone()).collect();
        if !requests.is_empty() {
            self.foundation.send(Recipients::Others, Message::Requests(requests), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey([byte; 32])
    }

    #[test]
    fn what_was_missed_counts_for_a_while_and_for_few() {
        let mut scarce = Scarce::default();
        scarce.note(0, key(1), 100);
        assert!(scarce.contains(99, &key(1)) && !scarce.contains(100, &key(1)));
        assert!(!scarce.contains(0, &key(2)));
        for byte in 2..50 {
            scarce.note(10, key(byte), 100);
        }
        assert_eq!(scarce.until.len(), CLIENTS_MAX);
        assert!(scarce.contains(10, &key(1)), "nobody drives another out");
        scarce.note(50, key(1), 100);
        assert!(scarce.contains(149, &key(1)));
        scarce.note(120, key(60), 100);
        assert!(scarce.contains(120, &key(60)), "in the place of one that is over");
    }
}
