//! The event loop of a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{PublicKey, ReplicaId};
use quorate_node::driver::Published;
use quorate_node::failure::NodeError;
use quorate_protocol::client::message::{ClientMessage, ReplicaMessage};
use quorate_protocol::engine::{Decided, Engine as _};
use quorate_protocol::parameters::Micros;
use quorate_protocol::state::Snapshot;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::breaking::DATA;
use super::client::Client;
use super::conspiracy::Forensics;
use super::disk::Power;
use super::faulty;
use super::genesis;
use super::history::History;
use super::meter::{self, Meter};
use super::network::Network;
use super::oracle::Oracles;
use super::plan::{Breakage, Ending, MILLISECOND, Options, Plan};
use super::process::{Cluster, Incoming, Process};
use super::queue::Queue;
use super::report::{Counters, SimulationReport, Violation};
use super::reporting;
use super::signing::Keyring;
use super::trace::Trace;
use super::twins;
use crate::faults::Switch;
use crate::faults::client::FaultyClient;

/// More events than any sound run has: a replica that wakes itself without end is stopped here.
const EVENTS_MAX: u64 = 3_000_000;
/// Processor time of a turn, beside its syncs.
const TURN_COST: Micros = 20;
/// A replica may ask to be woken at a moment that has passed so often in a row.
const RESTLESS_MAX: u32 = 1_000;
/// Turns between two looks at a replica's sizes.
const STATUS_EVERY: u64 = 32;

/// Streams of clients to replicas are named apart from those of replicas to clients.
const CLIENT_STREAMS: usize = 1 << 16;
/// Oracles that see honest replicas part. Beyond f they may, and then the guilty must be named.
const AGREEMENT: [&str; 2] = ["agreement", "state-digest"];
/// Oracles that compare with the one order, which there need not be beyond f; and with what clients believe, which f + 1
/// liars can tell them without a single signed contradiction.
const RESTS_ON_AGREEMENT: [&str; 5] = ["exactly-once", "durability", "linearizability", "accusation", "told"];

/// What can happen.
pub(super) enum Event {
    Turn { replica: usize, life: u64 },
    Publish { replica: usize, life: u64, published: Box<Published>, answers: Vec<(usize, ReplicaMessage)> },
    Wake { replica: usize, life: u64 },
    ToReplica { from: usize, to: usize, life: u64, bytes: Arc<Vec<u8>> },
    FromClient { client: usize, to: usize, life: u64, bytes: Arc<Vec<u8>> },
    ToClient { from: usize, client: usize, bytes: Arc<Vec<u8>> },
    ClientWake { client: usize },
    ClientAct { client: usize },
    FaultyClientAct { client: usize, left: usize },
    Store { replica: usize, life: u64, snapshot: Snapshot },
    LinkUp { replica: usize, life: u64, peer: usize },
    Break { breakage: Breakage },
    Unite { partition: u64 },
    Die { replica: usize, life: u64, ending: Ending, downtime: Micros },
    Start { replica: usize, life: u64 },
    SpaceBack { replica: usize },
    Heal,
    Check,
}

/// A run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) cluster: Cluster,
    pub(super) processes: Vec<Process>,
    pub(super) clients: Vec<Client>,
    pub(super) faulty_clients: Vec<FaultyClient>,
    pub(super) by_key: BTreeMap<PublicKey, usize>,
    pub(super) network: Network,
    pub(super) queue: Queue<Event>,
    pub(super) now: Micros,
    pub(super) random: ChaCha12Rng,
    pub(super) history: History,
    pub(super) oracles: Oracles,
    pub(super) trace: Trace,
    pub(super) counters: Counters,
    /// Storage operations that making each replica's storage took.
    first_operations: Vec<u64>,
    pub(super) operations_by_replica: Vec<u64>,
    pub(super) planned: Vec<String>,
    /// When the last message of a replica's stream to a client, or of a client's to a replica, arrives.
    pub(super) streams: BTreeMap<(usize, usize), Micros>,
    pub(super) forensics: Forensics,
    pub(super) meter: Option<Meter>,
    /// Agreement broke, as it may beyond f. Nothing that rests on the one order is judged any more.
    pub(super) forked: bool,
    pub(super) healed: bool,
    pub(super) last_asked: Micros,
    turns: u64,
    pub(super) violation: Option<Violation>,
    pub(super) done: bool,
}

