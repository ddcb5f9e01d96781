//! What leaves a replica once its turn is durable: messages, answers, evidence, snapshots. Every oracle that judges what
//! honest replicas say listens here.

use std::path::Path;
use std::sync::Arc;

use quorate_crypto::ReplicaId;
use quorate_crypto::encoding::encode;
use quorate_node::driver::Published;
use quorate_node::failure::NodeError;
use quorate_protocol::client::message::ReplicaMessage;
use quorate_protocol::engine::Recipients;
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;
use quorate_protocol::state::Snapshot;
use rand::RngExt as _;

use super::breaking::DATA;
use super::network::Copies;
use super::plan::MILLISECOND;
use super::process::Incoming;
use super::report::Violation;
use super::trace::describe;
use super::world::{Event, World};

impl World {
    /// The turn's sync is over: what it published leaves.
    pub(super) fn publish(&mut self, replica: usize, published: Published, answers: Vec<(usize, ReplicaMessage)>) {
        let (id, liar) = (ReplicaId(replica as u16), self.processes[replica].liar);
        for (_, message) in &published.sends {
            let verdict = self.oracles.seen(message);
            self.check(verdict);
        }
        for (to, message) in published.sends {
            if !liar && !self.processes[replica].ailments.log_damaged {
                let verdict = self.oracles.left(id, &message);
                self.check(verdict);
            }
            self.send(replica, to, &message);
        }
        for evidence in &published.evidence {
            self.counters.evidence += 1;
            let verdict = self.oracles.evidence(id, evidence);
            self.check(verdict);
        }
        if published.halt.is_some() && liar && self.plan.second_minds() > 0 {
            // It sees the fork that it made; its process ends, as any node's would.
            return self.stay_down(replica);
        }
        if let Some(halt) = &published.halt
            && !liar
        {
            if self.plan.beyond_f {
                self.counters.happened("beyond f: honest replica stopped itself");
                return self.stay_down(replica);
            }
            self.fail(Violation::new("no-halt", format!("replica {replica}: {halt}")));
        }
        if let Some(seq) = published.installed {
            self.counters.transfers += 1;
            self.trace.line(self.now, || format!("replica {replica} installed the state at {seq}"));
        }
        for snapshot in published.snapshots {
            if !liar {
                let verdict = self.oracles.snapshot(id, &snapshot);
                self.check(verdict);
            }
            self.plan_store(replica, snapshot);
        }
        let mut told: Vec<(usize, ReplicaMessage)> = Vec::new();
        for (key, reply) in published.replies {
            if !liar {
                let verdict = self.oracles.answered(id, &reply);
                self.check(verdict);
            }
            told.extend(self.by_key.get(&key).map(|client| (*client, ReplicaMessage::Reply(reply))));
        }
        for (key, request, reason) in published.refused {
            told.extend(self.by_key.get(&key).map(|client| (*client, ReplicaMessage::Refused { request, reason })));
        }
        for busy in published.busy {
            let message = ReplicaMessage::Busy { request: busy.request, retry_after: busy.retry_after };
            told.extend(self.by_key.get(&busy.client).map(|client| (*client, message)));
        }
        told.extend(answers);
        for (client, message) in told {
            self.answer(replica, client, message);
        }
    }

    fn send(&mut self, from: usize, to: Recipients, message: &Message) {
        // Whoever is handed back what sabotage signed in its name would take that for a log that is not the newest.
        if let Message::YourStatements(statements) = message
            && self.oracles.is_any_forged(statements)
        {
            return;
        }
        let bytes = Arc::new(encode(message));
        if bytes.len() > self.cluster.parameters.frame_bytes_max {
            self.fail(Violation::new("frame", format!("replica {from} sends {} bytes", bytes.len())));
        }
        let recipients: Vec<usize> = match to {
            // Both instances of a twin are sent to, and neither by the other.
            Recipients::Others => {
                let own = self.cluster.identity(from);
                (0..self.processes.len()).filter(|to| self.cluster.identity(*to) != own).collect()
            }
            Recipients::One(id) => self.cluster.processes_of(id).collect(),
        };
        if self.trace.wants_lines() {
            self.trace.line(self.now, || format!("{from} -> {recipients:?} {}", describe(message)));
        }
        if let Some(meter) = &mut self.meter {
            meter.sent(self.now, message, bytes.len(), recipients.len());
        }
        let liar = self.processes[from].liar;
        if self.plan.beyond_f
            && liar
            && let Message::PrePrepare(message) = message
        {
            self.conspire(&recipients, message);
        }
        for to in recipients {
            if to == from || to >= self.processes.len() {
                continue;
            }
            let copies = self.copies(from, to, message);
            if self.trace.wants_lines() && copies == Copies::default() {
                self.trace.line(self.now, || format!("{from} -> {to} lost: {}", describe(message)));
            }
            for delay in copies {
                let life = self.processes[to].life;
                let bytes = if liar { self.network.garble(&mut self.random, &bytes) } else { Arc::clone(&bytes) };
                self.queue.push(self.now + delay, Event::ToReplica { from, to, life, bytes });
                self.lower_quorum(from, to, message, delay);
            }
        }
    }

    fn answer(&mut self, replica: usize, client: usize, message: ReplicaMessage) {
        let key = self.cluster.clients[client];
        let liar = self.processes[replica].liar;
        if let ReplicaMessage::Receipt { receipt: Some((signed, _)), .. } = &message
            && !liar
            && !self.processes[replica].ailments.log_damaged
        {
            let verdict = self.oracles.left(ReplicaId(replica as u16), &Message::Executed(*signed));
            self.check(verdict);
        }
        for message in self.processes[replica].answer(self.now, &key, message) {
            let bytes = Arc::new(encode(&message));
            if matches!(message, ReplicaMessage::Watch { .. }) {
                // A watch is a stream on a link, which loses and reorders nothing while it is up.
                let at = self.stream_arrival(replica, client);
                let bytes = if liar { self.network.garble(&mut self.random, &bytes) } else { bytes };
                self.queue.push(at, Event::ToClient { from: replica, client, bytes });
                continue;
            }
            for delay in self.network.delays(&mut self.random) {
                let bytes = if liar { self.network.garble(&mut self.random, &bytes) } else { Arc::clone(&bytes) };
                self.queue.push(self.now + delay, Event::ToClient { from: replica, client, bytes });
            }
        }
    }

    /// When the next message of a stream arrives: after the last one.
    pub(super) fn stream_arrival(&mut self, replica: usize, client: usize) -> Micros {
        let at = self.now + self.network.stream_delay(&mut self.random);
        let last = self.streams.entry((replica, client)).or_default();
        *last = at.max(*last + 1);
        *last
    }

    fn plan_store(&mut self, replica: usize, snapshot: Snapshot) {
        let takes = self.random.random_range(200..5 * MILLISECOND);
        let life = self.processes[replica].life;
        let Some(running) = &mut self.processes[replica].running else { return };
        running.storing_until = running.storing_until.max(self.now) + takes;
        let at = running.storing_until;
        self.queue.push(at, Event::Store { replica, life, snapshot });
    }

    pub(super) fn store(&mut self, replica: usize, snapshot: Snapshot) {
        match self.processes[replica].store(&snapshot) {
            Ok(()) => {
                self.counters.checkpoints += 1;
                self.trace.event(self.now, "store", replica as u64, snapshot.seq.0, &[]);
                self.incoming(replica, Incoming::Stored(snapshot));
            }
            Err(error) => self.storage_failed(replica, &NodeError::from_snapshot(Path::new(DATA), &error)),
        }
    }
}
