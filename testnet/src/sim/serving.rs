//! What a replica answers clients from its executed state: serializable reads and watches, as the node's client service
//! does it (`quorate_node::clients`), in virtual time.

use std::collections::BTreeMap;

use quorate_crypto::encoding::encode;
use quorate_kv::{KeyRange, Operation, OperationError};
use quorate_node::key_value::KeyValue;
use quorate_protocol::client::message::{ReplicaMessage, WatchUpdate};
use quorate_protocol::parameters::Micros;
use quorate_protocol::request;

use super::plan::MILLISECOND;

/// How long a read waits for a revision of the future.
const REVISION_PATIENCE: Micros = 500 * MILLISECOND;
/// How often a watch is told, at most, that nothing happened.
const PROGRESS_EVERY: Micros = 250 * MILLISECOND;
/// Events in one page.
const PAGE_EVENTS: usize = 512;

struct Waiting {
    client: usize,
    id: u64,
    operation: Operation,
    revision: u64,
    until: Micros,
}

struct Watch {
    range: KeyRange,
    next: u64,
    told: u64,
    next_progress: Micros,
}

/// What clients wait for at one replica. It dies with the process.
#[derive(Default)]
pub(super) struct Serving {
    reads: Vec<Waiting>,
    watches: BTreeMap<(usize, u64), Watch>,
}

impl Serving {
    pub(super) fn read(&mut self, client: usize, id: u64, operation: &request::Operation, revision: u64, at: Micros) {
        if let Ok(operation) = Operation::from_bytes(&operation.bytes) {
            self.reads.push(Waiting { client, id, operation, revision, until: at + REVISION_PATIENCE });
        }
    }

    pub(super) fn watch(&mut self, client: usize, id: u64, range: &request::Operation, from: u64, at: Micros) {
        if let Ok(Operation::Range(range)) = Operation::from_bytes(&range.bytes) {
            let told = from.saturating_sub(1);
            self.watches.insert((client, id), Watch { range: range.range, next: from, told, next_progress: at });
        }
    }

    pub(super) fn unwatch(&mut self, client: usize, id: u64) {
        self.watches.remove(&(client, id));
    }

    /// Answers what the state can answer at the end of a turn.
    pub(super) fn serve(&mut self, state: &KeyValue, at: Micros, answers: &mut Vec<(usize, ReplicaMessage)>) {
        let store = state.store();
        let revision = store.current_revision();
        self.reads.retain(|read| {
            if read.revision > revision && at < read.until {
                return true;
            }
            let result = store.read(&read.operation, read.revision);
            let (id, revision) = (read.id, result.revision);
            answers.push((read.client, ReplicaMessage::Read { id, revision, result: result.to_bytes() }));
            false
        });
        self.watches.retain(|(client, id), watch| {
            let mut tell = |update| answers.push((*client, ReplicaMessage::Watch { id: *id, update }));
            while watch.next <= revision {
                let page = match store.events_since(watch.next, &watch.range, PAGE_EVENTS, false) {
                    Ok(page) => page,
                    Err(OperationError::Compacted { compact_revision }) => {
                        tell(WatchUpdate::Compacted { revision: compact_revision });
                        return false;
                    }
                    Err(error) => {
                        tell(WatchUpdate::Ended(error.to_string()));
                        return false;
                    }
                };
                for list in &page.lists {
                    watch.told = list.revision;
                    tell(WatchUpdate::Events { revision: list.revision, events: encode(list) });
                }
                watch.next = page.next_revision;
            }
            if watch.next > watch.told.saturating_add(1) && at >= watch.next_progress {
                watch.told = watch.next - 1;
                watch.next_progress = at + PROGRESS_EVERY;
                tell(WatchUpdate::Progress { revision: watch.told });
            }
            true
        });
    }
}
