use quorate_crypto::{ClusterId, Digest, ReplicaId, Seq};

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
