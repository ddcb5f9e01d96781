//! What the cluster was busy with when a behaviour acted, as the simulator sees it, and which pairs cannot meet.

use quorate_crypto::Protocol;

use super::catalogue::{Behaviour, CATALOGUE, Group};
use super::client::ClientBehaviour;

/// What a cluster is busy with. Several may hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Every honest replica runs, has entered its view, has no checkpoint open and fetches no state.
    Normal,
    /// An honest replica has left a view and not entered the next one.
    ViewChange,
    /// An honest replica has executed up to a checkpoint that is not stable yet.
    Checkpoint,
    /// An honest replica fetches a state, or is so far behind that nothing else can help it.
    Transfer,
    /// An honest replica has lost its log and is not back yet.
    Rejoin,
    /// An honest replica is down, or has restarted and not yet executed what the others have.
    Recovery,
    /// Everything but the liars is well again.
    Liveness,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 7] = [
        Phase::Normal,
        Phase::ViewChange,
        Phase::Checkpoint,
        Phase::Transfer,
        Phase::Rejoin,
        Phase::Recovery,
        Phase::Liveness,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Normal => "normal",
            Phase::ViewChange => "view-change",
            Phase::Checkpoint => "checkpoint",
            Phase::Transfer => "transfer",
            Phase::Rejoin => "rejoin",
            Phase::Recovery => "recovery",
            Phase::Liveness => "liveness",
        }
    }
}

/// Why a behaviour cannot act in a phase; none if it can, and a large campaign must then have seen it.
pub fn impossible(behaviour: Behaviour, phase: Phase) -> Option<&'static str> {
    match (behaviour, phase) {
        (
            Behaviour::NewViewTooFew
            | Behaviour::NewViewWrongValues
            | Behaviour::NewViewLowerView
            | Behaviour::NewViewToSome,
            Phase::Normal,
        ) => Some(
            "honest replicas whose VIEW-CHANGEs open a view have entered none; at most another liar still waits for it",
        ),
        (Behaviour::CorruptChunks | Behaviour::MisindexedChunks | Behaviour::SlowDrip, Phase::Normal) => {
            Some("a state is being fetched when parts of it are served")
        }
        (behaviour, Phase::ViewChange) if !behaviour.is_of(Protocol::Pbft) => {
            Some("a HotStuff replica is in a view at all times: it leaves one by entering another")
        }
        _ => None,
    }
}

/// Every pair that a large campaign of these protocols must see: names of behaviours of replicas and clients, and of phases.
pub fn possible_pairs(runs: impl Fn(Protocol) -> bool) -> Vec<(&'static str, &'static str)> {
    let mut pairs = Vec::new();
    for phase in Phase::ALL {
        // Nobody else leaves a view without entering another.
        if phase == Phase::ViewChange && !runs(Protocol::Pbft) {
            continue;
        }
        for entry in CATALOGUE {
            let meant = Protocol::ALL.into_iter().any(|protocol| runs(protocol) && entry.behaviour.is_of(protocol));
            if meant && impossible(entry.behaviour, phase).is_none() {
                pairs.push((entry.name, phase.name()));
            }
        }
        for behaviour in ClientBehaviour::ALL {
            pairs.push((behaviour.name(), phase.name()));
        }
    }
    pairs
}

/// The names of everything that is counted, in the order of the catalogue: replicas by group, then clients.
pub fn all_names() -> Vec<&'static str> {
    let mut names = Vec::new();
    for group in Group::ALL {
        names.extend(CATALOGUE.iter().filter(|entry| entry.group == group).map(|entry| entry.name));
    }
    names.extend(ClientBehaviour::ALL.iter().map(|behaviour| behaviour.name()));
    names
}
