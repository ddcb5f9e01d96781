//! What the genesis file's check of the window promises, tried with real records at its edge. It is made of PBFT's
//! records and asked under both protocols: what it lets through must do for HotStuff's as well.

use quorate_crypto::encoding::{DECODE_CEILING, decode, encode};
use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Certificate, ClusterId, Committee, Digest, Endorsement, Epoch, FaultModel, Incarnation, Member, ReplicaId,
    SecretKey, Seq, Signature, Signed, Signer as _, Statement, StatementBody, View,
};
use quorate_keys::Parameters;
use quorate_protocol::hotstuff::block::{Block, BlockContent};
use quorate_protocol::hotstuff::certificate::{
    QuorumCertificate, TimeoutCertificate, TimeoutEndorsement, Vote, VoteCertificate,
};
use quorate_protocol::hotstuff::leaders::{Failure, Standing};
use quorate_protocol::hotstuff::message::Timeout;
use quorate_protocol::hotstuff::promise::Promise;
use quorate_protocol::message::REQUESTS_MAX;
use quorate_protocol::pbft::view_change_message::{
    NewView, NewViewBody, Reproposal, SlotProof, ViewChange, ViewChangeBody,
};
use quorate_protocol::proposal::{Payload, Proposal};
use quorate_protocol::record::Record;

const SIGNATURE: Signature = Signature([0xff; 64]);
const DIGEST: Digest = Digest([0xff; 32]);

fn endorsements(count: u16) -> Vec<Endorsement> {
    (0..count)
        .map(|id| Endorsement { signer: ReplicaId(id), incarnation: Incarnation(u32::MAX), signature: SIGNATURE })
        .collect()
}

fn header(id: u16, body: StatementBody) -> Statement {
    Statement { epoch: Epoch(u64::MAX), signer: ReplicaId(id), incarnation: Incarnation(u32::MAX), body }
}

fn statements(count: u64, body: impl Fn(Seq) -> StatementBody) -> Vec<Signed> {
    (1..=count).map(|seq| Signed { statement: header(0, body(Seq(seq))), signature: SIGNATURE }).collect()
}

/// The largest NEW-VIEW record and the largest record of what a cut of the log leaves.
fn largest_records(quorum: u16, window: u64) -> [Record; 2] {
    let (view, key) = (View(u64::MAX), SecretKey::from_seed(&[1; 32]));
    let checkpoint = |seq| StatementBody::Checkpoint { seq, digest: DIGEST };
    let stable = Certificate { epoch: Epoch(u64::MAX), body: checkpoint(Seq(0)), endorsements: endorsements(quorum) };
    let slots: Vec<SlotProof> = (1..=window)
        .map(|seq| {
            let ballot = Ballot { view, seq: Seq(seq), digest: DIGEST };
            let mut prepares = endorsements(quorum);
            let primary = prepares.remove(0);
            SlotProof::Prepared { ballot, primary, prepares }
        })
        .collect();
    let view_changes: Vec<ViewChange> = (0..quorum)
        .map(|id| {
            let body = ViewChangeBody { view, stable: Some(stable.clone()), slots: slots.clone() };
            let header = header(id, StatementBody::ViewChange { view, body: DIGEST });
            ViewChange::sign(body, header, ClusterId::default(), &key)
        })
        .collect();
    let body = NewViewBody {
        view,
        view_changes: view_changes.iter().map(|change| (change.author(), change.digest())).collect(),
        reproposals: (1..=window)
            .map(|seq| Reproposal { seq: Seq(seq), digest: DIGEST, signature: SIGNATURE })
            .collect(),
    };
    let signed = header(0, StatementBody::NewView { view, body: DIGEST });
    let new_view = NewView::sign_body(body, signed, ClusterId::default(), &key);
    let base = Record::Base {
        view,
        entered: true,
        stable: Some(stable),
        view_change: view_changes.first().cloned(),
        new_views: vec![(new_view.clone(), view_changes.clone())],
        checkpoints: statements(2 * window, checkpoint),
        executed: statements(2 * window, |seq| StatementBody::Executed { seq, results: DIGEST }),
    };
    [Record::NewView { new_view, view_changes }, base]
}

