//! A testnet on this machine: its files, its processes, how they are started, asked, turned and stopped.
//!
//! What comes in: how many replicas, which ports, which behaviours. What goes out: a directory anyone can look into, and
//! one process a replica, each hosting the node library behind a behaviour wrapper that is honest by default.
//!
//! ```text
//!   quorate-testnet up ──spawns──► quorate-testnet replica --id 0 .. n-1     (own process groups: they outlive it)
//!        │                              │ node.log, pid, data/
//!        ├── GET /v1/status ───────────►│ operations HTTP: where it stands
//!        ├── control.sock ─────────────►│ one JSON line each way: what it does wrong
//!        └── signals ──────────────────►│ TERM, KILL, STOP, CONT
//! ```
//!
//! Nothing is kept in the launcher's memory that another one could not read from the directory: every command works from
//! any terminal, whoever started the replicas.
//!
//! | module | what it is |
//! |---|---|
//! | [`directory`] | names of files, the lock |
//! | [`description`] | `testnet.toml`: protocol and ports |
//! | [`ports`] | by rule, or any that are free |
//! | [`creation`] | keys, genesis, configurations, empty logs |
//! | [`process`] | spawning, finding and signalling replicas |
//! | [`host`] | what runs in a replica's process |
//! | [`control`] | turning a running replica |
//! | [`operations`] | asking a node where it stands |
//! | [`standing`] | all of that about every replica at once |
//! | [`evidence`] | what all replicas found, each offence once |
//! | [`start`] | from nothing to a first committed operation |
//! | [`failure`] | one sentence for everything that can go wrong |

pub mod control;
pub mod creation;
pub mod description;
pub mod directory;
pub mod evidence;
pub mod failure;
pub mod host;
pub mod operations;
pub mod ports;
pub mod process;
pub mod standing;
pub mod start;

pub use description::{Description, Endpoints};
pub use directory::Directory;
pub use failure::LaunchError;
