//! Byzantine behaviours, one registry for real processes and the simulator alike.
//!
//! What comes in: what an honest engine wants to send, or answer a client. What goes out: what a liar sends instead,
//! signed with its own key and no other. Which behaviours act is decided by a [`Switch`] that can be turned while the
//! replica runs; it counts how often each acted.
//!
//! ```text
//!   Driver ──step──► FaultyReplica ──step──► honest engine
//!                        │  rewrites Step.sends, one behaviour after the other
//!   node ──answer──► FaultyReplica::answer ──► what the client gets
//! ```
//!
//! Nothing here knows whether it runs in virtual time.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_protocol::parameters::Micros;
use thiserror::Error;

mod client_lies;
mod equivocation;
mod face;
mod replica;
mod votes;

pub use face::FaultyFace;
pub use replica::{FaultyReplica, Hands};

/// A behaviour by the name it has on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Behaviour {
    /// Takes everything in and says nothing, neither to replicas nor to clients.
    Silent,
    /// As primary tells half of the others one batch and the rest another, and commits to both.
    Equivocate,
    /// As primary tells one replica another batch than all the others.
    EquivocateOne,
    /// Votes for two digests of one number, both to everybody.
    DoubleVote,
    /// Answers clients with wrong or stale results.
    LieToClients,
    /// Makes up watch events.
    ForgeWatch,
}

/// The catalogue: every behaviour with one line about it.
pub const CATALOGUE: &[(Behaviour, &str, &str)] = &[
    (Behaviour::Silent, "silent", "says nothing to anybody"),
    (Behaviour::Equivocate, "equivocate", "as primary: one batch for half of the others, another for the rest"),
    (Behaviour::EquivocateOne, "equivocate-one", "as primary: another batch for a single replica"),
    (Behaviour::DoubleVote, "double-vote", "votes for two digests of one number"),
    (Behaviour::LieToClients, "lie-to-clients", "wrong and stale answers to clients"),
    (Behaviour::ForgeWatch, "forge-watch", "watch events that never happened"),
];

impl Behaviour {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        CATALOGUE.iter().find(|(behaviour, ..)| *behaviour == self).map_or("unknown", |(_, name, _)| name)
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no behaviour {0:?}; the catalogue has: {list}", list = names())]
pub struct UnknownBehaviour(pub String);

fn names() -> String {
    CATALOGUE.iter().map(|(_, name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl FromStr for Behaviour {
    type Err = UnknownBehaviour;

    fn from_str(text: &str) -> Result<Behaviour, UnknownBehaviour> {
        let found = CATALOGUE.iter().find(|(_, name, _)| *name == text);
        found.map(|(behaviour, ..)| *behaviour).ok_or_else(|| UnknownBehaviour(text.to_owned()))
    }
}

/// When a behaviour acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// At every opportunity.
    Always,
    /// Only while the replica leads the view it is in.
    WhilePrimary,
    /// At so many opportunities in a hundred.
    Percent(u8),
}

/// A behaviour switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misbehaviour {
    /// What.
    pub behaviour: Behaviour,
    /// At which opportunities.
    pub when: Trigger,
    /// Not after this time (monotonic microseconds); none for ever.
    pub until: Option<Micros>,
}

impl Misbehaviour {
    /// `behaviour` at every opportunity, for ever.
    pub const fn always(behaviour: Behaviour) -> Misbehaviour {
        Misbehaviour { behaviour, when: Trigger::Always, until: None }
    }
}

#[derive(Debug, Default)]
struct Switched {
    on: Vec<Misbehaviour>,
    acted: BTreeMap<Behaviour, u64>,
    leads: bool,
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

    /// Whether the replica led its view when its engine last acted while anything was on.
    pub fn leads(&self) -> bool {
        self.lock().leads
    }

    fn set_leads(&self, leads: bool) {
        self.lock().leads = leads;
    }

    fn count(&self, behaviour: Behaviour, times: u64) {
        if times > 0 {
            *self.lock().acted.entry(behaviour).or_default() += times;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Switched> {
        // Every change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
