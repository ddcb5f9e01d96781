//! QUIC links between replicas, and between clients and replicas.
//!
//! What comes in: a transport key, the addresses and pinned keys of the others, and frames to send. What goes out:
//! frames that were received, each tied to the key that TLS 1.3 proved on its link, and the news of links that came up
//! or went down. What a frame says is not this crate's business.
//!
//! | module | what it is |
//! |---|---|
//! | [`limits`] | every cap, window and timeout, with its unit and its reason |
//! | [`key`] | the ed25519 transport key and what is derived from it |
//! | [`peer`] | links between replicas: both sides dial, one link a pair is used |
//! | [`client_port`] | the port on which a replica serves clients |
//! | [`replica_link`] | the client's links to the replicas |
//! | [`metrics`] | counters that others read |
//! | [`error`] | why a link did not come up or went down, one sentence each |
//!
//! Identity is the raw public key of RFC 7250, never an X.509 certificate, an address or a field of a frame:
//!
//! ```text
//!   dialler                                     acceptor
//!     | -- ClientHello, ALPN quorate-peer/1/CLUSTER --> |  another cluster or version: refused by TLS
//!     | <-- its key, signature over the transcript ---- |  not the key of the replica dialled: refused
//!     | -- own key, signature over the transcript ----> |  not a member's key: refused
//!     | <== one unidirectional stream a class ========> |  each starts with class and process instance
//! ```
//!
//! Votes, proposals and bulk data have a stream each in both directions, so that a lost packet of one class does not
//! hold up another, and votes are sent first. Every buffer an outsider can fill has a cap in [`limits`]; a reader that
//! is over its budget stops reading, and QUIC flow control then stalls that sender alone.

pub mod client_port;
pub mod error;
pub mod key;
pub mod limits;
pub mod metrics;
pub mod peer;
pub mod replica_link;
mod rest;

mod admission;
mod fair_queue;
mod frame;
mod mutex;
mod outbound;
mod quic;
mod stream;
mod tls;

#[cfg(test)]
mod test_links;

pub use client_port::{
    ClientEndpoint, ClientEndpointConfig, ClientEvent, ClientEvents, ClientHandle, ConnectionId, SendToClientError,
};
pub use error::{LinkError, StartError};
pub use key::TransportKey;
pub use limits::{ClientLimits, PeerLimits};
pub use metrics::{LinkStatistics, TransportMetrics};
pub use peer::{Class, PeerAddress, PeerConfig, PeerEndpoint, PeerEvent, PeerEvents, PeerHandle, SendError, Sent};
pub use replica_link::{LinkState, ReplicaEvent, ReplicaEvents, ReplicaLinks, ReplicaLinksConfig};
pub use stream::{Frame, FramePermit};
