//! From a world that has come to its end to what a run tells.

use super::plan::{ClockFault, Plan};
use super::process::Process;
use super::report::{Counters, SimulationReport};
use super::world::World;

impl World {
    /// What this run tells.
    pub(super) fn report(mut self) -> SimulationReport {
        let views = self.processes.iter().filter(|process| !process.liar);
        self.counters.views = views.filter_map(Process::status).map(|status| status.view.0).max().unwrap_or(0);
        let done = self.network.done;
        self.counters.lost = done.lost + done.cut;
        for (name, times) in [
            ("messages lost by weather", done.lost),
            ("messages lost by partitions", done.cut),
            ("messages duplicated", done.duplicated),
            ("messages out of order", done.reordered),
            ("messages held up", done.held_up),
            ("frames of garbage", done.garbage),
            ("frames truncated", done.truncated),
            ("frames bit-flipped", done.flipped),
        ] {
            self.counters.happened_times(name, times);
        }
        for (name, times) in self.oracles.work() {
            self.counters.happened_times(name, times);
        }
        self.counters.batches = self.oracles.last().0;
        self.counters.storage_operations = if self.counters.storage_operations == 0 {
            self.cluster.power.operations()
        } else {
            self.counters.storage_operations
        };
        for process in &self.processes {
            for (behaviour, acted) in process.switch.acted() {
                self.counters.acted(behaviour.name(), acted);
            }
            for ((behaviour, phase), acted) in process.switch.acted_in() {
                self.counters.acted_in(behaviour.name(), phase.name(), acted);
            }
        }
        let story = self.story();
        let (trace_hash, trace) = self.trace.finish();
        let measured = self.meter.take().map(|meter| meter.finish(&self.history));
        SimulationReport {
            measured,
            protocol: self.plan.protocol,
            seed: self.plan.seed,
            replicas: self.plan.replicas,
            trace_hash,
            violation: self.violation,
            virtual_seconds: self.now as f64 / 1e6,
            operations: self.history.ended(),
            counters: self.counters,
            operations_by_replica: self.operations_by_replica,
            story,
            planned: self.planned,
            trace,
        }
    }
}

/// Clocks are wrong, and links have weather of their own, from the beginning on.
pub(super) fn clock_counters(plan: &Plan) -> Counters {
    let mut counters = Counters::default();
    for fault in plan.clocks.values() {
        counters.happened(match fault {
            ClockFault::Off(_) => "clock off",
            ClockFault::Jumps { .. } => "clock jumps",
            ClockFault::Frozen { .. } => "clock frozen",
        });
    }
    counters.happened_times("links with weather of their own", plan.link_weather.len() as u64);
    counters
}
