//! Every cap, window and timeout of the transport: the number, its unit, and why it is that number.
//!
//! quinn's defaults are made for servers of the open internet (65,536 waiting connections, 100 MiB of early data, 200
//! streams, an unlimited connection window). These are made for a handful of known replicas and some hundred clients.

use std::time::Duration;

/// The largest frame, in bytes without its length prefix. Genesis validation refuses parameters whose worst
/// VIEW-CHANGE would exceed it, and it is checked before anything is allocated.
pub const FRAME_CAP_BYTES: usize = 4 << 20;
/// The largest frame of the vote class, in bytes: votes are a few hundred bytes, so anything larger is a mistake or an
/// attack on the class that is served first.
pub const VOTE_FRAME_CAP_BYTES: usize = 64 << 10;
/// The largest frame a client may send, in bytes: one bundle of operations.
pub const CLIENT_FRAME_CAP_BYTES: usize = 2 << 20;
/// What a frame costs in a budget beyond its own bytes, in bytes: the queue entry and the allocation. Without it a
/// flood of one-byte frames would hold far more memory than its budget says.
pub const FRAME_OVERHEAD_BYTES: usize = 128;
/// How much is set aside, in bytes, for a frame whose length was announced but whose bytes have not come: the rest is
/// allocated as it arrives, so that an announcement alone costs the receiver nothing.
pub const FRAME_FIRST_ALLOCATION_BYTES: usize = 64 << 10;
/// How long a frame may take from its first to its last byte, while we are reading. A sender slower than 140 kB/s at
/// the largest frame holds buffers hostage.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(30);

/// Frames up to this many bytes are copied into one buffer with their neighbours before they are written; larger ones
/// are handed over as they are. A copy of this size costs less than the bookkeeping of one more chunk.
pub const COALESCE_FRAME_BYTES: usize = 4 << 10;
/// How many bytes one write takes from a queue at most. What was taken can no longer be displaced by newer frames, so
/// this bounds how stale a vote can be when the link stalls.
pub const WRITE_BATCH_BYTES: usize = 128 << 10;
/// How many chunks of received data are taken from QUIC under one lock.
pub const READ_CHUNKS: usize = 16;

/// The stream receive window, in bytes: one stream's data in flight or unread. 1 MiB fills 10 Gbit/s at 0.8 ms.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The connection receive window between replicas, in bytes: more than the three streams together can use, so that a
/// stalled bulk stream never takes the window that votes need.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// How much unacknowledged data a connection buffers for sending, in bytes: again more than three full streams.
pub const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// The same on the server side of a client's connection, in bytes. A client that reads and never acknowledges makes us
/// hold it all, beside the queue of [`ClientLimits::outbound_cap_bytes`]. A larger frame goes through bit by bit, at
/// this much a round trip: 25 MiB/s at 20 ms.
///
/// Together a connection holds at most its queue (5 MiB), this window, a write of [`WRITE_BATCH_BYTES`], and two frames
/// of the largest size in use: a frame that is being written has left the queue, and one is kept whole until its last
/// byte is acknowledged. That is 5.6 MiB with small frames and 7.6 MiB with frames of 1 MiB: 360 to 490 MiB for the 64
/// connections of one key ([`ClientLimits::connections_per_key`]). Frames of [`FRAME_CAP_BYTES`] would make it 870 MiB.
pub const CLIENT_SEND_WINDOW_BYTES: u64 = 512 << 10;
/// Both receive windows of a client's connection on the server side, in bytes: clients are many and unknown.
pub const CLIENT_WINDOW_BYTES: u32 = 256 << 10;
/// Unidirectional streams the other side may have open at a time: one a class between replicas.
pub const PEER_STREAMS: u32 = 3;
/// Unidirectional streams a client may have open at a time: one carries everything, the others leave room for a
/// later protocol version.
pub const CLIENT_STREAMS: u32 = 4;

/// Keep-alive between replicas: four fit into the idle timeout, so three may be lost.
pub const PEER_KEEP_ALIVE: Duration = Duration::from_millis(500);
/// A link between replicas that heard nothing for so long is dead.
pub const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Keep-alive of a client's connection, sent by the client.
pub const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(3);
/// A client's connection that heard nothing for so long is dead.
pub const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The round-trip time assumed before the first sample. RFC 9002 recommends 333 ms for the internet; replicas are near
/// each other, and an Initial lost while the other process starts should be repeated after about 90 ms, not a second.
pub const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(30);
/// The congestion window at the start, in bytes. The links are few, long-lived and on provisioned networks.
pub const INITIAL_CONGESTION_WINDOW_BYTES: u64 = 512 << 10;
/// The UDP payload used between loopback addresses, in bytes. quinn sends at most ten datagrams in one system call,
/// and the kernel takes 65,507 bytes in one: ten of these just fit, so segmentation offload stays on.
pub const LOOPBACK_UDP_PAYLOAD_BYTES: u16 = 6_500;
/// The largest UDP payload tried by path MTU discovery off loopback, in bytes: an Ethernet frame with jumbo frames off.
pub const NETWORK_UDP_PAYLOAD_BYTES: u16 = 1_452;
/// Socket buffers asked for in both directions, in bytes. The kernel may grant less; a burst from six peers at once
/// overflows its usual 208 KiB, and each overflow is a loss.
pub const SOCKET_BUFFER_BYTES: usize = 2 << 20;

