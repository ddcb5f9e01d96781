use quorate_crypto::merkle_map::MerkleMap;

use super::super::RestoreError;
use super::*;
use crate::state::Snapshot;

fn used() -> Execution<Register> {
    let mut execution = genesis(PARAMETERS);
    for number in 1..=5 {
        run(&mut execution, 1000, &Ask { operations: vec![write(10)], ..ask(ALICE, 1, number) });
    }
    run(&mut execution, 1000, &ask(BOB, 2, 1));
    execution
}

/// The same contents built in another order, as state transfer does.
fn rebuilt(snapshot: &Snapshot) -> Snapshot {
    let tables = snapshot
        .tables
        .iter()
        .map(|(id, map)| {
            let mut entries: Vec<(Vec<u8>, Vec<u8>)> = map.iter().map(|(key, value)| (key, value.to_vec())).collect();
            entries.reverse();
            (*id, MerkleMap::from_entries(entries))
        })
        .collect();
    Snapshot { seq: snapshot.seq, tables }
}

#[test]
fn a_snapshot_stays_as_it_was_and_restores_to_the_same_state() {
    let mut execution = used();
    let snapshot = execution.snapshot();
    let header = snapshot.header();
    assert!(header.is_well_formed());
    assert_eq!(header, execution.header());
    run(&mut execution, 1001, &ask(ALICE, 1, 6));
    assert_eq!(snapshot.header(), header);
    assert_ne!(execution.header(), header);
    let mut restored = Execution::<Register>::from_snapshot(&rebuilt(&snapshot)).expect("restores");
    assert_eq!(restored.header(), header);
    run(&mut restored, 1001, &ask(ALICE, 1, 6));
    assert_eq!(restored.header(), execution.header());
}

#[test]
fn every_part_of_the_state_is_in_the_root() {
    let root = |execution: &Execution<Register>| execution.header().digest();
    let base = used();
    let mut roots = vec![root(&base)];
    let mut other = base.clone();
    apply(&mut other, 1001, &[]);
    roots.push(root(&other));
    let mut later = base.clone();
    apply(&mut later, 1002, &[]);
    roots.push(root(&later));
    let mut wrote = base.clone();
    run(&mut wrote, 1001, &ask(ALICE, 1, 6));
    roots.push(root(&wrote));
    let changed = genesis(ExecutionParameters { session_courtesy: 7, ..PARAMETERS });
    roots.push(root(&changed));
    roots.push(root(&genesis(PARAMETERS)));
    for (index, one) in roots.iter().enumerate() {
        assert!(!roots[index + 1..].contains(one));
    }
}

#[test]
fn damaged_snapshots_are_refused() {
    let good = used().snapshot();
    let damaged = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = good.clone();
        change(&mut snapshot);
        Execution::<Register>::from_snapshot(&snapshot).err()
    };
    assert_eq!(damaged(&|_| ()), None);
    for table in [0, 1, 2, 16].map(TableId) {
        let error = damaged(&|snapshot| drop(snapshot.tables.remove(&table)));
        assert_eq!(error, Some(RestoreError::MissingTable(table)));
    }
    for table in [3, 15, 17].map(TableId) {
        let error = damaged(&|snapshot| drop(snapshot.tables.insert(table, MerkleMap::new())));
        assert_eq!(error, Some(RestoreError::UnknownTable(table)));
    }
    assert!(matches!(damaged(&|snapshot| snapshot.seq = Seq(5)), Some(RestoreError::Malformed { .. })));
    // Every entry of the own tables matters: without it, or with a byte more or less, the state is refused or differs.
    for table in [0, 1, 2].map(TableId) {
        for (key, value) in &good.tables[&table] {
            let without = damaged(&|snapshot| drop(snapshot.tables.get_mut(&table).expect("table").remove(&key)));
            let is_client = table == TableId(2) && key[0] == 1;
            assert!(without.is_some() || is_client, "{table:?} {key:?}");
            let mut longer = value.to_vec();
            longer.push(0);
            let shorter = value[..value.len() - 1].to_vec();
            for value in [longer, shorter] {
                let put = |snapshot: &mut Snapshot| {
                    snapshot.tables.get_mut(&table).expect("table").insert(&key, value.clone());
                };
                assert!(damaged(&put).is_some(), "{table:?} {key:?}");
            }
        }
        let stray = |snapshot: &mut Snapshot| {
            snapshot.tables.get_mut(&table).expect("table").insert(&[77, 1], vec![1]);
        };
        assert!(damaged(&stray).is_some());
    }
}

#[test]
fn the_bytes_of_the_state_are_pinned() {
    let execution = used();
    let snapshot = execution.snapshot();
    let meta = snapshot.tables[&TableId(0)].get(&[0]).expect("header");
    let numbers = "00010000000000000006000000000000000000000000000003e8";
    assert_eq!(hex(meta), format!("{numbers}{}", client(ALICE).to_hex()));
    assert_eq!(snapshot.header().digest().to_hex(), "af6d366a8c66b2d399fc0e11cb8713818cf74ca26ff8e42ae2b894d09ff72180");
}
