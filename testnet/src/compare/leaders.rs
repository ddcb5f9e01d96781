//! What it costs when leaders fail, under either protocol: on processes the gap that clients see when one is killed, in the
//! simulator what is left of the requests and of the order while f of them lie.
//!
//! What liars leave is taken in virtual time, where no other process and no disk is to blame for what is missing. The order
//! is measured by its numbers, each of which is a batch (PBFT) or a block that holds one (HotStuff): its growth over the
//! whole time, in which the others also learn whom to pass over, and over the second half, in which they have learnt it.
//! f + 1 rounds of leaders, the dead ones' time-outs included, are over long before.

use std::thread;

use quorate_keys::Protocol;
use quorate_protocol::parameters::{Micros, Parameters};
use tokio::sync::oneshot;

use crate::drill::kill_primary::KillPrimary;
use crate::drill::writers::Writing;
use crate::drill::{Common, DrillError, Place, Tell};
use crate::faults::{Behaviour, Misbehaviour};
use crate::sim::Options;
use crate::sim::meter::Window;
use crate::sim::script::{Happening, Load, Script, Span};

/// Replicas on processes.
pub(super) const REPLICAS: usize = 4;
/// Clients that write on processes.
pub(super) const WRITERS: usize = 16;
/// Replicas in the simulator, f being 1 and 2.
const SIZES: [usize; 2] = [4, 7];
/// How long the simulated clusters serve, microseconds.
const TIME: Micros = 10_000_000;
/// The seed of all runs.
const SEED: u64 = 1;

/// What f leaders do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing at all.
    Silent,
    /// They try to fork: two proposals of one view under PBFT, blocks that abandon the one before under HotStuff.
    Forking,
    /// They are as slow as they dare.
    Slow,
}

impl Lie {
    /// All of them.
    pub const ALL: [Lie; 3] = [Lie::Silent, Lie::Forking, Lie::Slow];

    /// For tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Lie::Silent => "silent",
            Lie::Forking => "forking",
            Lie::Slow => "slow",
        }
    }

    /// As the catalogue has it.
    pub const fn behaviour(self, protocol: Protocol) -> Behaviour {
        match (self, protocol) {
            (Lie::Silent, _) => Behaviour::Silent,
            (Lie::Forking, Protocol::Pbft) => Behaviour::Equivocate,
            (Lie::Forking, Protocol::HotStuff) => Behaviour::Fork,
            (Lie::Slow, _) => Behaviour::Slow,
        }
    }
}

/// What came of it for one protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Failing {
    /// Which.
    pub protocol: Protocol,
    /// Milliseconds that a client went without an answer after a leader was killed: half of the kills took no more.
    pub gap_p50_ms: Option<f64>,
    /// The longest of them.
    pub gap_max_ms: Option<f64>,
    /// What f leaders that lie leave, by the size of the cluster and the lie.
    pub lying: Vec<Lying>,
}

/// What the first f leaders leave of a run without lies, in virtual time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lying {
    /// n.
    pub replicas: usize,
    /// What they did.
    pub lie: Lie,
    /// Requests served.
    pub requests: f64,
    /// Numbers of the order.
    pub growth: f64,
    /// Numbers that came in the second half of the time.
    pub growth_learnt: f64,
}

/// Measures it, with so many kills.
///
/// # Errors
/// The testnet cannot be started, or does not come back; a simulated run breaks a rule.
pub async fn failing(
    protocol: Protocol,
    kills: u32,
    value_size: usize,
    tell: &mut Tell<'_>,
) -> Result<Failing, DrillError> {
    let drill = KillPrimary {
        times: kills,
        together: 1,
        writing: Writing { clients: WRITERS, bundle: 1 },
        common: Common { protocol, replicas: REPLICAS, value_size, strict: false },
    };
    let report = drill.run(&Place::new(None, protocol), tell).await?;
    let figure =
        |key: &str| report.figures.iter().find(|figure| figure.key == key).and_then(|found| found.value.as_f64());
    let (gap_p50_ms, gap_max_ms) = (figure("gap_p50_ms"), figure("gap_max_ms"));
    let mut lying = Vec::with_capacity(SIZES.len() * Lie::ALL.len());
    for replicas in SIZES {
        tell(format!("leaders that lie in virtual time, {replicas} replicas"));
        lying.extend(under_liars(protocol, replicas).await?);
    }
    Ok(Failing { protocol, gap_p50_ms, gap_max_ms, lying })
}

