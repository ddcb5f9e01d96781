//! The bytes of every operation and result, and the root of a small state. They are signed, logged and compared between
//! replicas of different builds: a change here needs a new format version, not new expectations.

mod samples;

use quorate_crypto::encoding::encode;
use quorate_kv::{Operation, OperationResult, Parameters, PutRequest, Store};

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Lines of `name hex`, as the file beside this one holds them.
fn golden(name: &str) -> Option<&'static str> {
    let lines = include_str!("golden.txt").lines();
    lines.filter_map(|line| line.split_once(' ')).find(|(known, _)| *known == name).map(|(_, bytes)| bytes)
}

fn assert_golden(name: &str, bytes: &[u8]) {
    let actual = hexadecimal(bytes);
    assert_eq!(golden(name), Some(actual.as_str()), "{name} {actual}");
}

#[test]
fn operations_have_these_bytes() {
    for (name, operation) in samples::operations() {
        assert_golden(name, &operation.to_bytes());
        assert_eq!(Operation::from_bytes(&operation.to_bytes()), Ok(operation));
    }
}

#[test]
fn results_have_these_bytes() {
    for (name, outcome) in samples::outcomes() {
        let result = OperationResult { revision: 258, outcome };
        assert_golden(name, &result.to_bytes());
        assert_eq!(OperationResult::from_bytes(&result.to_bytes()), Ok(result));
    }
}

#[test]
fn a_page_of_events_has_these_bytes_and_its_lists_these_digests() {
    let page = samples::event_page();
    assert_golden("event-page", &encode(&page));
    assert_golden("event-list-digest", page.lists[0].digest().as_bytes());
}

#[test]
fn the_state_has_these_entries_and_this_root() {
    let mut store = Store::new(Parameters { quota_bytes: 1 << 20, auto_compaction_retention: 3 });
    assert_golden("empty-root", store.root().as_bytes());
    for (_, operation) in samples::operations() {
        store.apply(&operation, 0);
    }
    store.apply(&Operation::Put(PutRequest::new("k", "v")), 0);
    for (table, map) in store.tables() {
        let entries: Vec<u8> = map.iter().flat_map(|(key, value)| encode(&(key, value.to_vec()))).collect();
        assert_golden(&format!("table-{}", table.0), &entries);
    }
    assert_golden("root", store.root().as_bytes());
}
