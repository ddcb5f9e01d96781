//! Snapshots that are lost are given up, at whatever operation the process dies while it does so; a log never is.

use std::sync::Arc;

use quorate_crypto::{
    Committee, Digest, Ed25519, Epoch, FaultModel, Incarnation, Member, Protocol, SecretKey, Signer as _, Verifier,
};
use quorate_protocol::execution::{ExecutionParameters, InitialConfiguration};
use quorate_protocol::parameters::Parameters;

use super::*;
use crate::disk::{Fault, MemoryDisk, Operation};

const OWN: ReplicaId = ReplicaId(1);
/// The checkpoint whose snapshot is stored.
const STORED: Seq = Seq(0);

/// A replica's storage on one medium, with a snapshot in it.
struct Storage {
    log: MemoryDisk,
    snapshots: MemoryDisk,
    settings: StorageSettings,
    setup: Setup,
}

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn genesis(setup: &Setup) -> Execution<KeyValue> {
    let initial = InitialConfiguration {
        clients: vec![key(100).public_key()],
        admins: Vec::new(),
        parameters: ExecutionParameters::from(&setup.parameters),
    };
    Execution::new(KeyValue::new(quorate_kv::Parameters::default()), &initial)
}

impl Storage {
    fn new(protocol: Protocol) -> Storage {
        let cluster = ClusterId(Digest([7; 32]));
        let members = (0..4).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
        let committee = Committee::new(cluster, Epoch(0), FaultModel::Byzantine, members).unwrap();
        let setup = Setup {
            protocol,
            id: OWN,
            incarnation: Incarnation(0),
            rejoin_seed: [0; 32],
            committee: Arc::new(committee),
            parameters: Parameters::default(),
            signer: Arc::new(key(OWN.0)),
            verifier: Verifier::new(Arc::new(Ed25519)),
        };
        let settings = StorageSettings {
            cluster,
            replica: OWN,
            trust: Trust::NewCluster,
            log_segment_bytes: 16 * 1024,
            snapshot_segment_bytes: 16 * 1024,
            log_key: LogKey([1; 32]),
            snapshot_key: LogKey([2; 32]),
        };
        let medium = MemoryDisk::new();
        let (log, snapshots) = (medium.directory("log"), medium.directory("snapshots"));
        create_replica_storage(log.clone(), snapshots.clone(), &settings).unwrap();
        let (mut store, _) = SnapshotStore::open(snapshots.clone(), identity(&setup)).unwrap();
        store_snapshot(&mut store, &genesis(&setup).snapshot()).unwrap();
        Storage { log, snapshots, settings, setup }
    }

    fn open(&self) -> Result<Opened<MemoryDisk, Replica>, OpenReplicaError> {
        let (setup, genesis) = (self.setup.clone(), genesis(&self.setup));
        let disk = || Ok(self.snapshots.clone());
        open_replica_or_fetch(self.log.clone(), disk, &self.settings, setup, Now::default(), genesis, |replica| replica)
    }

    /// Opens, and says whether the stored snapshot was still there.
    fn opens_with_snapshot(&self) -> bool {
        let opened = self.open().unwrap();
        opened.snapshots.durable_seq() == Some(STORED)
    }

    fn damage_snapshots(&self) {
        self.snapshots.corrupt("snapshot-superblock", 0, &[0x55; 8192]);
    }
}

under_both!(
    a_replica_opens_wherever_it_died_giving_its_snapshots_up,
    a_replica_opens_once_there_is_space_to_give_its_snapshots_up,
    missing_snapshots_are_given_up,
    a_sector_of_the_snapshots_that_cannot_be_read_is_damage,
    a_lost_log_is_an_error_and_leaves_the_snapshots_alone,
    whole_snapshots_of_somebody_else_are_kept,
);

