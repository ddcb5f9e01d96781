//! Counters that others read: plain atomics, monotone, never reset, no global state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }
}

/// What an endpoint counted since it started. Where there are three counters, they are by class: vote, proposal,
/// bulk; client traffic counts as the first.
#[derive(Debug, Default)]
pub struct TransportMetrics {
    /// Frames handed to QUIC.
    pub frames_sent: [Counter; 3],
    /// Their bytes, length prefixes included.
    pub bytes_sent: [Counter; 3],
    /// Frames received whole.
    pub frames_received: [Counter; 3],
    /// Their bytes, length prefixes included.
    pub bytes_received: [Counter; 3],
    /// Frames that a newer one displaced from a full queue.
    pub frames_displaced: [Counter; 3],
    /// Frames that a full queue did not take.
    pub frames_refused: [Counter; 3],
    /// How often a reader stopped since its budget was used up: the sender was stalled by its own traffic.
    pub budget_waits: Counter,
    /// Connections closed since a length prefix was over the cap.
    pub oversize_frames: Counter,
    /// Connections closed for any other breach of the frame and stream rules.
    pub violations: Counter,
    /// Handshakes that reached an authenticated link.
    pub handshakes_completed: Counter,
    /// Handshakes that failed: wrong key, other cluster, time-out, garbage inside valid packets.
    pub handshakes_failed: Counter,
    /// Connection attempts answered with a Retry, to prove their address.
    pub handshakes_retried: Counter,
    /// Connection attempts ignored: over the rate of their address, or too many under way.
    pub handshakes_ignored: Counter,
    /// Authenticated connections refused: unknown client key, or a cap on connections.
    pub connections_refused: Counter,
    /// Clients disconnected since they did not read their replies.
    pub slow_readers: Counter,
    /// How often the connection of a client was made to rest.
    pub rests: Counter,
    /// Links that came up.
    pub links_up: Counter,
    /// Links in use that went down.
    pub links_down: Counter,
    /// Attempts to dial.
    pub dials: Counter,
}

/// A look at one link, from QUIC's own counters. Bytes are UDP payloads, retransmissions and acknowledgements included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Whether a link is up now.
    pub up: bool,
    /// Bytes sent on the wire over all links to this peer since start.
    pub wire_bytes_sent: u64,
    /// Bytes received from the wire over all links to this peer since start.
    pub wire_bytes_received: u64,
    /// Datagrams sent, likewise.
    pub datagrams_sent: u64,
    /// Datagrams received, likewise.
    pub datagrams_received: u64,
    /// Packets QUIC declared lost, likewise.
    pub packets_lost: u64,
    /// Round-trip time of the link in use.
    pub round_trip: Duration,
    /// Bytes waiting in the outbound queues, by class.
    pub waiting_bytes: [usize; 3],
}

impl LinkStatistics {
    /// Adds what `connection` has counted; the round-trip time is taken over.
    pub(crate) fn absorb(&mut self, connection: &quinn::Connection) {
        let stats = connection.stats();
        self.wire_bytes_sent += stats.udp_tx.bytes;
        self.wire_bytes_received += stats.udp_rx.bytes;
        self.datagrams_sent += stats.udp_tx.datagrams;
        self.datagrams_received += stats.udp_rx.datagrams;
        self.packets_lost += stats.path.lost_packets;
        self.round_trip = stats.path.rtt;
    }
}
