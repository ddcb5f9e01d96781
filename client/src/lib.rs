//! The client of a Quorate cluster: a library, and the `quorate` command made of it.
//!
//! What comes in: operations, the genesis file, a client key. What goes out: results that f + 1 distinct replicas agree
//! on. What to believe is decided in [`quorate_protocol::client`]; here are sockets, clocks and people.
//!
//! | module | what it is |
//! |---|---|
//! | [`cluster`] | finding a cluster: genesis file, endpoints, key |
//! | [`client`] | [`Client`]: a handle to clone, with many requests in flight |
//! | [`key_value`] | put, get, range, delete, compare-and-swap, transactions |
//! | [`watch`] | following the changes of a range |
//! | [`configuration`] | registering and removing client keys |
//! | [`saved_request`] | signed requests of unknown outcome, kept in a file for a safe replay |
//! | [`evidence_file`] | checking evidence offline |
//! | [`transaction`] | the two text forms of a transaction |
//! | [`error`] | what can go wrong: one sentence each, and what to do |
//! | [`command`] | the `quorate` command |
//!
//! ```no_run
//! # async fn example() -> Result<(), quorate_client::ClientError> {
//! use quorate_client::{Client, Cluster};
//! let cluster = Cluster::in_directory("testnet".as_ref())?;
//! let client = Client::connect(cluster).await?;
//! client.put("greeting", "hello").await?;
//! let pair = client.get("greeting").await?;
//! assert_eq!(pair.map(|pair| pair.value), Some(b"hello".to_vec()));
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod cluster;
pub mod command;
pub mod configuration;
pub mod error;
pub mod evidence_file;
pub mod key_value;
pub mod saved_request;
pub mod transaction;
pub mod watch;

pub use client::{Client, Executed, ReplicaState};
pub use cluster::{Cluster, ClusterError};
pub use error::ClientError;
pub use key_value::{RangeOptions, Ranged, Written};
pub use saved_request::SavedRequest;
pub use watch::{Watch, WatchEvent};
