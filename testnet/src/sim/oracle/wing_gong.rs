//! Linearizability by search: is there any order of a key's operations that respects real time and explains what every
//! client was told (Wing and Gong 1993, with the memory of visited states of Lowe 2017)?
//!
//! It knows nothing of the replicas' order, of revisions or of requests: it sees calls and answers on one register alone.
//! Linearizability is local (Herlihy and Wing 1990), so the keys are searched one by one. Keys with long histories are
//! left to the witness check.

use std::collections::{BTreeMap, BTreeSet};

use quorate_kv::{CompareTarget, Operation, OperationResult, Outcome as KvOutcome, TxnOutcome};
use quorate_protocol::parameters::Micros;
use quorate_protocol::reply::{Outcome, Refusal};

use crate::sim::history::{Asked, Ended, History};
use crate::sim::report::Violation;

/// Longest history of one key that is searched.
const CALLS_MAX: usize = 64;
/// States that one search visits at most.
const STATES_MAX: usize = 20_000;

type Value = Option<Vec<u8>>;

/// What an answer says about the register.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Wrote,
    Read(Value),
    Deleted(u64),
    /// A comparison held, or it did not and this was there.
    Compared(bool, Value),
}

/// One call on one key. Without an answer it may have happened at any time since, or never.
struct Call<'a> {
    asked: &'a Asked,
    begins: Micros,
    answered: Option<(Micros, Answer)>,
}

/// How many histories were searched, and how many were too long or too tangled to decide.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::sim) struct Searched {
    pub(in crate::sim) decided: u64,
    pub(in crate::sim) undecided: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Linearizable,
    Not,
    TooManyStates,
}

pub(super) fn check(history: &History, searched: &mut Searched) -> Result<(), Violation> {
    let mut by_key: BTreeMap<&[u8], Vec<Call>> = BTreeMap::new();
    for asked in history.all() {
        let Some(key) = key_of(&asked.operation) else { continue };
        let answered = match &asked.ended {
            // Nobody remembers whether it executed.
            Some((_, Ended::Refused(Refusal::Forgotten | Refusal::StaleNumber | Refusal::NumberTaken))) => None,
            Some((_, Ended::Refused(_))) => continue,
            Some((at, Ended::Executed(reply))) => answer(&reply.outcome).map(|answer| (*at, answer)),
            Some((_, Ended::Unknown)) | None => None,
        };
        by_key.entry(key).or_default().push(Call { asked, begins: asked.at, answered });
    }
    for (key, calls) in by_key {
        if calls.len() > CALLS_MAX {
            searched.undecided += 1;
            continue;
        }
        match search(&calls) {
            Verdict::Linearizable => searched.decided += 1,
            Verdict::TooManyStates => searched.undecided += 1,
            Verdict::Not => {
                let calls: Vec<String> = calls
                    .iter()
                    .map(|call| format!("{} from {}: {:?}", call.asked.name(), call.begins, call.answered))
                    .collect();
                let what = format!("no order explains key {}: {}", String::from_utf8_lossy(key), calls.join("; "));
                return Err(Violation::new("linearizability-search", what));
            }
        }
    }
    Ok(())
}

fn key_of(operation: &Operation) -> Option<&[u8]> {
    match operation {
        Operation::Put(put) => Some(&put.key),
        Operation::Range(range) => Some(&range.range.key),
        Operation::Delete(delete) => Some(&delete.range.key),
        Operation::Txn(txn) => txn.compare.first().map(|compare| compare.range.key.as_slice()),
        Operation::Compact(_) => None,
    }
}

fn answer(outcome: &Outcome) -> Option<Answer> {
    let Outcome::Results(results) = outcome else { return None };
    let result = OperationResult::from_bytes(results.first()?).ok()?;
    let first = |kvs: &[quorate_kv::KeyValue]| kvs.first().map(|kv| kv.value.clone());
    match &result.outcome {
        KvOutcome::Put(_) => Some(Answer::Wrote),
        KvOutcome::Range(range) => Some(Answer::Read(first(&range.kvs))),
        KvOutcome::Delete(delete) => Some(Answer::Deleted(delete.deleted)),
        KvOutcome::Txn(txn) => {
            let value = txn.responses.iter().find_map(|response| match response {
                TxnOutcome::Range(range) => first(&range.kvs),
                TxnOutcome::Put(_) | TxnOutcome::Delete(_) => None,
            });
            Some(Answer::Compared(txn.succeeded, value))
        }
        KvOutcome::Compact(_) | KvOutcome::Refused(_) => None,
    }
}

/// The register: what the operation answers, and what is there afterwards.
fn apply(operation: &Operation, value: &Value) -> (Answer, Value) {
    match operation {
        Operation::Put(put) => (Answer::Wrote, Some(put.value.clone())),
        Operation::Delete(_) => (Answer::Deleted(u64::from(value.is_some())), None),
        Operation::Txn(txn) => {
            let held = txn.compare.iter().all(|compare| match &compare.target {
                CompareTarget::Value(wanted) => value.as_ref() == Some(wanted),
                // Simulated clients compare with 0 alone: the key is absent.
                CompareTarget::ModRevision(_) => value.is_none(),
                _ => false,
            });
            let put = txn.success.iter().find_map(|inner| match inner {
                quorate_kv::TxnOperation::Put(put) => Some(put.value.clone()),
                _ => None,
            });
            if held {
                (Answer::Compared(true, None), put)
            } else {
                (Answer::Compared(false, value.clone()), value.clone())
            }
        }
        Operation::Range(_) | Operation::Compact(_) => (Answer::Read(value.clone()), value.clone()),
    }
}

