//! What is judged after a replica lied: whether the honest ones agree, and whom the evidence accuses.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use quorate_client::Client;
use quorate_crypto::ReplicaId;

use super::site::Site;
use super::{DrillError, Tell};
use crate::faults::{Behaviour, Evidence};
use crate::launcher::evidence;
use crate::launcher::operations::NodeStatus;

/// How often to look.
const POLL: Duration = Duration::from_millis(50);

/// How the honest replicas stand in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// All have the same state at this certified checkpoint.
    Agreed(u64),
    /// Two have different states at this one.
    Contradicted(u64),
    /// They are not at the same one.
    Apart,
}

/// Whom evidence has to accuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accusation {
    /// Nobody: no replica lied, or nothing it signed contradicts anything.
    Nobody,
    /// This one or nobody.
    AtMost(ReplicaId),
    /// Exactly this one.
    Exactly(ReplicaId),
}

impl Accusation {
    /// What follows from a behaviour that `liar` showed so many times.
    pub fn of(behaviour: Behaviour, liar: ReplicaId, acted: u64) -> Accusation {
        match behaviour.evidence() {
            Evidence::Convicts if acted > 0 => Accusation::Exactly(liar),
            Evidence::Convicts | Evidence::MayConvict => Accusation::AtMost(liar),
            Evidence::None => Accusation::Nobody,
        }
    }

    /// Whether somebody has to be accused.
    pub const fn must(self) -> bool {
        matches!(self, Accusation::Exactly(_))
    }

    /// Whether `accused` are the right ones.
    pub fn is_just(self, accused: &BTreeSet<u16>) -> bool {
        match self {
            Accusation::Nobody => accused.is_empty(),
            Accusation::AtMost(liar) => accused.iter().all(|id| *id == liar.0),
            Accusation::Exactly(liar) => accused.len() == 1 && accused.contains(&liar.0),
        }
    }
}

impl fmt::Display for Accusation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Accusation::Nobody => f.write_str("nobody"),
            Accusation::AtMost(liar) => write!(f, "nobody but {liar}"),
            Accusation::Exactly(liar) => write!(f, "exactly {liar}"),
        }
    }
}

/// Waits until the honest replicas are at the same certified checkpoint. Writes a little meanwhile, so that there is one
/// however little was written before, and nobody lacks a reason to go on.
///
/// # Errors
/// A replica died; the observer's puts fail.
pub async fn agree(
    site: &mut Site,
    liar: Option<ReplicaId>,
    observer: &Client,
    patience: Duration,
    tell: &mut Tell<'_>,
) -> Result<Agreement, DrillError> {
    let began = Instant::now();
    for number in 0u64.. {
        tell("honest replicas come to agree".to_owned());
        let agreement = agreement(&site.statuses().await, liar);
        if agreement != Agreement::Apart {
            return Ok(agreement);
        }
        site.check_alive()?;
        if began.elapsed() > patience {
            break;
        }
        observer.put("agreement", number.to_string()).await?;
    }
    Ok(Agreement::Apart)
}

fn agreement(statuses: &[Option<NodeStatus>], liar: Option<ReplicaId>) -> Agreement {
    let liar = liar.map(|liar| usize::from(liar.0));
    let honest = statuses.iter().enumerate().filter(|(id, _)| Some(*id) != liar);
    let Some(all) = honest.map(|(_, status)| status.as_ref()).collect::<Option<Vec<_>>>() else {
        return Agreement::Apart;
    };
    for one in &all {
        let differs = |other: &&&NodeStatus| {
            other.checkpoint_seq == one.checkpoint_seq && other.checkpoint_digest != one.checkpoint_digest
        };
        if let Some(other) = all.iter().find(differs) {
            return Agreement::Contradicted(other.checkpoint_seq);
        }
    }
    match all.first().map(|first| first.checkpoint_seq) {
        Some(seq) if seq > 0 && all.iter().all(|one| one.checkpoint_seq == seq) => Agreement::Agreed(seq),
        _ => Agreement::Apart,
    }
}

/// Whom the evidence accuses. If somebody must be accused, it is waited for.
///
/// # Errors
/// The evidence cannot be read.
pub async fn accused(site: &Site, must: bool, patience: Duration) -> Result<BTreeSet<u16>, DrillError> {
    let began = Instant::now();
    loop {
        let offences = evidence::collect(&site.directory, &site.description, &site.genesis)?;
        let accused: BTreeSet<u16> = offences.iter().map(|offence| offence.accused).collect();
        if !must || !accused.is_empty() || began.elapsed() > patience {
            return Ok(accused);
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(checkpoint: u64, digest: &str) -> Option<NodeStatus> {
        let status = serde_json::json!({
            "view": 0, "entered": true, "primary": 0, "executed": 100, "state_seq": null, "state_digest": null,
            "checkpoint_seq": checkpoint, "checkpoint_digest": digest, "revision": 1, "ready": true,
            "transferring": false, "rejoining": false, "incarnation": 0, "links": [], "evidence": 0, "requests_executed": 0, "view_changes": 0,
            "cpu_seconds": 0.0, "rss_bytes": 0, "syncs": 0, "wire_bytes": 0,
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn agreement_is_one_digest_at_one_number_of_all_honest_replicas() {
        let of = |honest: [Option<NodeStatus>; 3]| {
            let [first, second, third] = honest;
            agreement(&[status(64, "liar"), first, second, third], Some(ReplicaId(0)))
        };
        assert_eq!(of([status(64, "a"), status(64, "a"), status(64, "a")]), Agreement::Agreed(64));
        assert_eq!(of([status(64, "a"), status(64, "a"), status(64, "b")]), Agreement::Contradicted(64));
        // A contradiction is one also while somebody is elsewhere.
        assert_eq!(of([status(128, "c"), status(64, "a"), status(64, "b")]), Agreement::Contradicted(64));
        assert_eq!(of([status(64, "a"), status(64, "a"), status(128, "c")]), Agreement::Apart);
        assert_eq!(of([status(64, "a"), status(64, "a"), None]), Agreement::Apart);
        assert_eq!(of([status(0, "a"), status(0, "a"), status(0, "a")]), Agreement::Apart, "nothing is certified yet");
    }

    #[test]
    fn an_accusation_is_just_if_it_names_the_liar_and_nobody_else() {
        let liar = ReplicaId(2);
        let just = |accusation: Accusation, accused: &[u16]| accusation.is_just(&accused.iter().copied().collect());
        let convicts = Accusation::of(Behaviour::Equivocate, liar, 3);
        assert_eq!((convicts, convicts.must()), (Accusation::Exactly(liar), true));
        assert!(just(convicts, &[2]) && !just(convicts, &[]) && !just(convicts, &[1, 2]));
        let may = Accusation::of(Behaviour::Equivocate, liar, 0);
        assert!(just(may, &[]) && just(may, &[2]) && !just(may, &[1]));
        let none = Accusation::of(Behaviour::Silent, liar, 9);
        assert!(just(none, &[]) && !just(none, &[2]));
    }
}
