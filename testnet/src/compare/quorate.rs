//! A fresh testnet that takes part in a comparison.

use std::path::Path;

use quorate_crypto::ReplicaId;
use quorate_keys::Protocol;
use rustix::process::Signal;

use super::CompareError;
use super::figures::Figures;
use crate::bench::{self, BenchError, Plan, Stage};
use crate::launcher::process::{self, Spawned, condition};
use crate::launcher::{Description, Directory, LaunchError, creation, ports, start};

/// How many; they tolerate one that lies, as three members of etcd tolerate one that is down.
const REPLICAS: usize = 4;

/// A testnet, killed when it is dropped.
#[derive(Debug)]
pub struct Testnet {
    directory: Directory,
    description: Description,
    spawned: Vec<Spawned>,
}

impl Testnet {
    /// Starts one with its files in `root`, and commits an operation.
    ///
    /// # Errors
    /// It cannot be started, or commits nothing.
    pub async fn start(root: &Path, protocol: Protocol) -> Result<Testnet, CompareError> {
        let directory = Directory::new(root);
        let plan = creation::Plan { protocol, endpoints: ports::any_free(REPLICAS)?, parameters: Vec::new() };
        let (_, description) = creation::create(&directory, &plan)?;
        let mut testnet = Testnet { directory, description, spawned: Vec::new() };
        let ids = testnet.ids();
        start::spawn_missing(&testnet.directory, &testnet.description, &ids, |_| Vec::new(), &mut testnet.spawned)?;
        testnet.wait_until_it_commits().await?;
        Ok(testnet)
    }

    fn ids(&self) -> Vec<ReplicaId> {
        self.description.ids().collect()
    }

    async fn wait_until_it_commits(&mut self) -> Result<(), CompareError> {
        let ids = self.ids();
        start::wait_until_connected(&self.directory, &self.description, &ids, &mut self.spawned).await?;
        start::first_operation(&self.directory).await?;
        Ok(())
    }

    /// What its replicas run.
    pub const fn protocol(&self) -> Protocol {
        self.description.protocol
    }

    /// `quorate, 4 replicas`.
    pub fn detail(&self) -> String {
        format!("quorate, {} replicas", self.description.replicas.len())
    }

    /// Freezes all replicas.
    ///
    /// # Errors
    /// The system refuses.
    pub fn pause(&self) -> Result<(), CompareError> {
        Ok(self.signal(Signal::STOP)?)
    }

    /// Lets them go on, and waits until an operation has committed.
    ///
    /// # Errors
    /// None does, in time.
    pub async fn go_on(&mut self) -> Result<(), CompareError> {
        self.signal(Signal::CONT)?;
        self.wait_until_it_commits().await
    }

    fn signal(&self, signal: Signal) -> Result<(), LaunchError> {
        for id in self.ids() {
            if let Some(pid) = condition(&self.directory, id).pid() {
                process::signal(id, pid, signal)?;
            }
        }
        Ok(())
    }

    /// Puts the load of `plan` on it.
    ///
    /// # Errors
    /// Those of `bench`.
    pub async fn measure(&self, plan: &Plan, tell: &mut impl FnMut(Stage)) -> Result<Figures, BenchError> {
        bench::run(&self.directory, plan, tell).await.map(Figures::of_outcome)
    }
}

impl Drop for Testnet {
    fn drop(&mut self) {
        if let Err(error) = process::stop(&self.directory, &self.ids(), true, || true) {
            tracing::error!(%error, "a replica was left behind");
        }
        for spawned in &mut self.spawned {
            // Also those that were started and could not be entered in a file. One that ended already is no error.
            let _ = spawned.child.kill();
            let _ = spawned.child.wait();
        }
    }
}
