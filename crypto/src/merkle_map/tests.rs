//! The map against `BTreeMap`, its canonical digest, its snapshots, and chains of keys deeper than a stack.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys that share prefixes, are prefixes of one another, and now and then are long.
pub(super) fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(vec![0x00, 0x01, 0x10, 0x11, 0xff]), 0..5),
        prop::collection::vec(any::<u8>(), 0..4),
        (0..40usize).prop_map(|length| vec![b'a'; length]),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..6)
}

pub(super) fn model(size: usize) -> impl Strategy<Value = Model> {
    prop::collection::btree_map(key(), value(), 0..size)
}

/// A put, or a removal.
fn operations(count: usize) -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
    prop::collection::vec((key(), prop::option::weighted(0.6, value())), 0..count)
}

pub(super) fn map_of(model: &Model) -> MerkleMap {
    model.iter().map(|(key, value)| (key, value.clone())).collect()
}

fn owned<'a>(entries: impl Iterator<Item = (Vec<u8>, &'a [u8])>) -> Vec<(Vec<u8>, Vec<u8>)> {
    entries.map(|(key, value)| (key, value.to_vec())).collect()
}

/// The digest computed anew from the contents: the contents put into a fresh map.
fn fresh_digest(model: &Model) -> Digest {
    map_of(model).digest()
}

fn expected_range(model: &Model, from: &[u8], to: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    if to.is_some_and(|to| to <= from) {
        return Vec::new();
    }
    let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
    let range = model.range::<[u8], _>((Bound::Included(from), upper));
    range.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What must be put and removed to come from `older` to `newer`.
fn expected_changes(newer: &Model, older: &Model) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut changes = BTreeMap::new();
    for (key, value) in newer {
        if older.get(key) != Some(value) {
            changes.insert(key.clone(), Some(value.clone()));
        }
    }
    for key in older.keys().filter(|key| !newer.contains_key(*key)) {
        changes.insert(key.clone(), None);
    }
    changes.into_iter().collect()
}

fn changes(newer: &MerkleMap, older: &MerkleMap) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    newer.changes_since(older).map(|(key, value)| (key, value.map(<[u8]>::to_vec))).collect()
}

