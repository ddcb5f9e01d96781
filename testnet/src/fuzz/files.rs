//! What people write and what lies on disks.

use std::path::Path;
use std::sync::OnceLock;

use quorate_crypto::encoding::encode;
use quorate_crypto::{ClusterId, Digest, ReplicaId, Seq};
use quorate_keys::genesis::{GenesisClient, GenesisReplica};
use quorate_keys::{ClientKey, Genesis, GenesisContents, Identity, Parameters, Protocol};
use quorate_node::config::Config;
use quorate_node::disk::{Disk as _, MemoryDisk};
use quorate_node::driver::read_records;
use quorate_node::log::{FrameLog, FrameNumber, LogIdentity, LogKey, LogSettings, Trust};
use quorate_node::snapshot_store::{Checkpoint, SnapshotSettings, SnapshotStore};
use quorate_protocol::execution::ConfigurationOperation;

use super::{Taken, corpus};

/// A node.toml that is taken.
pub(super) const CONFIGURATION: &str = "\
version = 1
replica = 2
identity = \"identity.key\"
genesis = \"genesis.toml\"
data = \"data\"
durability = \"sync\"

[listen]
peers = \"127.0.0.1:7402\"
clients = \"127.0.0.1:7602\"
operations = \"127.0.0.1:7502\"

[addresses]
1 = \"replica-1.example.org:7401\"

[log]
level = \"info\"
format = \"text\"
";

/// A genesis.toml that is taken.
pub(super) fn genesis_text() -> String {
    let address = |port: u16| {
        format!("127.0.0.1:{port}").parse().unwrap_or_else(|_| unreachable!("a socket address is an address"))
    };
    let replica = |id: u16| {
        let identity = Identity::from_seeds(&[id as u8 + 1; 32], &[id as u8 + 101; 32]).public();
        GenesisReplica {
            id: ReplicaId(id),
            consensus_key: identity.consensus,
            transport_key: identity.transport,
            peer_address: address(7400 + id),
            client_address: address(7600 + id),
            operations_address: None,
        }
    };
    let client = |seed: u8| GenesisClient { key: ClientKey::from_seed(&[seed; 32]).public().key, name: None };
    let contents = GenesisContents {
        nonce: [0x5a; 32],
        protocol: Protocol::Pbft,
        parameters: Parameters::default(),
        replicas: (0..4).map(replica).collect(),
        clients: vec![client(201)],
        admins: vec![client(203)],
    };
    Genesis::new(contents).unwrap_or_else(|error| unreachable!("the example is valid: {error}")).to_toml()
}

pub(super) fn genesis(input: &[u8]) -> Taken {
    let Ok(genesis) = Genesis::parse(&String::from_utf8_lossy(input)) else { return Taken::No };
    let again = Genesis::parse(&genesis.to_toml()).unwrap_or_else(|error| panic!("its own text is refused: {error}"));
    assert_eq!(again.cluster_id(), genesis.cluster_id(), "written and read it is another cluster");
    Taken::Yes
}

pub(super) fn configuration(input: &[u8]) -> Taken {
    let text = String::from_utf8_lossy(input);
    match Config::parse(&text, Path::new(".")) {
        Ok(_) => Taken::Yes,
        Err(sentence) => {
            assert!(!sentence.is_empty(), "a refusal says why");
            Taken::No
        }
    }
}

pub(super) fn transaction(input: &[u8]) -> Taken {
    // An operation of the configuration is the other thing that a client spells out in bytes.
    let _ = ConfigurationOperation::from_bytes(input);
    quorate_client::transaction::parse(&String::from_utf8_lossy(input)).is_ok().into()
}

const SEGMENT_BYTES: u64 = 4 * 4096;

fn identity() -> LogIdentity {
    LogIdentity { cluster: ClusterId(Digest([9; 32])), replica: ReplicaId(2) }
}

/// What lies in the files of a disk.
type Files = Vec<(String, Vec<u8>)>;

fn files_of(disk: &MemoryDisk) -> Files {
    disk.names().into_iter().filter_map(|name| disk.contents(&name).map(|bytes| (name, bytes))).collect()
}

