//! A disk in memory that behaves as badly as a real one may: deterministic, for tests and the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskError, Operation, SECTOR_BYTES, check_name};

/// What an injected failure looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO. On a sync the unsynced bytes count as clean afterwards although they are not durable, as Linux does.
    Io,
    /// ENOSPC on operations that take space (create, allocate, write); EIO on the others.
    DiskFull,
}

/// A directory on a medium in memory. Clones, and the directories made with [`MemoryDisk::directory`], share the medium,
/// its operation counter and its faults, so that a test keeps a handle while the log owns another.
///
/// Two states of every file are known: what the process sees, and what a power cut leaves. The same calls with the same
/// seeds give the same bytes.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    medium: Arc<Mutex<Medium>>,
    directory: String,
}

#[derive(Debug, Default)]
struct Medium {
    directories: BTreeMap<String, Directory>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    crash_at: Option<u64>,
    capacity_bytes: Option<u64>,
    refuses: bool,
}

#[derive(Debug, Default)]
struct Directory {
    names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// Changes of names since the last directory sync, in order.
    pending: Vec<NameChange>,
}

#[derive(Debug)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct Inode {
    data: Vec<u8>,
    durable_length: usize,
    /// What writes since the last sync have replaced, oldest first.
    unsynced: Vec<Replaced>,
    /// Sectors whose sync failed: they count as clean but are not durable. The old content by sector number.
    forgotten: BTreeMap<usize, Vec<u8>>,
}

#[derive(Debug)]
struct Replaced {
    offset: usize,
    old: Vec<u8>,
}

impl MemoryDisk {
    /// An empty medium without a size limit.
    #[expect(clippy::new_without_default, reason = "an empty medium is made on purpose, never by default")]
    pub fn new() -> MemoryDisk {
        MemoryDisk { medium: Arc::default(), directory: String::new() }
    }

    /// Another directory on the same medium.
    pub fn directory(&self, name: &str) -> MemoryDisk {
        MemoryDisk { medium: Arc::clone(&self.medium), directory: name.to_owned() }
    }

    /// Operations asked for so far, in all directories, refused ones not counted. The first has number 1.
    pub fn operations(&self) -> u64 {
        self.medium().operations
    }

    /// Operation number `operation` fails with `fault`. A failed sync poisons the medium until the next
    /// [`MemoryDisk::power_cut`] or [`MemoryDisk::restart`].
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.medium().faults.insert(operation, fault);
    }

    /// Takes back every planned fault that has not struck yet.
    pub fn forget_faults(&self) {
        self.medium().faults.clear();
    }

    /// The process dies as it asks for operation number `operation`: that and every later one is refused and has no
    /// effect until [`MemoryDisk::power_cut`] or [`MemoryDisk::restart`].
    pub fn crash_at(&self, operation: u64) {
        self.medium().crash_at = Some(operation);
    }

    /// Limits the sum of all file lengths; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.medium().capacity_bytes = bytes;
    }

    /// The sum of all file lengths, in bytes: what [`MemoryDisk::set_capacity`] limits.
    pub fn used_bytes(&self) -> u64 {
        self.medium().inodes.values().map(|inode| inode.data.len() as u64).sum()
    }

    /// The names of this directory, ascending, without counting as an operation.
    pub fn names(&self) -> Vec<String> {
        let medium = self.medium();
        let directory = medium.directories.get(&self.directory);
        directory.map(|directory| directory.names.keys().cloned().collect()).unwrap_or_default()
    }

    /// The power fails and comes back: of the unsynced sectors a subset that `seed` chooses has reached the medium, of
    /// the unsynced changes of names the first few. Planned crashes are forgotten, planned faults stay.
    pub fn power_cut(&self, seed: u64) {
        self.lose_power(seed, false);
    }

    /// As [`MemoryDisk::power_cut`] on a medium whose sectors are not even atomic: what did not reach it whole is noise.
    pub fn power_cut_with_noise(&self, seed: u64) {
        self.lose_power(seed, true);
    }

    fn lose_power(&self, seed: u64, noise: bool) {
        let mut medium = self.medium();
        for (position, directory) in medium.directories.values_mut().enumerate() {
            let survivors = mix(seed ^ mix(position as u64)) % (directory.pending.len() as u64 + 1);
            for change in directory.pending.drain(..).take(survivors as usize) {
                change.apply(&mut directory.durable);
            }
            directory.names.clone_from(&directory.durable);
        }
        for (number, inode) in &mut medium.inodes {
            inode.power_cut(mix(seed.wrapping_add(mix(*number))), noise);
        }
        medium.drop_unreferenced();
        medium.crash_at = None;
        medium.refuses = false;
    }

    /// The process dies and starts again while the machine keeps running: nothing is lost, a poisoned medium answers
    /// again, and bytes whose sync failed still count as clean.
    pub fn restart(&self) {
        let mut medium = self.medium();
        medium.crash_at = None;
        medium.refuses = false;
    }

    /// A file's bytes as the process sees them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let medium = self.medium();
        let number = medium.directories.get(&self.directory)?.names.get(name)?;
        Some(medium.inodes.get(number)?.data.clone())
    }

    /// Rot: replaces bytes durably, without counting as an operation. Bytes beyond the end of the file are dropped; a
    /// missing file is left alone.
    pub fn corrupt(&self, name: &str, offset: u64, bytes: &[u8]) {
        let mut medium = self.medium();
        let number = medium.directories.get(&self.directory).and_then(|directory| directory.names.get(name)).copied();
        if let Some(inode) = number.and_then(|number| medium.inodes.get_mut(&number)) {
            let start = (offset as usize).min(inode.data.len());
            let end = start.saturating_add(bytes.len()).min(inode.data.len());
            inode.data[start..end].copy_from_slice(&bytes[..end - start]);
        }
    }

    /// Loses a file for good, without counting as an operation.
    pub fn lose(&self, name: &str) {
        let mut medium = self.medium();
        if let Some(directory) = medium.directories.get_mut(&self.directory) {
            directory.names.remove(name);
            directory.durable.clone_from(&directory.names);
            directory.pending.clear();
        }
    }

    fn medium(&self) -> MutexGuard<'_, Medium> {
        // Every change below is complete before anything can panic, so a panic elsewhere leaves it sound.
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one operation and refuses it if so planned.
    fn begin(&self, operation: Operation, name: &str) -> Result<MutexGuard<'_, Medium>, DiskError> {
        let mut medium = self.medium();
        if medium.refuses {
            return Err(DiskError::Poisoned);
        }
        medium.operations += 1;
        let number = medium.operations;
        let failed = |source: &str| DiskError::Io {
            operation,
            file: name.to_owned(),
            source: io::Error::other(source.to_owned()),
        };
        if medium.crash_at.is_some_and(|crash| number >= crash) {
            medium.refuses = true;
            return Err(failed("planned crash"));
        }
        if let Some(fault) = medium.faults.remove(&number) {
            let takes_space = matches!(operation, Operation::Create | Operation::Allocate | Operation::Write);
            if fault == Fault::DiskFull && takes_space {
                return Err(DiskError::DiskFull { operation, file: name.to_owned() });
            }
            if matches!(operation, Operation::SyncData | Operation::SyncDirectory) {
                medium.refuses = true;
                if let Ok(inode) = medium.inode(&self.directory, name) {
                    inode.forget();
                }
            }
            return Err(failed("planned input/output error"));
        }
        Ok(medium)
    }

    fn begin_on(&self, operation: Operation, name: &str) -> Result<MutexGuard<'_, Medium>, DiskError> {
        check_name(name)?;
        self.begin(operation, name)
    }
}

