//! One replica as a process: everything around the pure core.
//!
//! What comes in: frames from links, a configuration file, signals. What goes out: frames, durable files, metrics.
//!
//! | module | what it is |
//! |---|---|
//! | [`driver`] | step, sync, publish: one turn, without threads or clock |
//! | [`key_value`] | the key-value store as a service of the execution layer |
//! | [`disk`] | named files under everything that must survive: real, or in memory with faults |
//! | [`log`] | the chained frame log of promises |
//! | [`snapshot_store`] | durable checkpoints, written by what changed |
//! | [`recovery`] | creating and opening a replica's storage |
//! | [`config`] | `node.toml` |
//! | [`setup`] | from the genesis file to what the pure layers are given |
//! | [`process`] | the node as a library: ports, threads, start and stop |
//! | `verification` | the one way from a link to the core |
//! | [`clients`] | answers, reads and watches |
//! | [`evidence_store`] | one file an offence |
//! | `operations` | health, metrics and status over HTTP |
//! | [`metrics`] | what a node counts |
//! | [`failure`] | one sentence and an exit code for everything that ends a node |
//! | [`command`] | `quorate-node` |

#[cfg(test)]
#[macro_use]
#[path = "../tests/cluster/under_both.rs"]
mod under_both;

pub mod clients;
pub mod command;
pub mod config;
pub mod disk;
pub mod driver;
pub mod evidence_store;
pub mod failure;
pub mod key_value;
pub mod log;
pub mod metrics;
pub mod process;
pub mod recovery;
pub mod setup;
pub mod snapshot_store;

mod operations;
mod verification;
