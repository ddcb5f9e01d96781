//! The events since a revision. A revision is given whole or not at all, and what is given depends on the revision, the
//! range, the compaction and the caps alone, so that a watch client can compare the answers of replicas.

use crate::event::{
    Event, EventKind, EventList, EventPage, KeyValue, PreviousValues, StoredEvent, event_key, split_event_key,
};
use crate::key_range::KeyRange;
use crate::limit::{
    MAX_EVENT_LIST_BYTES, MAX_EVENT_PAGE_BYTES, MAX_EVENT_PAGE_EVENTS, MAX_EVENT_PAGE_SCAN, event_length_of,
    pair_length, pair_length_of,
};
use crate::outcome::OperationError;
use crate::store::Store;

fn event_length(event: &Event) -> usize {
    event_length_of(event.kv.key.len(), event.kv.value.len()) + event.prev_kv.as_ref().map_or(0, pair_length)
}

fn list_length(events: &[Event]) -> usize {
    events.iter().map(event_length).sum()
}

/// A page that is being filled.
struct Filling<'a> {
    store: &'a Store,
    with_previous: bool,
    limit: usize,
    lists: Vec<EventList>,
    events: usize,
    bytes: usize,
}

impl Filling<'_> {
    /// Adds the events of one complete revision. False if they do not fit and belong to the next page.
    fn close(&mut self, revision: u64, events: &[StoredEvent<'_>]) -> bool {
        if events.is_empty() {
            return true;
        }
        let list = self.store.event_list(revision, events, self.with_previous);
        let count = self.events + list.events.len();
        let bytes = self.bytes + list_length(&list.events);
        if !self.lists.is_empty() && (count > self.limit || bytes > MAX_EVENT_PAGE_BYTES) {
            return false;
        }
        self.lists.push(list);
        self.events = count;
        self.bytes = bytes;
        true
    }
}

impl Store {
    /// The events of `range` from `revision` on, in complete revisions: up to `limit` events (0 or more than
    /// [`MAX_EVENT_PAGE_EVENTS`] stands for that), up to [`MAX_EVENT_PAGE_BYTES`], at least one revision. `with_previous`
    /// asks for the pairs that the events replaced. A revision of the future gives an empty page.
    ///
    /// # Errors
    /// [`OperationError::Compacted`] if `revision` is below the compact revision; the compact revision itself can still
    /// be watched, as in etcd. [`OperationError::Limit`] for a range that [`crate::check`] would refuse.
    pub fn events_since(
        &self,
        revision: u64,
        range: &KeyRange,
        limit: usize,
        with_previous: bool,
    ) -> Result<EventPage, OperationError> {
        crate::limit::check_range(range)?;
        let Store { status, events, .. } = self;
        if revision < status.compact_revision {
            return Err(OperationError::Compacted { compact_revision: status.compact_revision });
        }
        let limit = if limit == 0 { MAX_EVENT_PAGE_EVENTS } else { limit.min(MAX_EVENT_PAGE_EVENTS) };
        let mut page = Filling { store: self, with_previous, limit, lists: Vec::new(), events: 0, bytes: 0 };
        let finish = |page: Filling<'_>, next_revision: u64| EventPage {
            lists: page.lists,
            next_revision,
            current_revision: status.current_revision,
        };
        let mut open_revision = revision;
        let mut open: Vec<StoredEvent<'_>> = Vec::new();
        for (scanned, (key, stored)) in events.range(&event_key(revision, 0), None).enumerate() {
            let (event_revision, event) = parse(&key, stored);
            if event_revision != open_revision {
                if !page.close(open_revision, &open) {
                    return Ok(finish(page, open_revision));
                }
                open.clear();
                if page.events >= limit || scanned >= MAX_EVENT_PAGE_SCAN {
                    return Ok(finish(page, event_revision));
                }
                open_revision = event_revision;
            }
            if range.contains(event.key) {
                open.push(event);
            }
        }
        if !page.close(open_revision, &open) {
            return Ok(finish(page, open_revision));
        }
        Ok(finish(page, revision.max(status.current_revision + 1)))
    }

    /// The list of one revision. Previous pairs are given for all of its events or for none.
    fn event_list(&self, revision: u64, stored: &[StoredEvent<'_>], with_previous: bool) -> EventList {
        let mut events: Vec<Event> = stored.iter().map(|event| self.watched(*event, revision)).collect();
        let previous_values = if !with_previous {
            PreviousValues::NotRequested
        } else if revision <= self.status.compact_revision {
            PreviousValues::Compacted
        } else {
            let previous = |event: &StoredEvent<'_>| {
                event.previous.map_or(0, |pair| pair_length_of(event.key.len(), pair.value.len()))
            };
            if list_length(&events) + stored.iter().map(previous).sum::<usize>() > MAX_EVENT_LIST_BYTES {
                PreviousValues::TooLarge
            } else {
                for (event, stored) in events.iter_mut().zip(stored) {
                    event.prev_kv = stored.previous.map(|pair| pair.under(stored.key));
                }
                PreviousValues::Included
            }
        };
        EventList { revision, previous_values, events }
    }

    /// The event of `revision` with the pair after it, which the key's next event holds, or the present.
    fn watched(&self, event: StoredEvent<'_>, revision: u64) -> Event {
        let kv = match event.kind {
            EventKind::Put => {
                let Some(pair) = self.pair_at(event.key, revision) else { unreachable!("a key exists after its put") };
                pair.under(event.key)
            }
            EventKind::Delete => KeyValue { key: event.key.to_vec(), mod_revision: revision, ..KeyValue::default() },
        };
        Event { kind: event.kind, kv, prev_kv: None }
    }
}

fn parse<'a>(key: &[u8], stored: &'a [u8]) -> (u64, StoredEvent<'a>) {
    let (Some((revision, _)), Some(event)) = (split_event_key(key), StoredEvent::parse(stored)) else {
        unreachable!("EVENTS holds stored events")
    };
    (revision, event)
}

impl Event {
    /// Whether the key came into being with this event.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}
