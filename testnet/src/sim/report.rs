//! What a run tells.

use std::collections::BTreeMap;
use std::fmt;

use quorate_crypto::{Digest, Protocol};
use serde_json::{Value, json};

use super::meter::Measured;
use super::plan::Choice;
use super::script::Story;
use crate::faults::phase::possible_pairs;

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which oracle saw it.
    pub oracle: &'static str,
    /// What it saw.
    pub what: String,
}

impl Violation {
    pub(super) fn new(oracle: &'static str, what: impl Into<String>) -> Violation {
        Violation { oracle, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.oracle, self.what)
    }
}

/// How often things happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages delivered.
    pub messages: u64,
    /// Messages lost on the way.
    pub lost: u64,
    /// The highest view any honest replica was in at the end.
    pub views: u64,
    /// Processes that died, by whatever cause.
    pub crashes: u64,
    /// Times a replica lost power.
    pub power_cuts: u64,
    /// Times the whole cluster lost power.
    pub blackouts: u64,
    /// Partitions.
    pub partitions: u64,
    /// Pauses.
    pub pauses: u64,
    /// Disks that were lost.
    pub wipes: u64,
    /// Rejoins that were completed.
    pub rejoined: u64,
    /// States installed by transfer.
    pub transfers: u64,
    /// Checkpoints made durable.
    pub checkpoints: u64,
    /// Pieces of evidence against liars.
    pub evidence: u64,
    /// Batches executed by the order everybody agrees on.
    pub batches: u64,
    /// Storage operations of all replicas.
    pub storage_operations: u64,
    /// The longest that it took, after everything healed and the last request was asked, until every request had ended and
    /// every honest replica caught up, milliseconds of virtual time.
    pub settled_most: u64,
    /// The largest part of its bound that a run took for that, percent.
    pub settled_percent_most: u64,
    /// How often each kind of fault happened, by its name.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each behaviour acted.
    pub behaviours: BTreeMap<&'static str, u64>,
    /// How often each acted in which phase.
    pub phases: BTreeMap<(&'static str, &'static str), u64>,
}

impl Counters {
    /// A fault of this name happened, or a check of this name was made.
    pub(super) fn happened(&mut self, fault: &'static str) {
        self.happened_times(fault, 1);
    }

    /// So many times.
    pub(super) fn happened_times(&mut self, fault: &'static str, times: u64) {
        if times > 0 {
            *self.faults.entry(fault).or_default() += times;
        }
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Counters) {
        self.messages += other.messages;
        self.lost += other.lost;
        self.views += other.views;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.blackouts += other.blackouts;
        self.partitions += other.partitions;
        self.pauses += other.pauses;
        self.wipes += other.wipes;
        self.rejoined += other.rejoined;
        self.transfers += other.transfers;
        self.checkpoints += other.checkpoints;
        self.evidence += other.evidence;
        self.batches += other.batches;
        self.storage_operations += other.storage_operations;
        self.settled_most = self.settled_most.max(other.settled_most);
        self.settled_percent_most = self.settled_percent_most.max(other.settled_percent_most);
        for (fault, times) in &other.faults {
            self.happened_times(fault, *times);
        }
        for (behaviour, acted) in &other.behaviours {
            self.acted(behaviour, *acted);
        }
        for ((behaviour, phase), acted) in &other.phases {
            self.acted_in(behaviour, phase, *acted);
        }
    }

    pub(super) fn acted(&mut self, behaviour: &'static str, times: u64) {
        *self.behaviours.entry(behaviour).or_default() += times;
    }

    pub(super) fn acted_in(&mut self, behaviour: &'static str, phase: &'static str, times: u64) {
        *self.phases.entry((behaviour, phase)).or_default() += times;
    }

    /// Pairs of behaviour and phase that are possible and never happened.
    pub fn never_happened(&self, choice: Choice) -> Vec<(&'static str, &'static str)> {
        let mut pairs = possible_pairs(|protocol| choice.includes(protocol));
        pairs.retain(|pair| self.phases.get(pair).is_none_or(|acted| *acted == 0));
        pairs
    }

    /// What happened in which phase, as JSON: an object of phases for every behaviour.
    pub fn phases_to_json(&self) -> Value {
        let mut behaviours = serde_json::Map::new();
        for ((behaviour, phase), acted) in &self.phases {
            let phases = behaviours.entry(*behaviour).or_insert_with(|| json!({}));
            phases[*phase] = json!(acted);
        }
        Value::Object(behaviours)
    }

    /// Each with its name, for tables and JSON.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("messages", self.messages),
            ("lost", self.lost),
            ("views", self.views),
            ("crashes", self.crashes),
            ("power_cuts", self.power_cuts),
            ("blackouts", self.blackouts),
            ("partitions", self.partitions),
            ("pauses", self.pauses),
            ("wipes", self.wipes),
            ("rejoined", self.rejoined),
            ("transfers", self.transfers),
            ("checkpoints", self.checkpoints),
            ("evidence", self.evidence),
            ("batches", self.batches),
            ("storage_operations", self.storage_operations),
            ("settled_after_ms_at_most", self.settled_most),
            ("percent_of_bound_at_most", self.settled_percent_most),
        ]
    }
}

/// The outcome of one seed.
#[derive(Debug, Clone)]
pub struct SimulationReport {
    /// The seed.
    pub seed: u64,
    /// What it cost, if that was counted.
    pub measured: Option<Measured>,
    /// What the cluster ran.
    pub protocol: Protocol,
    /// n.
    pub replicas: usize,
    /// Digest over every event, to the byte.
    pub trace_hash: Digest,
    /// The first rule that did not hold; none if all did.
    pub violation: Option<Violation>,
    /// How long the run took in virtual time.
    pub virtual_seconds: f64,
    /// Requests of clients that ended.
    pub operations: u64,
    /// How often things happened.
    pub counters: Counters,
    /// Storage operations of each replica until everything healed.
    pub operations_by_replica: Vec<u64>,
    /// What it came to for clients and liars.
    pub story: Story,
    /// What the seed planned to go wrong, a line each; the place in the list is the number that `--without` takes.
    pub planned: Vec<String>,
    /// A line for every event, if asked for.
    pub trace: Vec<String>,
}

impl SimulationReport {
    /// `ok` or `violation`.
    pub const fn verdict(&self) -> &'static str {
        if self.violation.is_some() { "violation" } else { "ok" }
    }

    /// As `simulate --json` prints it.
    pub fn to_json(&self) -> Value {
        let counters: serde_json::Map<String, Value> =
            self.counters.named().into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect();
        json!({
            "v": 1,
            "seed": self.seed,
            "protocol": self.protocol.name(),
            "replicas": self.replicas,
            "trace_hash": self.trace_hash.to_hex(),
            "verdict": self.verdict(),
            "violation": self.violation.as_ref().map(|one| json!({ "oracle": one.oracle, "what": one.what })),
            "virtual_seconds": self.virtual_seconds,
            "operations": self.operations,
            "counters": counters,
            "faults": self.counters.faults,
            "behaviours": self.counters.behaviours,
            "phases": self.counters.phases_to_json(),
        })
    }
}
