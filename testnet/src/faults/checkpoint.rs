//! Lies about checkpoints and states: CHECKPOINT, STATUS, and the parts of a state that others fetch.

use std::collections::BTreeMap;

use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::merkle_map::Chunk;
use quorate_crypto::{ReplicaId, Signed, StatementBody};
use quorate_protocol::engine::{Recipients, Send};
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;
use quorate_protocol::state::TableId;
use rand::RngExt as _;

use super::act::{Act, divert};
use super::catalogue::Behaviour;
use super::hands::Hands;

/// How far ahead a boaster says it is.
const BOAST: u64 = 1_000_000;
/// A part of a state leaves this late: a fetcher gives a source up after one second.
const DRIP: Micros = 900_000;

/// A lying source's memory.
#[derive(Default)]
pub(super) struct Checkpoint {
    /// A chunk of each table that was served last.
    served: BTreeMap<TableId, Chunk>,
}

impl Checkpoint {
    pub(super) fn act(&mut self, behaviour: Behaviour, act: &mut Act<'_>) -> u64 {
        match behaviour {
            Behaviour::WrongCheckpoint => {
                let hands = act.hands;
                divert(hands, act.sends, |_, message| Some(wrong(hands, message)))
            }
            Behaviour::TwoCheckpoints => two(act),
            Behaviour::GreatHeight => boast(act),
            Behaviour::CorruptChunks => corrupt(act),
            Behaviour::MisindexedChunks => self.misindex(act),
            Behaviour::SlowDrip => {
                let now = act.now;
                act.hold(|message| {
                    matches!(message, Message::State { .. } | Message::Chunk { .. }).then_some(now + DRIP)
                })
            }
            _ => 0,
        }
    }

    /// A chunk of another table, or the right chunk under another path.
    fn misindex(&mut self, act: &mut Act<'_>) -> u64 {
        let mut acted = 0;
        for send in act.sends.iter_mut() {
            let Message::Chunk { table, path, chunk, .. } = &mut send.message else { continue };
            let honest = chunk.clone();
            let other = self.served.iter().find(|(other, held)| *other != table && **held != honest);
            match other {
                Some((_, other)) if act.random.random_bool(0.6) => *chunk = other.clone(),
                _ => match path.last_mut() {
                    Some(last) => *last = (*last + 1) % 16,
                    None => path.push(0),
                },
            }
            self.served.insert(*table, honest);
            acted += 1;
        }
        acted
    }
}

/// A CHECKPOINT of the liar's own with another digest; anything else as it is.
fn wrong(hands: &Hands, message: &Message) -> Message {
    match message {
        Message::Checkpoint(Signed { statement, .. }) if statement.signer == hands.id => {
            let StatementBody::Checkpoint { seq, mut digest } = statement.body else { return message.clone() };
            digest.0[9] ^= 0xff;
            Message::Checkpoint(hands.sign(StatementBody::Checkpoint { seq, digest }))
        }
        other => other.clone(),
    }
}

/// A true and a false CHECKPOINT of every number: half of the others hear the false one first.
fn two(act: &mut Act<'_>) -> u64 {
    let others = act.hands.others();
    let half = others.len().div_ceil(2);
    let mut acted = 0;
    let mut out = Vec::with_capacity(act.sends.len());
    for send in std::mem::take(act.sends) {
        let lie = wrong(act.hands, &send.message);
        if lie == send.message {
            out.push(send);
            continue;
        }
        acted += 1;
        let told: Vec<ReplicaId> = match send.to {
            Recipients::Others => others.clone(),
            Recipients::One(id) => vec![id],
        };
        for id in told {
            let mut pair = [lie.clone(), send.message.clone()];
            if others.iter().position(|other| *other == id).is_some_and(|place| place >= half) {
                pair.reverse();
            }
            out.extend(pair.map(|message| Send { to: Recipients::One(id), message, after: send.after }));
        }
    }
    *act.sends = out;
    acted
}

/// Says in every STATUS that it is far ahead, and answers no question.
fn boast(act: &mut Act<'_>) -> u64 {
    let mut acted = act.withhold(|message| {
        matches!(
            message,
            Message::State { .. }
                | Message::Chunk { .. }
                | Message::CommitCertificate(_)
                | Message::StableCheckpoint(_)
                | Message::Proposals(_)
                | Message::StateGone { .. }
                | Message::Blocks(_)
                | Message::QuorumCertificate(_)
        )
    });
    for send in act.sends.iter_mut() {
        if let Message::Status(status) = &mut send.message {
            status.executed = status.executed.plus(BOAST);
            status.stable = status.stable.plus(BOAST);
            acted += 1;
        }
        if let Message::HotStuffStatus(status) = &mut send.message {
            for number in [&mut status.executed, &mut status.committed, &mut status.stable] {
                *number = number.plus(BOAST);
            }
            // Its views, too: no certificate is asked for, whoever believes it waits for what never comes.
            for view in [&mut status.view, &mut status.high_qc_view, &mut status.high_tc_view] {
                view.0 = view.0.saturating_add(BOAST);
            }
            acted += 1;
        }
    }
    acted
}

/// Flips a byte of every part of a state.
fn corrupt(act: &mut Act<'_>) -> u64 {
    let mut acted = 0;
    for send in act.sends.iter_mut() {
        match &mut send.message {
            Message::Chunk { chunk, .. } => {
                let mut bytes = encode(chunk);
                // Behind the length: the contents, which decode whatever they are.
                let contents = bytes.len().saturating_sub(chunk.len());
                if contents < bytes.len() {
                    let place = act.random.random_range(contents..bytes.len());
                    bytes[place] ^= act.random.random_range(1..=255);
                }
                if let Ok(changed) = decode(&bytes, bytes.len()) {
                    *chunk = changed;
                    acted += 1;
                }
            }
            // Most headers are served as they are: else nobody would ever ask for a chunk.
            Message::State { header } if act.random.random_bool(0.2) => {
                if let Some((_, digest)) = header.tables.last_mut() {
                    digest.0[2] ^= 1;
                    acted += 1;
                }
            }
            _ => {}
        }
    }
    acted
}
