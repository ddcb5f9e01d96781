//! What clients are told beside replies: a serializable read is some past state, a watch neither skips nor repeats nor
//! invents, a receipt opens.
//!
//! The order's events are kept here from the first revision on, whatever replicas compact.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_crypto::encoding::{DECODE_CEILING, decode};
use quorate_crypto::merkle_tree::MerklePath;
use quorate_crypto::{Committee, Digest, ReplicaId, Seq, SignatureScheme, Signed, StatementBody};
use quorate_kv::{
    Event, EventKind, EventList, KeyRange, KeyValue as Pair, Operation, OperationResult, Outcome as KvOutcome,
    RangeRequest,
};
use quorate_node::key_value::KeyValue;
use quorate_protocol::client::{Delivery, ReadEnding};
use quorate_protocol::execution::Execution;
use quorate_protocol::reply::Reply;

use crate::sim::report::Violation;

/// How often clients were told something that could be checked.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::sim) struct Told {
    pub(in crate::sim) reads: u64,
    pub(in crate::sim) reads_without_agreement: u64,
    pub(in crate::sim) watched_revisions: u64,
    pub(in crate::sim) watch_progress: u64,
    pub(in crate::sim) watches_compacted: u64,
    pub(in crate::sim) receipts: u64,
}

/// The events of the one order, and where each watch stands.
pub(in crate::sim) struct WhatClientsAreTold {
    events: BTreeMap<u64, Vec<Event>>,
    /// Where a batch compacted what it had written itself, nobody can read before its end: the revision before the batch,
    /// and the pairs at the end of it, by the revision there.
    bases: BTreeMap<u64, (u64, Vec<Pair>)>,
    revision: u64,
    roots: BTreeMap<Seq, Digest>,
    /// The lowest revision not delivered, by client; none until the watch has begun to deliver.
    watches: BTreeMap<usize, Option<u64>>,
    committee: Committee,
    scheme: Arc<dyn SignatureScheme>,
    pub(super) told: Told,
}

fn broken(what: String) -> Result<(), Violation> {
    Err(Violation::new("told", what))
}

impl WhatClientsAreTold {
    pub(super) fn new(committee: Committee, scheme: Arc<dyn SignatureScheme>) -> WhatClientsAreTold {
        WhatClientsAreTold {
            events: BTreeMap::new(),
            bases: BTreeMap::new(),
            revision: 1,
            roots: BTreeMap::new(),
            watches: BTreeMap::new(),
            committee,
            scheme,
            told: Told::default(),
        }
    }

    /// The reference has executed the next batch of the order.
    pub(super) fn executed(&mut self, seq: Seq, results: Digest, reference: &Execution<KeyValue>) {
        self.roots.insert(seq, results);
        let store = reference.service().store();
        let (next, compacted) = (self.revision + 1, store.compact_revision());
        let from = next.max(compacted);
        if compacted > next {
            let all = Operation::Range(RangeRequest::new(KeyRange::all()));
            if let KvOutcome::Range(range) = store.read(&all, 0).outcome {
                self.bases.insert(store.current_revision(), (self.revision, range.kvs));
            }
        }
        if let Ok(page) = store.events_since(from, &KeyRange::all(), 0, false) {
            for list in page.lists {
                self.events.insert(list.revision, list.events);
            }
        }
        self.revision = store.current_revision();
    }

    fn in_range(&self, revision: u64, range: &KeyRange) -> Vec<Event> {
        let events = self.events.get(&revision).into_iter().flatten();
        events.filter(|event| range.contains(&event.kv.key)).cloned().collect()
    }

