//! A client that follows all keys while a replica lies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_client::{Client, ClientError, Watch, WatchEvent};
use quorate_kv::{EventKind, EventList, KeyRange};
use tokio::task::JoinHandle;

use crate::drill::DrillError;
use crate::drill::writers::{Acknowledged, PREFIX, parse_key, value};

/// How often to look whether everything has come.
const POLL: Duration = Duration::from_millis(20);
/// Sentences about wrong events that are kept.
const EXAMPLES: usize = 3;

/// What came.
#[derive(Debug, Default)]
struct Seen {
    /// The revision of every write that was told.
    writes: BTreeMap<(usize, u64), u64>,
    last_revision: u64,
    wrong: u64,
    examples: Vec<String>,
}

/// What it found in the end.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Events.
    pub(crate) events: u64,
    /// Those that are not what was written, twice there, out of order, or at another revision than acknowledged.
    pub(crate) wrong: u64,
    /// Acknowledged writes without an event.
    pub(crate) missing: u64,
    /// The first few of the wrong ones.
    pub(crate) examples: Vec<String>,
}

/// The watcher, until it is finished or dropped.
pub(crate) struct Watcher {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<ClientError>,
}

impl Watcher {
    /// Begins with whatever comes after a write made here.
    pub(crate) async fn start(client: &Client, value_size: usize) -> Result<Watcher, ClientError> {
        let from = client.put("watch", "begins").await?.revision + 1;
        let watch = client.watch(KeyRange::prefix(PREFIX), Some(from)).await?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(follow(watch, Arc::clone(&seen), value_size));
        Ok(Watcher { seen, task })
    }

    /// Waits until every acknowledged write was told, at most for `patience`.
    ///
    /// # Errors
    /// The watch ended.
    pub(crate) async fn finish(
        self,
        acknowledged: &[(usize, Acknowledged)],
        patience: Duration,
    ) -> Result<Watched, DrillError> {
        let began = Instant::now();
        while missing(&lock(&self.seen), acknowledged) > 0 && began.elapsed() < patience {
            if self.task.is_finished() {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        self.task.abort();
        // It ends only by an error, or because of the line above.
        if let Ok(error) = self.task.await {
            return Err(error.into());
        }
        let seen = lock(&self.seen);
        let elsewhere = |(writer, write): &&(usize, Acknowledged)| {
            let told = seen.writes.get(&(*writer, write.number));
            told.is_some_and(|told| write.revision.is_some_and(|revision| revision != *told))
        };
        Ok(Watched {
            events: seen.writes.len() as u64,
            wrong: seen.wrong + acknowledged.iter().filter(elsewhere).count() as u64,
            missing: missing(&seen, acknowledged),
            examples: seen.examples.clone(),
        })
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Every change is complete before anything can panic.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn missing(seen: &Seen, acknowledged: &[(usize, Acknowledged)]) -> u64 {
    let is_missing = |(writer, write): &&(usize, Acknowledged)| !seen.writes.contains_key(&(*writer, write.number));
    acknowledged.iter().filter(is_missing).count() as u64
}

async fn follow(mut watch: Watch, seen: Arc<Mutex<Seen>>, value_size: usize) -> ClientError {
    loop {
        match watch.next().await {
            Ok(WatchEvent::Events(list)) => lock(&seen).take(&list, value_size),
            Ok(WatchEvent::Progress(_)) => {}
            Err(error) => return error,
        }
    }
}

impl Seen {
    fn take(&mut self, list: &EventList, value_size: usize) {
        if list.revision <= self.last_revision {
            self.note_wrong(format!("revision {} came after {}", list.revision, self.last_revision));
        }
        self.last_revision = list.revision;
        for event in &list.events {
            let name = parse_key(&event.kv.key);
            let is_written = name.is_some_and(|(writer, number)| {
                event.kind == EventKind::Put
                    && event.kv.value == value(writer, number, value_size)
                    && event.kv.mod_revision == list.revision
            });
            let again = name.is_some_and(|name| self.writes.insert(name, list.revision).is_some());
            if !is_written || again {
                let key = String::from_utf8_lossy(&event.kv.key).into_owned();
                self.note_wrong(format!("revision {} told of {key:?} what nobody wrote", list.revision));
            }
        }
    }

    fn note_wrong(&mut self, example: String) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_kv::{Event, KeyValue};

    use super::*;
    use crate::drill::writers::key;

    fn list(revision: u64, number: u64, told: u64) -> EventList {
        let kv = KeyValue {
            key: key(1, number),
            value: value(1, told, 8),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        };
        EventList {
            revision,
            events: vec![Event { kind: EventKind::Put, kv, prev_kv: None }],
            previous_values: quorate_kv::PreviousValues::NotRequested,
        }
    }

    #[test]
    fn events_that_nobody_wrote_or_that_come_twice_are_wrong() {
        let wrong = |lists: &[EventList]| {
            let mut seen = Seen::default();
            for list in lists {
                seen.take(list, 8);
            }
            seen.wrong
        };
        assert_eq!(wrong(&[list(5, 0, 0), list(6, 1, 1)]), 0);
        assert_eq!(wrong(&[list(5, 0, 1)]), 1, "another value");
        assert_eq!(wrong(&[list(5, 0, 0), list(6, 0, 0)]), 1, "the same write again");
        assert_eq!(wrong(&[list(6, 0, 0), list(5, 1, 1)]), 1, "out of order");
        let mut delete = list(5, 0, 0);
        delete.events[0].kind = EventKind::Delete;
        assert_eq!(wrong(&[delete]), 1);
    }

    #[test]
    fn an_acknowledged_write_without_an_event_is_missing() {
        let mut seen = Seen::default();
        seen.take(&list(5, 0, 0), 8);
        let write = |number| (1, Acknowledged { number, revision: Some(5) });
        assert_eq!(missing(&seen, &[write(0), write(1)]), 1);
    }
}