impl Medium {
    fn inode(&mut self, directory: &str, name: &str) -> Result<&mut Inode, DiskError> {
        let missing = || DiskError::NotFound(name.to_owned());
        let names = &self.directories.get(directory).ok_or_else(missing)?.names;
        let number = names.get(name).ok_or_else(missing)?;
        self.inodes.get_mut(number).ok_or_else(missing)
    }

    fn check_space(&self, operation: Operation, name: &str, more: u64) -> Result<(), DiskError> {
        let Some(capacity) = self.capacity_bytes else { return Ok(()) };
        let used: u64 = self.inodes.values().map(|inode| inode.data.len() as u64).sum();
        if used.saturating_add(more) > capacity {
            return Err(DiskError::DiskFull { operation, file: name.to_owned() });
        }
        Ok(())
    }

    fn change_names(&mut self, directory: &str, change: NameChange) {
        let directory = self.directories.entry(directory.to_owned()).or_default();
        change.apply(&mut directory.names);
        directory.pending.push(change);
    }

    fn drop_unreferenced(&mut self) {
        let referenced: BTreeSet<u64> = self
            .directories
            .values()
            .flat_map(|directory| {
                let created = directory.pending.iter().filter_map(|change| match change {
                    NameChange::Create(_, number) => Some(*number),
                    NameChange::Rename(..) | NameChange::Remove(_) => None,
                });
                directory.names.values().chain(directory.durable.values()).copied().chain(created)
            })
            .collect();
        self.inodes.retain(|number, _| referenced.contains(number));
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Create(name, number) => {
                names.insert(name.clone(), *number);
            }
            NameChange::Rename(from, to) => {
                if let Some(number) = names.remove(from) {
                    names.insert(to.clone(), number);
                }
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    fn extend(&mut self, length: usize) {
        if self.data.len() < length {
            self.data.resize(length, 0);
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.extend(end);
        if !self.forgotten.is_empty() && !bytes.is_empty() {
            // Writing a sector makes it dirty again as a whole, so that the next sync covers it.
            let later = self.forgotten.split_off(&(offset / SECTOR_BYTES));
            for (sector, old) in later {
                if sector <= (end - 1) / SECTOR_BYTES {
                    self.unsynced.insert(0, Replaced { offset: sector * SECTOR_BYTES, old });
                } else {
                    self.forgotten.insert(sector, old);
                }
            }
        }
        let range = &mut self.data[offset..end];
        self.unsynced.push(Replaced { offset, old: range.to_vec() });
        range.copy_from_slice(bytes);
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.durable_length = self.data.len();
    }

    /// A sync failed: what was dirty counts as clean from now on, and is not durable.
    fn forget(&mut self) {
        // From the newest write backwards, so that the oldest content of every byte is what remains.
        for replaced in std::mem::take(&mut self.unsynced).into_iter().rev() {
            let mut position = 0;
            while position < replaced.old.len() {
                let offset = replaced.offset + position;
                let within = offset % SECTOR_BYTES;
                let count = (SECTOR_BYTES - within).min(replaced.old.len() - position);
                let start = offset - within;
                let end = (start + SECTOR_BYTES).min(self.data.len());
                let data = &self.data;
                let old = self.forgotten.entry(offset / SECTOR_BYTES).or_insert_with(|| data[start..end].to_vec());
                old[within..within + count].copy_from_slice(&replaced.old[position..position + count]);
                position += count;
            }
        }
    }

    fn power_cut(&mut self, seed: u64, noise: bool) {
        let lost = |sector: usize| mix(seed ^ mix(sector as u64 + 1)) & 1 == 1;
        for replaced in self.unsynced.drain(..).rev() {
            let mut position = 0;
            while position < replaced.old.len() {
                let offset = replaced.offset + position;
                let count = (SECTOR_BYTES - offset % SECTOR_BYTES).min(replaced.old.len() - position);
                if lost(offset / SECTOR_BYTES) {
                    let bytes = &mut self.data[offset..offset + count];
                    if noise {
                        bytes.fill(0x5a);
                    } else {
                        bytes.copy_from_slice(&replaced.old[position..position + count]);
                    }
                }
                position += count;
            }
        }
        for (sector, old) in std::mem::take(&mut self.forgotten) {
            if lost(sector) {
                let start = sector * SECTOR_BYTES;
                self.data[start..start + old.len()].copy_from_slice(&old);
            }
        }
        if self.durable_length < self.data.len() && lost(usize::MAX - 1) {
            self.data.truncate(self.durable_length);
        }
        self.durable_length = self.data.len();
    }
}

impl Disk for MemoryDisk {
    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        let mut medium = self.begin_on(Operation::Create, name)?;
        if medium.inode(&self.directory, name).is_ok() {
            return Err(DiskError::AlreadyExists(name.to_owned()));
        }
        let number = medium.next_inode;
        medium.next_inode += 1;
        medium.inodes.insert(number, Inode::default());
        medium.change_names(&self.directory, NameChange::Create(name.to_owned(), number));
        Ok(())
    }

    fn length(&mut self, name: &str) -> Result<Option<u64>, DiskError> {
        let mut medium = self.begin_on(Operation::Length, name)?;
        Ok(medium.inode(&self.directory, name).ok().map(|inode| inode.data.len() as u64))
    }

    fn allocate(&mut self, name: &str, length: u64) -> Result<(), DiskError> {
        let mut medium = self.begin_on(Operation::Allocate, name)?;
        let present = medium.inode(&self.directory, name)?.data.len() as u64;
        medium.check_space(Operation::Allocate, name, length.saturating_sub(present))?;
        medium.inode(&self.directory, name)?.extend(length as usize);
        Ok(())
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut medium = self.begin_on(Operation::Read, name)?;
        let inode = medium.inode(&self.directory, name)?;
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| inode.data.get(start..start.checked_add(buffer.len())?))
            .ok_or_else(|| DiskError::Io {
                operation: Operation::Read,
                file: name.to_owned(),
                source: io::Error::from(io::ErrorKind::UnexpectedEof),
            })?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut medium = self.begin_on(Operation::Write, name)?;
        let present = medium.inode(&self.directory, name)?.data.len() as u64;
        let end = offset.saturating_add(bytes.len() as u64);
        medium.check_space(Operation::Write, name, end.saturating_sub(present))?;
        medium.inode(&self.directory, name)?.write(offset as usize, bytes);
        Ok(())
    }

    fn sync_data(&mut self, name: &str) -> Result<(), DiskError> {
        let mut medium = self.begin_on(Operation::SyncData, name)?;
        medium.inode(&self.directory, name)?.sync();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        check_name(to)?;
        let mut medium = self.begin_on(Operation::Rename, from)?;
        medium.inode(&self.directory, from)?;
        medium.change_names(&self.directory, NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        let mut medium = self.begin_on(Operation::Remove, name)?;
        medium.inode(&self.directory, name)?;
        medium.change_names(&self.directory, NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        let mut medium = self.begin(Operation::SyncDirectory, ".")?;
        if let Some(directory) = medium.directories.get_mut(&self.directory) {
            directory.durable.clone_from(&directory.names);
            directory.pending.clear();
        }
        medium.drop_unreferenced();
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let medium = self.begin(Operation::List, ".")?;
        Ok(medium
            .directories
            .get(&self.directory)
            .map(|directory| directory.names.keys().cloned().collect())
            .unwrap_or_default())
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): spreads a seed over all bits.
fn mix(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
