//! Counting equal answers of distinct replicas: the client's only rule for believing anything.

use std::collections::BTreeSet;

use quorate_crypto::ReplicaId;
use quorate_crypto::mutant::{Mutant, alive};

/// What each replica answers to one question: at most one answer a replica, the newest. Equal answers share one copy, so
/// that honest replicas cost the memory of one answer and f liars that of f more.
#[derive(Clone, Debug)]
pub struct Candidates<T> {
    /// No answer stands twice; no replica stands twice; no list of replicas is empty.
    entries: Vec<(T, BTreeSet<ReplicaId>)>,
}

impl<T> Default for Candidates<T> {
    fn default() -> Self {
        Candidates { entries: Vec::new() }
    }
}

impl<T: Eq> Candidates<T> {
    /// Records `from`'s answer in place of its earlier one.
    pub fn put(&mut self, from: ReplicaId, answer: T) {
        self.remove(from);
        match self.entries.iter_mut().find(|(held, _)| *held == answer) {
            Some((_, replicas)) => {
                replicas.insert(from);
            }
            None => self.entries.push((answer, BTreeSet::from([from]))),
        }
    }

    /// Forgets `from`'s answer.
    pub fn remove(&mut self, from: ReplicaId) {
        for (_, replicas) in &mut self.entries {
            replicas.remove(&from);
        }
        self.entries.retain(|(_, replicas)| !replicas.is_empty());
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The answer that at least `needed` distinct replicas give, and how many do.
    ///
    /// With `needed` = f + 1 and at most f liars it is an honest replica's answer (Castro and Liskov 1999, section 4.1:
    /// "the client waits for f + 1 replies with valid signatures from different replicas, and with the same t and r").
    pub fn agreed(&self, needed: usize) -> Option<(&T, usize)> {
        self.entries
            .iter()
            .find(|(_, replicas)| replicas.len() >= needed || alive(Mutant::BelievesOne))
            .map(|(answer, replicas)| (answer, replicas.len()))
    }

    /// How many replicas answered.
    pub fn answered(&self) -> usize {
        self.entries.iter().map(|(_, replicas)| replicas.len()).sum()
    }

    /// Whether `replica` answered.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        self.entries.iter().any(|(_, replicas)| replicas.contains(&replica))
    }

    /// Every answer with those who give it.
    pub fn iter(&self) -> impl Iterator<Item = (&T, &BTreeSet<ReplicaId>)> {
        self.entries.iter().map(|(answer, replicas)| (answer, replicas))
    }
}

#[cfg(test)]
mod tests;