fn a_replica_opens_wherever_it_died_giving_its_snapshots_up(protocol: Protocol) {
    let mut operation = 1;
    loop {
        for power_fails in [false, true] {
            let storage = Storage::new(protocol);
            storage.damage_snapshots();
            storage.snapshots.crash_at(storage.snapshots.operations() + operation);
            if storage.open().is_ok() {
                assert!(operation > 20, "giving up takes more operations than {operation}");
                return;
            }
            if power_fails {
                storage.snapshots.power_cut(operation);
            } else {
                storage.snapshots.restart();
            }
            assert!(!storage.opens_with_snapshot(), "operation {operation}");
            assert!(!storage.opens_with_snapshot(), "operation {operation}, the second time");
        }
        operation += 1;
    }
}

fn a_replica_opens_once_there_is_space_to_give_its_snapshots_up(protocol: Protocol) {
    let mut full = 0;
    let mut operation = 1;
    loop {
        let storage = Storage::new(protocol);
        storage.damage_snapshots();
        let planned = storage.snapshots.operations() + operation;
        storage.snapshots.fail_at(planned, Fault::DiskFull);
        match storage.open() {
            Ok(_) if storage.snapshots.operations() < planned => break,
            Err(OpenReplicaError::Snapshots(OpenError::Disk(error))) => full += u32::from(error.is_disk_full()),
            Ok(_) | Err(_) => {}
        }
        storage.snapshots.restart();
        assert!(!storage.opens_with_snapshot(), "operation {operation}");
        operation += 1;
    }
    assert!(full > 3, "{full} operations take space");
}

fn missing_snapshots_are_given_up(protocol: Protocol) {
    let storage = Storage::new(protocol);
    assert!(storage.opens_with_snapshot());
    storage.snapshots.lose("snapshot-superblock");
    assert!(!storage.opens_with_snapshot());
    for name in storage.snapshots.names() {
        storage.snapshots.lose(&name);
    }
    assert!(!storage.opens_with_snapshot());
}

fn a_sector_of_the_snapshots_that_cannot_be_read_is_damage(protocol: Protocol) {
    let mut given_up = 0;
    let mut operation = 1;
    loop {
        let storage = Storage::new(protocol);
        let planned = storage.snapshots.operations() + operation;
        storage.snapshots.fail_at(planned, Fault::Io);
        match storage.open() {
            Ok(_) if storage.snapshots.operations() < planned => break,
            Ok(opened) => given_up += u32::from(opened.snapshots.durable_seq().is_none()),
            Err(OpenReplicaError::Snapshots(OpenError::Disk(error))) => {
                assert!(!matches!(error, DiskError::Io { operation: Operation::Read, .. }), "{error}");
            }
            Err(_) => {}
        }
        // Whatever failed, the next start succeeds.
        storage.snapshots.restart();
        storage.open().unwrap();
        operation += 1;
    }
    assert!(given_up > 3, "{given_up} operations read snapshots");
}

fn a_lost_log_is_an_error_and_leaves_the_snapshots_alone(protocol: Protocol) {
    for lost in ["log-superblock", "log-0000000000000000"] {
        let storage = Storage::new(protocol);
        storage.damage_snapshots();
        storage.log.lose(lost);
        let (names, superblock) = (storage.snapshots.names(), storage.snapshots.contents("snapshot-superblock"));
        let error = storage.open().err().unwrap();
        let expected = match lost {
            "log-superblock" => matches!(error, OpenReplicaError::Log(OpenError::Missing)),
            _ => matches!(error, OpenReplicaError::Log(OpenError::Damaged { .. })),
        };
        assert!(expected, "{error}");
        assert_eq!(storage.snapshots.names(), names);
        assert_eq!(storage.snapshots.contents("snapshot-superblock"), superblock);
    }
}

fn whole_snapshots_of_somebody_else_are_kept(protocol: Protocol) {
    let storage = Storage::new(protocol);
    let other = StorageSettings { replica: ReplicaId(3), ..storage.settings };
    replace_snapshots(storage.snapshots.clone(), &other).unwrap();
    let superblock = storage.snapshots.contents("snapshot-superblock");
    let error = storage.open().err().unwrap();
    assert!(matches!(error, OpenReplicaError::Snapshots(OpenError::ForeignReplica(ReplicaId(3)))), "{error}");
    assert_eq!(storage.snapshots.contents("snapshot-superblock"), superblock);
}
