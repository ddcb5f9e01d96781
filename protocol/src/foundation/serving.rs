//! Answers to peers' questions, within budgets: a liar that asks without end gets little and costs little.

use quorate_crypto::{Digest, PublicKey, ReplicaId};

use crate::engine::{Now, Recipients};
use crate::foundation::Foundation;
use crate::message::Message;
use crate::request::Request;

impl Foundation {
    /// A budget per peer: whether one more of its questions is answered.
    pub(crate) fn may_answer_bulk(&mut self, now: Now, from: ReplicaId) -> bool {
        self.peers.get_mut(&from).is_some_and(|peer| peer.bulk.allows(now.monotonic))
    }

    /// Counts the bytes of an answer against the peer's budget.
    pub(crate) fn charge(&mut self, to: ReplicaId, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.bulk.charge(bytes);
        }
    }

    /// Answers with the bodies of these requests that are held. Returns whose requests they are.
    pub(crate) fn answer_fetch_requests(&mut self, now: Now, from: ReplicaId, digests: &[Digest]) -> Vec<PublicKey> {
        if !self.may_answer_bulk(now, from) {
            return Vec::new();
        }
        // The bodies of a whole batch, which genesis fits into a frame: with fewer, a batch of large requests that only the
        // primary was given would take a question for each.
        let bytes_max = self.parameters().batch_bytes_max;
        let mut bytes = 0;
        let mut requests = Vec::new();
        for body in digests.iter().filter_map(|digest| self.bodies.get(digest)) {
            bytes += body.weight();
            if bytes > bytes_max && !requests.is_empty() {
                break;
            }
            requests.push((***body).clone());
        }
        let clients = requests.iter().map(|request: &Request| request.content().client).collect();
        if !requests.is_empty() {
            self.charge(from, bytes);
            self.send(Recipients::One(from), Message::Requests(requests), None);
        }
        clients
    }

    /// Answers a question about the states held.
    pub(crate) fn answer_fetch_state(&mut self, now: Now, from: ReplicaId, question: &Message) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if !peer.chunks.allows(now.monotonic) {
            return;
        }
        let Some(answer) = self.transfer.answer(now, from, question) else { return };
        peer.chunks.charge(if let Message::Chunk { chunk, .. } = &answer { chunk.len() } else { 0 });
        self.send(Recipients::One(from), answer, None);
    }
}
