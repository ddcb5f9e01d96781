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
//! | `world`, `queue` | the event loop |
//! | `breaking` | crashes, blackouts, partitions, pauses, healing |
//! | `process`, `publishing` | one replica on its disk, and what leaves it |
//! | `client`, `history` | clients, and what they were told |
//! | `faulty` | faulty clients, and what the cluster is busy with while somebody lies |
//! | `network`, `disk`, `signing` | what is replaced |
//! | `oracle` | what must hold |
//! | [`campaign`] | many seeds on many threads |
//! | [`command`] | the `simulate` subcommand |

pub mod campaign;
pub mod command;

mod breaking;
mod client;
mod disk;
mod faulty;
mod history;
mod network;
mod oracle;
mod plan;
mod process;
mod publishing;
mod queue;
mod report;
mod signing;
mod trace;
mod world;

pub use plan::{Options, Sabotage};
pub use report::{Counters, SimulationReport, Violation};

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
            seed,
            replicas: options.replicas.unwrap_or(0),
            trace_hash: quorate_crypto::Digest::ZERO,
            violation: Some(Violation::new("no-panic", what)),
            virtual_seconds: 0.0,
            operations: 0,
            counters: Counters::default(),
            trace: Vec::new(),
        }
    })
}

#[cfg(test)]
mod tests;