/// Fails if a node below `map` has no reason to exist.
fn assert_canonical(map: &MerkleMap) {
    let mut stack: Vec<&Node> = map.root.iter().map(|root| &**root).collect();
    while let Some(node) = stack.pop() {
        assert!(node.entry.is_some() || node.children.len() >= 2, "a node without a value and with one child");
        stack.extend(node.children.iter().map(|(_, child)| &**child));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn puts_and_removals_match_the_model(operations in operations(60)) {
        let (mut map, mut model) = (MerkleMap::new(), Model::new());
        for (key, value) in operations {
            let (got, expected) = match value {
                Some(value) => (map.insert(&key, value.clone()), model.insert(key.clone(), value)),
                None => (map.remove(&key), model.remove(&key)),
            };
            prop_assert_eq!(got.as_deref(), expected.as_deref());
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(map.get(&key), model.get(&key).map(Vec::as_slice));
            // Now and then, so that cached digests are there to go stale.
            if key.len() % 3 == 0 {
                prop_assert_eq!(map.digest(), fresh_digest(&model));
            }
        }
        assert_canonical(&map);
        prop_assert_eq!(owned(map.iter()), expected_range(&model, &[], None));
        prop_assert_eq!(map.digest(), fresh_digest(&model));
    }

    #[test]
    fn ranges_match_the_model(model in model(60), from in key(), to in prop::option::of(key())) {
        let map = map_of(&model);
        let expected = expected_range(&model, &from, to.as_deref());
        prop_assert_eq!(owned(map.range(&from, to.as_deref())), expected.clone());
        let reversed: Vec<_> = expected.into_iter().rev().collect();
        prop_assert_eq!(owned(map.range_descending(&from, to.as_deref())), reversed);
    }

    #[test]
    fn neighbours_match_the_model(model in model(60), probe in key()) {
        let map = map_of(&model);
        let next = model.range(probe.clone()..).next();
        let previous = model.range(..probe.clone()).next_back();
        let owned = |entry: Option<(Vec<u8>, &[u8])>| entry.map(|(key, value)| (key, value.to_vec()));
        prop_assert_eq!(owned(map.first_at_or_after(&probe)), next.map(|(key, value)| (key.clone(), value.clone())));
        prop_assert_eq!(owned(map.last_before(&probe)), previous.map(|(key, value)| (key.clone(), value.clone())));
    }

    #[test]
    fn digest_depends_on_contents_alone(
        model in model(40),
        detours in prop::collection::vec((key(), value()), 0..20),
        order in any::<u64>(),
    ) {
        let straight = map_of(&model);
        // The same contents by another way: other order, keys that come and go, values that change back.
        let mut entries: Vec<_> = model.iter().collect();
        let mut state = order;
        for index in (1..entries.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            entries.swap(index, (state >> 33) as usize % (index + 1));
        }
        let mut detour = MerkleMap::new();
        for (key, value) in &detours {
            detour.insert(key, value.clone());
            detour.digest();
        }
        for (key, value) in entries {
            detour.insert(key, value.clone());
        }
        detour.digest();
        for (key, _) in &detours {
            match model.get(key) {
                Some(value) => detour.insert(key, value.clone()),
                None => detour.remove(key),
            };
        }
        prop_assert_eq!(detour.digest(), straight.digest());
        prop_assert_eq!(&detour, &straight);
        assert_canonical(&detour);
    }

    #[test]
    fn digests_of_different_contents_differ(left in model(12), right in model(12)) {
        prop_assert_eq!(map_of(&left).digest() == map_of(&right).digest(), left == right);
    }

    #[test]
    fn snapshots_keep_their_contents(operations in operations(60)) {
        let (mut map, mut model) = (MerkleMap::new(), Model::new());
        let mut snapshots = Vec::new();
        for (index, (key, value)) in operations.into_iter().enumerate() {
            match value {
                Some(value) => {
                    map.insert(&key, value.clone());
                    model.insert(key, value);
                }
                None => {
                    map.remove(&key);
                    model.remove(&key);
                }
            }
            if index % 5 == 0 {
                let digest = (index % 10 == 0).then(|| map.digest());
                snapshots.push((map.clone(), model.clone(), digest));
            }
        }
        for (snapshot, model, digest) in &snapshots {
            prop_assert_eq!(owned(snapshot.iter()), expected_range(model, &[], None));
            prop_assert_eq!(snapshot.len(), model.len());
            prop_assert_eq!(snapshot.digest(), digest.unwrap_or_else(|| fresh_digest(model)));
        }
    }

    #[test]
    fn changes_match_the_model(
        older in model(40),
        operations in operations(20),
        unrelated in model(40),
        hashed in any::<bool>(),
    ) {
        let old = map_of(&older);
        let (mut new, mut newer) = (old.clone(), older.clone());
        if hashed {
            old.digest();
        }
        for (key, value) in operations {
            match value {
                Some(value) => {
                    new.insert(&key, value.clone());
                    newer.insert(key, value);
                }
                None => {
                    new.remove(&key);
                    newer.remove(&key);
                }
            }
        }
        if hashed {
            new.digest();
        }
        prop_assert_eq!(changes(&new, &old), expected_changes(&newer, &older));
        prop_assert_eq!(changes(&old, &new), expected_changes(&older, &newer));
        let other = map_of(&unrelated);
        prop_assert_eq!(changes(&new, &other), expected_changes(&newer, &unrelated));
    }
}

proptest! {
    #[test]
    fn the_smallest_keys_come_off_first_up_to_the_bound(model in model(40), bound in key()) {
        let snapshot = map_of(&model);
        let mut map = snapshot.clone();
        let mut popped = Vec::new();
        while let Some((key, value)) = map.pop_first_below(&bound) {
            popped.push((key, value.to_vec()));
            assert_canonical(&map);
        }
        prop_assert_eq!(popped, expected_range(&model, &[], Some(&bound)));
        let rest: Model = model.iter().filter(|(key, _)| **key >= bound).map(|(key, value)| (key.clone(), value.clone())).collect();
        prop_assert_eq!(map.len(), rest.len());
        prop_assert_eq!(map.digest(), fresh_digest(&rest));
        prop_assert_eq!(snapshot.digest(), fresh_digest(&model), "a snapshot keeps its contents");
    }
}

#[test]
fn empty_map() {
    let mut map = MerkleMap::new();
    assert_eq!(map.digest(), EMPTY_MAP);
    assert!(map.is_empty());
    assert!(map.iter().next().is_none());
    assert!(map.range_descending(&[], None).next().is_none());
    assert_eq!(map.remove(b"a"), None);
    map.insert(b"", vec![]);
    assert_eq!(map.len(), 1);
    assert_ne!(map.digest(), EMPTY_MAP);
    assert_eq!(map.remove(b"").as_deref(), Some(&[][..]));
    assert_eq!(map.digest(), EMPTY_MAP);
}

/// Computed apart from this code, from the description in `record.rs`. Replicas sign the digest: these bytes never change once released.
#[test]
fn golden_digests() {
    let mut map = MerkleMap::new();
    map.insert(b"a", b"1".to_vec());
    assert_eq!(map.digest().to_hex(), GOLDEN[0]);
    map.insert(b"ab", b"2".to_vec());
    map.insert(b"b", vec![7; 1000]);
    map.insert(&[b'k'; 100], b"3".to_vec());
    assert_eq!(map.digest().to_hex(), GOLDEN[1]);
}

const GOLDEN: [&str; 2] = [
    "b481f62d82e3351226b565864171ecd72f10d7e9b8f1dcbe1eb98173b6417a97",
    "130a9fc11a526b59fa97d5e76c3d14fea67fbaf0c4f90aa03914dcef188ab28c",
];

#[test]
fn changes_cost_what_changed() {
    let mut map: MerkleMap = (0u32..20_000).map(|n| (n.to_be_bytes(), vec![1])).collect();
    let old = map.clone();
    map.insert(&7u32.to_be_bytes(), vec![2]);
    map.remove(&19_999u32.to_be_bytes());
    let mut walk = map.changes_since(&old);
    let mut found = Vec::new();
    for change in walk.by_ref() {
        found.push(change);
    }
    assert_eq!(found.len(), 2);
    // Far fewer nodes were compared than there are.
    assert!(walk.visited() < 100, "{} places visited", walk.visited());
}

#[test]
fn equal_subtrees_are_skipped_without_being_shared() {
    let entries = || (0u32..20_000).map(|n| (n.to_be_bytes(), vec![1]));
    let left: MerkleMap = entries().collect();
    let mut right: MerkleMap = entries().collect();
    right.insert(&7u32.to_be_bytes(), vec![2]);
    // Known digests are what equal subtrees are recognised by.
    assert_ne!(left.digest(), right.digest());
    let mut walk = right.changes_since(&left);
    assert_eq!(walk.by_ref().count(), 1);
    assert!(walk.visited() < 100, "{} places visited", walk.visited());
}

/// A chain of keys as deep as keys can be, in a thread whose stack any recursion along it would overflow.
#[test]
fn deep_chains_need_no_stack() {
    let work = || {
        let longest = vec![b'a'; MAX_KEY];
        let mut map = MerkleMap::new();
        // From the longest down, so that inserting is cheap.
        for length in (1..=MAX_KEY).rev() {
            map.insert(&longest[..length], vec![1]);
        }
        let digest = map.digest();
        assert_eq!(map.iter().count(), map.len());
        assert_eq!(map.range_descending(&[], None).count(), map.len());
        assert!(map.prove(&longest[..MAX_KEY]).verify(digest, &longest).expect("a proof").is_some());
        let snapshot = map.clone();
        map.insert(&longest, vec![2]);
        assert_eq!(map.changes_since(&snapshot).count(), 1);
        assert_ne!(map.digest(), digest);
        let mut assembler = Assembler::new(digest, &MerkleMap::new());
        while let Some(path) = assembler.wanted(1).pop() {
            let chunk = snapshot.chunk(&path, 4096).expect("a chunk");
            assembler.add(&path, &chunk).expect("the chunk fits");
            drop(assembler.partial());
        }
        let rebuilt = assembler.finish().expect("complete");
        assert_eq!(rebuilt.digest(), digest);
        drop(snapshot);
        drop(map);
        drop(rebuilt);
    };
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work).expect("a thread").join().expect("no overflow");
}

#[test]
#[should_panic(expected = "a key of 9217 bytes was admitted")]
fn a_key_beyond_the_limit_is_a_mistake_of_the_caller() {
    MerkleMap::new().insert(&[0; MAX_KEY + 1], vec![]);
}