/// The disk with the changes that the input names: a file, three bytes of place, a byte each.
fn damaged(files: &Files, input: &[u8]) -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    for (name, bytes) in files {
        let made = disk.create(name).and_then(|()| disk.allocate(name, bytes.len() as u64));
        made.and_then(|()| disk.write_at(name, 0, bytes)).unwrap_or_else(|error| panic!("{error}"));
    }
    for edit in input.chunks_exact(5) {
        let Some((name, bytes)) = files.get(usize::from(edit[0]) % files.len().max(1)) else { break };
        let place = u64::from(u32::from_be_bytes([0, edit[1], edit[2], edit[3]])) % (bytes.len() as u64).max(1);
        disk.corrupt(name, place, &edit[4..]);
    }
    disk
}

/// A log of records as a replica writes them, and its frames.
fn written_log() -> &'static (Files, Vec<Vec<u8>>) {
    static WRITTEN: OnceLock<(Files, Vec<Vec<u8>>)> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let disk = MemoryDisk::new();
        let settings = LogSettings {
            identity: identity(),
            trust: Trust::NewCluster,
            segment_bytes: SEGMENT_BYTES,
            key: LogKey([7; 32]),
        };
        let mut log = FrameLog::create(disk.clone(), &settings).unwrap_or_else(|error| panic!("{error}"));
        let frames = corpus::records().into_iter().map(|mut bytes| {
            // Frames of a block or two: damage must meet every kind of place.
            bytes.truncate(6000);
            bytes
        });
        let frames: Vec<Vec<u8>> = frames.chain([vec![1], Vec::new()]).collect();
        for frame in &frames {
            let appended = log.append(frame).and_then(|_| log.sync());
            appended.unwrap_or_else(|error| panic!("{error}"));
        }
        (files_of(&disk), frames)
    })
}

/// A log whose bytes were changed gives what was written, perhaps without its end, or an error.
pub(super) fn log(input: &[u8]) -> Taken {
    let (files, written) = written_log();
    let Ok((_, frames)) = FrameLog::open(damaged(files, input), identity()) else { return Taken::No };
    assert!(frames.len() <= written.len(), "a log has more frames than were written");
    for ((number, frame), written) in frames.iter().zip(written) {
        assert!(frame == written, "frame {number} was never written");
    }
    let _ = read_records(&frames);
    // Whatever lies in a frame that says it is one.
    let _ = read_records(&[(FrameNumber(1), input.to_vec())]);
    Taken::Yes
}

/// Two checkpoints on a disk, and the digests of their maps.
fn written_snapshots() -> &'static (Files, [Digest; 2]) {
    static WRITTEN: OnceLock<(Files, [Digest; 2])> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let disk = MemoryDisk::new();
        let settings = SnapshotSettings { identity: identity(), segment_bytes: SEGMENT_BYTES, key: LogKey([8; 32]) };
        let mut store = SnapshotStore::create(disk.clone(), &settings).unwrap_or_else(|error| panic!("{error}"));
        let mut map = corpus::map();
        let digests = [1u64, 2].map(|seq| {
            map.insert(b"changed", encode(&seq));
            let (tables, root) = ([map.clone()], map.digest());
            let checkpoint = Checkpoint { seq: Seq(seq), root, header: b"header", tables: &tables };
            store.checkpoint(checkpoint).unwrap_or_else(|error| panic!("{error}"));
            root
        });
        (files_of(&disk), digests)
    })
}

/// Damaged snapshots give one that was stored, none, or an error.
pub(super) fn snapshots(input: &[u8]) -> Taken {
    let (files, digests) = written_snapshots();
    let Ok((_, loaded)) = SnapshotStore::open(damaged(files, input), identity()) else { return Taken::No };
    let Some(loaded) = loaded else { return Taken::No };
    let root = loaded.tables.first().map(quorate_crypto::merkle_map::MerkleMap::digest);
    assert!(root.is_some_and(|root| digests.contains(&root)) && digests.contains(&loaded.root), "never stored");
    Taken::Yes
}
