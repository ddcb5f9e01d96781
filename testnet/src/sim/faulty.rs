//! What makes misbehaviour happen in a run and be counted: faulty clients, and what the cluster is busy with while a liar
//! acts. The behaviours themselves are those of [`crate::faults`].

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_crypto::encoding::encode;
use quorate_crypto::{ClusterId, ReplicaId, Seq};
use quorate_protocol::parameters::Micros;
use rand::RngExt as _;

use super::plan::{MILLISECOND, Plan};
use super::signing::Keyring;
use super::world::{Event, World};
use crate::faults::client::{ClientBehaviour, FaultyClient};
use crate::faults::phase::Phase;

/// Faulty clients go on so long after everything else is well: correct ones must be served beside them.
const STUBBORN: Micros = 1_000 * MILLISECOND;
/// Longest time between two submissions of a faulty client.
const IDLE_MAX: Micros = 50 * MILLISECOND;
/// Huge requests of one client in a run, and the longest time between two: they cost the simulator more than they show.
const HUGE_MAX: usize = 8;
const HUGE_IDLE_MAX: Micros = 800 * MILLISECOND;

/// Faulty clients of a run, with keys beside those of the correct ones.
pub(super) fn clients(plan: &Plan, keys: &Keyring, cluster: ClusterId) -> Vec<FaultyClient> {
    let replicas: Vec<ReplicaId> = (0..plan.replicas).map(|index| ReplicaId(index as u16)).collect();
    let first = plan.replicas + plan.clients;
    plan.faulty_clients
        .iter()
        .enumerate()
        .map(|(index, behaviour)| {
            let seed = plan.seed ^ (index as u64 + 1) << 40;
            FaultyClient::new(*behaviour, keys.key(first + index), cluster, replicas.clone(), seed)
        })
        .collect()
}

impl World {
    /// A faulty client submits something, and will again.
    pub(super) fn faulty_client_act(&mut self, client: usize, left: usize) {
        if left == 0 || self.now > self.plan.heals_at + STUBBORN {
            return;
        }
        let wall = 1_700_000_000_000 + self.now / 1_000;
        let submissions = self.faulty_clients[client].act(wall);
        let behaviour = self.faulty_clients[client].behaviour();
        for submission in submissions {
            let Some(message) = submission.message() else { continue };
            if submission.valid {
                self.oracles.signed(&submission.request);
                self.history.foreign(submission.request.digest(), submission.operation);
            }
            let bytes = Arc::new(encode(&message));
            for to in submission.to.iter().map(|replica| replica.index()) {
                for delay in self.network.delays(&mut self.random) {
                    let (life, bytes) = (self.processes[to].life, Arc::clone(&bytes));
                    // No answer is delivered to it: it does not care.
                    let client = self.clients.len() + client;
                    self.queue.push(self.now + delay, Event::FromClient { client, to, life, bytes });
                }
            }
            self.counters.acted(behaviour.name(), 1);
            for phase in self.phases() {
                self.counters.acted_in(behaviour.name(), phase.name(), 1);
            }
        }
        self.last_asked = self.last_asked.max(self.now);
        let idle = if behaviour == ClientBehaviour::HugeValues { HUGE_IDLE_MAX } else { IDLE_MAX };
        let at = self.now + self.random.random_range(MILLISECOND..idle);
        self.queue.push(at, Event::FaultyClientAct { client, left: left - 1 });
    }

    /// How often a faulty client acts at most.
    pub(super) fn acts_of(behaviour: ClientBehaviour) -> usize {
        if behaviour == ClientBehaviour::HugeValues { HUGE_MAX } else { usize::MAX }
    }

    /// What the cluster is busy with, judged by its honest replicas that are well.
    pub(super) fn phases(&mut self) -> BTreeSet<Phase> {
        let last = self.oracles.last();
        let (interval, window) = (self.plan.parameters.checkpoint_interval, self.plan.parameters.window);
        let mut phases = BTreeSet::new();
        let (mut stable, mut lowest) = (Seq(0), Seq(u64::MAX));
        for process in self.processes.iter_mut().filter(|process| !process.liar && !process.is_unwell()) {
            let Some(status) = process.status() else {
                phases.insert(Phase::Recovery);
                continue;
            };
            process.recovering &= status.executed < last;
            if process.recovering {
                phases.insert(Phase::Recovery);
            }
            if !status.entered {
                phases.insert(Phase::ViewChange);
            }
            if status.rejoining {
                phases.insert(Phase::Rejoin);
            }
            if status.transferring {
                phases.insert(Phase::Transfer);
            }
            if status.executed.0 - status.executed.0 % interval > status.stable.0 {
                phases.insert(Phase::Checkpoint);
            }
            stable = stable.max(status.stable);
            lowest = lowest.min(status.decided);
        }
        if lowest.plus(window) < stable {
            phases.insert(Phase::Transfer);
        }
        if phases.is_empty() {
            phases.insert(Phase::Normal);
        }
        if self.healed {
            phases.insert(Phase::Liveness);
        }
        phases
    }
}
