//! Why an endpoint did not start, why a link did not come up, why it went down: one sentence each.

use std::net::SocketAddr;

use quinn::{ConnectionError, VarInt};

use quorate_crypto::ReplicaId;

/// TLS alert `access_denied`: what rustls sends when our verifier refuses a key (RFC 8446, section 6.2).
const ALERT_ACCESS_DENIED: u64 = 49;
/// TLS alert `no_application_protocol` (RFC 7301): cluster or protocol version differ.
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;
/// Transport error codes from here on carry a TLS alert (RFC 9001, section 4.8).
const CRYPTO_ERROR: u64 = 0x100;
/// QUIC's CONNECTION_REFUSED (RFC 9000, section 20.1).
const CONNECTION_REFUSED: u64 = 0x02;
/// How much of a reason that the other side gave is shown, in characters.
const SHOWN_REASON: usize = 120;

/// An endpoint could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The UDP port could not be bound.
    #[error("cannot use UDP address {address}: {source}; is another process listening there?")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The limits, peers or addresses contradict each other.
    #[error("transport configuration: {0}")]
    Configuration(String),
    /// TLS could not be set up with the key.
    #[error("transport key: {0}")]
    Tls(rustls::Error),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
}

/// Why a connection was closed by one of us; the code goes over the wire (RFC 9000, section 19.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseCode {
    ShutDown,
    Replaced,
    Violation,
    FrameTooLong,
    UnknownClientKey,
    TooManyConnections,
    SlowReader,
    KeyRemoved,
}

impl CloseCode {
    const ALL: [CloseCode; 8] = [
        CloseCode::ShutDown,
        CloseCode::Replaced,
        CloseCode::Violation,
        CloseCode::FrameTooLong,
        CloseCode::UnknownClientKey,
        CloseCode::TooManyConnections,
        CloseCode::SlowReader,
        CloseCode::KeyRemoved,
    ];

    /// The number on the wire; never changes once released.
    pub(crate) fn number(self) -> u32 {
        match self {
            CloseCode::ShutDown => 0,
            CloseCode::Replaced => 1,
            CloseCode::Violation => 2,
            CloseCode::FrameTooLong => 3,
            CloseCode::UnknownClientKey => 4,
            CloseCode::TooManyConnections => 5,
            CloseCode::SlowReader => 6,
            CloseCode::KeyRemoved => 7,
        }
    }

    fn from_number(number: u64) -> Option<CloseCode> {
        CloseCode::ALL.into_iter().find(|code| u64::from(code.number()) == number)
    }

    fn reason(self) -> &'static str {
        match self {
            CloseCode::ShutDown => "shut down",
            CloseCode::Replaced => "replaced by another link",
            CloseCode::Violation => "protocol violation",
            CloseCode::FrameTooLong => "frame too long",
            CloseCode::UnknownClientKey => "unknown client key",
            CloseCode::TooManyConnections => "too many connections",
            CloseCode::SlowReader => "replies are not read",
            CloseCode::KeyRemoved => "key removed",
        }
    }

    /// Closes `connection` with this code and its standard reason.
    pub(crate) fn close(self, connection: &quinn::Connection) {
        self.close_because(connection, self.reason());
    }

    /// Closes `connection` with this code and a reason of its own.
    pub(crate) fn close_because(self, connection: &quinn::Connection, reason: &str) {
        connection.close(VarInt::from_u32(self.number()), reason.as_bytes());
    }
}

