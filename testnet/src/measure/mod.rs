//! What agreement costs as the cluster grows: messages, bytes, signatures and message delays, counted in the simulator.
//!
//! ```text
//!   protocol x n x situation ──► one run each (sim::meter) ──► rows ──► table, JSON, SVG
//! ```
//!
//! Every message between replicas takes 10 ms, everything else next to nothing, so that latency divided by 10 ms is the
//! number of message delays. Counts are exact and repeatable: they depend on the seed and the sources alone.

use quorate_crypto::Protocol;
use quorate_protocol::parameters::{Micros, Parameters};

use crate::faults::{Behaviour, Misbehaviour};
use crate::sim::Options;
use crate::sim::meter::{Measured, Window};
use crate::sim::script::{Happening, Load, Script, Span};

pub mod plot;
mod report;

pub use report::{Figure, crossings, to_json};

const SECOND: Micros = 1_000_000;
/// What a message between two replicas takes.
pub const DELAY: Micros = 10_000;
/// Requests under way at once where costs are counted: about as many stand in a batch.
const UNDER_WAY: usize = 16;
/// The largest cluster that is measured.
pub const REPLICAS_MAX: usize = 100;

/// What is wrong with the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Situation {
    /// Nothing.
    FaultFree,
    /// f replicas say nothing, and leaders have had time to be passed over for it.
    Silent,
    /// The leader dies.
    LeaderDies,
}

impl Situation {
    /// All of them.
    pub const ALL: [Situation; 3] = [Situation::FaultFree, Situation::Silent, Situation::LeaderDies];

    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Situation::FaultFree => "fault-free",
            Situation::Silent => "f silent",
            Situation::LeaderDies => "leader dies",
        }
    }
}

/// One cluster in one situation.
#[derive(Debug, Clone)]
pub struct Row {
    /// What it ran.
    pub protocol: Protocol,
    /// n.
    pub replicas: usize,
    /// What was wrong with it.
    pub situation: Situation,
    /// What was counted.
    pub measured: Measured,
    /// From a request to its reply, one request at a time, in message delays; none where that was not measured.
    pub delays: Option<f64>,
}

/// Measures one cluster.
///
/// # Errors
/// A rule did not hold, or the cluster did not get as far as the window: one sentence with what replays it.
pub fn measure(seed: u64, protocol: Protocol, replicas: usize, situation: Situation) -> Result<Row, String> {
    let run = |under_way| run(seed, protocol, replicas, situation, under_way, window(situation));
    let measured = run(UNDER_WAY)?;
    let delays = match situation {
        Situation::LeaderDies => None,
        _ => run(1)?.latency.map(|latency| latency as f64 / DELAY as f64),
    };
    Ok(Row { protocol, replicas, situation, measured, delays })
}

/// When it is counted.
const fn window(situation: Situation) -> Window {
    match situation {
        Situation::FaultFree => Window::Between(SECOND, 4 * SECOND),
        Situation::Silent => Window::Between(10 * SECOND, 13 * SECOND),
        Situation::LeaderDies => Window::ViewChange(2 * SECOND),
    }
}

fn run(
    seed: u64,
    protocol: Protocol,
    replicas: usize,
    situation: Situation,
    under_way: usize,
    window: Window,
) -> Result<Measured, String> {
    let faults = (replicas - 1) / 3;
    let span = |from, what| Span { from, until: 600 * SECOND, what, line: 0 };
    let links = Happening::Links { replica: None, latency: DELAY, jitter: 0, loss_percent: 0 };
    let mut spans = vec![span(0, links)];
    match situation {
        Situation::FaultFree => {}
        Situation::Silent => {
            // Not the first leader: what its loss costs is another row.
            for replica in replicas - faults..replicas {
                spans.push(span(0, Happening::Lies { replica, on: vec![Misbehaviour::always(Behaviour::Silent)] }));
            }
        }
        Situation::LeaderDies => spans.push(span(2 * SECOND, Happening::Down { replica: 0, power_cut: false })),
    }
    let script = Script {
        replicas,
        // One batch at a time under PBFT, as HotStuff has it, so that batches of both hold about as many requests.
        parameters: Parameters { window: 128, checkpoint_interval: 64, pipeline_depth: 1, ..Parameters::default() },
        load: Load { clients: 1, requests: None, pause: 1_000, in_flight: under_way },
        spans,
        heals_at: 600 * SECOND,
    };
    let options = Options { meter: Some(window), ..Options::scripted(protocol, script) };
    let report = crate::sim::run(seed, &options);
    let what = format!("{protocol}, {replicas} replicas, {}", situation.name());
    if let Some(violation) = report.violation {
        return Err(format!("{what}: {violation}"));
    }
    report.measured.filter(|measured| measured.complete).ok_or_else(|| format!("{what}: it came to a stop"))
}

#[cfg(test)]
mod tests;
