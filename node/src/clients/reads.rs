//! Reads without ordering (`--serializable`): answered from this replica's own executed state. The client compares f + 1
//! answers at one revision, so a read may name a revision that this replica has not come to yet; it then waits a moment.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use quorate_crypto::PublicKey;
use quorate_kv::Operation;
use quorate_protocol::client::message::ReplicaMessage;
use quorate_protocol::request;
use quorate_transport::ConnectionId;

use super::{Look, Outgoing, wake_by};

/// Reads of one connection that wait for their answer.
const READS_PER_CONNECTION: usize = 64;
/// How long a read waits for a revision of the future; then it is told that there is none.
const REVISION_PATIENCE: Duration = Duration::from_millis(500);

struct Waiting {
    connection: ConnectionId,
    key: PublicKey,
    id: u64,
    operation: Operation,
    /// 0 is the newest.
    revision: u64,
    until: Instant,
    /// Asked since the present look was taken: a read sees at least what was executed when it came.
    fresh: bool,
}

/// Reads that wait for their answer.
#[derive(Default)]
pub(super) struct Reads {
    waiting: Vec<Waiting>,
    per_connection: HashMap<ConnectionId, usize>,
}

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether one waits that the present look is too old for.
    pub(super) fn want_fresh(&self) -> bool {
        self.waiting.iter().any(|read| read.fresh)
    }

    /// A new look has come.
    pub(super) fn refreshed(&mut self) {
        for read in &mut self.waiting {
            read.fresh = false;
        }
    }

    /// Takes a read; an error is why the connection is closed.
    pub(super) fn ask(
        &mut self,
        connection: ConnectionId,
        key: PublicKey,
        id: u64,
        operation: &request::Operation,
        revision: Option<u64>,
        now: Instant,
    ) -> Result<(), &'static str> {
        if operation.service != quorate_kv::SERVICE {
            return Err("a read of a service that has none");
        }
        let operation = Operation::from_bytes(&operation.bytes).map_err(|_| "a read that does not decode")?;
        let count = self.per_connection.entry(connection).or_default();
        if *count >= READS_PER_CONNECTION {
            return Err("more than 64 reads at a time");
        }
        *count += 1;
        self.waiting.push(Waiting {
            connection,
            key,
            id,
            operation,
            revision: revision.unwrap_or(0),
            until: now + REVISION_PATIENCE,
            fresh: true,
        });
        Ok(())
    }

    /// The connection has ended.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        if self.per_connection.remove(&connection).is_some() {
            self.waiting.retain(|read| read.connection != connection);
        }
    }

    /// Answers what `look` can answer. Returns when the next one gives up waiting.
    pub(super) fn serve(&mut self, look: &Look, now: Instant, outgoing: &mut Outgoing) -> Option<Instant> {
        let mut wake = None;
        let per_connection = &mut self.per_connection;
        self.waiting.retain(|read| {
            if read.fresh || (read.revision > look.revision && now < read.until) {
                wake_by(&mut wake, read.until.max(now + super::PACE));
                return true;
            }
            let result = look.state.store().read(&read.operation, read.revision);
            let message = ReplicaMessage::Read { id: read.id, revision: result.revision, result: result.to_bytes() };
            outgoing.send(read.connection, read.key, message);
            if let Some(count) = per_connection.get_mut(&read.connection) {
                *count -= 1;
                if *count == 0 {
                    per_connection.remove(&read.connection);
                }
            }
            false
        });
        wake
    }
}
