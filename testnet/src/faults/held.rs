//! Messages held back, and a pace for what would otherwise be sent without end.

use std::collections::{BTreeMap, VecDeque};

use quorate_protocol::engine::Send;
use quorate_protocol::parameters::Micros;

use super::catalogue::Behaviour;

/// Messages held back at once; one more makes the first leave.
const HELD_MAX: usize = 1024;

/// Messages that leave later. Their records are durable long before: the driver looks at that again as they leave.
#[derive(Default)]
pub(super) struct Held {
    waiting: VecDeque<(Micros, Send)>,
}

impl Held {
    /// Keeps `send` until `due` (monotonic microseconds).
    pub(super) fn keep(&mut self, due: Micros, send: Send) {
        let place = self.waiting.partition_point(|(other, _)| *other <= due);
        self.waiting.insert(place, (due, send));
        if self.waiting.len() > HELD_MAX
            && let Some((due, _)) = self.waiting.front_mut()
        {
            *due = 0;
        }
    }

    /// What is due joins `sends`.
    pub(super) fn release(&mut self, now: Micros, sends: &mut Vec<Send>) {
        while self.waiting.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, send)) = self.waiting.pop_front()
        {
            sends.push(send);
        }
    }

    /// When the next one is due.
    pub(super) fn wake(&self) -> Option<Micros> {
        self.waiting.front().map(|(due, _)| *due)
    }
}

/// How often each behaviour that makes messages of its own may act: an attacker that takes the machine from the honest
/// replicas on it would show nothing.
#[derive(Default)]
pub(super) struct Pace {
    next: BTreeMap<Behaviour, Micros>,
}

impl Pace {
    /// Whether `behaviour` may act now; then not again for `interval` microseconds.
    pub(super) fn allows(&mut self, behaviour: Behaviour, now: Micros, interval: Micros) -> bool {
        let next = self.next.entry(behaviour).or_default();
        if now < *next {
            return false;
        }
        *next = now + interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use quorate_crypto::ReplicaId;
    use quorate_protocol::engine::Recipients;
    use quorate_protocol::message::Message;

    use super::*;

    fn send(mark: usize) -> Send {
        Send {
            to: Recipients::One(ReplicaId(0)),
            message: Message::FetchRequests(Vec::with_capacity(mark)),
            after: None,
        }
    }

    #[test]
    fn what_is_held_leaves_when_it_is_due_and_in_order() {
        let mut held = Held::default();
        for due in [30, 10, 20] {
            held.keep(due, send(due as usize));
        }
        let mut sends = Vec::new();
        assert_eq!(held.wake(), Some(10));
        held.release(9, &mut sends);
        assert!(sends.is_empty());
        held.release(20, &mut sends);
        assert_eq!((sends.len(), held.wake()), (2, Some(30)));
    }

    #[test]
    fn no_more_is_held_than_the_cap() {
        let mut held = Held::default();
        for _ in 0..=HELD_MAX {
            held.keep(1_000, send(0));
        }
        let mut sends = Vec::new();
        held.release(1, &mut sends);
        assert_eq!(sends.len(), 1);
    }

    #[test]
    fn a_pace_is_kept() {
        let mut pace = Pace::default();
        assert!(pace.allows(Behaviour::Replay, 100, 50));
        assert!(!pace.allows(Behaviour::Replay, 149, 50));
        assert!(pace.allows(Behaviour::Mutate, 149, 50), "each has its own");
        assert!(pace.allows(Behaviour::Replay, 150, 50));
    }
}