impl World {
    pub(super) fn new(seed: u64, options: &Options) -> World {
        let plan = Plan::new(seed, options);
        let meter = options.meter.map(Meter::new);
        let registered = plan.clients + plan.faulty_clients.len();
        let keys = Keyring::new(seed, plan.replicas + registered, plan.ed25519);
        let committee = genesis::committee(&plan, &keys);
        let mut client_keys: Vec<PublicKey> =
            (0..registered).map(|index| keys.key(plan.replicas + index).public_key()).collect();
        let state = genesis::genesis(&plan, &client_keys);
        client_keys.truncate(plan.clients);
        let liars: Vec<ReplicaId> = plan.liars.keys().copied().collect();
        let oracles =
            Oracles::new(plan.protocol, state.clone(), &plan.parameters, committee.clone(), keys.scheme(), liars);
        let cluster = Cluster {
            seed,
            committee: Arc::new(committee.clone()),
            parameters: plan.parameters.clone(),
            protocol: plan.protocol,
            genesis: state,
            scheme: meter::counted_scheme(keys.scheme(), meter.as_ref()),
            clients: client_keys.clone(),
            log_segment_bytes: plan.log_segment_bytes,
            sabotage: plan.sabotage,
            twin: plan.twins.map(|scenario| ReplicaId(scenario.twin)),
            second_minds: plan.second_minds(),
            power: Power::default(),
        };
        let mut random = ChaCha12Rng::seed_from_u64(seed ^ 0x5eed);
        let processes = (0..plan.processes()).map(|index| {
            let identity = cluster.identity(index);
            let misbehaviours = plan.liars.get(&identity);
            // Who is of two minds says nothing else that is wrong.
            let behaviours = misbehaviours.filter(|_| plan.second_minds() == 0);
            let switch = Switch::with(behaviours.cloned().unwrap_or_default());
            let skew = plan.skews.get(index).copied().unwrap_or(twins::SKEW);
            let (liar, clock) = (misbehaviours.is_some(), plan.clocks.get(&index).copied());
            let key = meter::counted_key(keys.key(identity.index()), meter.as_ref());
            Process::create(&cluster, index, key, switch, liar, skew, clock)
                .unwrap_or_else(|error| panic!("storage of a new replica: {error}"))
        });
        let mut processes: Vec<Process> = processes.collect();
        let first_operations = processes.iter().map(Process::operations).collect();
        let faulty_clients = faulty::clients(&plan, &keys, committee.cluster());
        let clients = (0..plan.clients)
            .map(|index| Client::new(&plan, index, committee.clone(), keys.key(plan.replicas + index), random.random()))
            .collect();
        // Operations are counted from the first start on: what makes new storage is `init`, another command.
        cluster.power.begin_count();
        if let Some(operation) = plan.power_cut_at {
            cluster.power.cut_at(operation);
        }
        if let Some(point) = plan.crash_point {
            processes[point.replica].die_at(point);
        }
        World {
            network: Network::new(plan.processes(), plan.weather, plan.link_weather.clone(), plan.garbling),
            by_key: client_keys.iter().enumerate().map(|(index, key)| (*key, index)).collect(),
            cluster,
            processes,
            clients,
            faulty_clients,
            queue: Queue::new(),
            now: 0,
            random,
            history: History::default(),
            oracles,
            trace: Trace::new(options.trace),
            counters: reporting::clock_counters(&plan),
            first_operations,
            operations_by_replica: Vec::new(),
            planned: plan.planned(),
            streams: BTreeMap::new(),
            forensics: Forensics::new(committee.clone(), keys.scheme()),
            meter,
            forked: false,
            healed: false,
            last_asked: 0,
            turns: 0,
            violation: None,
            done: false,
            plan,
        }
    }

