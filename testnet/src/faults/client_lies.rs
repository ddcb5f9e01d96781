//! Lies to clients: wrong results, stale answers, events that never happened.

use std::collections::BTreeMap;

use quorate_crypto::PublicKey;
use quorate_protocol::client::message::{ReplicaMessage, WatchUpdate};
use quorate_protocol::reply::{Outcome, Reply};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::catalogue::Behaviour;

/// Clients whose last answer is remembered.
const CLIENTS_KEPT: usize = 1024;

/// What a liar remembers to lie with.
#[derive(Default)]
pub(super) struct ClientLies {
    /// The outcome each client was told last.
    last: BTreeMap<PublicKey, Reply>,
}

impl ClientLies {
    pub(super) fn remember(&mut self, client: &PublicKey, answers: &[ReplicaMessage]) {
        for answer in answers {
            if let ReplicaMessage::Reply(reply) = answer
                && (self.last.contains_key(client) || self.last.len() < CLIENTS_KEPT)
            {
                self.last.insert(*client, reply.clone());
            }
        }
    }

    /// What `behaviour` makes of answers; how many became others.
    pub(super) fn act(
        &self,
        behaviour: Behaviour,
        client: &PublicKey,
        answers: &mut Vec<ReplicaMessage>,
        random: &mut ChaCha8Rng,
    ) -> u64 {
        match behaviour {
            Behaviour::Silent => {
                let silenced = answers.len() as u64;
                answers.clear();
                silenced
            }
            Behaviour::LieToClients => self.rewrite(client, answers, random),
            Behaviour::ForgeWatch => ClientLies::forge_events(answers),
            _ => 0,
        }
    }

    /// Every answer becomes a wrong or a stale one.
    fn rewrite(&self, client: &PublicKey, answers: &mut [ReplicaMessage], random: &mut ChaCha8Rng) -> u64 {
        let mut acted = 0;
        for answer in answers {
            match answer {
                ReplicaMessage::Reply(reply) => {
                    match self.last.get(client) {
                        Some(stale) if random.random_bool(0.5) => {
                            *reply = Reply { request: reply.request, ..stale.clone() };
                        }
                        _ => wrong(reply, random),
                    }
                    acted += 1;
                }
                ReplicaMessage::Read { revision, result, .. } => {
                    flip_last(result);
                    *revision += random.random_range(0..2);
                    acted += 1;
                }
                ReplicaMessage::Status { status, .. } => {
                    status.time = status.time.wrapping_add(random.random_range(0..10_000_000));
                    status.revision = status.revision.wrapping_add(1);
                    acted += 1;
                }
                _ => {}
            }
        }
        acted
    }

    /// Every event becomes another one.
    fn forge_events(answers: &mut [ReplicaMessage]) -> u64 {
        let mut acted = 0;
        for answer in answers {
            if let ReplicaMessage::Watch { update, .. } = answer {
                match update {
                    WatchUpdate::Events { events, .. } => flip_last(events),
                    WatchUpdate::Progress { revision } | WatchUpdate::Compacted { revision } => *revision += 1,
                    WatchUpdate::Ended(_) => continue,
                }
                acted += 1;
            }
        }
        acted
    }
}

fn wrong(reply: &mut Reply, random: &mut ChaCha8Rng) {
    match &mut reply.outcome {
        Outcome::Results(results) if random.random_bool(0.7) => {
            if let Some(result) = results.last_mut() {
                flip_last(result);
            }
        }
        _ => reply.revision += 1,
    }
}

fn flip_last(bytes: &mut Vec<u8>) {
    match bytes.last_mut() {
        Some(last) => *last ^= 1,
        None => bytes.push(1),
    }
}
