use quorate_crypto::{Digest, ReplicaId, SecretKey, Seq, Signer as _};
use quorate_keys::genesis::{GenesisClient, GenesisContents, GenesisReplica};
use quorate_keys::{Identity, Parameters};

use super::*;
use crate::disk::Operation;
use crate::log::FrameNumber;

fn full() -> DiskError {
    DiskError::DiskFull { operation: Operation::Allocate, file: "log-1".to_owned() }
}

fn broken() -> DiskError {
    DiskError::Io {
        operation: Operation::SyncData,
        file: "log-1".to_owned(),
        source: std::io::Error::other("the medium is gone"),
    }
}

#[test]
fn each_failure_has_its_exit_code_and_one_sentence() {
    let data = Path::new("/data");
    for (code, error) in [
        (5, NodeError::from_log(data, &LogError::Disk(full()))),
        (5, NodeError::from_driver(data, &DriverError::Log(LogError::Disk(full())))),
        (5, NodeError::from_snapshot(data, &SnapshotError::Disk(full()))),
        (5, NodeError::from_open(data, &OpenError::Disk(full()))),
        (7, NodeError::from_log(data, &LogError::Disk(broken()))),
        (7, NodeError::from_snapshot(data, &SnapshotError::Disk(broken()))),
        (7, NodeError::from_disk(data, &DiskError::Poisoned)),
        (2, NodeError::from_disk(data, &DiskError::Locked("log".to_owned()))),
        (2, NodeError::from_disk(data, &DiskError::Exposed { path: "/data/log".to_owned(), mode: 0o755 })),
        (6, NodeError::from_open(data, &OpenError::Missing)),
        (6, NodeError::from_open(data, &OpenError::AlreadyExists)),
        (6, NodeError::from_open(data, &OpenError::ForeignCluster(ClusterId::default()))),
        (6, NodeError::from_open(data, &OpenError::ForeignReplica(ReplicaId(3)))),
        (6, NodeError::from_open(data, &OpenError::Damaged { frame: FrameNumber(7), why: "rot" })),
        (6, NodeError::from_replica(data, &OpenReplicaError::Records("it is another version's".to_owned()))),
        (6, NodeError::Halted(Halt::Diverged { seq: Seq(4), own: Digest::ZERO, certified: Digest([1; 32]) })),
        (4, NodeError::Refused("a key".to_owned())),
    ] {
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

fn genesis(protocol: Protocol) -> Genesis {
    let replicas = (0..4u16).map(|id| {
        let seed = id as u8 + 1;
        let public = Identity::from_seeds(&[seed; 32], &[seed + 100; 32]).public();
        GenesisReplica {
            id: ReplicaId(id),
            consensus_key: public.consensus,
            transport_key: public.transport,
            peer_address: format!("127.0.0.1:{}", 7400 + id).parse().unwrap(),
            client_address: format!("127.0.0.1:{}", 7600 + id).parse().unwrap(),
            operations_address: None,
        }
    });
    let contents = GenesisContents {
        nonce: [7; 32],
        protocol,
        parameters: Parameters::default(),
        replicas: replicas.collect(),
        clients: Vec::new(),
        admins: vec![GenesisClient { key: SecretKey::from_seed(&[200; 32]).public_key(), name: None }],
    };
    Genesis::new(contents).unwrap()
}

under_both!(data_of_another_cluster_are_refused_by_what_is_known_of_it);

fn data_of_another_cluster_are_refused_by_what_is_known_of_it(own: Protocol) {
    let genesis = genesis(own);
    let refused = |error: OpenReplicaError| {
        let refused = NodeError::from_data(Path::new("/data"), &genesis, &error);
        assert_eq!(refused.exit_code(), 6, "{refused}");
        assert!(!refused.to_string().contains('\n'), "{refused}");
        refused.to_string()
    };
    for other in Protocol::ALL.into_iter().filter(|other| *other != own) {
        let foreign = || OpenError::ForeignCluster(genesis.cluster_id_under(other));
        for (place, error) in
            [("log", OpenReplicaError::Log(foreign())), ("snapshots", OpenReplicaError::Snapshots(foreign()))]
        {
            let sentence = refused(error);
            let says = format!("/data/{place} belongs to a cluster that runs {other}, but the genesis file says {own}");
            assert!(sentence.starts_with(&says), "{sentence}");
        }
    }
    let stranger = ClusterId(Digest([9; 32]));
    let sentence = refused(OpenReplicaError::Log(OpenError::ForeignCluster(stranger)));
    let says = format!("belongs to cluster {stranger}, but the genesis file defines {}", genesis.cluster_id());
    assert!(sentence.contains(&says) && sentence.contains(&format!("which runs {own}")), "{sentence}");
}
