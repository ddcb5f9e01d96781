//! The lying primary: two batches for one number, each told to its own audience, and votes for both.

use std::collections::BTreeMap;

use quorate_crypto::statement::Ballot;
use quorate_crypto::{ReplicaId, Seq, StatementBody, View};
use quorate_protocol::engine::{Recipients, Send};
use quorate_protocol::message::{Message, PrePrepare};
use quorate_protocol::proposal::{Payload, Proposal};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::hands::Hands;

/// The lie about one number.
struct Lie {
    other: PrePrepare,
    ballot: Ballot,
    /// Who is told the other batch.
    audience: Vec<ReplicaId>,
}

/// Numbers a lie is remembered for; older ones are forgotten.
const LIES_KEPT: usize = 256;

/// Two batches for one number.
pub(super) struct Equivocation {
    one_against_rest: bool,
    lies: BTreeMap<(View, Seq), Lie>,
}

impl Equivocation {
    pub(super) const fn half() -> Equivocation {
        Equivocation { one_against_rest: false, lies: BTreeMap::new() }
    }

    pub(super) const fn one_against_rest() -> Equivocation {
        Equivocation { one_against_rest: true, lies: BTreeMap::new() }
    }

    /// Splits own PRE-PREPAREs, and own COMMITs for the numbers lied about.
    pub(super) fn rewrite(&mut self, hands: &Hands, sends: &mut Vec<Send>, random: &mut ChaCha8Rng) -> u64 {
        let mut acted = 0;
        let mut out = Vec::with_capacity(sends.len());
        for send in std::mem::take(sends) {
            match &send.message {
                Message::PrePrepare(message) if message.signed.signer() == hands.id => {
                    let Some(lie) = self.lie(hands, message, random) else {
                        out.push(send);
                        continue;
                    };
                    acted += 1;
                    let other = Message::PrePrepare(lie.other.clone());
                    split(hands, &lie.audience, send, other, &mut out);
                }
                Message::Commit(signed) if signed.signer() == hands.id => {
                    let StatementBody::Commit(ballot) = signed.statement.body else { continue };
                    let Some(lie) = self.lies.get(&(ballot.view, ballot.seq)) else {
                        out.push(send);
                        continue;
                    };
                    acted += 1;
                    let other = Message::Commit(hands.sign(StatementBody::Commit(lie.ballot)));
                    let audience = lie.audience.clone();
                    split(hands, &audience, send, other, &mut out);
                }
                _ => out.push(send),
            }
        }
        *sends = out;
        acted
    }

    fn lie(&mut self, hands: &Hands, message: &PrePrepare, random: &mut ChaCha8Rng) -> Option<&Lie> {
        let StatementBody::PrePrepare(ballot) = message.signed.statement.body else { return None };
        let place = (ballot.view, ballot.seq);
        if !self.lies.contains_key(&place) {
            let proposal = another(&message.proposal, random)?;
            let other_ballot = Ballot { digest: proposal.digest(), ..ballot };
            let signed = hands.sign(StatementBody::PrePrepare(other_ballot));
            let mut others = hands.others();
            let count = if self.one_against_rest { 1 } else { others.len().div_ceil(2) };
            let start = random.random_range(0..others.len());
            others.rotate_left(start);
            others.truncate(count);
            let other = PrePrepare { signed, proposal };
            self.lies.insert(place, Lie { other, ballot: other_ballot, audience: others });
            while self.lies.len() > LIES_KEPT {
                self.lies.pop_first();
            }
        }
        self.lies.get(&place)
    }
}

/// Another well-formed proposal: other requests, another order, or another time.
pub(super) fn another(proposal: &Proposal, random: &mut ChaCha8Rng) -> Option<Proposal> {
    let Payload::Batch(requests) = &proposal.payload else { return None };
    let mut requests = requests.clone();
    let mut time = proposal.time;
    match random.random_range(0..3) {
        0 if !requests.is_empty() => {
            requests.pop();
        }
        1 if requests.len() > 1 => requests.reverse(),
        _ => time += 1,
    }
    Some(Proposal { time, payload: Payload::Batch(requests) })
}

/// Sends `other` to the audience and the honest message to everybody else it was for.
fn split(hands: &Hands, audience: &[ReplicaId], honest: Send, other: Message, out: &mut Vec<Send>) {
    let to = match honest.to {
        Recipients::Others => hands.others(),
        Recipients::One(id) => vec![id],
    };
    for id in to {
        let message = if audience.contains(&id) { other.clone() } else { honest.message.clone() };
        out.push(Send { to: Recipients::One(id), message, after: honest.after });
    }
}
