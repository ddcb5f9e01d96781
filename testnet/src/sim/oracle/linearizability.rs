//! Linearizability, by witness: the order itself is the linearisation. It must respect real time, and a plain model of
//! registers executed in that order must give what the clients were told.

use std::collections::BTreeMap;

use quorate_crypto::Digest;
use quorate_kv::{CompareTarget, Operation, OperationResult, Outcome as KvOutcome, TxnOperation, TxnOutcome};
use quorate_protocol::reply::Outcome;

use super::exactly_once::{ExactlyOnce, Place};
use crate::sim::history::{Ended, History};
use crate::sim::report::Violation;

pub(super) fn check(history: &History, once: &ExactlyOnce) -> Result<(), Violation> {
    respects_real_time(history)?;
    fits_the_model(history, once)
}

/// What ended before another was asked for stands before it in the order (Herlihy and Wing 1990).
fn respects_real_time(history: &History) -> Result<(), Violation> {
    let mut moments = Vec::new();
    for asked in history.all() {
        if let Some((at, Ended::Executed(reply))) = &asked.ended {
            let place: Place = (reply.seq, reply.index);
            // At one moment what is asked comes before what ends: only what ended strictly earlier must stand before.
            moments.push((asked.at, 0, place, asked.name()));
            moments.push((*at, 1, place, asked.name()));
        }
    }
    moments.sort();
    let mut latest: Option<(Place, String)> = None;
    for (_, kind, place, name) in moments {
        if kind == 0 {
            if let Some((before, earlier)) = &latest
                && *before > place
            {
                let what =
                    format!("{name} was asked after {earlier} had ended, but stands at {place:?} before {before:?}");
                return Err(Violation::new("linearizability", what));
            }
        } else if latest.as_ref().is_none_or(|(before, _)| *before < place) {
            latest = Some((place, name));
        }
    }
    Ok(())
}

/// Keys with value and the revision of the last change.
type Registers = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

fn fits_the_model(history: &History, once: &ExactlyOnce) -> Result<(), Violation> {
    let mut told: BTreeMap<Digest, (&Operation, Option<&[Vec<u8>]>, String)> = BTreeMap::new();
    for asked in history.all() {
        for digest in &asked.signed {
            told.insert(*digest, (&asked.operation, None, asked.name()));
        }
        if let Some((_, Ended::Executed(reply))) = &asked.ended
            && let Outcome::Results(results) = &reply.outcome
        {
            told.insert(reply.request, (&asked.operation, Some(results), asked.name()));
        }
    }
    for (digest, operation) in history.all_foreign() {
        told.insert(*digest, (operation, None, "a faulty client".to_owned()));
    }
    let mut registers = Registers::new();
    // As in etcd, an empty store stands at revision 1.
    let mut revision = 1;
    for (place, executed) in once.in_order() {
        let Some((operation, results, name)) = told.get(&executed.reply.request) else {
            return Err(Violation::new("linearizability", format!("nobody asked for what executed at {place:?}")));
        };
        if quorate_kv::check(operation).is_err() {
            // Only faulty clients ask for it; the store refuses it and is as before.
            continue;
        }
        let expected = execute(operation, &mut registers, &mut revision);
        let Some(results) = results else { continue };
        let seen =
            results.first().and_then(|bytes| OperationResult::from_bytes(bytes).ok()).map(|result| seen(&result));
        if seen.as_ref() != Some(&expected) {
            let what = format!("{name} at {place:?} was told {seen:?}, the model gives {expected:?}");
            return Err(Violation::new("linearizability", what));
        }
    }
    Ok(())
}

/// What a client can tell one outcome from another by.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Wrote { revision: u64 },
    Read { value: Option<(Vec<u8>, u64)> },
    Deleted { count: u64, revision: u64 },
    Compared { held: bool, revision: u64, value: Option<(Vec<u8>, u64)> },
    Other,
}

fn seen(result: &OperationResult) -> Seen {
    let first = |kvs: &[quorate_kv::KeyValue]| kvs.first().map(|kv| (kv.value.clone(), kv.mod_revision));
    match &result.outcome {
        KvOutcome::Put(_) => Seen::Wrote { revision: result.revision },
        KvOutcome::Range(range) => Seen::Read { value: first(&range.kvs) },
        KvOutcome::Delete(delete) => Seen::Deleted { count: delete.deleted, revision: result.revision },
        KvOutcome::Txn(txn) => {
            let value = txn.responses.iter().find_map(|response| match response {
                TxnOutcome::Range(range) => first(&range.kvs),
                TxnOutcome::Put(_) | TxnOutcome::Delete(_) => None,
            });
            Seen::Compared { held: txn.succeeded, revision: result.revision, value }
        }
        KvOutcome::Compact(_) | KvOutcome::Refused(_) => Seen::Other,
    }
}

/// The model: the few operations that the simulated clients ask for, executed on a plain map.
fn execute(operation: &Operation, registers: &mut Registers, revision: &mut u64) -> Seen {
    match operation {
        Operation::Put(put) => {
            *revision += 1;
            registers.insert(put.key.clone(), (put.value.clone(), *revision));
            Seen::Wrote { revision: *revision }
        }
        Operation::Range(range) => Seen::Read { value: registers.get(&range.range.key).cloned() },
        Operation::Delete(delete) => {
            let count = u64::from(registers.remove(&delete.range.key).is_some());
            *revision += count;
            Seen::Deleted { count, revision: *revision }
        }
        Operation::Txn(txn) => {
            let held = txn.compare.iter().all(|compare| match &compare.target {
                CompareTarget::Value(value) => {
                    registers.get(&compare.range.key).is_some_and(|(present, _)| present == value)
                }
                CompareTarget::ModRevision(wanted) => {
                    registers.get(&compare.range.key).map_or(0, |(_, present)| *present) == *wanted
                }
                _ => false,
            });
            let mut value = None;
            let mut wrote = false;
            for inner in if held { &txn.success } else { &txn.failure } {
                match inner {
                    TxnOperation::Put(put) => {
                        registers.insert(put.key.clone(), (put.value.clone(), *revision + 1));
                        wrote = true;
                    }
                    TxnOperation::Range(range) => value = registers.get(&range.range.key).cloned(),
                    TxnOperation::Delete(delete) => wrote |= registers.remove(&delete.range.key).is_some(),
                }
            }
            *revision += u64::from(wrote);
            Seen::Compared { held, revision: *revision, value }
        }
        Operation::Compact(_) => Seen::Other,
    }
}