/// Connection attempts that wait for us to look at them; further ones are refused by QUIC itself.
pub const INCOMING_CAP: usize = 256;
/// Early data buffered for one waiting connection attempt, in bytes.
pub const INCOMING_BUFFER_BYTES: u64 = 16 << 10;
/// Early data buffered for all waiting connection attempts, in bytes.
pub const INCOMING_BUFFER_TOTAL_BYTES: u64 = 4 << 20;
/// With so many handshakes of outsiders under way, a source must first prove its address (RFC 9000, section 8.1.2).
pub const RETRY_ABOVE_HALF_OPEN: usize = 64;
/// With so many handshakes of outsiders under way, even proven addresses are ignored until one ends. Unproven ones take
/// at most half of these places, and replicas that have proven their configured address take none.
pub const HALF_OPEN_CAP: usize = 128;
/// Handshakes under way from one proven address of an outsider, or one IPv6 /64; on loopback, from one port. An honest
/// one ends after a round trip: at 100 ms, eight places let 80 a second in. Each can be held for [`HANDSHAKE_TIMEOUT`];
/// it takes at least eight addresses, and as many unproven attempts as may be, to fill [`HALF_OPEN_CAP`].
pub const HALF_OPEN_CAP_PER_ADDRESS: usize = 8;
/// Handshakes under way from the configured address of one replica, once proven. These places are its own. It dials once
/// at a time; the others are for attempts it has given up whose end was lost on the way.
pub const HALF_OPEN_CAP_PER_REPLICA: usize = 4;
/// How long a handshake and the exchange of stream headers may take, on the accepting side.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes a second from one source address. On loopback all replicas and clients share one.
pub const HANDSHAKES_PER_SECOND_PER_ADDRESS: u32 = 100;
/// Handshakes one source address may start at once after a pause.
pub const HANDSHAKE_BURST_PER_ADDRESS: u32 = 200;
/// Handshakes a second of all sources that have not proven their address. Each costs about 0.3 ms of one core: beyond
/// this a Retry is sent instead.
pub const UNPROVEN_HANDSHAKES_PER_SECOND: u32 = 200;
/// Retry packets a second. Each costs some 20 us; beyond this, attempts are dropped unanswered.
pub const RETRIES_PER_SECOND: u32 = 2_000;
/// Retry packets a second to the configured addresses of replicas: a fifth of a core. Such a flood is spoofed, and it
/// must be much larger than this before a replica's own attempts, five in two seconds, all go unanswered.
pub const REPLICA_RETRIES_PER_SECOND: u32 = 10_000;
/// Slots of the table of source addresses. Addresses that fall into one slot share its bucket, so the table never
/// grows; the hash is keyed at random.
pub const ADDRESS_SLOTS: usize = 1_024;
/// Failed handshakes told in the log, a second, with a burst of ten: whoever knocks often is counted, not written down.
pub const LOGGED_FAILURES_PER_SECOND: u32 = 1;
/// Links one member may bring up in a second: a member that flaps costs no more streams and tasks than this. It counts
/// connections that are handed over; those before are bounded by [`UNESTABLISHED_PER_PEER`].
pub const LINKS_PER_SECOND_PER_PEER: u32 = 20;
/// Connections of one member that have proven its key and not exchanged stream headers; further ones are refused. Each
/// may buffer three streams of [`STREAM_WINDOW_BYTES`] for [`HANDSHAKE_TIMEOUT`]: 12 MiB a member. An honest member
/// dials once at a time and leaves one behind when it gives up.
pub const UNESTABLISHED_PER_PEER: usize = 4;

/// How long one attempt to dial may take before it is given up and begun anew.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause between two attempts to dial; it doubles, without jitter (each pair has one dialler at a time that
/// matters, so there is no crowd to spread).
pub const FIRST_BACKOFF: Duration = Duration::from_millis(20);
/// The longest pause between two attempts to dial.
pub const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// A link that lived this long resets the pause to nothing: its successor is dialled at once.
pub const STABLE_AFTER: Duration = Duration::from_secs(1);
/// How long the spare of two links of a pair is kept: longer than the idle timeout, so that by then the link in use is
/// known to be alive on both sides.
pub const SPARE_LINGER: Duration = Duration::from_secs(3);

