//! The testnet of a drill: fresh, on ports that are free, and gone when the drill ends, however it ends.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use quorate_client::Cluster;
use quorate_crypto::ReplicaId;
use quorate_keys::{Genesis, Protocol};
use rustix::process::Signal;
use tempfile::TempDir;

use super::DrillError;
use crate::bench::meter;
use crate::faults::Misbehaviour;
use crate::launcher::control::{self, Conduct, Turned};
use crate::launcher::creation::{self, Plan};
use crate::launcher::operations::NodeStatus;
use crate::launcher::process::{self, Spawned};
use crate::launcher::{Description, Directory, LaunchError, ports, start};

/// How often to look whether a process has ended.
const POLL: Duration = Duration::from_millis(2);
/// How often replicas are asked where they stand.
const ASK_EVERY: Duration = Duration::from_millis(25);
/// How long the cluster may take to have a primary that answers.
const PRIMARY_PATIENCE: Duration = Duration::from_mins(1);

/// Where the testnets of a drill go.
#[derive(Clone, Debug)]
pub struct Place {
    named: Option<PathBuf>,
    protocol: Protocol,
    parameters: Vec<(String, u64)>,
}

/// A running testnet. Dropping it ends its processes at once, and removes its files unless its place was named.
pub struct Site {
    /// Its files.
    pub directory: Directory,
    /// Its ports.
    pub description: Description,
    /// Its genesis file.
    pub genesis: Genesis,
    spawned: Vec<Spawned>,
    // Removed after the processes have ended.
    _temporary: Option<TempDir>,
}

impl Place {
    /// `named` is kept, and must hold no testnet yet; without it everything is temporary.
    pub fn new(named: Option<PathBuf>, protocol: Protocol) -> Place {
        Place { named, protocol, parameters: Vec::new() }
    }

    /// The testnets have these parameters in their genesis file.
    #[must_use]
    pub fn with_parameters(self, parameters: Vec<(String, u64)>) -> Place {
        Place { parameters, ..self }
    }

    /// Starts `replicas` replicas, and returns when they have committed an operation. A drill with several testnets
    /// names each as a `part`. `behaviours` are on from the first step.
    ///
    /// # Errors
    /// A directory that holds something already; the launcher's; no first operation in time.
    pub async fn start(
        &self,
        part: Option<&str>,
        replicas: usize,
        behaviours: impl Fn(ReplicaId) -> Vec<String>,
    ) -> Result<Site, DrillError> {
        let (root, temporary) = match &self.named {
            Some(named) => (named.clone(), None),
            None => {
                let made = tempfile::Builder::new().prefix("quorate-drill-").tempdir();
                let made = made.map_err(|error| LaunchError::file(&std::env::temp_dir(), &error))?;
                (made.path().join("testnet"), Some(made))
            }
        };
        let directory = Directory::new(part.map_or_else(|| root.clone(), |part| root.join(part)));
        // Neither there, nor where the parts of this drill lie beside each other.
        let there = [directory.entries()?, Directory::new(root).entries()?].concat();
        if let Some(first) = there.first() {
            return Err(DrillError::Usage(format!(
                "{} is there already, and a drill begins with a fresh testnet: name another directory with --dir",
                first.display()
            )));
        }
        let plan = Plan {
            protocol: self.protocol,
            endpoints: ports::any_free(replicas)?,
            parameters: self.parameters.clone(),
        };
        let (genesis, description) = creation::create(&directory, &plan).inspect_err(|_| {
            // Nothing of it ran; if it cannot be removed, the next attempt says so.
            let _ = directory.clear();
        })?;
        let mut site = Site { directory, description, genesis, spawned: Vec::new(), _temporary: temporary };
        let ids: Vec<ReplicaId> = site.description.ids().collect();
        start::spawn_missing(&site.directory, &site.description, &ids, behaviours, &mut site.spawned)?;
        site.wait_until_connected(&ids).await?;
        start::first_operation(&site.directory).await?;
        Ok(site)
    }
}

impl Site {
    /// The cluster as its first client sees it, with another patience for calls.
    ///
    /// # Errors
    /// Files that are refused.
    pub fn cluster(&self, patience: Duration) -> Result<Cluster, DrillError> {
        let mut cluster = start::cluster(&self.directory)?;
        cluster.set_patience(patience);
        Ok(cluster)
    }

    /// Sequence numbers from one checkpoint to the next.
    pub fn checkpoint_interval(&self) -> u64 {
        self.genesis.parameters().checkpoint_interval
    }

