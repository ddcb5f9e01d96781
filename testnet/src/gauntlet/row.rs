//! What one trial gave, as it stands in the file.

use serde::{Deserialize, Serialize};

use super::Gauntlet;
use super::subject::Subject;

/// Version of a line.
const VERSION: u32 = 3;

/// One line of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Version of the line.
    pub v: u32,
    /// What ran.
    pub name: String,
    /// The replica that lied.
    pub liar: Option<u16>,
    /// What happened besides, in words.
    pub occasion: String,
    /// For how long it was to run, milliseconds.
    pub planned_ms: u64,
    /// Replicas.
    pub n: usize,
    /// Clients that wrote.
    pub clients: usize,
    /// What the replicas ran.
    pub protocol: String,
    /// Bytes of a value.
    pub value_size: usize,
    /// How often an attacking client was to act a second.
    pub rate: u32,
    /// The processor time it was allowed, hundredths of a core.
    pub cpu_percent: u8,
    /// Why it was not measured to the end.
    pub failure: Option<String>,
    /// Times the liar lied, or the client acted.
    pub acted: u64,

    /// Acknowledged writes, all read back.
    pub writes: u64,
    /// Those that are gone.
    pub lost_writes: u64,
    /// Those with another value or revision.
    pub wrong_writes: u64,
    /// Reads meanwhile.
    pub reads: u64,
    /// Those that contradict an acknowledgement.
    pub wrong_reads: u64,
    /// Events that the watcher was told.
    pub events: u64,
    /// Those that nobody wrote.
    pub wrong_events: u64,
    /// Acknowledged writes without one.
    pub missing_events: u64,
    /// How honest replicas stood in the end: the number of an equal checkpoint, or words.
    pub checkpoint: String,
    /// Whether their checkpoints were equal.
    pub agreed: bool,
    /// Whom evidence accuses.
    pub accused: Vec<u16>,
    /// Whom it has to accuse.
    pub to_accuse: String,
    /// Whether it does.
    pub accused_justly: bool,

    /// Lines of panics in the logs of all replicas.
    pub panics: u64,
    /// The most resident memory that an honest replica had, MiB.
    pub resident_mib: f64,
    /// Most descriptors of an honest replica before and after.
    pub descriptors: [u64; 2],
    /// Most threads of an honest replica before and after.
    pub threads: [u64; 2],

    /// Acknowledged writes a second.
    pub ops_per_s: f64,
    /// The longest time that any client went without an answer, milliseconds; none if one never had any.
    pub longest_gap_ms: Option<f64>,
    /// Four view timeouts, milliseconds.
    pub gap_bar_ms: f64,
    /// Writes and reads with an error.
    pub errors: u64,
    /// View changes that a replica began meanwhile, at most.
    pub view_changes: u64,
    /// Cores that the liar, or the attacking client, was busy with.
    pub attacker_cores: Option<f64>,
    /// Cores that an honest replica was busy with, the mean.
    pub honest_cores: Option<f64>,
    /// Cores that processes were busy with which have nothing to do with it: what they take is missing here.
    pub foreign_cores: Option<f64>,
    /// How a client's attack went on and off. Writes a second and the cores of honest
    /// replicas above are of the attacks alone.
    #[serde(default)]
    pub pulses: Vec<Pulse>,
    /// Sentences worth reading.
    pub notes: Vec<String>,
}

/// An attack and the calm around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pulse {
    /// While it went on.
    pub attack: Rate,
    /// Before and after it, the mean.
    pub calm: Rate,
}

/// Load over some seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Acknowledged writes a second.
    pub ops_per_s: f64,
    /// Cores that an honest replica was busy with, the mean.
    pub honest_cores: f64,
}

impl Rate {
    /// Half of both.
    pub fn mean(self, other: Rate) -> Rate {
        let half = |one: f64, other: f64| ((one + other) * 500.0).round() / 1000.0;
        Rate {
            ops_per_s: half(self.ops_per_s, other.ops_per_s),
            honest_cores: half(self.honest_cores, other.honest_cores),
        }
    }

    fn seconds_per_op(self) -> f64 {
        self.honest_cores / self.ops_per_s
    }
}

impl Pulse {
    /// Throughput under the attack beside the calm.
    pub fn ratio(&self) -> f64 {
        self.attack.ops_per_s / self.calm.ops_per_s
    }

    /// What a write costs an honest replica under the attack beside the calm.
    pub fn cost(&self) -> f64 {
        self.attack.seconds_per_op() / self.calm.seconds_per_op()
    }

    /// The mean load under the attacks.
    pub fn attacks(pulses: &[Pulse]) -> Option<Rate> {
        let mean =
            |of: fn(&Rate) -> f64| pulses.iter().map(|pulse| of(&pulse.attack)).sum::<f64>() / pulses.len() as f64;
        (!pulses.is_empty()).then(|| Rate {
            ops_per_s: mean(|rate| rate.ops_per_s).round(),
            honest_cores: (mean(|rate| rate.honest_cores) * 1000.0).round() / 1000.0,
        })
    }
}

impl Row {
    /// Whether nobody did anything wrong.
    pub fn is_fault_free(&self) -> bool {
        self.name == Subject::FaultFree.name()
    }

    /// Processor time that an honest replica spends for a write, microseconds: what a busy machine changes less than
    /// throughput.
    pub fn honest_us_per_op(&self) -> Option<f64> {
        self.honest_cores.filter(|_| self.ops_per_s > 0.0).map(|cores| cores * 1e6 / self.ops_per_s)
    }

    /// What a row says of `subject` before anything is measured.
    pub(super) fn of(gauntlet: &Gauntlet, subject: Subject) -> Row {
        Row {
            v: VERSION,
            name: subject.name().to_owned(),
            liar: subject.liar().map(|liar| liar.0),
            occasion: subject.occasion().name().to_owned(),
            planned_ms: u64::try_from(gauntlet.time.as_millis()).unwrap_or(u64::MAX),
            n: gauntlet.common.replicas,
            clients: gauntlet.clients,
            protocol: gauntlet.common.protocol.name().to_owned(),
            value_size: gauntlet.common.value_size,
            rate: gauntlet.rate,
            cpu_percent: gauntlet.cpu_percent,
            ..Row::default()
        }
    }

    /// Whether both belong to one table.
    pub(super) fn was_taken_as(&self, other: &Row) -> bool {
        let how = |row: &Row| {
            let load = (row.planned_ms, row.clients, row.value_size, row.rate, row.cpu_percent);
            (row.v, row.protocol.clone(), row.n, load)
        };
        how(self) == how(other)
    }
}
