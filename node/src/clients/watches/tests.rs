use quorate_kv::{EventList, Parameters, PutRequest, RangeRequest};
use quorate_protocol::execution::Service as _;

use super::*;
use crate::key_value::KeyValue;

const KEY: PublicKey = PublicKey([1; 32]);

fn look(puts: &[&str], retention: u64) -> Look {
    let mut state = KeyValue::new(Parameters { auto_compaction_retention: retention, ..Parameters::default() });
    for key in puts {
        let put = PutRequest { key: key.as_bytes().to_vec(), value: b"v".to_vec(), ..PutRequest::default() };
        state.execute(&Operation::Put(put).to_bytes(), 1, &mut 0);
    }
    let revision = state.revision();
    Look { state, revision }
}

fn range_operation(range: KeyRange) -> request::Operation {
    let range = RangeRequest {
        range,
        limit: 0,
        revision: 0,
        sort_order: quorate_kv::SortOrder::Unsorted,
        sort_target: quorate_kv::SortTarget::Key,
        keys_only: false,
        count_only: false,
        min_mod_revision: 0,
        max_mod_revision: 0,
        min_create_revision: 0,
        max_create_revision: 0,
    };
    request::Operation { service: quorate_kv::SERVICE, bytes: Operation::Range(range).to_bytes() }
}

fn watch(prefix: &str, from: u64) -> Watch {
    let range = KeyRange::prefix(prefix);
    let now = Instant::now();
    let told = from.saturating_sub(1);
    Watch { key: KEY, range, next: from, told, next_progress: now, not_before: now, waits: false }
}

fn feed(watch: &mut Watch, look: &Look) -> (Fed, Vec<WatchUpdate>) {
    let mut sent = Vec::new();
    let fed = watch.feed(look, &mut |_, update| sent.push(update));
    (fed, sent)
}

#[test]
fn every_revision_of_the_range_is_sent_once_and_in_order() {
    let mut watch = watch("a", 2);
    let mut revisions = Vec::new();
    for puts in
        [&["a1", "b1"][..], &["a1", "b1", "a2", "a3"], &["a1", "b1", "a2", "a3"], &["a1", "b1", "a2", "a3", "b2"]]
    {
        let look = look(puts, 0);
        let (fed, sent) = feed(&mut watch, &look);
        assert!(matches!(fed, Fed::Current));
        for update in sent {
            let WatchUpdate::Events { revision, events } = update else { panic!("{update:?}") };
            let list: EventList = quorate_crypto::encoding::decode(&events, 1 << 20).unwrap();
            assert_eq!(list.revision, revision);
            revisions.push(revision);
        }
        assert_eq!(watch.next, look.revision + 1);
    }
    assert_eq!(revisions, [2, 4, 5]);
    assert_eq!(watch.told, 5, "revision 6 is owed as progress");
}

#[test]
fn a_watch_far_behind_is_fed_in_pages() {
    let keys: Vec<String> = (0..2 * PAGE_EVENTS + 10).map(|number| format!("a{number}")).collect();
    let look = look(&keys.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let mut watch = watch("a", 0);
    let mut pages = Vec::new();
    loop {
        let (fed, sent) = feed(&mut watch, &look);
        pages.push(sent.len());
        if matches!(fed, Fed::Current) {
            break;
        }
    }
    assert_eq!(pages, [PAGE_EVENTS, PAGE_EVENTS, 10]);
}

#[test]
fn compacted_history_and_the_future() {
    let look = look(&["a", "a", "a", "a", "a"], 2);
    let (fed, sent) = feed(&mut watch("a", 2), &look);
    assert!(matches!(fed, Fed::Over));
    assert_eq!(sent, [WatchUpdate::Compacted { revision: 4 }]);
    let mut future = watch("a", 50);
    let (fed, sent) = feed(&mut future, &look);
    assert!(matches!(fed, Fed::Current) && sent.is_empty());
    assert_eq!((future.next, future.told), (50, 49), "nothing is claimed about revisions before it");
}

#[test]
fn watches_are_capped_for_each_connection() {
    let mut watches = Watches::default();
    let range = range_operation(KeyRange::all());
    for id in 0..WATCHES_PER_CONNECTION as u64 {
        watches.begin(ConnectionId(1), KEY, id, &range, 1).unwrap();
    }
    assert!(watches.begin(ConnectionId(1), KEY, 999, &range, 1).is_err());
    assert!(watches.begin(ConnectionId(1), KEY, 3, &range, 1).is_ok(), "begun anew");
    assert!(watches.begin(ConnectionId(2), KEY, 999, &range, 1).is_ok());
    watches.forget(ConnectionId(1));
    assert_eq!(watches.len(), 1);
    let other = request::Operation { service: 9, ..range };
    assert!(watches.begin(ConnectionId(2), KEY, 1, &other, 1).is_err());
}

#[test]
fn one_key_does_not_take_every_watch() {
    let mut watches = Watches::default();
    let range = range_operation(KeyRange::all());
    let full = (WATCHES_PER_KEY / WATCHES_PER_CONNECTION) as u64;
    for connection in 0..full {
        for id in 0..WATCHES_PER_CONNECTION as u64 {
            watches.begin(ConnectionId(connection), KEY, id, &range, 1).unwrap();
        }
    }
    assert!(watches.begin(ConnectionId(full), KEY, 0, &range, 1).is_err());
    assert!(watches.begin(ConnectionId(0), KEY, 0, &range, 1).is_ok(), "begun anew");
    assert!(watches.begin(ConnectionId(99), PublicKey([2; 32]), 0, &range, 1).is_ok(), "another key has its own share");
    watches.end(ConnectionId(0), 0);
    assert!(watches.begin(ConnectionId(full), KEY, 0, &range, 1).is_ok(), "in place of one that ended");
    watches.forget(ConnectionId(0));
    for id in 1..WATCHES_PER_CONNECTION as u64 {
        watches.begin(ConnectionId(full), KEY, id, &range, 1).unwrap();
    }
    assert!(watches.begin(ConnectionId(full + 1), KEY, 0, &range, 1).is_err());
}
