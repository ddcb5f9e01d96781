use quorate_crypto::encoding::encode;
use quorate_crypto::merkle_map::MerkleMap;

use super::{IntegrityError, LoadError, Parameters, Status, Store, TableId};
use crate::event::event_key;
use crate::{KeyRange, Operation, PutRequest};

fn filled() -> Store {
    let mut store = Store::default();
    for key in ["a", "b", "a", "c"] {
        store.apply(&Operation::Put(PutRequest::new(key, "value")), 0);
    }
    store
}

fn loaded(store: &Store, change: impl FnOnce(&mut [(TableId, MerkleMap); 3])) -> Result<Store, LoadError> {
    let mut tables = store.tables().map(|(table, map)| (table, map.clone()));
    change(&mut tables);
    Store::from_tables(tables)
}

#[test]
fn a_store_loads_from_its_tables_in_any_order() {
    let store = filled();
    let again = loaded(&store, |tables| tables.reverse());
    assert_eq!(again.as_ref(), Ok(&store));
    assert_eq!(again.map(|again| again.root()), Ok(store.root()));
    let empty = Store::default();
    let meta = empty.tables().into_iter().filter(|(table, _)| *table == TableId::META);
    assert_eq!(Store::from_tables(meta.map(|(table, map)| (table, map.clone()))), Ok(empty));
}

#[test]
fn tables_of_something_else_are_refused() {
    let store = filled();
    assert_eq!(Store::from_tables([]), Err(LoadError::Meta("format")));
    let twice = loaded(&store, |tables| tables[0].0 = TableId::META);
    assert_eq!(twice, Err(LoadError::UnexpectedTable(TableId::META)));
    let foreign = loaded(&store, |tables| tables[1].0 = TableId(9));
    assert_eq!(foreign, Err(LoadError::UnexpectedTable(TableId(9))));
    let later = loaded(&store, |tables| drop(tables[2].1.insert(b"format", encode(&2_u32))));
    assert_eq!(later, Err(LoadError::Format(2)));
    for name in ["format", "parameters", "status"] {
        let missing = loaded(&store, |tables| drop(tables[2].1.remove(name.as_bytes())));
        assert_eq!(missing, Err(LoadError::Meta(name)));
        let garbled = loaded(&store, |tables| drop(tables[2].1.insert(name.as_bytes(), vec![1; 3])));
        assert_eq!(garbled, Err(LoadError::Meta(name)));
    }
    let events = loaded(&store, |tables| drop(tables[1].1.insert(&event_key(3, 1), vec![7])));
    assert_eq!(events, Err(LoadError::Events));
    let place = loaded(&store, |tables| drop(tables[1].1.insert(b"short", vec![0, 0, 0, 0, 1, b'k'])));
    assert_eq!(place, Err(LoadError::Events));
    let status = Status { compact_revision: 99, ..store.status() };
    let impossible = loaded(&store, |tables| drop(tables[2].1.insert(b"status", encode(&status))));
    assert_eq!(impossible, Err(LoadError::Meta("status")));
}

#[test]
fn tables_that_do_not_agree_are_found() {
    let store = filled();
    let check = |change: &dyn Fn(&mut [(TableId, MerkleMap); 3])| {
        loaded(&store, change).expect("META and EVENTS are well formed").check_integrity()
    };
    assert_eq!(check(&|_| ()), Ok(()));
    assert_eq!(check(&|tables| drop(tables[0].1.insert(b"a", vec![0; 9]))), Err(IntegrityError::Pair));
    assert_eq!(check(&|tables| drop(tables[0].1.remove(b"a"))), Err(IntegrityError::Event { revision: 4 }));
    assert_eq!(check(&|tables| drop(tables[1].1.remove(&event_key(3, 0)))), Err(IntegrityError::Event { revision: 4 }));
    assert_eq!(check(&|tables| drop(tables[1].1.remove(&event_key(5, 0)))), Err(IntegrityError::Event { revision: 5 }));
    let counted = store.status().logical_bytes + 1;
    let status = Status { logical_bytes: counted, ..store.status() };
    assert_eq!(
        check(&|tables| drop(tables[2].1.insert(b"status", encode(&status)))),
        Err(IntegrityError::Bytes { counted, actual: counted - 1 })
    );
}

#[test]
fn parameters_are_part_of_the_state() {
    let other = Parameters { quota_bytes: 1, ..Parameters::default() };
    assert_ne!(Store::new(other).root(), Store::default().root());
    assert_eq!(Store::new(other).parameters(), other);
}

#[test]
fn nothing_has_a_deadline_until_there_are_leases() {
    assert_eq!(filled().next_deadline(), None);
}

#[test]
fn a_range_that_no_operation_may_name_is_not_watched_either() {
    let store = filled();
    assert!(store.events_since(0, &KeyRange::single(""), 0, false).is_err());
    assert!(store.events_since(0, &KeyRange::single(vec![b'k'; 4097]), 0, false).is_err());
}
