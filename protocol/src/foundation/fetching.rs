//! State transfer, when what lies below the stable checkpoint cannot be had any more ([`crate::transfer`]).

use quorate_crypto::{ReplicaId, Seq};

use crate::engine::{Now, Recipients};
use crate::foundation::Foundation;
use crate::message::Message;
use crate::parameters::Micros;
use crate::state::Snapshot;
use crate::transfer::Progress;

/// Without progress for so long below a stable checkpoint, the state itself is fetched.
const TRANSFER_PATIENCE: Micros = 300_000;

/// Where a replica that lags stood, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    delivered: Seq,
    since: Micros,
}

impl Foundation {
    /// Fetches the state when the numbers below the stable checkpoint cannot be had any more.
    pub(crate) fn tend_transfer(&mut self, now: Now) {
        if self.stable() <= self.delivered {
            self.stall = None;
            self.transfer.abandon();
            return;
        }
        let stall = self.stall.get_or_insert(Stall { delivered: self.delivered, since: now.monotonic });
        if stall.delivered != self.delivered {
            *stall = Stall { delivered: self.delivered, since: now.monotonic };
        }
        let waited = now.monotonic.saturating_sub(stall.since) >= TRANSFER_PATIENCE;
        let hopeless = self.stable().0 > self.delivered.0 + self.parameters().window;
        let peers: Vec<ReplicaId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.stable >= self.stable())
            .chain(self.peers.iter().filter(|(_, peer)| peer.stable < self.stable()))
            .map(|(id, _)| *id)
            .collect();
        // What f + 1 do not hold any more at least one honest replica has given up for a newer state.
        let given_up = self.transfer.lacking() >= self.committee().one_honest() || self.transfer.is_stuck(now, &peers);
        // Whoever restarted holds its newest state only, which may become stable with this replica's help alone: what
        // f + 1 vouch for is right as well (rule P13).
        let vouched = || self.checkpoints.vouched(self.committee().one_honest());
        let certified = (self.stable(), self.checkpoints.stable_digest());
        let (seq, root) = given_up.then(vouched).flatten().unwrap_or(certified);
        let moves_on = given_up && self.transfer.target().is_some_and(|target| target < seq);
        if (waited || hopeless) && (!self.transfer.is_active() || moves_on) {
            let base = self.transfer.newest().cloned();
            self.transfer.start(seq, root, base.as_ref());
        }
        for (peer, question) in self.transfer.questions(now, &peers) {
            self.send(Recipients::One(peer), question, None);
        }
    }

    /// Takes a part of a state. Returns the state if that completes it; the engine takes it by [`Foundation::stand_at`] and
    /// then tends the transfer.
    pub(crate) fn take_part(&mut self, from: ReplicaId, part: Message) -> Option<Snapshot> {
        match self.transfer.take(from, part) {
            Progress::Complete(snapshot) => Some(snapshot),
            Progress::Going | Progress::Gone => None,
        }
    }

    /// When [`Foundation::tend_transfer`] has something to do again.
    pub(crate) fn next_transfer(&self) -> Option<Micros> {
        // Once the state is being fetched its patience is over, and a time that has passed would wake it without end.
        let stall = self.stall.filter(|_| !self.transfer.is_active()).map(|stall| stall.since + TRANSFER_PATIENCE);
        self.transfer.wake().into_iter().chain(stall).min()
    }
}
