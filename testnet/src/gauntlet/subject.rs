//! What is run, who does it, and what gives it occasion.

use quorate_crypto::{Protocol, ReplicaId};

use crate::faults::client::ClientBehaviour;
use crate::faults::{Behaviour, CATALOGUE, Group};

/// What runs while the load is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Nobody does anything wrong.
    FaultFree,
    /// One replica lies.
    Replica(Behaviour),
    /// One client attacks.
    Client(ClientBehaviour),
}

/// What happens besides: some lies need it to be told at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Nothing.
    None,
    /// The honest primary is frozen until after the others have given it up, and the liar leads next.
    FrozenPrimary,
    /// An honest backup is frozen for a third of the time and has to fetch what it missed.
    FrozenBackup,
    /// The liar's own process is killed, and started again when the others have given it up.
    RestartedLiar,
}

impl Subject {
    /// The whole gauntlet of a protocol: replicas' behaviours in the order of the catalogue, those left out that would do
    /// nothing under it, then clients'.
    pub fn all(protocol: Protocol) -> impl Iterator<Item = Subject> {
        let meant = CATALOGUE.iter().filter(move |entry| entry.behaviour.is_of(protocol));
        let replicas = meant.map(|entry| Subject::Replica(entry.behaviour));
        replicas.chain(ClientBehaviour::ALL.into_iter().map(Subject::Client))
    }

    /// Its name, in the file and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Subject::FaultFree => "fault-free",
            Subject::Replica(behaviour) => behaviour.name(),
            Subject::Client(behaviour) => behaviour.name(),
        }
    }

    /// Why it is refused under `protocol`, in a sentence; none if it means something there.
    pub fn refusal(self, protocol: Protocol) -> Option<String> {
        match self {
            Subject::Replica(behaviour) => behaviour.refusal(protocol),
            Subject::FaultFree | Subject::Client(_) => None,
        }
    }

    /// Who lies: the primary, or whoever leads the second view where the lie is a backup's or is about a new view.
    pub fn liar(self) -> Option<ReplicaId> {
        let Subject::Replica(behaviour) = self else { return None };
        let entry = behaviour.entry();
        let second = entry.group == Group::ViewChange || !entry.acts_as_primary;
        Some(ReplicaId(u16::from(second)))
    }

    /// What it needs.
    pub fn occasion(self) -> Occasion {
        let Subject::Replica(behaviour) = self else { return Occasion::None };
        match (behaviour, behaviour.group()) {
            (Behaviour::Amnesia, _) => Occasion::RestartedLiar,
            // It makes TCs up as it pleases, and is soon heard by nobody: beside a frozen replica two of four would be away.
            (Behaviour::ForgeTc, _) => Occasion::None,
            (_, Group::ViewChange) => Occasion::FrozenPrimary,
            (
                Behaviour::GreatHeight | Behaviour::CorruptChunks | Behaviour::MisindexedChunks | Behaviour::SlowDrip,
                _,
            ) => Occasion::FrozenBackup,
            _ => Occasion::None,
        }
    }
}

impl Occasion {
    /// In words, for the table.
    pub const fn name(self) -> &'static str {
        match self {
            Occasion::None => "",
            Occasion::FrozenPrimary => "primary frozen",
            Occasion::FrozenBackup => "backup frozen",
            Occasion::RestartedLiar => "liar restarted",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_behaviour_is_run_and_has_a_name_of_its_own() {
        for protocol in Protocol::ALL {
            let names: BTreeSet<&str> = Subject::all(protocol).map(Subject::name).collect();
            let meant = CATALOGUE.iter().filter(|entry| entry.behaviour.is_of(protocol)).count();
            assert_eq!(names.len(), meant + ClientBehaviour::ALL.len());
            assert!(!names.contains(Subject::FaultFree.name()));
        }
    }

    #[test]
    fn a_liar_that_opens_views_leads_the_second_one() {
        let of = |behaviour| (Subject::Replica(behaviour).liar(), Subject::Replica(behaviour).occasion());
        assert_eq!(of(Behaviour::NewViewTooFew), (Some(ReplicaId(1)), Occasion::FrozenPrimary));
        assert_eq!(of(Behaviour::WithholdPrepares), (Some(ReplicaId(1)), Occasion::None));
        assert_eq!(of(Behaviour::ForgeTc), (Some(ReplicaId(1)), Occasion::None));
        assert_eq!(of(Behaviour::Equivocate), (Some(ReplicaId(0)), Occasion::None));
        assert_eq!(Subject::Client(ClientBehaviour::Flood).liar(), None);
    }
}
