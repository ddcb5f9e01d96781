//! The numbers that all replicas of a cluster must agree on. Every one is part of the cluster id: a replica that runs
//! with another value is a replica of another cluster, and its signatures do not verify.
//!
//! One table holds name, meaning, default and bounds; the struct, the file's comments, validation and the cluster id
//! are made from it and cannot disagree.

use serde::Deserialize;

use super::GenesisError;

/// One parameter as a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterRow {
    /// Name in the file.
    pub name: &'static str,
    /// Meaning and unit, one sentence.
    pub meaning: &'static str,
    /// The value in force.
    pub value: u64,
    /// The value if the file names none.
    pub default: u64,
    /// Least value that is accepted by itself; relations between parameters are checked apart.
    pub least: u64,
    /// Greatest value that is accepted by itself.
    pub greatest: u64,
}

macro_rules! parameters {
    ($($name:ident = $default:expr, $least:expr => $greatest:expr, $meaning:literal;)+) => {
        /// The `[parameters]` of a genesis file. Each has a default, so the table may be left out.
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Parameters {
            $(#[doc = $meaning] pub $name: u64,)+
        }

        impl Default for Parameters {
            fn default() -> Parameters {
                Parameters { $($name: $default,)+ }
            }
        }

        impl Parameters {
            /// Every parameter in the order of the table, which is the order in the file and in the cluster id.
            pub fn rows(&self) -> Vec<ParameterRow> {
                vec![$(ParameterRow {
                    name: stringify!($name),
                    meaning: $meaning,
                    value: self.$name,
                    default: $default,
                    least: $least,
                    greatest: $greatest,
                },)+]
            }

            /// Changes the parameter `name`, whose value is checked by [`Parameters::check`] only. False if there is
            /// none of that name.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)+
                    _ => return false,
                }
                true
            }
        }
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// Bytes of a frame that are not for a batch: headers, signatures, encoding.
pub const FRAME_HEADROOM_BYTES: u64 = 64 * KIB;

/// Bytes of one request's digest in a PRE-PREPARE.
pub const REQUEST_DIGEST_BYTES: u64 = 32;

parameters! {
    window = 256, 2 => 65_536,
        "Sequence numbers that may be in flight above the stable checkpoint (L, Castro and Liskov 1999, section 4.2).";
    checkpoint_interval = 64, 1 => 32_768,
        "Sequence numbers from one checkpoint to the next (K, Castro and Liskov 1999, section 4.3).";
    view_timeout_ms = 250, 10 => MINUTE_MS,
        "Milliseconds a backup waits for the oldest admitted request before it asks for a new view.";
    backoff_cap = 16, 1 => 1024,
        "How many times the view timeout may grow by doubling over failed views.";
    request_bytes_max = 1536 * KIB + FRAME_HEADROOM_BYTES, KIB => 8 * MIB,
        "Bytes of one client request at most, its signature included; the default holds 1.5 MiB of operations, a client's limit.";
    batch_requests_max = 1024, 1 => 65_536,
        "Requests in one batch at most.";
    batch_bytes_max = 2 * MIB, KIB => 15 * MIB,
        "Bytes of all requests in one batch at most.";
    proposal_time_bound_ms = 500, 1 => MINUTE_MS,
        "Milliseconds by which a fresh proposal's time may differ from a backup's clock; doubles with each failed view.";
    proposal_time_bound_cap_ms = 8000, 1 => 60 * MINUTE_MS,
        "Milliseconds to which that bound may grow; a clock that is off by more counts its replica as faulty.";
    request_lifetime_max_ms = 120_000, 1000 => DAY_MS,
        "Milliseconds that a request's valid_until may lie ahead of agreed time (T_max).";
    pending_requests_max = 4096, 1 => 1_000_000,
        "Requests that a replica admits and has not executed, of all clients together.";
    pending_requests_per_client_max = 1024, 1 => 1_000_000,
        "Requests that a replica admits and has not executed, of one client key.";
    sessions_per_client = 1024, 1 => 65_536,
        "Sessions that one client key may have open.";
    session_idle_courtesy_ms = 600_000, 0 => 30 * DAY_MS,
        "Milliseconds of agreed time that a session is kept past its last valid_until while there is room.";
    reply_cache_bytes = 16 * MIB, 0 => GIB,
        "Bytes of write results kept for retries, of all sessions together; beyond it a retry learns only where it executed.";
    kv_quota_bytes = GIB, MIB => 1024 * GIB,
        "Bytes of keys and values, of all revisions kept, above which writes that need room are refused.";
    auto_compaction_retention = 100_000, 0 => 1_000_000_000_000,
        "Revisions kept behind the newest one before old ones are compacted; 0 keeps all until a client compacts.";
    frame_bytes_max = 4 * MIB, 128 * KIB => 16 * MIB,
        "Bytes of one frame on a link at most; every message, the largest VIEW-CHANGE included, fits into one.";
}

impl Parameters {
    /// Whether every value lies within its bounds and the values fit each other.
    pub fn check(&self) -> Result<(), GenesisError> {
        for row in self.rows() {
            if row.value < row.least || row.value > row.greatest {
                return Err(GenesisError::OutOfBounds {
                    name: row.name,
                    value: row.value,
                    least: row.least,
                    greatest: row.greatest,
                });
            }
        }
        self.check_relations()
    }

    /// Relations between parameters. The bounds hold already, so no sum or product here overflows.
    fn check_relations(&self) -> Result<(), GenesisError> {
        let refuse = |rule| Err(GenesisError::ParametersDisagree(rule));
        // One interval may be in flight while the checkpoint before it becomes stable (Castro and Liskov 1999, 4.3).
        if self.window < 2 * self.checkpoint_interval {
            return Err(GenesisError::WindowTooSmall { window: self.window, interval: self.checkpoint_interval });
        }
        if self.batch_bytes_max + FRAME_HEADROOM_BYTES > self.frame_bytes_max {
            return refuse(
                "batch_bytes_max must be at least 65536 below frame_bytes_max, or a full batch fits no frame",
            );
        }
        if self.batch_requests_max * REQUEST_DIGEST_BYTES + FRAME_HEADROOM_BYTES > self.frame_bytes_max {
            return refuse("batch_requests_max digests of 32 bytes must fit frame_bytes_max with 65536 bytes to spare");
        }
        if self.request_bytes_max > self.batch_bytes_max {
            return refuse("request_bytes_max must not exceed batch_bytes_max, or a large request fits no batch");
        }
        if self.proposal_time_bound_ms > self.proposal_time_bound_cap_ms {
            return refuse("proposal_time_bound_ms must not exceed proposal_time_bound_cap_ms");
        }
        // Otherwise one proposal could carry agreed time past the lifetime of requests that were signed honestly.
        if self.proposal_time_bound_cap_ms >= self.request_lifetime_max_ms {
            return refuse("proposal_time_bound_cap_ms must be below request_lifetime_max_ms");
        }
        if self.view_timeout_ms * self.backoff_cap >= self.request_lifetime_max_ms {
            return refuse(
                "view_timeout_ms times backoff_cap must be below request_lifetime_max_ms, or requests expire during one view",
            );
        }
        if self.pending_requests_per_client_max > self.pending_requests_max {
            return refuse("pending_requests_per_client_max must not exceed pending_requests_max");
        }
        Ok(())
    }

    /// Upper bound, in bytes, of an encoded VIEW-CHANGE of `quorum` replicas: the header, the certificate of the stable
    /// checkpoint, and for each of the `window` numbers a prepared certificate. Each certificate is a body of at most
    /// 200 bytes (kind, view, number, digest, time, payload kind and digest, counts) and `quorum` endorsements of at
    /// most 80 bytes (id, incarnation, 64-byte signature).
    ///
    /// ```text
    /// 1024 + (1 + window) * (200 + 80 * quorum)
    /// ```
    pub fn view_change_bytes_bound(&self, quorum: u64) -> u64 {
        let certificate = quorum.saturating_mul(80).saturating_add(200);
        self.window.saturating_add(1).saturating_mul(certificate).saturating_add(1024)
    }

    /// Upper bound, in bytes, of the largest record in the log of one of the replicas: a NEW-VIEW with the `quorum`
    /// VIEW-CHANGEs it rests on, and where the log is cut the replica's own VIEW-CHANGE beside them. For each of the
    /// `window` numbers there is also at most one entry of the NEW-VIEW (104 bytes) and an EXECUTED and a CHECKPOINT of
    /// the replica, as well as for as many numbers below (four of 122 bytes).
    ///
    /// ```text
    /// (quorum + 1) * view_change_bytes_bound + 640 * window + 65536
    /// ```
    pub fn record_bytes_bound(&self, quorum: u64) -> u64 {
        let view_changes = quorum.saturating_add(1).saturating_mul(self.view_change_bytes_bound(quorum));
        view_changes.saturating_add(self.window.saturating_mul(640)).saturating_add(FRAME_HEADROOM_BYTES)
    }
}
