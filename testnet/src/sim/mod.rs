//! The simulator: the production replica, driver, log, snapshot store, recovery and client role in virtual time.
//!
//! What comes in: a seed and [`Options`]. What goes out: a [`SimulationReport`]. Only network, disk and clock are
//! replaced. One seed decides everything: a run has no thread, no clock, no randomness but its own generator, and
//! iterates over no hash map, so the same seed gives the same [`SimulationReport::trace_hash`] on any machine.
//!
//! ```text
//!   seed ─► plan ─► world: queue of events by (virtual time, sequence)
//!                     │  bad weather, crashes, liars ......... safety phase
//!                     │  everything heals but the liars ...... liveness phase
//!                     ├─► processes: driver, log, snapshots on memory disks below one power supply
//!                     ├─► clients: the client role, and the history of what they were told
//!                     └─► oracles: the first rule that does not hold ends the run
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | what the seed decides beforehand |
//! | `genesis` | the members, and the state before the first batch |
//! | `world`, `queue`, `ending`, `reporting` | the event loop, when it is over, and what it tells |
//! | `breaking` | crashes, blackouts, partitions, pauses, lost disks, healing |
//! | `process`, `receiving`, `publishing`, `serving` | one replica on its disk, what reaches it, what leaves it, what it tells clients |
//! | [`twins`] | one replica that runs twice, in every pattern of partitions |
//! | [`script`] | faults that a person wrote down |
//! | `conspiracy` | more than f liars, and who is convicted when agreement breaks |
//! | `client`, `history` | clients, and what they were told |
//! | `faulty` | faulty clients, and what the cluster is busy with while somebody lies |
//! | `low_quorum` | a defect for Twins to find |
//! | `network`, `disk`, `damage`, `signing` | what is replaced, and what happens to it |
//! | `oracle` | what must hold |
//! | [`meter`] | what a run costs |
//! | `shrink` | a failing plan without the faults it does not need |
//! | [`crash_points`] | every storage operation as the last one |
//! | [`campaign`] | many seeds on many threads |
//! | `mutants` | defects of our own code, each of which must die |
//! | [`command`] | the `simulate` subcommand |

/// Each of these tests under each protocol.
#[cfg(test)]
macro_rules! under_both {
    ($($test:ident),+ $(,)?) => {
        mod pbft {
            $(#[test] fn $test() { super::$test($crate::sim::Choice::Pbft); })+
        }
        mod hotstuff {
            $(#[test] fn $test() { super::$test($crate::sim::Choice::HotStuff); })+
        }
    };
}

pub mod campaign;
pub mod command;

mod breaking;
mod client;
mod conspiracy;
pub mod crash_points;
mod damage;
mod disk;
mod ending;
mod faulty;
mod fingerprint;
mod genesis;
mod history;
mod low_quorum;
pub mod meter;
mod mutants;
mod network;
mod oracle;
mod plan;
mod process;
mod publishing;
mod queue;
mod receiving;
mod report;
mod reporting;
pub mod script;
mod serving;
mod shrink;
pub(crate) mod signing;
mod trace;
pub mod twins;
mod world;

pub use plan::{Choice, CrashPoint, Options, Sabotage};
pub use report::{Counters, SimulationReport, Violation};
pub use shrink::{Shrunk, shrink};

/// Runs one seed. A panic of anything inside is a violation like any other.
pub fn run(seed: u64, options: &Options) -> SimulationReport {
    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world::World::new(seed, options).run()));
    attempt.unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("without a message");
        SimulationReport {
            measured: None,
            protocol: options.protocol.of(seed),
            seed,
            replicas: options.replicas.unwrap_or(0),
            trace_hash: quorate_crypto::Digest::ZERO,
            violation: Some(Violation::new("no-panic", what)),
            virtual_seconds: 0.0,
            operations: 0,
            counters: Counters::default(),
            operations_by_replica: Vec::new(),
            story: script::Story::default(),
            planned: plan::Plan::new(seed, options).planned(),
            trace: Vec::new(),
        }
    })
}

#[cfg(test)]
mod tests;
