//! Reads without ordering (`--serializable`): answered from this replica's own executed state. The client compares f + 1
//! answers at one revision, so a read may name a revision that this replica has not come to yet; it then waits a moment.
//!
//! A read may look at very many keys, and a key may have very many reads. They are answered in turns by key, a bounded
//! amount at a time (see [`Turns`]).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use quorate_crypto::PublicKey;
use quorate_kv::limit::MAX_VISITED_KEYS;
use quorate_kv::{Operation, OperationResult, Outcome, RangeRequest, RangeResponse, TxnOperation, TxnOutcome};
use quorate_protocol::client::message::ReplicaMessage;
use quorate_protocol::request;
use quorate_transport::{ConnectionId, FramePermit};

use super::turns::{Turns, units_of_bytes};
use super::{Look, Outgoing, release};

/// Reads of one connection that wait for their answer.
pub(super) const READS_PER_CONNECTION: usize = 64;
/// How long a read waits for a revision of the future; then it is told that there is none.
const REVISION_PATIENCE: Duration = Duration::from_millis(500);

/// A read as it was asked for.
pub(super) struct Read<'a> {
    pub(super) connection: ConnectionId,
    pub(super) key: PublicKey,
    pub(super) id: u64,
    pub(super) operation: &'a request::Operation,
    /// None is the newest.
    pub(super) revision: Option<u64>,
    pub(super) permit: FramePermit,
}

struct Waiting {
    connection: ConnectionId,
    key: PublicKey,
    id: u64,
    operation: Operation,
    /// Of the encoded operation.
    bytes: usize,
    /// 0 is the newest.
    revision: u64,
    until: Instant,
    /// Held until the read is answered: its operation is kept, and counts against the budget of who sent it. A client
    /// over its budget is not read further, and is again once a read is answered or given up, or the connection ends.
    _permit: FramePermit,
}

/// Reads that wait for their answer. Each is in one of the three places.
#[derive(Default)]
pub(super) struct Reads {
    /// Asked since the present look was taken: a read sees at least what was executed when it came.
    fresh: Vec<Waiting>,
    /// Of a revision that the present look has not come to; who gives up first is first.
    early: VecDeque<Waiting>,
    /// Can be answered.
    ready: Turns<Waiting>,
    per_connection: HashMap<ConnectionId, usize>,
}

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.per_connection.is_empty()
    }

    /// Whether one waits that the present look is too old for.
    pub(super) fn want_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// A new look has come, which shows `revision`.
    pub(super) fn refreshed(&mut self, revision: u64) {
        let waiting = self.early.drain(..).chain(self.fresh.drain(..));
        let (early, ready) = waiting.partition::<VecDeque<Waiting>, _>(|read| read.revision > revision);
        self.early = early;
        for read in ready {
            self.ready.push(read.key, read);
        }
    }

    /// Takes a read; an error is why the connection is closed.
    pub(super) fn ask(&mut self, read: Read<'_>, now: Instant) -> Result<(), &'static str> {
        let Read { connection, key, id, operation, revision, permit } = read;
        if operation.service != quorate_kv::SERVICE {
            return Err("a read of a service that has none");
        }
        let bytes = operation.bytes.len();
        let operation = Operation::from_bytes(&operation.bytes).map_err(|_| "a read that does not decode")?;
        let count = self.per_connection.entry(connection).or_default();
        if *count >= READS_PER_CONNECTION {
            return Err("more than 64 reads at a time");
        }
        *count += 1;
        self.fresh.push(Waiting {
            connection,
            key,
            id,
            operation,
            bytes,
            revision: revision.unwrap_or(0),
            until: now + REVISION_PATIENCE,
            _permit: permit,
        });
        Ok(())
    }

    /// The connection has ended.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        if self.per_connection.remove(&connection).is_some() {
            let keep = |read: &Waiting| read.connection != connection;
            self.fresh.retain(keep);
            self.early.retain(keep);
            self.ready.retain(keep);
        }
    }

    /// Answers some of what `look` can answer. Returns when to come back: at once if more can be answered, else when
    /// the next one gives up waiting.
    pub(super) fn serve(&mut self, look: &Look, now: Instant, outgoing: &mut Outgoing) -> Option<Instant> {
        let Reads { early, ready, per_connection, .. } = self;
        while early.front().is_some_and(|read| now >= read.until)
            && let Some(read) = early.pop_front()
        {
            ready.push(read.key, read);
        }
        ready.work(|read| {
            let result = look.state.store().read(&read.operation, read.revision);
            let visits = visits(&read.operation, &result, look.revision);
            let answer = result.to_bytes();
            let units = visits + units_of_bytes(read.bytes + answer.len());
            let message = ReplicaMessage::Read { id: read.id, revision: result.revision, result: answer };
            outgoing.send(read.connection, read.key, message);
            release(per_connection, read.connection);
            units
        });
        if ready.is_empty() { early.front().map(|read| read.until) } else { Some(now) }
    }
}

/// Keys that a read looked at. Where the result does not tell, it is taken to be the most there may be: that others get
/// their turn sooner does no harm.
fn visits(operation: &Operation, result: &OperationResult, newest: u64) -> u64 {
    let at = result.revision;
    let visits = match (operation, &result.outcome) {
        (Operation::Range(request), Outcome::Range(response)) => range_visits(request, response, at, newest),
        (Operation::Txn(txn), Outcome::Txn(response))
            if txn.compare.iter().all(|compare| compare.range.is_single()) =>
        {
            let executed = if response.succeeded { &txn.success } else { &txn.failure };
            let parts = executed.iter().zip(&response.responses).map(|part| match part {
                (TxnOperation::Range(request), TxnOutcome::Range(response)) => {
                    range_visits(request, response, at, newest)
                }
                _ => MAX_VISITED_KEYS,
            });
            txn.compare.len() as u64 + parts.sum::<u64>()
        }
        _ => MAX_VISITED_KEYS,
    };
    visits.min(MAX_VISITED_KEYS)
}

fn range_visits(request: &RangeRequest, response: &RangeResponse, at: u64, newest: u64) -> u64 {
    if request.range.is_single() {
        return 1;
    }
    // In the past it also looks at keys that it does not count, since they did not exist then.
    let present = at >= newest && (request.revision == 0 || request.revision >= newest);
    if present { response.count } else { MAX_VISITED_KEYS }
}
