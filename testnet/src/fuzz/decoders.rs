//! What comes over links and out of records.

use std::fmt::Debug;

use bincode::{Decode, Encode};
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::merkle_map::{Assembler, Chunk, MapProof, MerkleMap};
use quorate_kv::{Operation, Parameters, Store};
use quorate_protocol::client::message::{CLIENT_FRAME_MAX, ClientMessage, ReplicaMessage};
use quorate_protocol::evidence::Evidence;
use quorate_protocol::message::{Message, MessageLimits};
use quorate_protocol::record::Record;

use super::Taken;
use super::corpus::{self, WINDOW};

/// Longest frame of a peer, as the default genesis has it.
const FRAME_MAX: usize = 4 * 1024 * 1024;

/// Decodes; what decodes must survive being encoded. (Not to the same bytes: an input may spell a number longer than
/// need be, or have bytes left over, and nothing that is signed or hashed is decoded first.)
fn survives<T: Decode<()> + Encode + PartialEq + Debug>(input: &[u8], limit: usize) -> Option<T> {
    let value: T = decode(input, limit).ok()?;
    let again: T = decode(&encode(&value), limit).unwrap_or_else(|error| panic!("its own encoding fails: {error}"));
    assert!(again == value, "encoded and decoded it is another");
    Some(value)
}

pub(super) fn peer_message(input: &[u8]) -> Taken {
    let Some(message) = survives::<Message>(input, FRAME_MAX) else { return Taken::No };
    // Whatever it says, to verify it is no more than a yes or a no.
    let verifier = corpus::verifier();
    let _ = verifier.verify(message, &corpus::committee(), &MessageLimits { window: WINDOW });
    Taken::Yes
}

pub(super) fn client_message(input: &[u8]) -> Taken {
    let Some(message) = survives::<ClientMessage>(input, CLIENT_FRAME_MAX) else { return Taken::No };
    if let ClientMessage::Submit(request) = message {
        let _ = corpus::verifier().verify(request, &corpus::committee(), &());
    }
    Taken::Yes
}

pub(super) fn replica_message(input: &[u8]) -> Taken {
    survives::<ReplicaMessage>(input, 2 * CLIENT_FRAME_MAX).is_some().into()
}

pub(super) fn record(input: &[u8]) -> Taken {
    survives::<Vec<Record>>(input, FRAME_MAX).is_some().into()
}

pub(super) fn evidence(input: &[u8]) -> Taken {
    let Some(evidence) = survives::<Evidence>(input, FRAME_MAX) else { return Taken::No };
    let verdict = evidence.verify(&corpus::committee(), WINDOW, &corpus::verifier());
    if let Ok(conviction) = verdict {
        // The corpus holds one conviction, and nobody can sign another.
        assert_eq!(conviction.accused, corpus::LIAR, "mutated evidence convicts somebody innocent");
    }
    Taken::Yes
}

/// Operations one after the other, each behind two bytes of length, on one small store.
pub(super) fn operations(input: &[u8]) -> Taken {
    let mut store = Store::new(Parameters { quota_bytes: 64 * 1024, auto_compaction_retention: 8 });
    let (mut rest, mut taken) = (input, Taken::No);
    let mut steps = 0;
    while let Some((length, behind)) = rest.split_first_chunk::<2>()
        && steps < 64
    {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (bytes, behind) = behind.split_at(length);
        if Operation::from_bytes(bytes).is_ok() {
            taken = Taken::Yes;
        }
        let before = store.clone();
        let result = store.apply_encoded(bytes, 1, &mut u64::MAX.clone());
        assert!(result.revision >= before.current_revision(), "a revision never goes back");
        (rest, steps) = (behind, steps + 1);
    }
    store.check_integrity().unwrap_or_else(|error| panic!("{error}"));
    let tables = store.tables().map(|(id, table)| (id, table.clone()));
    let loaded = Store::from_tables(tables).unwrap_or_else(|error| panic!("its own tables: {error}"));
    assert_eq!(loaded.root(), store.root());
    taken
}

pub(super) fn map_proof(input: &[u8]) -> Taken {
    let Some(proof) = survives::<MapProof>(input, quorate_crypto::merkle_map::MAX_PROOF) else { return Taken::No };
    let map = corpus::map();
    for key in corpus::MAP_KEYS {
        if let Ok(value) = proof.verify(map.digest(), key.as_bytes()) {
            assert_eq!(value.as_deref(), map.get(key.as_bytes()), "a proof shows what is not so");
        }
    }
    Taken::Yes
}

pub(super) fn chunk(input: &[u8]) -> Taken {
    let Some(chunk) = survives::<Chunk>(input, FRAME_MAX) else { return Taken::No };
    let map = corpus::map();
    let mut assembler = Assembler::new(map.digest(), &MerkleMap::new());
    while let Some(path) = assembler.wanted(1).pop() {
        // The mutated chunk is offered at every place before the honest one.
        let _ = assembler.add(&path, &chunk);
        if assembler.wanted(1).contains(&path) {
            let Some(honest) = map.chunk(&path, 64) else { break };
            assembler.add(&path, &honest).unwrap_or_else(|error| panic!("the honest chunk is refused: {error}"));
        }
    }
    let assembled: Option<MerkleMap> = assembler.finish();
    assert_eq!(assembled.map(|map| map.digest()), Some(map.digest()), "a chunk spoils the transfer");
    Taken::Yes
}
