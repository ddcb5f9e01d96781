//! What turns a replica while it runs, and counts what it did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::catalogue::Behaviour;
use super::phase::Phase;
use super::trigger::{Misbehaviour, Standing};

#[derive(Debug, Default)]
struct Switched {
    on: Vec<Misbehaviour>,
    acted: BTreeMap<Behaviour, u64>,
    acted_in: BTreeMap<(Behaviour, Phase), u64>,
    /// Set by the simulator, which alone can see what the cluster is busy with.
    phases: BTreeSet<Phase>,
    standing: Standing,
}

/// What a replica does wrong at the moment, and how often it did. Clones share the state, so whoever holds one turns the
/// replica while it runs.
#[derive(Debug, Clone, Default)]
pub struct Switch(Arc<Mutex<Switched>>);

impl Switch {
    /// A switch that is off: the replica is honest.
    pub fn honest() -> Switch {
        Switch::default()
    }

    /// A switch with these behaviours on.
    pub fn with(on: Vec<Misbehaviour>) -> Switch {
        let switch = Switch::default();
        switch.set(on);
        switch
    }

    /// Replaces what is on; an empty list makes the replica honest.
    pub fn set(&self, on: Vec<Misbehaviour>) {
        self.lock().on = on;
    }

    /// What is on.
    pub fn on(&self) -> Vec<Misbehaviour> {
        self.lock().on.clone()
    }

    /// Whether anything is on.
    pub fn is_honest(&self) -> bool {
        self.lock().on.is_empty()
    }

    /// How often each behaviour acted since the switch was made.
    pub fn acted(&self) -> BTreeMap<Behaviour, u64> {
        self.lock().acted.clone()
    }

    /// How often each acted while the cluster was busy with what; empty outside the simulator.
    pub fn acted_in(&self) -> BTreeMap<(Behaviour, Phase), u64> {
        self.lock().acted_in.clone()
    }

    /// What the cluster is busy with from now on.
    pub fn set_phases(&self, phases: BTreeSet<Phase>) {
        self.lock().phases = phases;
    }

    /// Where the replica stood when its engine last acted while anything was on.
    pub fn standing(&self) -> Standing {
        self.lock().standing
    }

    pub(super) fn set_standing(&self, standing: Standing) {
        self.lock().standing = standing;
    }

    pub(super) fn count(&self, behaviour: Behaviour, times: u64) {
        if times == 0 {
            return;
        }
        let mut switched = self.lock();
        let Switched { acted, acted_in, phases, .. } = &mut *switched;
        *acted.entry(behaviour).or_default() += times;
        for phase in phases.iter() {
            *acted_in.entry((behaviour, *phase)).or_default() += times;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Switched> {
        // Every change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