/// How far a simulated cluster came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reached {
    /// Requests that succeeded.
    requests: u64,
    /// The highest number that an honest replica decided.
    numbers: u64,
    /// Numbers that came in the second half.
    late_numbers: u64,
}

impl Reached {
    fn beside(&self, honest: &Reached, replicas: usize, lie: Lie) -> Lying {
        let of = |left: u64, whole: u64| left as f64 / whole.max(1) as f64;
        Lying {
            replicas,
            lie,
            requests: of(self.requests, honest.requests),
            growth: of(self.numbers, honest.numbers),
            growth_learnt: of(self.late_numbers, honest.late_numbers),
        }
    }
}

/// Every lie beside a run without any, all at once.
async fn under_liars(protocol: Protocol, replicas: usize) -> Result<Vec<Lying>, DrillError> {
    let start = |lie: Option<Lie>| {
        let (tell, told) = oneshot::channel();
        // No thread of the runtime, which would be waited for when people interrupt.
        thread::spawn(move || tell.send(simulate(protocol, replicas, lie)));
        told
    };
    let honest = start(None);
    let lies = Lie::ALL.map(|lie| (lie, start(Some(lie))));
    let honest = ended(honest).await?;
    let mut lying = Vec::with_capacity(lies.len());
    for (lie, told) in lies {
        lying.push(ended(told).await?.beside(&honest, replicas, lie));
    }
    Ok(lying)
}

async fn ended(told: oneshot::Receiver<Result<Reached, String>>) -> Result<Reached, DrillError> {
    let reached = told.await.unwrap_or_else(|_| Err("a simulated run ended without a word".to_owned()));
    reached.map_err(DrillError::Stalled)
}

/// A run in which the first f leaders do this from the beginning.
fn simulate(protocol: Protocol, replicas: usize, lie: Option<Lie>) -> Result<Reached, String> {
    let faults = (replicas - 1) / 3;
    // The meter ends the run before anything heals.
    let never = 2 * TIME;
    let lies = lie.map(|lie| {
        let on = vec![Misbehaviour::always(lie.behaviour(protocol))];
        (0..faults).map(move |replica| Span {
            from: 0,
            until: never,
            what: Happening::Lies { replica, on: on.clone() },
            line: 0,
        })
    });
    let script = Script {
        replicas,
        parameters: Parameters::default(),
        load: Load { clients: 4, requests: None, pause: 1_000, in_flight: 1 },
        spans: lies.into_iter().flatten().collect(),
        heals_at: never,
    };
    let meter = Some(Window::Between(TIME / 2, TIME));
    let report = crate::sim::run(SEED, &Options { meter, ..Options::scripted(protocol, script) });
    let what = format!("{protocol}, {replicas} replicas, {} leaders", lie.map_or("honest", Lie::name));
    if let Some(violation) = report.violation {
        return Err(format!("{what}: {violation}"));
    }
    let measured = report.measured.filter(|measured| measured.complete);
    let measured = measured.ok_or_else(|| format!("{what}: it came to a stop"))?;
    Ok(Reached { requests: report.story.succeeded, numbers: report.counters.batches, late_numbers: measured.batches })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bars of the design: a chain that f leaders try to fork, or hold up, grows by 0.7 of what it would, and so does one
    /// whose f silent leaders are known.
    #[tokio::test]
    async fn liars_cost_something_and_never_everything() {
        for (protocol, replicas) in [(Protocol::Pbft, 4), (Protocol::HotStuff, 4), (Protocol::HotStuff, 7)] {
            let lying = under_liars(protocol, replicas).await.expect("measured");
            assert_eq!(lying.iter().map(|one| one.lie).collect::<Vec<_>>(), Lie::ALL);
            for one in lying {
                assert!(one.requests > 0.5 && one.growth > 0.5, "{protocol}, {replicas}: {one:?}");
                match one.lie {
                    Lie::Silent => {
                        assert!(one.requests < 1.0 && one.growth_learnt >= 0.7, "{protocol}, {replicas}: {one:?}");
                    }
                    Lie::Forking => assert!(one.growth >= 0.7, "{protocol}, {replicas}: {one:?}"),
                    Lie::Slow => {
                        assert!(one.requests < 1.0 && one.growth >= 0.7, "{protocol}, {replicas}: {one:?}");
                    }
                }
            }
        }
    }
}
