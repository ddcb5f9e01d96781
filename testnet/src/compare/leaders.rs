//! What it costs when leaders fail, under either protocol: on processes the gap that clients see when one is killed, in the
//! simulator what is left of the throughput while f of them lie.
//!
//! Throughput under liars is taken in virtual time, where no other process and no disk is to blame for what is missing; it is
//! that of the whole time, the part included in which the others learn whom to pass over.

use quorate_keys::Protocol;
use quorate_protocol::parameters::{Micros, Parameters};

use crate::drill::kill_primary::KillPrimary;
use crate::drill::writers::Writing;
use crate::drill::{Common, DrillError, Place};
use crate::faults::{Behaviour, Misbehaviour};
use crate::sim::Options;
use crate::sim::script::{Happening, Load, Script, Span};

/// Replicas on processes and in the simulator.
const REPLICAS: usize = 4;
/// How long the simulated clusters serve, microseconds.
const TIME: Micros = 10_000_000;

/// What came of it for one protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Failing {
    /// Which.
    pub protocol: Protocol,
    /// Milliseconds that a client went without an answer after a leader was killed: half of the kills took no more.
    pub gap_p50_ms: Option<f64>,
    /// The longest of them.
    pub gap_max_ms: Option<f64>,
    /// Throughput with f silent leaders, of that without.
    pub silent: f64,
    /// Throughput with f leaders that try to fork: two proposals of one view under PBFT, blocks that abandon the one before
    /// under HotStuff.
    pub forking: f64,
    /// Throughput with f leaders that are as slow as they dare.
    pub slow: f64,
}

/// Measures it, with so many kills.
///
/// # Errors
/// The testnet cannot be started, or does not come back.
pub async fn failing(protocol: Protocol, kills: u32, value_size: usize) -> Result<Failing, DrillError> {
    let drill = KillPrimary {
        times: kills,
        writing: Writing { clients: 16, bundle: 1 },
        common: Common { protocol, replicas: REPLICAS, value_size, strict: false },
    };
    let report = drill.run(&Place::new(None, protocol), &mut |_| ()).await?;
    let figure =
        |key: &str| report.figures.iter().find(|figure| figure.key == key).and_then(|found| found.value.as_f64());
    let honest = served(protocol, None).max(1) as f64;
    let of = |lie: Behaviour| served(protocol, Some(lie)) as f64 / honest;
    let fork = if protocol == Protocol::HotStuff { Behaviour::Fork } else { Behaviour::Equivocate };
    Ok(Failing {
        protocol,
        gap_p50_ms: figure("gap_p50_ms"),
        gap_max_ms: figure("gap_max_ms"),
        silent: of(Behaviour::Silent),
        forking: of(fork),
        slow: of(Behaviour::Slow),
    })
}

/// Requests that succeed in the simulator while the first f leaders do this.
fn served(protocol: Protocol, lie: Option<Behaviour>) -> u64 {
    let faults = (REPLICAS - 1) / 3;
    let lies = lie.map(|lie| {
        (0..faults).map(move |replica| Span {
            from: 0,
            until: TIME,
            what: Happening::Lies { replica, on: vec![Misbehaviour::always(lie)] },
            line: 0,
        })
    });
    let script = Script {
        replicas: REPLICAS,
        parameters: Parameters::default(),
        load: Load { clients: 4, requests: None, pause: 1_000, in_flight: 1 },
        spans: lies.into_iter().flatten().collect(),
        heals_at: TIME,
    };
    crate::sim::run(1, &Options::scripted(protocol, script)).story.succeeded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liars_cost_something_and_never_everything() {
        for protocol in Protocol::ALL {
            let honest = served(protocol, None);
            let silent = served(protocol, Some(Behaviour::Silent));
            assert!(silent < honest && silent * 2 > honest, "{protocol}: {silent} of {honest}");
        }
    }
}
