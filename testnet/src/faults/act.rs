//! One opportunity to misbehave: what a behaviour is given, and the few ways in which it changes what leaves.

use quorate_crypto::ReplicaId;
use quorate_protocol::engine::{EngineStatus, Recipients, Send};
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::hands::Hands;
use super::held::{Held, Pace};
use super::seen::{Heard, Seen};

/// What a behaviour sees of a step, and what it may change.
pub(super) struct Act<'a> {
    pub(super) hands: &'a Hands,
    pub(super) seen: &'a Seen,
    pub(super) heard: &'a Heard,
    pub(super) standing: &'a EngineStatus,
    pub(super) now: Micros,
    pub(super) random: &'a mut ChaCha8Rng,
    pub(super) sends: &'a mut Vec<Send>,
    pub(super) held: &'a mut Held,
    pub(super) pace: &'a mut Pace,
}

impl Act<'_> {
    /// Another replica, by chance.
    pub(super) fn anybody(&mut self) -> ReplicaId {
        let others = self.hands.others();
        others[self.random.random_range(0..others.len())]
    }

    /// Says something more, to everybody.
    pub(super) fn tell_all(&mut self, message: Message) {
        self.sends.push(Send { to: Recipients::Others, message, after: None });
    }

    /// Says something more, to one.
    pub(super) fn tell(&mut self, to: ReplicaId, message: Message) {
        self.sends.push(Send { to: Recipients::One(to), message, after: None });
    }

    /// Holds back every message for which `due` names a time; how many.
    pub(super) fn hold(&mut self, mut due: impl FnMut(&Message) -> Option<Micros>) -> u64 {
        let mut acted = 0;
        let mut out = Vec::with_capacity(self.sends.len());
        for send in std::mem::take(self.sends) {
            match due(&send.message) {
                Some(due) => {
                    acted += 1;
                    self.held.keep(due, send);
                }
                None => out.push(send),
            }
        }
        *self.sends = out;
        acted
    }

    /// Takes out every message that `unwanted` names; how many.
    pub(super) fn withhold(&mut self, unwanted: impl Fn(&Message) -> bool) -> u64 {
        let before = self.sends.len();
        self.sends.retain(|send| !unwanted(&send.message));
        (before - self.sends.len()) as u64
    }
}

/// Gives each recipient of each message what `for_one` makes of it: the same, another, or nothing. Returns how many
/// became another or nothing.
pub(super) fn divert(
    hands: &Hands,
    sends: &mut Vec<Send>,
    mut for_one: impl FnMut(ReplicaId, &Message) -> Option<Message>,
) -> u64 {
    let mut acted = 0;
    let mut out = Vec::with_capacity(sends.len());
    for send in std::mem::take(sends) {
        let recipients = match send.to {
            Recipients::Others => hands.others(),
            Recipients::One(id) => vec![id],
        };
        let told: Vec<(ReplicaId, Option<Message>)> =
            recipients.into_iter().map(|id| (id, for_one(id, &send.message))).collect();
        if told.iter().all(|(_, message)| message.as_ref() == Some(&send.message)) {
            out.push(send);
            continue;
        }
        for (id, message) in told {
            acted += u64::from(message.as_ref() != Some(&send.message));
            out.extend(message.map(|message| Send { to: Recipients::One(id), message, after: send.after }));
        }
    }
    *sends = out;
    acted
}
