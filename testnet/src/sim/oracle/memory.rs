//! Bounded memory: what others can make grow stays within its caps.

use quorate_crypto::{ReplicaId, Seq};
use quorate_protocol::engine::EngineStatus;
use quorate_protocol::parameters::Parameters;

use crate::sim::report::Violation;

/// Clients that may each have one request pending beyond the cap.
const CLIENTS: usize = 16;
/// Requests beyond the cap that peers may have pending at a replica by relaying them: 8 for each of at most 7.
const VOUCHED: usize = 8 * 7;
/// Bytes of log that a run may leave on a disk: with a window of at most 128 small batches, a cut every checkpoint and
/// segments of at most 256 KiB, more means that the log is not cut.
const LOG_BYTES_MAX: u64 = 24 << 20;

/// The caps of a run.
pub(in crate::sim) struct BoundedMemory {
    /// Requests, proposed or not. A place that a peer vouched for is free while its request is proposed, so the proposals of
    /// the numbers that are kept, from the stable checkpoint to the look-ahead above it, may name as many more. What a view
    /// change gives back takes its place again: however many views fail, it stays at that.
    pending: usize,
    look_ahead: u64,
}

impl BoundedMemory {
    pub(super) fn new(parameters: &Parameters) -> BoundedMemory {
        let waiting = parameters.pending_requests_max + CLIENTS + VOUCHED;
        let look_ahead = parameters.look_ahead();
        let named = look_ahead as usize * parameters.batch_requests_max;
        BoundedMemory { pending: waiting + named, look_ahead }
    }

    pub(super) fn check(
        &self,
        replica: ReplicaId,
        status: &EngineStatus,
        started: Seq,
        log_bytes: u64,
    ) -> Result<(), Violation> {
        let broken = |what: String| Err(Violation::new("bounded-memory", format!("replica {replica} {what}")));
        if status.pending > self.pending {
            let (pending, unproposed, most) = (status.pending, status.unproposed, self.pending);
            return broken(format!(
                "holds {pending} pending requests, {unproposed} not proposed, where {most} are the most"
            ));
        }
        // A snapshot on disk may be ahead of its certificate in the log, if the process died in between: what it covers was
        // decided in no memory.
        if status.decided > status.stable.max(started).plus(self.look_ahead) {
            return broken(format!("decided {} above its stable checkpoint {}", status.decided, status.stable));
        }
        if log_bytes > LOG_BYTES_MAX {
            return broken(format!("has {log_bytes} bytes of log at stable checkpoint {}", status.stable));
        }
        Ok(())
    }
}
