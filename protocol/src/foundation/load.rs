//! What a replica takes on, and what of it is proposed at once: by measurement, in requests and in bytes.

use crate::engine::Now;
use crate::foundation::Foundation;
use crate::pending::Room;

/// Pending requests there is always room for, however slow this replica has been.
const ROOM_LEAST: usize = 256;
/// Requests a batch may always hold.
pub(crate) const BATCH_LEAST: usize = 16;

impl Foundation {
    /// What drains within half a view timeout, in requests and in bytes; two full batches at least.
    pub(super) fn room(&self) -> Room {
        let soon = self.parameters().view_timeout / 2;
        Room {
            requests: self.throughput.within(soon).max(ROOM_LEAST),
            bytes: self.byte_throughput.within(soon).max(2 * self.parameters().batch_bytes_max),
        }
    }

    /// What may be proposed and undecided at one time: what takes a quarter of the view timeout at most, by measurement. What
    /// others' timers run on is proposed next, and must not wait behind a pipeline longer than their patience.
    pub(crate) fn room_in_flight(&self) -> Room {
        let soon = self.parameters().view_timeout / 4;
        Room {
            requests: self.throughput.within(soon).max(2 * BATCH_LEAST),
            bytes: self.byte_throughput.within(soon).max(2 * self.parameters().batch_bytes_max),
        }
    }

    /// What one batch may hold, so that two are in flight.
    pub(crate) fn room_in_batch(&self) -> Room {
        let requests = self.parameters().batch_requests_max.min(self.room_in_flight().requests / 2);
        Room { requests, bytes: self.parameters().batch_bytes_max }
    }

    /// When there will be room again, milliseconds: what waits now has executed by then.
    pub(super) fn retry_after(&self) -> u64 {
        let timeout = self.parameters().view_timeout;
        let requests = self.throughput.time_for(self.pending.len());
        let bytes = self.byte_throughput.time_for(self.pending.bytes());
        requests.max(bytes).clamp(timeout / 4, 4 * timeout) / 1000
    }

    /// So many requests of so many bytes were executed, and what they made room for waits: measures how fast that goes.
    pub(crate) fn measure(&mut self, now: Now, requests: usize, bytes: usize) {
        let waiting = self.pending.unproposed() > 0;
        self.throughput.executed(now.monotonic, requests, waiting);
        self.byte_throughput.executed(now.monotonic, bytes, waiting);
    }
}
