//! Durability: what a client was told is part of the order, as it was told, and of the final state, whatever lost power
//! in between.

use std::collections::BTreeMap;

use quorate_kv::{EventKind, KeyRange, Operation, OperationResult};
use quorate_node::key_value::KeyValue;
use quorate_protocol::execution::Execution;
use quorate_protocol::reply::{Outcome, Refusal};

use super::exactly_once::ExactlyOnce;
use crate::sim::history::{Asked, Ended, History};
use crate::sim::report::Violation;

/// The puts in a store's remaining history, by revision.
type Puts = BTreeMap<u64, Vec<(Vec<u8>, Vec<u8>)>>;

pub(super) fn check(history: &History, once: &ExactlyOnce, reference: &Execution<KeyValue>) -> Result<(), Violation> {
    let store = reference.service().store();
    let oldest = store.compact_revision();
    let puts = puts(reference)?;
    for asked in history.all() {
        match &asked.ended {
            Some((_, Ended::Executed(reply))) => {
                let kept = once.at(&reply.request);
                match (kept, &reply.outcome) {
                    (Some(kept), Outcome::Results(_)) if kept.reply != *reply => {
                        let what = format!("{} was told {reply:?}, the order gives {:?}", asked.name(), kept.reply);
                        return Err(Violation::new("durability", what));
                    }
                    (Some(_), _) => {}
                    (None, _) => {
                        let what = format!("{} was told {reply:?}, which is not in the order", asked.name());
                        return Err(Violation::new("durability", what));
                    }
                }
                in_history(asked, &puts, oldest)?;
            }
            Some((_, Ended::Refused(Refusal::Expired)))
                if asked.signed.iter().any(|digest| once.at(digest).is_some()) =>
            {
                let what = format!("{} was told that it expired, but it executed", asked.name());
                return Err(Violation::new("durability", what));
            }
            _ => {}
        }
    }
    Ok(())
}

fn puts(reference: &Execution<KeyValue>) -> Result<Puts, Violation> {
    let store = reference.service().store();
    let mut puts = Puts::new();
    let mut from = store.compact_revision().max(1);
    loop {
        let page = store
            .events_since(from, &KeyRange::all(), 0, false)
            .map_err(|error| Violation::new("durability", format!("the history cannot be read: {error}")))?;
        for list in page.lists {
            let written = list.events.into_iter().filter(|event| event.kind == EventKind::Put);
            puts.entry(list.revision).or_default().extend(written.map(|event| (event.kv.key, event.kv.value)));
        }
        if page.next_revision <= from || page.next_revision > page.current_revision {
            return Ok(puts);
        }
        from = page.next_revision;
    }
}

/// An acknowledged put stands in the history at its revision.
fn in_history(asked: &Asked, puts: &Puts, oldest: u64) -> Result<(), Violation> {
    let Some((_, Ended::Executed(reply))) = &asked.ended else { return Ok(()) };
    let Outcome::Results(results) = &reply.outcome else { return Ok(()) };
    let (Operation::Put(put), Some(result)) = (&asked.operation, results.first()) else { return Ok(()) };
    let Ok(result) = OperationResult::from_bytes(result) else {
        return Err(Violation::new("durability", format!("{} has a result that does not decode", asked.name())));
    };
    if result.error().is_some() || result.revision <= oldest {
        return Ok(());
    }
    let pair = (put.key.clone(), put.value.clone());
    if puts.get(&result.revision).is_some_and(|written| written.contains(&pair)) {
        return Ok(());
    }
    let what = format!("{} was told revision {}, where its value is not", asked.name(), result.revision);
    Err(Violation::new("durability", what))
}