/// The largest record of a HotStuff replica: what a cut of the log leaves, with everything promised and three blocks.
/// All `members` signed every certificate, the standing of the leaders names them all, and EXECUTEDs and CHECKPOINTs
/// are kept from a window below the stable checkpoint to two above it, which is how far numbers are delivered.
fn largest_hotstuff_record(members: u16, window: u64) -> Record {
    let (epoch, view) = (Epoch(u64::MAX), View(u64::MAX));
    let vote = Vote { view, block: DIGEST, parent_view: view };
    let high_qc = QuorumCertificate::Votes(VoteCertificate { epoch, vote, endorsements: endorsements(members) });
    let timeouts = endorsements(members).into_iter().map(|Endorsement { signer, incarnation, signature }| {
        TimeoutEndorsement { signer, incarnation, high_view: view, signature }
    });
    let high_tc = TimeoutCertificate { epoch, view, timeouts: timeouts.collect(), high_qc: high_qc.clone() };
    let signed = |body| Signed { statement: header(0, body), signature: SIGNATURE };
    let promise = Promise {
        epoch,
        last_voted: view,
        last_timed_out: view,
        last_proposed: view,
        high_qc: high_qc.clone(),
        high_tc: Some(high_tc.clone()),
        vote: Some(signed(vote.body())),
        timeout: Some(Timeout {
            signed: signed(StatementBody::Timeout { view, high_view: view }),
            high_qc: high_qc.clone(),
        }),
        proposal: Some(signed(StatementBody::Proposal { view, block: DIGEST })),
    };
    // A standing has the form of the list inside it.
    let failures: Vec<Failure> =
        (0..members).map(|id| Failure { replica: ReplicaId(id), count: u32::MAX, out_until: view }).collect();
    let standing: Standing = decode(&encode(&failures), DECODE_CEILING).expect("a list of failures");
    let block = Box::new(Block::new(BlockContent {
        view,
        parent: DIGEST,
        seq: Seq(u64::MAX),
        proposal: Proposal { time: u64::MAX, payload: Payload::Batch(vec![DIGEST; REQUESTS_MAX]) },
        justify: high_qc,
        timeout: Some(high_tc),
        author: ReplicaId(0),
        standing,
    }));
    let checkpoint = |seq| StatementBody::Checkpoint { seq, digest: DIGEST };
    Record::HotStuffBase {
        promise: Box::new(promise),
        stable: Some(Certificate { epoch, body: checkpoint(Seq(0)), endorsements: endorsements(members) }),
        root: block.clone(),
        settled: Some(block.clone()),
        settled_by_child: Some(block),
        checkpoints: statements(3 * window, checkpoint),
        executed: statements(3 * window, |seq| StatementBody::Executed { seq, results: DIGEST }),
    }
}

/// The largest window that the check of a genesis file lets through.
fn largest_window(quorum: u16) -> u64 {
    let fits = |window: &u64| {
        let parameters = Parameters { window: *window, ..Parameters::default() };
        parameters.record_bytes_bound(u64::from(quorum)) <= DECODE_CEILING as u64
    };
    (2..65_536).take_while(fits).last().expect("the smallest window fits")
}

fn quorum_of(n: u16) -> u16 {
    let members =
        (0..n).map(|id| Member { id: ReplicaId(id), key: SecretKey::from_seed(&[id as u8; 32]).public_key() });
    let committee = Committee::new(ClusterId::default(), Epoch(0), FaultModel::Byzantine, members.collect()).unwrap();
    u16::try_from(committee.quorum()).unwrap()
}

#[test]
fn the_largest_new_view_record_fits() {
    for n in [4, 7, 39, 100] {
        let quorum = quorum_of(n);
        let window = largest_window(quorum);
        for record in largest_records(quorum, window) {
            let records = vec![record];
            let frame = encode(&records);
            let bound = Parameters { window, ..Parameters::default() }.record_bytes_bound(u64::from(quorum));
            assert!(frame.len() as u64 <= bound, "{n} replicas, window {window}: {} bytes", frame.len());
            let decoded: Result<Vec<Record>, _> = decode(&frame, DECODE_CEILING);
            assert!(decoded == Ok(records), "{n} replicas, window {window}: {:?}", decoded.err());
        }
    }
}

#[test]
fn the_largest_hotstuff_record_fits() {
    for n in [4, 7, 39, 100] {
        let window = largest_window(quorum_of(n));
        let records = vec![largest_hotstuff_record(n, window)];
        let frame = encode(&records);
        let decoded: Result<Vec<Record>, _> = decode(&frame, DECODE_CEILING);
        assert!(decoded == Ok(records), "{n} replicas, window {window}: {} bytes, {:?}", frame.len(), decoded.err());
    }
}
