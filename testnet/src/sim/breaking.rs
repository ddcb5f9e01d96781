//! Breaking things, and making them well again.

use std::path::Path;

use quorate_crypto::ReplicaId;
use quorate_node::disk::Fault;
use quorate_node::failure::NodeError;
use quorate_protocol::parameters::Micros;
use rand::RngExt as _;

use super::plan::{Breakage, Damage, Ending, MILLISECOND, Sabotage};
use super::process::Incoming;
use super::report::Violation;
use super::world::{Event, World};

/// What error messages call the data of a simulated replica.
pub(super) const DATA: &str = "data";
/// Requests every client may still ask for once everything is well.
const LAST_REQUESTS: usize = 3;
/// A process that is to die at a storage operation dies anyway after this long.
const DYING_MAX: Micros = 200 * MILLISECOND;

impl World {
    pub(super) fn break_something(&mut self, breakage: Breakage) {
        if self.healed || !self.plan.leaves_room_for(&breakage) {
            return;
        }
        self.trace.line(self.now, || format!("BREAK {breakage:?}"));
        match breakage {
            Breakage::Partition { shape, lasts } => {
                self.counters.partitions += 1;
                self.counters.happened(shape.name());
                let partition = self.network.divide(shape, self.now);
                self.queue.push(self.now + lasts, Event::Unite { partition });
            }
            Breakage::Crash { replica, ending, operations, downtime } => {
                let process = &mut self.processes[replica];
                let planned = process.dying.is_some() && self.plan.crash_point.is_none();
                if process.running.is_none() || planned {
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
            Breakage::IoError { replica, operations } => {
                let process = &mut self.processes[replica];
                process.medium.fail_at(process.medium.operations() + operations, Fault::Io);
                process.ailments.io_errors += 1;
            }
            Breakage::DiskFull { replica, more, lasts } => {
                let process = &mut self.processes[replica];
                process.medium.set_capacity(Some(process.medium.used_bytes() + more));
                process.ailments.full = true;
                self.queue.push(self.now + lasts, Event::SpaceBack { replica });
            }
            Breakage::SlowSync { replica, most, lasts } => {
                self.counters.happened("disk slow sync");
                let ailments = &mut self.processes[replica].ailments;
                ailments.slow_until = self.now + lasts;
                ailments.slow_most = most;
            }
            Breakage::Turn { replica, on } => self.turn_liar(replica, on),
            Breakage::Links { replica, weather } => self.change_links(replica, weather),
            Breakage::Damage { replica, damage, in_log, choice, downtime } => {
                if self.processes[replica].running.is_none() {
                    return;
                }
                self.die(replica, Ending::PowerCut, downtime);
                if self.processes[replica].damage(damage, in_log, choice) {
                    self.counters.happened(match damage {
                        Damage::BitRot => "disk bit rot",
                        Damage::Misdirected => "disk misdirected write",
                        Damage::LostWrite => "disk lost write",
                    });
                    if in_log {
                        self.oracles.count_among_faulty(ReplicaId(replica as u16));
                    }
                }
            }
        }
    }

    /// A disk is lost. What the plan makes faulty and replicas without a log together never exceed f at a time: who is on its
    /// way back when this comes is known only now.
    fn wipe(&mut self, replica: usize, downtime: Micros, dies_at: Option<u64>) {
        let others = self.processes.iter().filter(|other| other.index != replica);
        let lost = others.filter(|other| !self.plan.faulty.contains(&other.index) && other.is_amnesiac());
        let faulty = lost.count() + self.plan.faulty.len();
        if self.plan.faulty.contains(&replica) || faulty >= self.cluster.committee.faults() {
            return;
        }
        self.counters.wipes += 1;
        if self.processes[replica].running.is_some() {
            self.die(replica, Ending::PowerCut, downtime);
        }
        self.new_disk(replica);
        if let Some(operation) = dies_at {
            let process = &mut self.processes[replica];
            process.dying = Some((Ending::Kill, downtime));
            process.medium.crash_at(process.medium.operations() + operation);
        }
    }

    /// A replica that is down gets a new disk, with what plain `init` makes: it rejoins once it starts.
    fn new_disk(&mut self, replica: usize) {
        if let Err(error) = self.processes[replica].wipe(&self.cluster) {
            let what = format!("replica {replica} cannot make new storage: {error}");
            self.fail(Violation::new("storage", what));
        }
    }

    /// A replica found, in its turn, that its log lacks promises, and begins to rejoin. Only damage explains that.
    pub(super) fn log_distrusted(&mut self, replica: usize) {
        self.trace.line(self.now, || format!("replica {replica} does not trust its log and rejoins"));
        if self.processes[replica].ailments.log_damaged {
            return self.counters.happened("damaged log noticed by peers");
        }
        let what = format!("replica {replica}, whose disk was not lost, finds that its log lacks promises");
        self.fail(Violation::new("lost-log", what));
    }

    /// Somebody freed space on a disk.
    pub(super) fn space_back(&mut self, replica: usize) {
        self.processes[replica].medium.set_capacity(None);
        self.processes[replica].ailments.full = false;
    }

    /// A storage error ends the process. It must be one that was planned, and the process must say the right thing.
    pub(super) fn storage_failed(&mut self, replica: usize, failure: &NodeError) {
        if self.cluster.power.is_off() {
            return self.blackout();
        }
        let process = &mut self.processes[replica];
        if let Some((ending, downtime)) = process.dying {
            if process.at_crash_point() {
                self.counters.happened("crash point");
            }
            return self.die(replica, ending, downtime);
        }
        let downtime = self.random.random_range(1..60) * MILLISECOND;
        match failure {
            NodeError::Storage { .. } if process.ailments.io_errors > 0 => {
                process.ailments.io_errors -= 1;
                self.counters.happened("disk input/output error");
                // After a failed sync the machine may go on with pages that count as clean, or be switched off.
                let ending = if self.random.random_bool(0.5) { Ending::Kill } else { Ending::PowerCut };
                self.die(replica, ending, downtime);
            }
            NodeError::DiskFull { .. } if process.ailments.full => {
                self.counters.happened("disk full");
                self.die(replica, Ending::Kill, downtime);
            }
            NodeError::Data(_) if process.ailments.log_damaged => {
                // As the sentence says: the directory is moved away, and plain `init` makes another.
                self.counters.happened("damaged log refused");
                self.die(replica, Ending::Kill, downtime);
                self.new_disk(replica);
            }
            NodeError::Data(_) if self.forked => {
                self.counters.happened("beyond f: honest replica stopped itself");
                self.stay_down(replica);
            }
            other => {
                let what = format!("replica {replica} ends with exit code {}: {other}", other.exit_code());
                self.fail(Violation::new("storage", what));
            }
        }
    }

    /// Beyond f a replica that finds its state wrong is down for good, as it must be.
    pub(super) fn stay_down(&mut self, replica: usize) {
        self.trace.line(self.now, || format!("replica {replica} stops itself and stays down"));
        self.trace.event(self.now, "gone", replica as u64, 0, &[]);
        let process = &mut self.processes[replica];
        process.ailments.gone = true;
        process.running = None;
        process.life += 1;
        let identity = self.cluster.identity(replica);
        for client in 0..self.clients.len() {
            self.clients[client].link_down(identity);
            self.drain_client(client);
        }
    }

    pub(super) fn unite(&mut self, partition: u64) {
        let Some(shape) = self.network.unite(partition) else { return };
        self.trace.line(self.now, || "UNITE".to_owned());
        if self.random.random_bool(0.5) {
            return;
        }
        // Links that were silent for long were given up and come up anew.
        let replicas = self.processes.len();
        for one in 0..replicas {
            for other in 0..replicas {
                if one != other && shape.cuts(replicas, one, other, 0) {
                    self.link_up(one, other);
                    self.link_up(other, one);
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
        self.counters.power_cuts += u64::from(ending != Ending::Kill);
        if ending == Ending::TornPowerCut {
            self.counters.happened("disk torn power cut");
        }
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
        if process.life != life || process.running.is_some() || process.ailments.gone {
            return;
        }
        if self.plan.dies_in_recovery && !self.healed && life > 0 && self.random.random_bool(0.3) {
            let ending = if self.random.random_bool(0.5) { Ending::Kill } else { Ending::PowerCut };
            let downtime = self.random.random_range(1..50) * MILLISECOND;
            process.dying = Some((ending, downtime));
            process.medium.crash_at(process.medium.operations() + self.random.random_range(1..60));
            self.queue.push(self.now + DYING_MAX, Event::Die { replica, life, ending, downtime });
        }
        let given_up = process.ailments.gave_up_snapshots;
        let started = process.start(&self.cluster, self.now);
        if process.ailments.gave_up_snapshots > given_up {
            self.counters.happened("damaged snapshots given up");
        }
        if let Err(error) = started {
            return self.storage_failed(replica, &NodeError::from_replica(Path::new(DATA), &error));
        }
        // It may have died between the mark of its log and the end of that turn.
        if std::mem::take(&mut process.amnesiac) && !process.is_amnesiac() {
            self.counters.rejoined += 1;
        }
        self.trace.line(self.now, || format!("replica {replica} starts, life {life}"));
        self.trace.event(self.now, "start", replica as u64, life, &[]);
        self.incoming(replica, Incoming::Timer);
        for peer in 0..self.processes.len() {
            let other = self.cluster.identity(peer) != self.cluster.identity(replica);
            if other && self.processes[peer].running.is_some() {
                self.link_up(replica, peer);
                self.link_up(peer, replica);
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].link_up(self.now, self.cluster.identity(replica));
            self.drain_client(client);
        }
    }

    /// Everything but the liars becomes well: the liveness phase begins.
    pub(super) fn heal(&mut self) {
        self.trace.line(self.now, || "HEAL".to_owned());
        self.healed = true;
        self.counters.storage_operations = self.cluster.power.operations();
        self.network.heal();
        if self.plan.sabotage == Some(Sabotage::Canary) {
            return self
                .fail(Violation::new("canary", "nothing is wrong; this run fails to show that failures are seen"));
        }
        if self.cluster.power.is_off() {
            return self.fail(Violation::new("simulator", "the power is off and nobody noticed"));
        }
        self.cluster.power.restore();
        for replica in 0..self.processes.len() {
            let process = &mut self.processes[replica];
            process.paused_until = 0;
            let life = process.life;
            process.forget_crash_point();
            if process.dying.take().is_some() {
                process.medium.restart();
            }
            process.medium.forget_faults();
            process.medium.set_capacity(None);
            process.ailments.full = false;
            process.ailments.io_errors = 0;
            process.ailments.slow_until = 0;
            if process.ailments.gone {
                continue;
            }
            let busy_until = process.running.as_ref().map(|running| running.busy_until);
            match busy_until {
                None => self.queue.push(self.now, Event::Start { replica, life }),
                Some(busy_until) => {
                    self.incoming(replica, Incoming::Timer);
                    // A turn that was put off by a pause need not wait for its end, but for the sync of the one before:
                    // otherwise its answers would leave first.
                    self.queue.push(self.now.max(busy_until), Event::Turn { replica, life });
                }
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].left = LAST_REQUESTS;
            self.queue.push(self.now, Event::ClientAct { client });
        }
        self.queue.push(self.now, Event::Check);
    }
}