/// Depth first: the next call in the order is one that began before every call left out so far had been answered.
fn search(calls: &[Call]) -> Verdict {
    let required = calls.iter().enumerate().filter(|(_, call)| call.answered.is_some());
    let required = required.fold(0u64, |mask, (index, _)| mask | 1 << index);
    let mut visited: BTreeSet<(u64, Value)> = BTreeSet::new();
    let mut open: Vec<(u64, Value)> = vec![(0, None)];
    while let Some((done, value)) = open.pop() {
        if done & required == required {
            return Verdict::Linearizable;
        }
        if !visited.insert((done, value.clone())) {
            continue;
        }
        if visited.len() > STATES_MAX {
            return Verdict::TooManyStates;
        }
        let left = || calls.iter().enumerate().filter(|(index, _)| done & (1 << index) == 0);
        let first_answer = left().filter_map(|(_, call)| call.answered.as_ref().map(|(at, _)| *at)).min();
        for (index, call) in left().collect::<Vec<_>>().into_iter().rev() {
            if first_answer.is_some_and(|at| call.begins > at) {
                continue;
            }
            let (answer, after) = apply(&call.asked.operation, &value);
            if call.answered.as_ref().is_none_or(|(_, told)| *told == answer) {
                open.push((done | 1 << index, after));
            }
        }
    }
    Verdict::Not
}

#[cfg(test)]
mod tests {
    use quorate_kv::{KeyRange, PutRequest, RangeRequest};

    use super::*;

    fn call(history: &mut History, at: Micros, value: Option<&[u8]>) -> usize {
        let operation = match value {
            Some(value) => Operation::Put(PutRequest::new("a", value)),
            None => Operation::Range(RangeRequest::new(KeyRange::single("a"))),
        };
        history.ask(0, 1, at, operation)
    }

    fn verdict(history: &History, answers: &[(usize, Micros, Answer)]) -> Verdict {
        let all: Vec<&Asked> = history.all().collect();
        let calls: Vec<Call> = all
            .iter()
            .enumerate()
            .map(|(index, asked)| {
                let answered = answers.iter().find(|(of, ..)| *of == index);
                let answered = answered.map(|(_, at, answer)| (*at, answer.clone()));
                Call { asked, begins: asked.at, answered }
            })
            .collect();
        search(&calls)
    }

    #[test]
    fn a_read_sees_the_last_write_or_one_under_way() {
        let mut history = History::default();
        let (one, two, read) =
            (call(&mut history, 0, Some(b"1")), call(&mut history, 20, Some(b"2")), call(&mut history, 25, None));
        let read_as = |value: Option<&[u8]>, write_ends: Micros| {
            let seen = Answer::Read(value.map(<[u8]>::to_vec));
            verdict(&history, &[(one, 10, Answer::Wrote), (two, write_ends, Answer::Wrote), (read, 30, seen)])
        };
        assert_eq!(read_as(Some(b"1"), 40), Verdict::Linearizable, "the second write is still under way");
        assert_eq!(read_as(Some(b"2"), 40), Verdict::Linearizable);
        assert_eq!(read_as(Some(b"2"), 24), Verdict::Linearizable);
        assert_eq!(read_as(Some(b"1"), 24), Verdict::Not, "a stale read");
        assert_eq!(read_as(None, 40), Verdict::Not, "the first write had ended");
        assert_eq!(read_as(Some(b"3"), 40), Verdict::Not, "an invented value");
    }

    #[test]
    fn a_write_without_an_answer_may_have_happened_or_not() {
        let mut history = History::default();
        let (write, read, later) =
            (call(&mut history, 0, Some(b"1")), call(&mut history, 10, None), call(&mut history, 30, None));
        let seen = |value: Option<&[u8]>| Answer::Read(value.map(<[u8]>::to_vec));
        let told = |first: Option<&[u8]>, second: Option<&[u8]>| {
            verdict(&history, &[(read, 20, seen(first)), (later, 40, seen(second))])
        };
        assert!(write == 0 && told(None, None) == Verdict::Linearizable);
        assert_eq!(told(None, Some(b"1")), Verdict::Linearizable);
        assert_eq!(told(Some(b"1"), Some(b"1")), Verdict::Linearizable);
        assert_eq!(told(Some(b"1"), None), Verdict::Not, "it happened, and then it had not");
    }

    #[test]
    fn a_refusal_that_says_forgotten_says_nothing_of_whether_it_happened() {
        let explained = |refusal, seen: &[u8]| {
            let mut history = History::default();
            let write = call(&mut history, 0, Some(b"1"));
            history.end(write, 10, Ended::Refused(refusal));
            let again = call(&mut history, 20, Some(b"2"));
            let read = call(&mut history, 30, None);
            let ended = |outcome: KvOutcome| {
                let result = OperationResult { revision: 2, outcome };
                let reply = quorate_protocol::reply::Reply {
                    request: quorate_crypto::Digest::ZERO,
                    seq: quorate_crypto::Seq(1),
                    index: 0,
                    time: 0,
                    revision: 2,
                    outcome: Outcome::Results(vec![result.to_bytes()]),
                };
                Ended::Executed(reply)
            };
            let pair = quorate_kv::KeyValue { key: b"a".to_vec(), value: seen.to_vec(), ..Default::default() };
            let range = quorate_kv::RangeResponse { kvs: vec![pair], ..Default::default() };
            history.end(read, 40, ended(KvOutcome::Range(range)));
            assert_eq!(again, 1);
            check(&history, &mut Searched::default()).is_ok()
        };
        assert!(explained(Refusal::Forgotten, b"1"), "it may have executed");
        assert!(explained(Refusal::Expired, b"2"));
        assert!(!explained(Refusal::Expired, b"1"), "it did not execute");
    }
}
