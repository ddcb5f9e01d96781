//! The numbers every replica of a cluster shares. They come from the genesis file and are part of the cluster id.

use quorate_crypto::committee::Committee;

/// A span of monotonic time in microseconds.
pub type Micros = u64;

/// Shared parameters. Every field has the unit in its name or documentation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// L: how many sequence numbers above the stable checkpoint may be in flight.
    pub window: u64,
    /// K: a checkpoint is taken every so many sequence numbers. At most half of `window`.
    pub checkpoint_interval: u64,
    /// D: the view timer before any back-off.
    pub view_timeout: Micros,
    /// The back-off doubles up to this factor.
    pub backoff_cap: u32,
    /// Most requests in one batch.
    pub batch_requests_max: usize,
    /// Most bytes of requests in one batch.
    pub batch_bytes_max: usize,
    /// How far a fresh proposal's time may be from a backup's clock, milliseconds; doubles per failed view.
    pub proposal_time_bound: u64,
    /// Cap of that bound, milliseconds.
    pub proposal_time_bound_cap: u64,
    /// T_max: a request executes only if agreed time <= valid_until <= agreed time + T_max, milliseconds.
    pub request_lifetime_max: u64,
    /// Most requests pending at a replica, split fairly per client key.
    pub pending_requests_max: usize,
    /// Most requests pending at a replica of one client key.
    pub pending_requests_per_client_max: usize,
    /// Proposals the primary keeps undecided at once; batches fill while they are.
    pub pipeline_depth: u64,
    /// STATUS is sent so often while anything is pending.
    pub status_interval: Micros,
    /// STATUS is sent so often when idle.
    pub status_interval_idle: Micros,
    /// Sessions one client key may hold.
    pub sessions_per_client: usize,
    /// A session stays this long past its last valid_until before it may be dropped, milliseconds.
    pub session_courtesy: u64,
    /// Bytes of cached write results per session; beyond it a retried request learns only its sequence number.
    pub reply_cache_bytes: usize,
    /// Most bytes of one frame between replicas.
    pub frame_bytes_max: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            window: 256,
            checkpoint_interval: 64,
            view_timeout: 250_000,
            backoff_cap: 16,
            batch_requests_max: 1024,
            batch_bytes_max: 2 * 1024 * 1024,
            proposal_time_bound: 500,
            proposal_time_bound_cap: 60_000,
            request_lifetime_max: 120_000,
            pending_requests_max: 8192,
            pending_requests_per_client_max: 1024,
            pipeline_depth: 4,
            status_interval: 100_000,
            status_interval_idle: 1_000_000,
            sessions_per_client: 1024,
            session_courtesy: 600_000,
            reply_cache_bytes: 64 * 1024,
            frame_bytes_max: 4 * 1024 * 1024,
        }
    }
}

impl Parameters {
    /// How far above the stable checkpoint messages are kept at all (rule P9): a primary that is one checkpoint ahead
    /// must not be mistaken for a faulty one (rule P8), anything further costs no memory.
    pub fn look_ahead(&self) -> u64 {
        self.window.saturating_mul(2)
    }

    /// Upper bound of the encoded size of a VIEW-CHANGE in bytes: every number of the window proven by a quorum.
    pub fn view_change_bytes_max(&self, committee: &Committee) -> u64 {
        const ENDORSEMENT: u64 = 70;
        const SLOT: u64 = 160;
        let quorum = committee.quorum() as u64;
        let members = committee.size() as u64;
        self.window
            .saturating_mul(members.saturating_mul(ENDORSEMENT).saturating_add(SLOT))
            .saturating_add(quorum.saturating_mul(ENDORSEMENT))
            .saturating_add(1024)
    }
}
