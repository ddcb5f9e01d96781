//! Where every replica of a testnet stands: what the system, the node's HTTP and its control socket say, asked at once.

use std::time::Duration;

use quorate_crypto::ReplicaId;

use super::control::{self, Conduct};
use super::description::{Description, Endpoints};
use super::directory::Directory;
use super::operations::{self, NodeStatus};
use super::process::{Condition, condition};

/// How long a node may take to say where it stands.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// One replica.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Which.
    pub id: ReplicaId,
    /// Where it listens.
    pub endpoints: Endpoints,
    /// What the system says of its process.
    pub condition: Condition,
    /// What it says itself, if it answers.
    pub status: Option<NodeStatus>,
    /// What it does wrong, if it answers.
    pub conduct: Option<Conduct>,
}

/// What a replica is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads the highest view that any replica is in.
    Primary,
    /// It does not.
    Backup,
    /// It has no trusted log, follows the others and does not vote.
    Rejoining,
}

impl Role {
    /// The word in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Backup => "backup",
            Role::Rejoining => "rejoining",
        }
    }
}

/// Asks all replicas, at the same time.
pub async fn all(directory: &Directory, description: &Description) -> Vec<Standing> {
    let mut asked = Vec::with_capacity(description.replicas.len());
    for (id, endpoints) in description.ids().zip(&description.replicas) {
        let (directory, endpoints) = (directory.clone(), *endpoints);
        asked.push(tokio::spawn(async move { one(&directory, id, endpoints).await }));
    }
    let mut standings = Vec::with_capacity(asked.len());
    for task in asked {
        match task.await {
            Ok(standing) => standings.push(standing),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    standings
}

/// Asks one replica.
pub async fn one(directory: &Directory, id: ReplicaId, endpoints: Endpoints) -> Standing {
    let condition = condition(directory, id);
    let mut standing = Standing { id, endpoints, condition, status: None, conduct: None };
    if matches!(condition, Condition::Running(_)) {
        let socket = directory.control(id);
        let (status, conduct) = tokio::join!(operations::status(endpoints.operations, PATIENCE), control::ask(&socket));
        standing.status = status.ok();
        standing.conduct = conduct.ok();
    }
    standing
}

impl Standing {
    /// Whether it answers.
    pub const fn is_up(&self) -> bool {
        self.status.is_some()
    }

    /// What it is, where `view` is the highest view of all.
    pub fn role(&self, view: u64) -> Option<Role> {
        let status = self.status.as_ref()?;
        if status.rejoining {
            return Some(Role::Rejoining);
        }
        let leads = status.primary == self.id.0 && status.view == view;
        Some(if leads { Role::Primary } else { Role::Backup })
    }

    /// One word for people.
    pub fn word(&self, view: u64) -> &'static str {
        match (self.condition, self.role(view)) {
            (Condition::Down, _) => "down",
            (Condition::Paused(_), _) => "paused",
            (Condition::Running(_), None) => "silent",
            (Condition::Running(_), Some(role)) => role.name(),
        }
    }

    /// `honest`, the names of what is on, or `unknown` if it does not say.
    pub fn behaviour(&self) -> String {
        self.conduct.as_ref().map_or_else(|| "unknown".to_owned(), Conduct::label)
    }
}

/// The highest view a quorum could be in: the highest that any replica which answers has entered, else is moving to.
/// A replica that does wrong is not asked if an honest one is there.
pub fn view(standings: &[Standing]) -> Option<u64> {
    let views = |honest: bool, entered: bool| {
        standings
            .iter()
            .filter(|standing| !honest || standing.conduct.as_ref().is_none_or(Conduct::is_honest))
            .filter_map(|standing| standing.status.as_ref())
            .filter(|status| !entered || status.entered)
            .map(|status| status.view)
            .max()
    };
    views(true, true).or_else(|| views(false, true)).or_else(|| views(false, false))
}

/// The highest number any replica executed.
pub fn executed(standings: &[Standing]) -> Option<u64> {
    standings.iter().filter_map(|standing| standing.status.as_ref()).map(|status| status.executed).max()
}

/// Replicas that are not to be counted on: down, paused, silent, without a log, or told to do wrong.
pub fn faulty(standings: &[Standing]) -> usize {
    let votes = |standing: &Standing| standing.status.as_ref().is_some_and(|status| !status.rejoining);
    let is_well = |standing: &&Standing| votes(standing) && standing.conduct.as_ref().is_some_and(Conduct::is_honest);
    standings.len() - standings.iter().filter(is_well).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::control::Turned;

    fn standing(id: u16, view: u64, entered: bool, behaviour: Option<&str>) -> Standing {
        let status = serde_json::json!({
            "view": view, "entered": entered, "primary": view % 4, "executed": 10 + u64::from(id), "state_seq": null,
            "state_digest": null, "checkpoint_seq": 0, "checkpoint_digest": "", "revision": 1, "ready": true,
            "transferring": false, "rejoining": false, "incarnation": 0, "links": [], "evidence": 0, "requests_executed": 0, "view_changes": 0,
            "cpu_seconds": 0.0, "rss_bytes": 0, "syncs": 0, "wire_bytes": 0,
        });
        let on = behaviour.map(|name| Turned { behaviour: name.to_owned(), when: "always".to_owned() });
        Standing {
            id: ReplicaId(id),
            endpoints: crate::launcher::ports::from_base(7400, 1).expect("they exist")[0],
            condition: Condition::Running(1),
            status: Some(serde_json::from_value(status).expect("a status")),
            conduct: Some(Conduct { on: on.into_iter().collect(), acted: std::collections::BTreeMap::new() }),
        }
    }

    #[test]
    fn the_primary_is_the_leader_of_the_view_honest_replicas_are_in() {
        let standings = [
            standing(0, 1, true, None),
            standing(1, 1, true, None),
            standing(2, 2, false, None),
            standing(3, 7, true, Some("silent")),
        ];
        let highest = view(&standings).expect("they answer");
        assert_eq!(highest, 1);
        let words: Vec<_> = standings.iter().map(|standing| standing.word(highest)).collect();
        assert_eq!(words, ["backup", "primary", "backup", "backup"]);
        assert_eq!((executed(&standings), faulty(&standings)), (Some(13), 1));
        assert_eq!(standings[3].behaviour(), "silent");
    }

    #[test]
    fn a_replica_that_is_down_says_nothing() {
        let mut down = standing(0, 1, true, None);
        (down.condition, down.status, down.conduct) = (Condition::Down, None, None);
        assert_eq!((down.word(0), down.behaviour().as_str(), down.role(0)), ("down", "unknown", None));
        assert_eq!((view(std::slice::from_ref(&down)), faulty(&[down])), (None, 1));
    }
}
