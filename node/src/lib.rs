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

pub mod disk;
pub mod driver;
pub mod key_value;
pub mod log;
pub mod recovery;
pub mod snapshot_store;