    /// Runs to the end, or to the first rule that does not hold.
    pub(super) fn run(mut self) -> SimulationReport {
        self.trace.line(0, || format!("LIARS {:?} FAULTY CLIENTS {:?}", self.plan.liars, self.plan.faulty_clients));
        for replica in 0..self.processes.len() {
            self.queue.push(0, Event::Start { replica, life: 0 });
        }
        for client in 0..self.clients.len() {
            let at = self.random.random_range(1..20) * MILLISECOND;
            self.queue.push(at, Event::ClientAct { client });
        }
        for client in 0..self.faulty_clients.len() {
            let left = World::acts_of(self.faulty_clients[client].behaviour());
            self.queue.push(20 * MILLISECOND, Event::FaultyClientAct { client, left });
        }
        for (at, breakage) in std::mem::take(&mut self.plan.breakages) {
            self.queue.push(at, Event::Break { breakage });
        }
        self.queue.push(self.plan.heals_at, Event::Heal);
        let mut events = 0;
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.handle(event);
            events += 1;
            if self.meter.as_mut().is_some_and(|meter| meter.tick(at)) {
                break;
            }
            if events > EVENTS_MAX && self.meter.is_none() {
                self.fail(Violation::new("liveness", "events without end"));
            }
            if self.done || self.violation.is_some() {
                break;
            }
        }
        self.report()
    }

    pub(super) fn fail(&mut self, violation: Violation) {
        let line = violation.to_string();
        self.trace.line(self.now, || format!("VIOLATION {line}"));
        self.violation.get_or_insert(violation);
    }

    pub(super) fn check(&mut self, verdict: Result<(), Violation>) {
        let Err(violation) = verdict else { return };
        if self.plan.beyond_f && AGREEMENT.contains(&violation.oracle) {
            self.trace.line(self.now, || format!("AGREEMENT BROKE {violation}"));
            self.forked = true;
        } else if self.plan.beyond_f && RESTS_ON_AGREEMENT.contains(&violation.oracle) {
            self.trace.line(self.now, || format!("BELIEVED {violation}"));
            self.counters.happened("beyond f: f + 1 liars were believed");
        } else {
            self.fail(violation);
        }
    }

    fn lives(&self, replica: usize, life: u64) -> bool {
        self.processes[replica].life == life && self.processes[replica].running.is_some()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Turn { replica, life } if self.lives(replica, life) => self.turn(replica),
            Event::Publish { replica, life, published, answers } if self.lives(replica, life) => {
                self.publish(replica, *published, answers);
            }
            Event::Wake { replica, life } if self.lives(replica, life) => self.wake(replica),
            Event::ToReplica { from, to, life, bytes } if self.lives(to, life) => {
                self.counters.messages += 1;
                self.trace.event(self.now, "deliver", from as u64, to as u64, &bytes);
                if self.plan.beyond_f
                    && !self.processes[to].liar
                    && let Ok(message) = decode(&bytes, self.cluster.parameters.frame_bytes_max)
                {
                    self.forensics.received(&message);
                }
                self.incoming(to, Incoming::Peer { from, bytes });
            }
            Event::FromClient { client, to, life, bytes } if self.lives(to, life) => {
                self.trace.event(self.now, "submit", client as u64, to as u64, &bytes);
                self.incoming(to, Incoming::Client { client, bytes });
            }
            Event::Store { replica, life, snapshot } if self.lives(replica, life) => self.store(replica, snapshot),
            Event::LinkUp { replica, life, peer } if self.lives(replica, life) => {
                self.trace.event(self.now, "link", peer as u64, replica as u64, &[]);
                self.incoming(replica, Incoming::LinkUp(peer));
            }
            Event::ToClient { from, client, bytes } => {
                self.trace.event(self.now, "answer", from as u64, client as u64, &bytes);
                let (liar, from) = (self.processes[from].liar, self.cluster.identity(from));
                self.clients[client].receive(self.now, from, &bytes, liar, &mut self.oracles);
                self.drain_client(client);
            }
            Event::ClientWake { client } if self.clients[client].wake_at == Some(self.now) => {
                self.clients[client].wake_at = None;
                self.clients[client].timer(self.now);
                self.drain_client(client);
            }
            Event::ClientAct { client } => self.client_act(client),
            Event::FaultyClientAct { client, left } => self.faulty_client_act(client, left),
            Event::Break { breakage } => self.break_something(breakage),
            Event::Unite { partition } => self.unite(partition),
            Event::Die { replica, life, ending, downtime }
                if self.lives(replica, life) && self.processes[replica].dying.is_some() =>
            {
                self.die(replica, ending, downtime);
            }
            Event::Start { replica, life } => self.start(replica, life),
            Event::SpaceBack { replica } => self.space_back(replica),
            Event::Heal => {
                self.count_rounds();
                self.count_minds();
                self.operations_by_replica = self.operations_so_far();
                self.heal();
            }
            Event::Check => self.look_for_the_end(),
            // Addressed to a process that is no more.
            _ => {}
        }
    }

    /// Something arrived at a replica: it is taken up by its next turn.
    pub(super) fn incoming(&mut self, replica: usize, incoming: Incoming) {
        let process = &mut self.processes[replica];
        let (life, paused) = (process.life, process.paused_until);
        let Some(running) = &mut process.running else { return };
        running.inbox.push(incoming);
        if !running.turn_planned {
            running.turn_planned = true;
            let at = self.now.max(running.busy_until).max(paused);
            self.queue.push(at, Event::Turn { replica, life });
        }
    }

    fn wake(&mut self, replica: usize) {
        let now = self.now;
        let Some(running) = &mut self.processes[replica].running else { return };
        if running.wake_at == Some(now) {
            running.wake_at = None;
            self.trace.event(now, "wake", replica as u64, 0, &[]);
            self.incoming(replica, Incoming::Timer);
        }
    }

    fn turn(&mut self, replica: usize) {
        if self.processes[replica].liar {
            let phases = self.phases();
            self.processes[replica].switch.set_phases(phases);
        }
        let process = &mut self.processes[replica];
        // Two turns may have been planned for one moment when everything heals: the second waits for the sync of the first,
        // or its answers would leave before.
        let busy_until = process.running.as_ref().map_or(0, |running| running.busy_until);
        let (at, life) = (process.paused_until.max(busy_until), process.life);
        if at > self.now {
            return self.queue.push(at, Event::Turn { replica, life });
        }
        if let Some(running) = &mut process.running {
            running.turn_planned = false;
        }
        let was_amnesiac = process.is_amnesiac();
        let mut published = Published::default();
        let turned = match process.turn(&self.cluster, self.now, &mut published) {
            Ok(turned) => turned,
            Err(error) => {
                // Messages leave before what was decided is executed, and a later sync of the same turn may fail.
                let left = Published { sends: published.sends, ..Published::default() };
                let decided = self.processes[replica].take_decided();
                self.judge_decided(replica, &decided);
                self.publish(replica, left, Vec::new());
                self.storage_failed(replica, &NodeError::from_driver(Path::new(DATA), &error));
                // One that was about to come back: whether it is back shows when it starts again.
                let process = &mut self.processes[replica];
                process.amnesiac |= was_amnesiac && process.running.is_none();
                return;
            }
        };
        if let Some((from, error)) = &turned.refused
            && !self.processes[*from].liar
        {
            let what = format!("replica {replica} refuses what honest replica {from} sent: {error}");
            self.fail(Violation::new("honest-messages", what));
        }
        if !self.processes[replica].liar {
            for message in &turned.accepted {
                let verdict = self.oracles.accepted(ReplicaId(replica as u16), message);
                self.check(verdict);
            }
        }
        self.judge_decided(replica, &turned.decided);
        if !was_amnesiac && self.processes[replica].is_amnesiac() && !self.processes[replica].liar {
            self.log_distrusted(replica);
        }
        if was_amnesiac && !self.processes[replica].is_amnesiac() {
            self.counters.rejoined += 1;
            self.trace.line(self.now, || format!("replica {replica} rejoined"));
        }
        let mut cost = TURN_COST;
        for _ in 0..turned.syncs {
            cost += self.random.random_range(100..=self.plan.sync_max);
            let ailments = &self.processes[replica].ailments;
            if self.now < ailments.slow_until {
                cost += self.random.random_range(0..=ailments.slow_most);
            }
        }
        let until = self.now + cost;
        let life = self.processes[replica].life;
        if let Some(running) = &mut self.processes[replica].running {
            running.busy_until = until;
        }
        let published = Box::new(published);
        self.queue.push(until, Event::Publish { replica, life, published, answers: turned.answers });
        self.plan_wake(replica, until);
        if self.trace.wants_lines()
            && let Some(status) = self.processes[replica].status()
        {
            self.trace.line(until, || {
                format!(
                    "replica {replica} in {:?} entered {} stable {} decided {} executed {} pending {}",
                    status.view, status.entered, status.stable, status.decided, status.executed, status.pending
                )
            });
        }
        self.look_at_sizes(replica);
    }

    /// What a replica decided, held to the one order.
    fn judge_decided(&mut self, replica: usize, decided: &[Decided]) {
        if self.processes[replica].liar {
            return;
        }
        for decided in decided {
            if self.forked {
                break;
            }
            self.trace.line(self.now, || {
                format!("replica {replica} decided {:?} {:?}", decided.seq, decided.proposal.digest())
            });
            if let Some(meter) = &mut self.meter {
                meter.decided(self.now, decided.seq, decided.requests.len());
            }
            let verdict = self.oracles.decided(ReplicaId(replica as u16), decided);
            self.check(verdict);
        }
    }

    fn look_at_sizes(&mut self, replica: usize) {
        self.turns += 1;
        let process = &self.processes[replica];
        if !self.turns.is_multiple_of(STATUS_EVERY) || process.liar {
            return;
        }
        if let Some(running) = &process.running {
            let status = running.driver.engine().status();
            let verdict = self.oracles.status(process.id(), &status, running.started_with, running.driver.log_bytes());
            self.check(verdict);
        }
    }

    fn plan_wake(&mut self, replica: usize, after: Micros) {
        let process = &mut self.processes[replica];
        let life = process.life;
        let wake = process.running.as_ref().and_then(|running| running.driver.engine().wake());
        let Some(wanted) = wake.map(|monotonic| process.virtual_time(monotonic)) else { return };
        let at = wanted.max(after + 1);
        let Some(running) = &mut process.running else { return };
        running.restless = if wanted <= self.now { running.restless + 1 } else { 0 };
        if running.restless > RESTLESS_MAX {
            let what = format!("replica {replica} wakes itself without end");
            return self.fail(Violation::new("bounded-work", what));
        }
        if running.wake_at.is_none_or(|planned| at < planned || planned <= self.now) {
            running.wake_at = Some(at);
            self.queue.push(at, Event::Wake { replica, life });
        }
    }

    fn client_act(&mut self, client: usize) {
        let asked = self.history.count();
        if self.clients[client].act(self.now, &mut self.random, &mut self.history, &mut self.oracles) {
            if self.history.count() > asked {
                self.last_asked = self.now;
            }
            self.drain_client(client);
        }
        if self.clients[client].left > 0 {
            let most = if self.healed { 40 * MILLISECOND } else { self.plan.think_max };
            let at = self.now + self.random.random_range(100..=most);
            self.queue.push(at, Event::ClientAct { client });
        }
    }

    pub(super) fn drain_client(&mut self, client: usize) {
        let outgoing = self.clients[client].drain(self.now, &mut self.history, &mut self.oracles);
        let verdict = self.clients[client].verdict();
        self.check(verdict);
        for one in outgoing {
            let bytes = Arc::new(encode(&one.message));
            let stream = matches!(one.message, ClientMessage::Watch { .. } | ClientMessage::Unwatch { .. });
            let processes: Vec<usize> =
                one.to.into_iter().flat_map(|replica| self.cluster.processes_of(replica)).collect();
            for to in processes {
                if stream {
                    let (at, life) = (self.stream_arrival(to, CLIENT_STREAMS + client), self.processes[to].life);
                    let bytes = Arc::clone(&bytes);
                    self.queue.push(at, Event::FromClient { client, to, life, bytes });
                    continue;
                }
                for delay in self.network.delays(&mut self.random) {
                    let (life, bytes) = (self.processes[to].life, Arc::clone(&bytes));
                    self.queue.push(self.now + delay, Event::FromClient { client, to, life, bytes });
                }
            }
        }
        for accusation in std::mem::take(&mut self.clients[client].accused) {
            if !self.processes[accusation.replica.index()].liar {
                let what = format!("client {client} accuses an honest replica: {accusation:?}");
                self.check(Err(Violation::new("accusation", what)));
            }
        }
        let Some(wake) = self.clients[client].wake() else { return };
        let at = wake.max(self.now + 1);
        if self.clients[client].wake_at.is_none_or(|planned| at < planned) {
            self.clients[client].wake_at = Some(at);
            self.queue.push(at, Event::ClientWake { client });
        }
    }

    fn operations_so_far(&self) -> Vec<u64> {
        let made = self.first_operations.iter();
        self.processes.iter().zip(made).map(|(process, made)| process.operations() - made).collect()
    }
}
