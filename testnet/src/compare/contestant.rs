//! What all systems have in common.

use std::path::Path;
use std::time::Duration;

use quorate_keys::Protocol;

use super::etcd::Cluster;
use super::figures::Figures;
use super::quorate::Testnet;
use super::{CompareError, System};
use crate::bench::{BenchError, Plan, Stage};

/// What a system is left alone for after a pause: links come back, and whoever took the pause for a death gets over it.
const SETTLE: Duration = Duration::from_millis(500);

/// A system on this machine. Its processes are killed when it is dropped.
#[derive(Debug)]
pub enum Contestant {
    /// Ours.
    Quorate(Testnet),
    /// What ours is compared with.
    Etcd(Cluster),
}

impl Contestant {
    /// A fresh testnet with its data in `root`.
    ///
    /// # Errors
    /// It cannot be started, or commits nothing.
    pub async fn quorate(root: &Path, protocol: Protocol) -> Result<Contestant, CompareError> {
        Ok(Contestant::Quorate(Testnet::start(root, protocol).await?))
    }

    /// A fresh etcd cluster with its data in `root`.
    ///
    /// # Errors
    /// It cannot be started, or elects nobody.
    pub async fn etcd(program: &Path, root: &Path) -> Result<Contestant, CompareError> {
        Ok(Contestant::Etcd(Cluster::start(program, root).await?))
    }

    /// `pbft`, `hotstuff`, `etcd`.
    pub fn name(&self) -> &'static str {
        match self {
            Contestant::Quorate(testnet) => testnet.protocol().name(),
            Contestant::Etcd(_) => "etcd",
        }
    }

    /// For the head of a table.
    pub fn system(&self) -> System {
        let (detail, is_baseline) = match self {
            Contestant::Quorate(testnet) => (testnet.detail(), false),
            Contestant::Etcd(cluster) => (cluster.detail(), true),
        };
        System { name: self.name(), detail, is_baseline }
    }

    /// Freezes its processes.
    ///
    /// # Errors
    /// The system refuses.
    pub fn pause(&self) -> Result<(), CompareError> {
        match self {
            Contestant::Quorate(testnet) => testnet.pause(),
            Contestant::Etcd(cluster) => cluster.pause(),
        }
    }

    /// Lets its processes go on, and waits until it serves again.
    ///
    /// # Errors
    /// It does not, in time.
    pub async fn go_on(&mut self) -> Result<(), CompareError> {
        match self {
            Contestant::Quorate(testnet) => testnet.go_on().await?,
            Contestant::Etcd(cluster) => cluster.go_on().await?,
        }
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    /// Puts the load of `plan` on it.
    ///
    /// # Errors
    /// Not one request succeeded, or clients cannot connect.
    pub async fn measure(&self, plan: &Plan, tell: &mut impl FnMut(Stage)) -> Result<Figures, BenchError> {
        match self {
            Contestant::Quorate(testnet) => testnet.measure(plan, tell).await,
            Contestant::Etcd(cluster) => cluster.measure(plan, tell).await,
        }
    }
}
