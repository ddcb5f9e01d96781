//! The disks of a simulated cluster: memory that loses unsynced bytes, below one power supply.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_node::disk::{Disk, DiskError, MemoryDisk, Operation};

#[derive(Debug, Default)]
struct Supply {
    operations: u64,
    cut_at: Option<u64>,
    off: bool,
}

/// The power of the whole cluster. It counts every storage operation of every replica and can fail at any of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Power(Arc<Mutex<Supply>>);

impl Power {
    fn supply(&self) -> MutexGuard<'_, Supply> {
        // Every change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Storage operations so far.
    pub(super) fn operations(&self) -> u64 {
        self.supply().operations
    }

    /// Counts from here on.
    pub(super) fn begin_count(&self) {
        self.supply().operations = 0;
    }

    /// Power fails as operation number `operation` is asked for: it has no effect, nor has any later one.
    pub(super) fn cut_at(&self, operation: u64) {
        self.supply().cut_at = Some(operation);
    }

    /// Whether it is off.
    pub(super) fn is_off(&self) -> bool {
        self.supply().off
    }

    /// It is back, and no cut is planned.
    pub(super) fn restore(&self) {
        let mut supply = self.supply();
        supply.off = false;
        supply.cut_at = None;
    }

    fn use_some(&self, operation: Operation) -> Result<(), DiskError> {
        let mut supply = self.supply();
        supply.operations += 1;
        if supply.cut_at.is_some_and(|at| supply.operations >= at) {
            supply.off = true;
        }
        if supply.off {
            let source = std::io::Error::other("the power failed");
            return Err(DiskError::Io { operation, file: String::new(), source });
        }
        Ok(())
    }
}

/// A directory of one replica.
#[derive(Debug, Clone)]
pub(super) struct SimulatedDisk {
    pub(super) medium: MemoryDisk,
    pub(super) power: Power,
    /// The sabotage that durability must catch: a sync of the log that returns without having done anything.
    pub(super) loses_syncs: bool,
}

impl Disk for SimulatedDisk {
    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.power.use_some(Operation::Create)?;
        self.medium.create(name)
    }

    fn length(&mut self, name: &str) -> Result<Option<u64>, DiskError> {
        self.power.use_some(Operation::Length)?;
        self.medium.length(name)
    }

    fn allocate(&mut self, name: &str, length: u64) -> Result<(), DiskError> {
        self.power.use_some(Operation::Allocate)?;
        self.medium.allocate(name, length)
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.power.use_some(Operation::Read)?;
        self.medium.read_at(name, offset, buffer)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.power.use_some(Operation::Write)?;
        self.medium.write_at(name, offset, bytes)
    }

    fn sync_data(&mut self, name: &str) -> Result<(), DiskError> {
        self.power.use_some(Operation::SyncData)?;
        // Only the segments in use: what is lost are promises, not the log's own order.
        if self.loses_syncs && name.starts_with("log-0") { Ok(()) } else { self.medium.sync_data(name) }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.power.use_some(Operation::Rename)?;
        self.medium.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.power.use_some(Operation::Remove)?;
        self.medium.remove(name)
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.power.use_some(Operation::SyncDirectory)?;
        self.medium.sync_directory()
    }

    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.power.use_some(Operation::List)?;
        self.medium.list()
    }
}
