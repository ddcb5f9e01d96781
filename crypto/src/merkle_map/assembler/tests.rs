//! State transfer: honest chunks rebuild the map, others leave no trace, and nothing is asked for twice.

use proptest::prelude::*;

use super::super::record::{RecordValue, write_record};
use super::super::tests::{map_of, model};
use super::super::{CHUNK_BUDGET, MAX_KEY, MAX_VALUE};
use super::*;
use crate::encoding;

/// Fetches everything from `source` in chunks of `budget` bytes and returns how many it took.
fn fetch(assembler: &mut Assembler, source: &MerkleMap, budget: usize) -> usize {
    let mut chunks = 0;
    while let Some(path) = assembler.wanted(1).pop() {
        let chunk = source.chunk(&path, budget).expect("the source has what is missing");
        assembler.add(&path, &chunk).expect("an honest chunk");
        chunks += 1;
    }
    assert!(assembler.is_complete());
    chunks
}

fn large(entries: u32) -> MerkleMap {
    (0..entries).map(|n| (n.wrapping_mul(2_654_435_761).to_be_bytes(), vec![n as u8; 40])).collect()
}

/// A chunk with the bytes changed.
fn altered(chunk: &Chunk, change: impl FnOnce(&mut Vec<u8>)) -> Chunk {
    let mut nodes = chunk.nodes().to_vec();
    change(&mut nodes);
    Chunk::of_bytes(nodes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_map_is_rebuilt_in_any_order(
        target in model(60),
        base in model(60),
        budget in 0..400usize,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let (target, base) = (map_of(&target), map_of(&base));
        let mut assembler = Assembler::new(target.digest(), &base);
        let mut picks = picks.iter().cycle();
        loop {
            let wanted = assembler.wanted(usize::MAX);
            prop_assert_eq!(wanted.len(), assembler.missing());
            prop_assert!(wanted.is_sorted());
            if wanted.is_empty() {
                break;
            }
            let path = picks.next().expect("a cycle").get(&wanted);
            let chunk = target.chunk(path, budget).expect("the source has what is missing");
            let chunk: Chunk = encoding::decode(&encoding::encode(&chunk), MAX_CHUNK + 8).expect("its own encoding");
            prop_assert_eq!(assembler.add(path, &chunk), Ok(()));
            prop_assert_eq!(assembler.add(path, &chunk), Err(ChunkError::NotWanted));
        }
        let rebuilt = assembler.finish().expect("nothing is missing");
        prop_assert_eq!(&rebuilt, &target);
        prop_assert_eq!(rebuilt.digest(), target.digest());
        prop_assert_eq!(rebuilt.len(), target.len());
    }

    #[test]
    fn an_abandoned_assembly_loses_nothing(
        first in model(60),
        second in model(60),
        base in model(60),
        budget in 0..200usize,
        steps in 0..10usize,
    ) {
        let (first, second, base) = (map_of(&first), map_of(&second), map_of(&base));
        let mut abandoned = Assembler::new(first.digest(), &base);
        for _ in 0..steps {
            let Some(path) = abandoned.wanted(1).pop() else { break };
            abandoned.add(&path, &first.chunk(&path, budget).expect("there")).expect("an honest chunk");
        }
        let partial = abandoned.partial();
        // Taking it up again asks for nothing that came in before.
        let mut again = Assembler::new(first.digest(), &partial);
        let mut through = abandoned;
        prop_assert!(fetch(&mut again, &first, budget) <= fetch(&mut through, &first, budget) + steps);
        prop_assert_eq!(&again.finish().expect("complete"), &first);
        let mut other = Assembler::new(second.digest(), &partial);
        fetch(&mut other, &second, budget);
        prop_assert_eq!(&other.finish().expect("complete"), &second);
    }

    #[test]
    fn a_changed_byte_is_refused(
        target in model(40),
        budget in 0..400usize,
        place in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let target = map_of(&target);
        prop_assume!(!target.is_empty());
        let mut assembler = Assembler::new(target.digest(), &MerkleMap::new());
        let chunk = target.chunk(&[], budget).expect("the root");
        let place = place.index(chunk.len());
        prop_assert!(assembler.add(&[], &altered(&chunk, |nodes| nodes[place] ^= 1u8 << bit)).is_err());
        prop_assert!(assembler.add(&[], &altered(&chunk, |nodes| nodes.truncate(place))).is_err());
        prop_assert!(assembler.add(&[], &altered(&chunk, |nodes| nodes.push(0))).is_err());
        // Nothing was kept: the same is missing as before.
        prop_assert_eq!(assembler.wanted(10), vec![Path::new()]);
        prop_assert_eq!(assembler.add(&[], &chunk), Ok(()));
    }

    #[test]
    fn any_bytes_are_refused(nodes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut assembler = Assembler::new(Digest([1; 32]), &MerkleMap::new());
        prop_assert!(assembler.add(&[], &Chunk::of_bytes(nodes)).is_err());
    }
}

/// Rule P14: a chunk holds for its own path only.
#[test]
fn a_chunk_at_another_path_is_refused() {
    let target = large(2_000);
    let mut assembler = Assembler::new(target.digest(), &MerkleMap::new());
    let root = target.chunk(&[], 600).expect("the root");
    assembler.add(&[], &root).expect("an honest chunk");
    let wanted = assembler.wanted(3);
    let [first, second, _] = wanted.as_slice() else { panic!("more is missing") };
    let of_first = target.chunk(first, CHUNK_BUDGET).expect("there");
    assert_eq!(assembler.add(second, &of_first), Err(ChunkError::WrongDigest));
    assert_eq!(assembler.add(first, &root), Err(ChunkError::WrongDigest));
    for path in [vec![], vec![16], vec![255; 3], vec![0; 2 * MAX_KEY + 2], [first.as_slice(), &[0]].concat()] {
        assert_eq!(assembler.add(&path, &of_first), Err(ChunkError::NotWanted), "{path:?}");
    }
    assert_eq!(assembler.wanted(3), wanted);
    assert_eq!(assembler.add(first, &of_first), Ok(()));
}

#[test]
fn oversized_and_non_canonical_chunks_are_refused() {
    let target = large(10);
    let refuse = |nodes: Vec<u8>| {
        Assembler::new(target.digest(), &MerkleMap::new()).add(&[], &Chunk::of_bytes(nodes)).expect_err("refused")
    };
    let record = |prefix: &[u8], value: RecordValue<'_>, present: u16, following: u16, stubs: usize| {
        let mut nodes = Vec::new();
        write_record(&mut nodes, prefix, value, present, following, std::iter::repeat_n(Digest::ZERO, stubs));
        nodes
    };
    let malformed = ChunkError::Malformed;
    let value = RecordValue::Bytes(b"v");
    assert_eq!(refuse(vec![0; MAX_CHUNK + 1]), ChunkError::TooLong(MAX_CHUNK + 1));
    assert_eq!(refuse(vec![]), malformed(MalformedRecord::Truncated));
    assert_eq!(refuse(record(&[], RecordValue::None, 0, 0, 0)), malformed(MalformedRecord::NotCanonical));
    assert_eq!(refuse(record(&[], RecordValue::None, 1, 0, 1)), malformed(MalformedRecord::NotCanonical));
    assert_eq!(refuse(record(&[1], value, 0, 0, 0)), malformed(MalformedRecord::ValueAtHalfByte));
    assert_eq!(refuse(record(&[], value, 1, 2, 1)), malformed(MalformedRecord::BadField));
    assert_eq!(refuse(record(&vec![0; 2 * MAX_KEY + 2], value, 0, 0, 0)), malformed(MalformedRecord::TooDeep));
    assert_eq!(refuse(record(&vec![0; 2 * MAX_KEY], value, 1, 0, 1)), malformed(MalformedRecord::TooDeep));
    assert_eq!(refuse(record(&[], RecordValue::Digest(Digest::ZERO), 0, 0, 0)), ChunkError::ValueMissing);
    // A half-byte that is not zero behind an odd prefix, a kind of value there is not, a value that claims 4 GiB.
    let mut odd = record(&[1], RecordValue::None, 3, 0, 2);
    odd[2] |= 5;
    assert_eq!(refuse(odd), malformed(MalformedRecord::BadField));
    assert_eq!(refuse(vec![0, 0, 3, 0, 0, 0, 0]), malformed(MalformedRecord::BadField));
    let endless = vec![0, 0, 2, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(refuse(endless), malformed(MalformedRecord::ValueTooLong(u32::MAX as usize)));
    let cut = vec![0, 0, 2, 0, 0, 1, 0];
    assert_eq!(refuse(cut), malformed(MalformedRecord::Truncated));
}

#[test]
fn chunks_are_near_their_budget_and_few() {
    let target = large(20_000);
    let budget = 16 * 1024;
    let mut assembler = Assembler::new(target.digest(), &MerkleMap::new());
    let (mut chunks, mut bytes) = (0, 0);
    while let Some(path) = assembler.wanted(1).pop() {
        let chunk = target.chunk(&path, budget).expect("there");
        assert!(chunk.len() <= budget, "a chunk of {} bytes", chunk.len());
        bytes += chunk.len();
        assembler.add(&path, &chunk).expect("an honest chunk");
        chunks += 1;
    }
    let size = target.encoded_size() as usize;
    assert!(bytes <= size + size / 10, "{bytes} bytes for {size}");
    assert!(chunks <= 6 * size / budget, "{chunks} chunks for {size} bytes");
}

#[test]
fn a_value_larger_than_the_budget_comes_alone() {
    let mut target = large(100);
    target.insert(&[b'k'; MAX_KEY], vec![1; MAX_VALUE]);
    let mut assembler = Assembler::new(target.digest(), &MerkleMap::new());
    while let Some(path) = assembler.wanted(1).pop() {
        let chunk = target.chunk(&path, 512).expect("there");
        assert!(chunk.len() <= MAX_CHUNK);
        assembler.add(&path, &chunk).expect("an honest chunk");
    }
    assert_eq!(assembler.finish().expect("complete"), target);
}

#[test]
fn only_what_changed_is_asked_for() {
    let old = large(20_000);
    let mut new = old.clone();
    for n in 0..10u32 {
        new.insert(&n.to_be_bytes(), vec![9; 40]);
    }
    let budget = 4 * 1024;
    let all = fetch(&mut Assembler::new(new.digest(), &MerkleMap::new()), &new, budget);
    let some = fetch(&mut Assembler::new(new.digest(), &old), &new, budget);
    assert!(some * 10 < all, "{some} of {all} chunks");
    assert_eq!(fetch(&mut Assembler::new(new.digest(), &new), &new, budget), 0);
}

#[test]
fn a_newer_root_keeps_what_came_in_for_the_older() {
    let old = large(20_000);
    let budget = 4 * 1024;
    let mut abandoned = Assembler::new(old.digest(), &MerkleMap::new());
    let all = fetch(&mut Assembler::new(old.digest(), &MerkleMap::new()), &old, budget);
    for _ in 0..all / 2 {
        let path = abandoned.wanted(1).pop().expect("half is missing");
        abandoned.add(&path, &old.chunk(&path, budget).expect("there")).expect("an honest chunk");
    }
    let mut new = old.clone();
    new.insert(b"another", vec![1]);
    let mut assembler = Assembler::new(new.digest(), &abandoned.partial());
    let rest = fetch(&mut assembler, &new, budget);
    assert!(rest < all * 6 / 10, "{rest} of {all} chunks");
    assert_eq!(assembler.finish().expect("complete"), new);
}

#[test]
fn the_empty_map_needs_no_chunk() {
    let assembler = Assembler::new(EMPTY_MAP, &large(10));
    assert!(assembler.is_complete());
    assert!(assembler.wanted(1).is_empty());
    assert!(assembler.finish().expect("complete").is_empty());
    assert!(MerkleMap::new().chunk(&[], CHUNK_BUDGET).is_none());
}

#[test]
fn no_chunk_begins_inside_a_prefix_or_outside_the_map() {
    let map: MerkleMap = [(b"abc", vec![1]), (b"abd", vec![2])].into_iter().collect();
    assert!(map.chunk(&[], CHUNK_BUDGET).is_some());
    assert!(map.chunk(&[6], CHUNK_BUDGET).is_none());
    assert!(map.chunk(&[6, 1, 6, 2, 6, 3], CHUNK_BUDGET).is_some());
    assert!(map.chunk(&[6, 1, 6, 2, 6, 5], CHUNK_BUDGET).is_none());
    assert!(map.chunk(&[6, 1, 6, 2, 6, 3, 0], CHUNK_BUDGET).is_none());
    assert!(map.chunk(&[6, 1, 6, 2, 6, 255], CHUNK_BUDGET).is_none());
}

/// A chunk brings much that the base has, in another neighbourhood: that is not held twice.
#[test]
fn what_a_chunk_brings_and_the_base_has_is_held_once() {
    fn leaves<'a>(node: &'a Arc<Node>, found: &mut Vec<&'a Arc<Node>>) {
        if node.children.is_empty() {
            found.push(node);
        }
        for child in node.children.nodes() {
            leaves(child, found);
        }
    }
    let base = large(2_000);
    let mut target = base.clone();
    for n in 0..200_u32 {
        target.insert(&n.wrapping_mul(2_246_822_519).to_be_bytes(), vec![1; 40]);
    }
    let copy: MerkleMap =
        (0..2_000_u32).map(|n| (n.wrapping_mul(2_654_435_761).to_be_bytes(), vec![n as u8; 40])).collect();
    let mut assembler = Assembler::new(target.digest(), &copy);
    fetch(&mut assembler, &target, CHUNK_BUDGET);
    let rebuilt = assembler.finish().expect("nothing is missing");
    assert_eq!(rebuilt.digest(), target.digest());
    let mut held = Vec::new();
    leaves(copy.root.as_ref().expect("it has entries"), &mut held);
    let mut all = Vec::new();
    leaves(rebuilt.root.as_ref().expect("it has entries"), &mut all);
    let shared = all.iter().filter(|leaf| held.iter().any(|one| Arc::ptr_eq(one, leaf))).count();
    assert!(all.len() >= 2_000 && shared * 10 > all.len() * 7, "{shared} of {}", all.len());
}