/// A good bound for the wait at shutdown: the closing packet of each link is repeated for three probe timeouts, which
/// is some milliseconds on a local network.
pub const SHUTDOWN_BOUND: Duration = Duration::from_secs(2);

/// Caps of the links between replicas. The sum of the inbound budgets is what one peer can make us hold in frames. What
/// QUIC holds unread comes on top: three streams of [`STREAM_WINDOW_BYTES`] for the link in use, for its spare, and for
/// each of [`UNESTABLISHED_PER_PEER`] connections that are coming up, 18 MiB in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// Largest frame of each class (vote, proposal, bulk), in bytes. At most [`FRAME_CAP_BYTES`].
    pub frame_cap_bytes: [usize; 3],
    /// Bytes received from one peer and not yet released by the consumer, by class. A class over its budget is not
    /// read further.
    pub inbound_budget_bytes: [usize; 3],
    /// Bytes waiting to be sent to one peer, by class.
    pub outbound_cap_bytes: [usize; 3],
    /// The same while no link is up. Bulk data is not kept: whoever wants it asks again.
    pub outbound_cap_without_link_bytes: [usize; 3],
    /// How long a frame may take from its first to its last byte.
    pub frame_deadline: Duration,
}

impl Default for PeerLimits {
    fn default() -> PeerLimits {
        PeerLimits {
            frame_cap_bytes: [VOTE_FRAME_CAP_BYTES, FRAME_CAP_BYTES, FRAME_CAP_BYTES],
            inbound_budget_bytes: [2 << 20, 6 << 20, 8 << 20],
            outbound_cap_bytes: [1 << 20, 8 << 20, 32 << 20],
            outbound_cap_without_link_bytes: [64 << 10, FRAME_CAP_BYTES, 0],
            frame_deadline: FRAME_DEADLINE,
        }
    }
}

impl PeerLimits {
    /// Whether each budget holds at least one frame of the largest size: else such a frame would never be read.
    pub(crate) fn check(&self) -> Result<(), String> {
        for class in 0..3 {
            let cap = self.frame_cap_bytes[class];
            if cap == 0 || cap > FRAME_CAP_BYTES {
                return Err(format!("a frame cap of {cap} bytes is not within 1 ..= {FRAME_CAP_BYTES}"));
            }
            if self.inbound_budget_bytes[class] < cap + FRAME_OVERHEAD_BYTES {
                return Err(format!("an inbound budget below the frame cap of {cap} bytes would stall the link"));
            }
            if self.inbound_budget_bytes[class] > u32::MAX as usize {
                return Err("an inbound budget is limited to 4 GiB".to_owned());
            }
            if self.outbound_cap_bytes[class] < cap + FRAME_OVERHEAD_BYTES {
                return Err(format!("an outbound cap below the frame cap of {cap} bytes would never send one"));
            }
        }
        Ok(())
    }
}

/// Caps of a client port and of a client's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections of all clients.
    pub connections: usize,
    /// Connections of one client key: each process of a client has its own.
    pub connections_per_key: usize,
    /// Largest frame a client may send, in bytes.
    pub request_cap_bytes: usize,
    /// Largest frame a replica may send to a client, in bytes.
    pub reply_cap_bytes: usize,
    /// Bytes received on one connection and not yet released by the consumer.
    pub inbound_budget_bytes: usize,
    /// Bytes waiting to be sent on one connection; a client that lets them pile up is disconnected.
    pub outbound_cap_bytes: usize,
    /// How long a frame may take from its first to its last byte.
    pub frame_deadline: Duration,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            connections: 1_024,
            connections_per_key: 64,
            request_cap_bytes: CLIENT_FRAME_CAP_BYTES,
            reply_cap_bytes: FRAME_CAP_BYTES,
            inbound_budget_bytes: CLIENT_FRAME_CAP_BYTES + (256 << 10),
            outbound_cap_bytes: FRAME_CAP_BYTES + (1 << 20),
            frame_deadline: FRAME_DEADLINE,
        }
    }
}

impl ClientLimits {
    pub(crate) fn check(&self) -> Result<(), String> {
        for cap in [self.request_cap_bytes, self.reply_cap_bytes] {
            if cap == 0 || cap > FRAME_CAP_BYTES {
                return Err(format!("a frame cap of {cap} bytes is not within 1 ..= {FRAME_CAP_BYTES}"));
            }
        }
        if self.inbound_budget_bytes < self.request_cap_bytes + FRAME_OVERHEAD_BYTES {
            return Err("an inbound budget below the request cap would stall the connection".to_owned());
        }
        if self.inbound_budget_bytes > u32::MAX as usize {
            return Err("an inbound budget is limited to 4 GiB".to_owned());
        }
        if self.outbound_cap_bytes < self.reply_cap_bytes + FRAME_OVERHEAD_BYTES {
            return Err("an outbound cap below the reply cap would never send a full reply".to_owned());
        }
        Ok(())
    }
}
