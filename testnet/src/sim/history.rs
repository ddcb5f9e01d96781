//! What clients asked for and what they were told.

use quorate_crypto::Digest;
use quorate_kv::Operation;
use quorate_protocol::parameters::Micros;
use quorate_protocol::reply::{Outcome, Refusal, Reply};

/// How a request ended for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// f + 1 replicas gave this reply.
    Executed(Reply),
    /// f + 1 replicas refuse it.
    Refused(Refusal),
    /// The client gave up.
    Unknown,
}

/// One request of a client.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) client: usize,
    pub(super) number: usize,
    pub(super) at: Micros,
    pub(super) operation: Operation,
    /// Every request signed for it: more than one if its time limit was wrong.
    pub(super) signed: Vec<Digest>,
    pub(super) ended: Option<(Micros, Ended)>,
}

impl Asked {
    /// Whether it executed, as the client was told.
    pub(super) const fn is_executed(&self) -> bool {
        matches!(&self.ended, Some((_, Ended::Executed(reply))) if matches!(reply.outcome, Outcome::Results(_) | Outcome::ExecutedEarlier))
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        format!("request {} of client {}", self.number, self.client)
    }
}

/// All requests, in the order they were asked for.
#[derive(Debug, Default)]
pub(super) struct History {
    asked: Vec<Asked>,
    /// What faulty clients asked for: nobody holds them to it, but the order may contain it.
    foreign: Vec<(Digest, Operation)>,
}

impl History {
    /// A client asks; names the request from now on.
    pub(super) fn ask(&mut self, client: usize, number: usize, at: Micros, operation: Operation) -> usize {
        self.asked.push(Asked { client, number, at, operation, signed: Vec::new(), ended: None });
        self.asked.len() - 1
    }

    /// A faulty client signed a request.
    pub(super) fn foreign(&mut self, request: Digest, operation: Operation) {
        self.foreign.push((request, operation));
    }

    /// What faulty clients signed.
    pub(super) fn all_foreign(&self) -> impl Iterator<Item = &(Digest, Operation)> {
        self.foreign.iter()
    }

    pub(super) fn signed(&mut self, index: usize, digest: Digest) {
        let signed = &mut self.asked[index].signed;
        if !signed.contains(&digest) {
            signed.push(digest);
        }
    }

    pub(super) fn end(&mut self, index: usize, at: Micros, ended: Ended) {
        self.asked[index].ended = Some((at, ended));
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter()
    }

    pub(super) const fn count(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn ended(&self) -> u64 {
        self.asked.iter().filter(|asked| asked.ended.is_some()).count() as u64
    }
}