    /// A serializable read of one key ended.
    pub(in crate::sim) fn read(&mut self, client: usize, key: &[u8], ending: &ReadEnding) -> Result<(), Violation> {
        let ReadEnding::Read { revision, result, .. } = ending else {
            self.told.reads_without_agreement += 1;
            return Ok(());
        };
        let Ok(result) = OperationResult::from_bytes(result) else {
            return broken(format!("client {client} read something that does not decode"));
        };
        let KvOutcome::Range(range) = &result.outcome else { return Ok(()) };
        if *revision > self.revision || result.revision != *revision {
            return broken(format!("client {client} read at {revision}, the order has come to {}", self.revision));
        }
        let compacted_away = |(end, (begin, _)): (&u64, &(u64, Vec<Pair>))| (begin + 1..*end).contains(revision);
        if self.bases.iter().any(compacted_away) {
            return Ok(());
        }
        let base = self.bases.range(..=revision).next_back();
        let above = base.map_or(0, |(end, _)| end + 1);
        let events = self.events.range(..=revision).rev().take_while(|(at, _)| **at >= above);
        let last = events.flat_map(|(_, events)| events.iter().rev()).find(|event| event.kv.key == key);
        let expected = match last {
            Some(event) => (event.kind == EventKind::Put).then_some(&event.kv),
            None => base.and_then(|(_, (_, pairs))| pairs.iter().find(|pair| pair.key == key)),
        };
        self.told.reads += 1;
        if range.kvs.first() == expected {
            return Ok(());
        }
        broken(format!("client {client} read {:?} at {revision}, the order gives {expected:?}", range.kvs))
    }

    /// A client watches from a revision on, or from wherever the cluster stands.
    pub(in crate::sim) fn watch(&mut self, client: usize, from: Option<u64>) {
        self.watches.insert(client, from);
    }

    /// A watch delivers.
    pub(in crate::sim) fn watched(
        &mut self,
        client: usize,
        range: &KeyRange,
        delivery: &Delivery,
    ) -> Result<(), Violation> {
        let next = self.watches.get(&client).copied().flatten();
        let upto = match delivery {
            Delivery::Compacted { .. } => {
                self.told.watches_compacted += 1;
                return Ok(());
            }
            Delivery::Ended { reason } => return broken(format!("the watch of client {client} is ended: {reason}")),
            Delivery::Progress { revision } => {
                self.told.watch_progress += 1;
                revision + 1
            }
            Delivery::Events { revision, .. } => *revision,
        };
        if upto > self.revision + 1 {
            return broken(format!("the watch of client {client} is at {upto}, the order at {}", self.revision));
        }
        if let Some(next) = next {
            if upto < next {
                return broken(format!("the watch of client {client} goes back from {next} to {upto}"));
            }
            if let Some(skipped) = (next..upto).find(|revision| !self.in_range(*revision, range).is_empty()) {
                return broken(format!("the watch of client {client} skips revision {skipped} on its way to {upto}"));
            }
        }
        let mut after = upto;
        if let Delivery::Events { revision, events } = delivery {
            let list: Option<EventList> = decode(events, DECODE_CEILING).ok();
            let expected = self.in_range(*revision, range);
            if expected.is_empty() || list.as_ref().map(|list| &list.events) != Some(&expected) {
                return broken(format!("client {client} watches {list:?} at {revision}, the order gives {expected:?}"));
            }
            self.told.watched_revisions += 1;
            after = revision + 1;
        }
        self.watches.insert(client, Some(after));
        Ok(())
    }

    /// An honest replica handed out a receipt for what the client was told.
    pub(in crate::sim) fn receipt(
        &mut self,
        from: ReplicaId,
        reply: &Reply,
        signed: &Signed,
        path: &MerklePath,
    ) -> Result<(), Violation> {
        let StatementBody::Executed { seq, .. } = signed.body() else {
            return broken(format!("the receipt of replica {from} says {:?}", signed.body()));
        };
        let bytes = signed.statement.bytes(self.committee.cluster());
        let key = self.committee.key(from);
        let holds = key.is_some_and(|key| self.scheme.verify(key, &bytes, &signed.signature));
        if signed.signer() != from || !holds {
            return broken(format!("the receipt of replica {from} is not signed by it"));
        }
        let Some(root) = self.roots.get(&reply.seq) else {
            return broken(format!("replica {from} gives a receipt for {}, which was never executed", reply.seq));
        };
        let right = *seq == reply.seq && path.index == reply.index && path.verify(*root, &reply.leaf()).is_ok();
        self.told.receipts += 1;
        if right { Ok(()) } else { broken(format!("the receipt of replica {from} does not open {reply:?}")) }
    }
}

