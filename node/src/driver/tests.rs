use std::sync::Arc;

use quorate_crypto::{
    ClusterId, Committee, Ed25519, Epoch, FaultModel, Incarnation, Member, Protocol, SecretKey, Signer as _, Verifier,
};
use quorate_protocol::execution::{ExecutionParameters, InitialConfiguration};
use quorate_protocol::foundation::Setup;
use quorate_protocol::parameters::Parameters;
use quorate_protocol::replica::Replica;
use quorate_protocol::request::{Operation, RequestContent, SessionId};

use super::*;
use crate::disk::MemoryDisk;
use crate::log::{LogKey, Trust};
use crate::recovery::{StorageSettings, create_replica_storage, open_replica};

under_both!(a_lifetime_is_too_long_if_it_is_for_the_slowest_clock);

const CLIENT: [u8; 32] = [100; 32];
/// Leads neither view 0, the first of PBFT, nor view 1, that of HotStuff.
const BACKUP: ReplicaId = ReplicaId(2);

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

/// The driver of a backup that never ran, and what checks the requests of its only client.
fn driver(protocol: Protocol) -> (Driver<MemoryDisk, Replica>, Arc<Committee>, Verifier) {
    let cluster = ClusterId(Digest([7; 32]));
    let members = (0..4).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    let committee = Committee::new(cluster, Epoch(0), FaultModel::Byzantine, members).expect("a committee");
    let (committee, verifier) = (Arc::new(committee), Verifier::new(Arc::new(Ed25519)));
    let settings = StorageSettings {
        cluster,
        replica: BACKUP,
        trust: Trust::NewCluster,
        log_segment_bytes: 1024 * 1024,
        snapshot_segment_bytes: 1024 * 1024,
        log_key: LogKey([1; 32]),
        snapshot_key: LogKey([2; 32]),
    };
    let (log, snapshots) = (MemoryDisk::new(), MemoryDisk::new());
    create_replica_storage(log.clone(), snapshots.clone(), &settings).expect("created");
    let setup = Setup {
        protocol,
        id: BACKUP,
        incarnation: Incarnation(0),
        rejoin_seed: [0; 32],
        committee: Arc::clone(&committee),
        parameters: Parameters::default(),
        signer: Arc::new(key(BACKUP.0)),
        verifier: verifier.clone(),
    };
    let initial = InitialConfiguration {
        clients: vec![SecretKey::from_seed(&CLIENT).public_key()],
        admins: Vec::new(),
        parameters: ExecutionParameters::from(&setup.parameters),
    };
    let genesis = Execution::new(KeyValue::new(quorate_kv::Parameters::default()), &initial);
    let opened = open_replica(log, snapshots, setup, Now::default(), genesis, |replica| replica).expect("opened");
    (opened.driver, committee, verifier)
}

/// A request may live for T_max. A backup whose clock is fast must not take from a client what a primary whose clock is
/// slow refuses as too long: its timer would run on it. What another replica relays is judged by the clock as it is.
fn a_lifetime_is_too_long_if_it_is_for_the_slowest_clock(protocol: Protocol) {
    let parameters = Parameters::default();
    let wall = 1_000_000;
    let longest = wall + parameters.request_lifetime_max;
    for (valid_until, taken) in [(longest, false), (longest - parameters.proposal_time_bound, true)] {
        let (mut driver, committee, verifier) = driver(protocol);
        let put = quorate_kv::Operation::Put(quorate_kv::PutRequest::new(b"key".to_vec(), b"value".to_vec()));
        let content = RequestContent {
            client: SecretKey::from_seed(&CLIENT).public_key(),
            session: SessionId([1; 16]),
            number: 1,
            acknowledged_below: 1,
            valid_until,
            operations: vec![Operation { service: quorate_kv::SERVICE, bytes: put.to_bytes() }],
        };
        let request = content.sign(committee.cluster(), &SecretKey::from_seed(&CLIENT));
        let verified = verifier.verify(request, &committee, &()).expect("signed");
        let mut published = Published::default();
        let before = driver.inputs.len();
        driver.submit(verified.clone(), wall, &mut published);
        assert_eq!((driver.inputs.len() - before, published.refused.is_empty()), (usize::from(taken), taken));
        let before = driver.inputs.len();
        driver.relayed(ReplicaId(0), vec![verified], wall);
        assert_eq!(driver.inputs.len() - before, 1);
    }
}