/// Why a link did not come up or went down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No answer to the first packets.
    #[error("nobody answers at {address}; check that the replica runs and listens there")]
    NobodyListens {
        /// The address dialled.
        address: SocketAddr,
    },
    /// Whoever answers does not hold the pinned key.
    #[error("{address} does not hold the key of replica {id}; check address and genesis file, or suspect an impostor")]
    WrongReplicaKey {
        /// The address dialled.
        address: SocketAddr,
        /// The replica that should be there.
        id: ReplicaId,
    },
    /// The other replica does not know our transport key.
    #[error("{address} refuses our transport key; it is not the one the genesis file names for us")]
    OwnKeyRefused {
        /// The address dialled.
        address: SocketAddr,
    },
    /// The client key is not registered with the cluster.
    #[error(
        "unknown client key: the cluster does not accept this key; register it with `client-key add` and an admin key"
    )]
    UnknownClientKey,
    /// The key was removed while the link was up.
    #[error("the key was removed from the cluster's configuration")]
    KeyRemoved,
    /// Another cluster, or another version of the wire protocol. Which cluster it is the other side does not say: the
    /// handshake ends at the name that holds a part of the id.
    #[error(
        "{address} belongs to another cluster or speaks another version of the wire protocol; compare the genesis files: another agreement protocol, key or parameter, or a genesis file made anew, makes another cluster"
    )]
    ClusterMismatch {
        /// The address dialled.
        address: SocketAddr,
    },
    /// The other side takes no connections at the moment (CONNECTION_REFUSED).
    #[error("{address} takes no connections at the moment: it is shutting down or flooded; it will be tried again")]
    Refused {
        /// The address dialled.
        address: SocketAddr,
    },
    /// A cap on connections was reached on the other side.
    #[error("the replica serves too many connections; close some or try again later")]
    TooManyConnections,
    /// The other side disconnected us since we did not read what it sent.
    #[error("disconnected: replies were not read fast enough")]
    SlowReader,
    /// One side broke the rules of frames or streams.
    #[error("protocol violation: {0}")]
    Violation(String),
    /// The process at the other end restarted (a stateless reset).
    #[error("the other side has restarted")]
    Restarted,
    /// Nothing was heard for the idle timeout.
    #[error("nothing was heard for the idle timeout")]
    TimedOut,
    /// The other side shut down.
    #[error("the other side has shut down")]
    ShutDown,
    /// A newer link took its place.
    #[error("replaced by another link")]
    Replaced,
    /// This side closed it.
    #[error("closed on this side")]
    ClosedHere,
    /// Anything else QUIC or TLS said.
    #[error("connection failed: {0}")]
    Failed(String),
}

/// What was dialled, to word an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialled {
    pub(crate) address: SocketAddr,
    pub(crate) id: ReplicaId,
    /// Whether the handshake was still under way.
    pub(crate) handshake: bool,
}

/// Puts a QUIC error into the terms of this crate.
pub(crate) fn explain(error: &ConnectionError, dialled: Option<Dialled>) -> LinkError {
    match (error, dialled) {
        (ConnectionError::TimedOut, Some(Dialled { address, handshake: true, .. })) => {
            LinkError::NobodyListens { address }
        }
        (ConnectionError::TimedOut, _) => LinkError::TimedOut,
        (ConnectionError::Reset, _) => LinkError::Restarted,
        (ConnectionError::LocallyClosed, _) => LinkError::ClosedHere,
        (ConnectionError::ApplicationClosed(close), _) => {
            explain_close(close.error_code.into_inner(), &printable(&close.reason))
        }
        (ConnectionError::TransportError(local), Some(Dialled { address, id, .. })) => {
            match u64::from(local.code).checked_sub(CRYPTO_ERROR) {
                Some(ALERT_ACCESS_DENIED) => LinkError::WrongReplicaKey { address, id },
                Some(ALERT_NO_APPLICATION_PROTOCOL) => LinkError::ClusterMismatch { address },
                _ => LinkError::Failed(printable(local.to_string().as_bytes())),
            }
        }
        (ConnectionError::ConnectionClosed(remote), Some(Dialled { address, .. })) => {
            let code = u64::from(remote.error_code);
            match code.checked_sub(CRYPTO_ERROR) {
                Some(ALERT_ACCESS_DENIED) => LinkError::OwnKeyRefused { address },
                Some(ALERT_NO_APPLICATION_PROTOCOL) => LinkError::ClusterMismatch { address },
                None if code == CONNECTION_REFUSED => LinkError::Refused { address },
                _ => LinkError::Failed(printable(remote.to_string().as_bytes())),
            }
        }
        (ConnectionError::VersionMismatch, Some(Dialled { address, .. })) => LinkError::ClusterMismatch { address },
        (other, _) => LinkError::Failed(printable(other.to_string().as_bytes())),
    }
}

fn explain_close(number: u64, reason: &str) -> LinkError {
    match CloseCode::from_number(number) {
        Some(CloseCode::ShutDown) => LinkError::ShutDown,
        Some(CloseCode::Replaced) => LinkError::Replaced,
        Some(CloseCode::UnknownClientKey) => LinkError::UnknownClientKey,
        Some(CloseCode::KeyRemoved) => LinkError::KeyRemoved,
        Some(CloseCode::TooManyConnections) => LinkError::TooManyConnections,
        Some(CloseCode::SlowReader) => LinkError::SlowReader,
        Some(CloseCode::Violation | CloseCode::FrameTooLong) | None => LinkError::Violation(reason.to_owned()),
    }
}

/// What the other side wrote, cut and without control characters: it may end on a terminal.
pub(crate) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .take(SHOWN_REASON)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

#[cfg(test)]
mod tests;
