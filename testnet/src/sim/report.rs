//! What a run tells.

use std::collections::BTreeMap;
use std::fmt;

use quorate_crypto::Digest;
use serde_json::{Value, json};

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
    /// How often each behaviour acted.
    pub behaviours: BTreeMap<&'static str, u64>,
}

impl Counters {
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
        for (behaviour, acted) in &other.behaviours {
            *self.behaviours.entry(behaviour).or_default() += acted;
        }
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
        ]
    }
}

/// The outcome of one seed.
#[derive(Debug, Clone)]
pub struct SimulationReport {
    /// The seed.
    pub seed: u64,
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
            "replicas": self.replicas,
            "trace_hash": self.trace_hash.to_hex(),
            "verdict": self.verdict(),
            "violation": self.violation.as_ref().map(|one| json!({ "oracle": one.oracle, "what": one.what })),
            "virtual_seconds": self.virtual_seconds,
            "operations": self.operations,
            "counters": counters,
            "behaviours": self.counters.behaviours,
        })
    }
}