#[cfg(test)]
mod tests {
    use quorate_crypto::encoding::encode;
    use quorate_crypto::{ClusterId, Epoch, FaultModel, Member};
    use quorate_kv::PreviousValues;

    use super::*;
    use crate::sim::signing::Keyring;

    fn oracle() -> WhatClientsAreTold {
        let ring = Keyring::new(1, 4, false);
        let members = (0..4).map(|id| Member { id: ReplicaId(id), key: ring.key(id.into()).public_key() });
        let cluster = ClusterId(Digest([3; 32]));
        let committee =
            Committee::new(cluster, Epoch(0), FaultModel::Byzantine, members.collect()).expect("four members");
        let mut oracle = WhatClientsAreTold::new(committee, ring.scheme());
        for revision in [2, 3, 5] {
            oracle.events.insert(revision, vec![event(revision)]);
        }
        oracle.revision = 5;
        oracle
    }

    fn event(revision: u64) -> Event {
        let kv = Pair { key: b"a".to_vec(), mod_revision: revision, ..Pair::default() };
        Event { kind: EventKind::Put, kv, prev_kv: None }
    }

    fn events(revision: u64, of: u64) -> Delivery {
        let list = EventList { revision, previous_values: PreviousValues::NotRequested, events: vec![event(of)] };
        Delivery::Events { revision, events: encode(&list) }
    }

    #[test]
    fn a_read_of_another_state_is_seen() {
        let read_as = |revision: u64, of: Option<u64>| {
            let kvs: Vec<Pair> = of.map(|of| event(of).kv).into_iter().collect();
            let range =
                quorate_kv::RangeResponse { count: kvs.len() as u64, kvs, ..quorate_kv::RangeResponse::default() };
            let result = OperationResult { revision, outcome: KvOutcome::Range(range) }.to_bytes();
            oracle().read(0, b"a", &ReadEnding::Read { revision, result, matching: 2 })
        };
        assert_eq!(read_as(1, None), Ok(()));
        assert_eq!(read_as(4, Some(3)), Ok(()));
        assert!(read_as(4, Some(2)).is_err(), "an older state");
        assert!(read_as(4, Some(5)).is_err(), "a later state");
        assert!(read_as(4, None).is_err(), "nothing");
        assert!(read_as(6, Some(5)).is_err(), "a revision that there is not");
    }

    #[test]
    fn a_watch_that_skips_repeats_or_invents_is_seen() {
        let all = KeyRange::all();
        let after_two = |deliveries: &[Delivery]| {
            let mut oracle = oracle();
            oracle.watch(0, Some(2));
            oracle.watched(0, &all, &events(2, 2)).expect("the first is right");
            deliveries.iter().try_for_each(|delivery| oracle.watched(0, &all, delivery))
        };
        assert_eq!(after_two(&[events(3, 3), Delivery::Progress { revision: 4 }, events(5, 5)]), Ok(()));
        for (what, wrong) in [
            ("skips 3", events(5, 5)),
            ("repeats 2", events(2, 2)),
            ("changes 3", events(3, 2)),
            ("invents 4", events(4, 4)),
            ("passes over 3", Delivery::Progress { revision: 4 }),
            ("is ahead of the order", Delivery::Progress { revision: 9 }),
        ] {
            assert!(after_two(&[wrong]).is_err(), "a watch that {what}");
        }
    }
}
