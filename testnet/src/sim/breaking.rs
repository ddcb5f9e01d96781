//! Breaking things, and making them well again.

use quorate_crypto::ReplicaId;
use quorate_protocol::parameters::Micros;
use rand::RngExt as _;

use super::plan::{Breakage, Ending, MILLISECOND};
use super::process::Incoming;
use super::report::Violation;
use super::world::{Event, World};

/// Requests every client may still ask for once everything is well.
const LAST_REQUESTS: usize = 3;
/// A process that is to die at a storage operation dies anyway after this long.
const DYING_MAX: Micros = 200 * MILLISECOND;

impl World {
    pub(super) fn break_something(&mut self, breakage: Breakage) {
        if self.healed {
            return;
        }
        self.trace.line(self.now, || format!("BREAK {breakage:?}"));
        match breakage {
            Breakage::Partition { side, one_way, lasts } => {
                self.counters.partitions += 1;
                let partition = self.network.divide(side, one_way);
                self.queue.push(self.now + lasts, Event::Unite { partition });
            }
            Breakage::Crash { replica, ending, operations, downtime } => {
                let process = &mut self.processes[replica];
                if process.running.is_none() || process.dying.is_some() {
                    return;
                }
                process.dying = Some((ending, downtime));
                match operations {
                    None => self.die(replica, ending, downtime),
                    Some(operations) => {
                        process.medium.crash_at(process.medium.operations() + operations);
                        let life = process.life;
                        let event = Event::Die { replica, life, ending, downtime };
                        self.queue.push(self.now + DYING_MAX, event);
                    }
                }
            }
            Breakage::Blackout { operations: None } => self.blackout(),
            Breakage::Blackout { operations: Some(operations) } => {
                self.cluster.power.cut_at(self.cluster.power.operations() + operations);
            }
            Breakage::Pause { replica, lasts } => {
                self.counters.pauses += 1;
                self.processes[replica].paused_until = self.now + lasts;
            }
            Breakage::Wipe { replica, downtime, dies_at } => self.wipe(replica, downtime, dies_at),
        }
    }

    /// A disk is lost. Liars and replicas without a log together never exceed f at a time.
    fn wipe(&mut self, replica: usize, downtime: Micros, dies_at: Option<u64>) {
        let process = &self.processes[replica];
        let lost = self.processes.iter().filter(|other| other.index != replica && !other.liar && other.is_amnesiac());
        let faulty = lost.count() + self.processes.iter().filter(|other| other.liar).count();
        if process.liar || faulty >= self.cluster.committee.faults() {
            return;
        }
        self.counters.wipes += 1;
        if process.running.is_some() {
            self.die(replica, Ending::PowerCut, downtime);
        }
        let process = &mut self.processes[replica];
        process.amnesiac = true;
        process.dying = None;
        if let Err(error) = process.wipe(&self.cluster) {
            return self.storage_failed(replica, &error);
        }
        if let Some(operation) = dies_at {
            let process = &mut self.processes[replica];
            process.dying = Some((Ending::Kill, downtime));
            process.medium.crash_at(process.medium.operations() + operation);
        }
    }

    pub(super) fn unite(&mut self, partition: u64) {
        let Some(side) = self.network.unite(partition) else { return };
        self.trace.line(self.now, || "UNITE".to_owned());
        if self.random.random_bool(0.5) {
            return;
        }
        // Links that were silent for long were given up and come up anew.
        for one in 0..side.len() {
            for other in 0..side.len() {
                if one != other && side[one] != side[other] {
                    self.link_up(one, other);
                }
            }
        }
    }

    /// `replica` learns that its link to `peer` is up.
    fn link_up(&mut self, replica: usize, peer: usize) {
        let delay = self.random.random_range(200..5 * MILLISECOND);
        let life = self.processes[replica].life;
        self.queue.push(self.now + delay, Event::LinkUp { replica, life, peer });
    }

    pub(super) fn die(&mut self, replica: usize, ending: Ending, downtime: Micros) {
        self.trace.line(self.now, || format!("replica {replica} dies: {ending:?}"));
        self.trace.event(self.now, "die", replica as u64, downtime, &[]);
        self.counters.crashes += 1;
        self.counters.power_cuts += u64::from(ending == Ending::PowerCut);
        let seed = self.random.random();
        self.processes[replica].end(ending, seed);
        for client in 0..self.clients.len() {
            self.clients[client].link_down(ReplicaId(replica as u16));
            self.drain_client(client);
        }
        let life = self.processes[replica].life;
        let downtime = if self.healed { MILLISECOND } else { downtime };
        self.queue.push(self.now + downtime, Event::Start { replica, life });
    }

    /// Every replica loses power at once, also those that are down already.
    pub(super) fn blackout(&mut self) {
        self.counters.blackouts += 1;
        self.cluster.power.restore();
        for replica in 0..self.processes.len() {
            let downtime = self.random.random_range(1..=150) * MILLISECOND;
            self.die(replica, Ending::PowerCut, downtime);
        }
    }

    pub(super) fn start(&mut self, replica: usize, life: u64) {
        let process = &mut self.processes[replica];
        if process.life != life || process.running.is_some() {
            return;
        }
        if self.plan.dies_in_recovery && !self.healed && life > 0 && self.random.random_bool(0.3) {
            let ending = if self.random.random_bool(0.5) { Ending::Kill } else { Ending::PowerCut };
            let downtime = self.random.random_range(1..50) * MILLISECOND;
            process.dying = Some((ending, downtime));
            process.medium.crash_at(process.medium.operations() + self.random.random_range(1..60));
            self.queue.push(self.now + DYING_MAX, Event::Die { replica, life, ending, downtime });
        }
        if let Err(error) = process.start(&self.cluster, self.now) {
            return self.storage_failed(replica, &error);
        }
        // It may have died between the mark of its log and the end of that turn.
        if std::mem::take(&mut process.amnesiac) && !process.is_amnesiac() {
            self.counters.rejoined += 1;
        }
        self.trace.line(self.now, || format!("replica {replica} starts, life {life}"));
        self.trace.event(self.now, "start", replica as u64, life, &[]);
        self.incoming(replica, Incoming::Timer);
        for peer in 0..self.processes.len() {
            if peer != replica && self.processes[peer].running.is_some() {
                self.link_up(replica, peer);
                self.link_up(peer, replica);
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].link_up(self.now, ReplicaId(replica as u16));
            self.drain_client(client);
        }
    }

    /// Everything but the liars becomes well: the liveness phase begins.
    pub(super) fn heal(&mut self) {
        self.trace.line(self.now, || "HEAL".to_owned());
        self.healed = true;
        self.counters.storage_operations = self.cluster.power.operations();
        self.network.heal();
        if self.cluster.power.is_off() {
            return self.fail(Violation::new("simulator", "the power is off and nobody noticed"));
        }
        self.cluster.power.restore();
        for replica in 0..self.processes.len() {
            let process = &mut self.processes[replica];
            process.paused_until = 0;
            let life = process.life;
            if process.dying.take().is_some() {
                process.medium.restart();
            }
            if process.running.is_none() {
                self.queue.push(self.now, Event::Start { replica, life });
            } else {
                self.incoming(replica, Incoming::Timer);
                // A turn that was put off by a pause need not wait for its end.
                self.queue.push(self.now, Event::Turn { replica, life });
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].left = LAST_REQUESTS;
            self.queue.push(self.now, Event::ClientAct { client });
        }
        self.queue.push(self.now, Event::Check);
    }
}
