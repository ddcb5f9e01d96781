//! When a run is over: everything that must end has ended, or the time for it has passed.

use quorate_crypto::ReplicaId;
use quorate_node::key_value::KeyValue;
use quorate_protocol::execution::Execution;
use quorate_protocol::parameters::Micros;

use super::oracle::liveness;
use super::plan::MILLISECOND;
use super::report::Violation;
use super::world::{Event, World};

/// How often the end of the liveness phase is looked for.
const CHECK_INTERVAL: Micros = 20 * MILLISECOND;
/// A client's longest wait before it sends again.
const RESEND_MAX: Micros = 2_400 * MILLISECOND;
/// Beyond f nothing needs to end: how long a run goes on after everything healed.
const AFTERMATH: Micros = 2_000 * MILLISECOND;

impl World {
    /// Beyond f: if agreement broke, what honest replicas hold convicts at least f + 1, and no honest one.
    fn judge_conspiracy(&mut self) {
        let liars: Vec<ReplicaId> = self.plan.liars.keys().copied().collect();
        let guilty = self.forensics.guilty().clone();
        if let Some(innocent) = guilty.iter().find(|id| !liars.contains(id)) {
            self.fail(Violation::new("evidence", format!("honest replica {innocent} is convicted")));
        }
        if self.forked {
            self.counters.happened("beyond f: agreement broke");
            self.counters.happened_times("beyond f: convicted", guilty.len() as u64);
            let needed = self.cluster.committee.one_honest();
            if guilty.len() < needed {
                let what = format!("agreement broke, but only {guilty:?} of {liars:?} are convicted, {needed} must be");
                self.fail(Violation::new("guilty-named", what));
            }
        }
        self.done = true;
    }

    pub(super) fn look_for_the_end(&mut self) {
        if self.plan.beyond_f {
            if self.now >= self.plan.heals_at + AFTERMATH {
                return self.judge_conspiracy();
            }
            return self.queue.push(self.now + CHECK_INTERVAL, Event::Check);
        }
        let mut honest = Vec::new();
        for process in self.processes.iter().filter(|process| !process.liar && !process.is_unwell()) {
            honest.extend(process.status().map(|status| (process.id(), status)));
        }
        let waiting = self.clients.iter().any(|client| client.left > 0);
        let unfinished = liveness::unfinished(&self.history, &honest, self.oracles.last());
        let bound = self.plan.liveness_bound(self.cluster.committee.faults(), RESEND_MAX);
        let from = self.plan.heals_at.max(self.last_asked);
        if unfinished.is_none() && !waiting {
            self.done = true;
            let took = self.now.saturating_sub(from);
            self.counters.settled_most = took / MILLISECOND;
            self.counters.settled_percent_most = took * 100 / bound;
            let states: Vec<(ReplicaId, &Execution<KeyValue>)> = self
                .processes
                .iter()
                .filter(|process| !process.liar)
                .filter_map(|process| Some((process, process.running.as_ref()?.driver.execution())))
                // Nobody waits for who is unwell; where it did catch up, it has the same state as all.
                .filter(|(process, execution)| !process.is_unwell() || execution.seq() == self.oracles.last())
                .map(|(process, execution)| (process.id(), execution))
                .collect();
            let verdict = self.oracles.finish(&self.history, &states);
            return self.check(verdict);
        }
        if self.now > from + bound {
            let violation = unfinished.unwrap_or_else(|| Violation::new("liveness", "clients cannot ask"));
            return self.fail(violation);
        }
        self.queue.push(self.now + CHECK_INTERVAL, Event::Check);
    }
}
