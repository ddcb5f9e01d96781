//! A client that reads acknowledged writes while a replica lies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_client::{Client, ClientError, RangeOptions, Ranged};
use quorate_kv::KeyRange;
use tokio::task::JoinHandle;

use crate::drill::DrillError;
use crate::drill::writers::{Acknowledged, Ledger, key, value};

/// How long it rests after each read, so that it takes little of the machine.
const REST: Duration = Duration::from_millis(5);
/// Sentences about wrong answers that are kept.
const EXAMPLES: usize = 3;

/// What it found.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Answers.
    pub(crate) answers: u64,
    /// Those that contradict an acknowledgement.
    pub(crate) wrong: u64,
    /// Reads without an answer.
    pub(crate) errors: u64,
    /// The first few of both.
    pub(crate) examples: Vec<String>,
}

/// The reader, until it is stopped.
pub(crate) struct Reader {
    over: Arc<AtomicBool>,
    task: JoinHandle<Read>,
}

impl Reader {
    pub(crate) fn start(client: &Client, ledger: Ledger, value_size: usize) -> Reader {
        let over = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(read(client.clone(), ledger, Arc::clone(&over), value_size));
        Reader { over, task }
    }

    pub(crate) async fn stop(self) -> Result<Read, DrillError> {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.map_err(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// Reads in turn in order, and from replicas' own states. It reads at least once each if there is anything to read.
async fn read(client: Client, ledger: Ledger, over: Arc<AtomicBool>, value_size: usize) -> Read {
    let mut found = Read::default();
    let mut rounds = 0;
    while !over.load(Ordering::Relaxed) || (rounds < 2 && ledger.puts() > 0) {
        tokio::time::sleep(REST).await;
        let Some((writer, write)) = ledger.pick(rand::random()) else { continue };
        let options = RangeOptions { serializable: rounds % 2 == 1, ..RangeOptions::default() };
        let answer = client.range(KeyRange::single(key(writer, write.number)), options).await;
        found.judge(writer, write, &answer, value_size);
        rounds += 1;
    }
    found
}

impl Read {
    fn judge(&mut self, writer: usize, write: Acknowledged, answer: &Result<Ranged, ClientError>, value_size: usize) {
        let example = match answer {
            Err(error) => {
                self.errors += 1;
                format!("a read failed: {error}")
            }
            Ok(ranged) => {
                self.answers += 1;
                if is_right(writer, write, ranged, value_size) {
                    return;
                }
                self.wrong += 1;
                let name = String::from_utf8_lossy(&key(writer, write.number)).into_owned();
                format!("a read of {name} at revision {} gave a wrong answer", ranged.revision)
            }
        };
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }
}

/// A state from before the write need not have it yet; whatever has it has it as it was acknowledged.
fn is_right(writer: usize, write: Acknowledged, ranged: &Ranged, value_size: usize) -> bool {
    match (ranged.kvs.as_slice(), write.revision) {
        ([], Some(revision)) => ranged.revision < revision,
        ([], None) => false,
        ([found], revision) => {
            found.value == value(writer, write.number, value_size)
                && revision.is_none_or(|revision| revision == found.mod_revision)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use quorate_kv::KeyValue;

    use super::*;

    #[test]
    fn an_older_state_may_lack_a_write_and_nothing_else() {
        let write = Acknowledged { number: 4, revision: Some(9) };
        let kv = |mod_revision, number| KeyValue {
            key: key(1, 4),
            value: value(1, number, 8),
            create_revision: mod_revision,
            mod_revision,
            version: 1,
            lease: 0,
        };
        let right = |revision, kvs: Vec<KeyValue>| {
            let count = kvs.len() as u64;
            is_right(1, write, &Ranged { revision, kvs, count, more: false }, 8)
        };
        assert!(right(8, Vec::new()) && right(9, vec![kv(9, 4)]) && right(20, vec![kv(9, 4)]));
        assert!(!right(9, Vec::new()) && !right(9, vec![kv(9, 5)]) && !right(12, vec![kv(12, 4)]));
        assert!(!right(12, vec![kv(9, 4), kv(9, 4)]));
    }
}