    /// The process of a replica.
    pub fn pid(&self, id: ReplicaId) -> Option<u32> {
        self.spawned.iter().find(|one| one.id == id).map(|one| one.child.id())
    }

    /// Where every replica stands; none for one that does not answer.
    pub async fn statuses(&self) -> Vec<Option<NodeStatus>> {
        meter::read(&self.description).await
    }

    /// The view that the most advanced replica has entered, and who leads it.
    ///
    /// # Errors
    /// [`DrillError::Stalled`] if that one does not lead in time.
    pub async fn primary(&mut self) -> Result<ReplicaId, DrillError> {
        let began = Instant::now();
        loop {
            self.check_alive()?;
            if let Some(primary) = leader(&self.statuses().await, self.description.protocol) {
                return Ok(primary);
            }
            if began.elapsed() > PRIMARY_PATIENCE {
                return Err(DrillError::Stalled(format!(
                    "no replica led a view within {} s",
                    PRIMARY_PATIENCE.as_secs()
                )));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Who leads, and those that lead after it: `count` in all.
    ///
    /// # Errors
    /// Those of [`Site::primary`].
    pub async fn leaders(&mut self, count: usize) -> Result<Vec<ReplicaId>, DrillError> {
        let first = self.primary().await?;
        Ok(self.in_turn(first, count))
    }

    /// `first` and those that follow it, in the order in which all lead that are not passed over: `count` in all.
    pub fn in_turn(&self, first: ReplicaId, count: usize) -> Vec<ReplicaId> {
        let ids: Vec<ReplicaId> = self.description.ids().collect();
        ids.iter().copied().cycle().skip(first.index()).take(count).collect()
    }

    /// Some replica that does not lead.
    ///
    /// # Errors
    /// Those of [`Site::primary`].
    pub async fn backup(&mut self) -> Result<ReplicaId, DrillError> {
        let primary = self.primary().await?;
        // The one that would lead last, so that a view change is not the end of the drill.
        let ids: Vec<ReplicaId> = self.description.ids().filter(|id| *id != primary).collect();
        let before = ids.iter().rev().find(|id| **id < primary).or(ids.last());
        before.copied().ok_or_else(|| DrillError::Usage("a testnet of one replica has no backup".to_owned()))
    }

    /// Kills the processes of `ids`, as a power cut would, and returns when they have ended. The answer is the time
    /// just before the first signal.
    ///
    /// # Errors
    /// One of them had died before; the system refuses.
    pub async fn kill(&mut self, ids: &[ReplicaId]) -> Result<Instant, DrillError> {
        self.check_alive()?;
        let killed = Instant::now();
        for one in self.spawned.iter().filter(|one| ids.contains(&one.id)) {
            process::signal(one.id, one.child.id(), Signal::KILL)?;
        }
        while self.spawned.iter_mut().any(|one| ids.contains(&one.id) && one.death().is_none()) {
            tokio::time::sleep(POLL).await;
        }
        self.spawned.retain(|one| !ids.contains(&one.id));
        Ok(killed)
    }

    /// Starts those of `ids` that do not run. The answer is the time just before.
    ///
    /// # Errors
    /// The launcher's.
    pub fn restart(&mut self, ids: &[ReplicaId]) -> Result<Instant, DrillError> {
        self.restart_with(ids, |_| Vec::new())
    }

    /// The same with behaviours that are on from the first step.
    ///
    /// # Errors
    /// The launcher's.
    pub fn restart_with(
        &mut self,
        ids: &[ReplicaId],
        behaviours: impl Fn(ReplicaId) -> Vec<String>,
    ) -> Result<Instant, DrillError> {
        let began = Instant::now();
        start::spawn_missing(&self.directory, &self.description, ids, behaviours, &mut self.spawned)?;
        Ok(began)
    }

    /// Waits until `ids` are linked to all that run.
    ///
    /// # Errors
    /// A replica died; it takes too long.
    pub async fn wait_until_connected(&mut self, ids: &[ReplicaId]) -> Result<(), DrillError> {
        Ok(start::wait_until_connected(&self.directory, &self.description, ids, &mut self.spawned).await?)
    }

    /// Freezes a replica's process, or lets it go on.
    ///
    /// # Errors
    /// It has died; the system refuses.
    pub fn signal(&mut self, id: ReplicaId, signal: Signal) -> Result<(), DrillError> {
        self.check_alive()?;
        if let Some(pid) = self.pid(id) {
            process::signal(id, pid, signal)?;
        }
        Ok(())
    }

    /// Lets a replica lie in these ways from now on; in none, it is honest. The answer says what it has done by now.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn turn(&self, id: ReplicaId, on: &[Misbehaviour]) -> Result<Conduct, DrillError> {
        let on = on.iter().map(Turned::from_misbehaviour).collect();
        let turned = control::turn(&self.directory.control(id), on, None).await;
        turned.map_err(|sentence| DrillError::Stalled(format!("replica {id} {sentence}")))
    }

    /// Waits until replica `id` has executed within one checkpoint interval of whoever executed most, and fetches no
    /// state. False if that takes longer than `patience`.
    ///
    /// # Errors
    /// A replica died that nobody killed.
    pub async fn wait_until_at_head(&mut self, id: ReplicaId, patience: Duration) -> Result<bool, DrillError> {
        let began = Instant::now();
        loop {
            self.check_alive()?;
            if is_at_head(&self.statuses().await, id, self.checkpoint_interval()) {
                return Ok(true);
            }
            if began.elapsed() > patience {
                return Ok(false);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// That every process which was started, and not killed, still runs.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check_alive(&mut self) -> Result<(), DrillError> {
        match self.spawned.iter_mut().find_map(Spawned::death) {
            Some(death) => Err(death.into()),
            None => Ok(()),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for one in &mut self.spawned {
            // An error means that it has ended. A frozen process hears this as well.
            let _ = one.child.kill();
        }
        for one in &mut self.spawned {
            let _ = one.child.wait();
            let _ = std::fs::remove_file(self.directory.pid(one.id));
            let _ = std::fs::remove_file(self.directory.control(one.id));
        }
    }
}

/// Who leads the highest view that anyone has entered, if it answers and, where views last, has entered it itself.
fn leader(statuses: &[Option<NodeStatus>], protocol: Protocol) -> Option<ReplicaId> {
    let entered = statuses.iter().flatten().filter(|status| status.entered);
    let highest = entered.max_by_key(|status| status.view)?;
    let itself = statuses.get(usize::from(highest.primary))?.as_ref()?;
    (itself.entered && (itself.view == highest.view || protocol.leaders_take_turns()))
        .then_some(ReplicaId(highest.primary))
}

fn is_at_head(statuses: &[Option<NodeStatus>], id: ReplicaId, interval: u64) -> bool {
    let head = statuses.iter().flatten().map(|status| status.executed).max().unwrap_or(0);
    let one = statuses.get(usize::from(id.0)).and_then(Option::as_ref);
    one.is_some_and(|status| !status.transferring && status.executed.saturating_add(interval) >= head)
}

/// The highest view that any replica is in or moves to.
pub fn highest_view(statuses: &[Option<NodeStatus>]) -> u64 {
    statuses.iter().flatten().map(|status| status.view).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(view: u64, entered: bool, executed: u64, transferring: bool) -> Option<NodeStatus> {
        let status = serde_json::json!({
            "view": view, "entered": entered, "primary": view % 4, "executed": executed, "state_seq": null,
            "state_digest": null, "checkpoint_seq": 0, "checkpoint_digest": "", "revision": 1, "ready": true,
            "transferring": transferring, "rejoining": false, "incarnation": 0, "links": [], "evidence": 0, "requests_executed": 0, "view_changes": 0,
            "cpu_seconds": 0.0, "rss_bytes": 0, "syncs": 0, "wire_bytes": 0,
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn a_leader_is_one_that_has_entered_the_highest_view_and_answers() {
        let mut statuses = [status(0, true, 9, false), status(1, true, 9, false), status(2, false, 9, false), None];
        assert_eq!(leader(&statuses, Protocol::Pbft), Some(ReplicaId(1)));
        assert_eq!(highest_view(&statuses), 2);
        statuses[1] = status(0, true, 9, false);
        statuses[2] = status(1, true, 9, false);
        assert_eq!(leader(&statuses, Protocol::Pbft), None, "replica 1 does not know yet that it leads");
        assert_eq!(leader(&statuses, Protocol::HotStuff), Some(ReplicaId(1)), "views pass too fast to ask all in one");
        assert_eq!(leader(&[None, None], Protocol::HotStuff), None);
    }

    #[test]
    fn head_is_within_one_interval_of_the_highest() {
        let at_head = |executed, transferring| {
            is_at_head(&[status(0, true, 100, false), status(0, true, executed, transferring)], ReplicaId(1), 64)
        };
        assert!(at_head(36, false) && at_head(101, false));
        assert!(!at_head(35, false) && !at_head(100, true));
        assert!(!is_at_head(&[status(0, true, 0, false), None], ReplicaId(1), 64));
    }
}
