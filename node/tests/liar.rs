//! The seam for a testnet: what wraps the replica can lie, and the honest nodes write down who did.

mod cluster;

use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, within};
use quorate_crypto::encoding::decode;
use quorate_crypto::{
    Digest, Ed25519, PublicKey, ReplicaId, Seq, Signed, Statement, StatementBody, Verified, Verifier,
};
use quorate_keys::Parameters;
use quorate_node::clients::ClientFace;
use quorate_node::evidence_store::EvidenceFile;
use quorate_node::process::{EVIDENCE_DIRECTORY, Node};
use quorate_protocol::client::message::ReplicaMessage;
use quorate_protocol::engine::{Engine, EngineStatus, Input, Now, Step};
use quorate_protocol::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use quorate_protocol::foundation::Setup;
use quorate_protocol::message::Message;
use quorate_protocol::replica::Replica;
use quorate_protocol::request::Request;

/// Votes twice: each COMMIT is followed by another for a digest of its own.
struct TwoFaced {
    honest: Replica,
    setup: Setup,
}

impl TwoFaced {
    fn lie(&self, signed: &Signed) -> Option<Signed> {
        let StatementBody::Commit(ballot) = signed.statement.body else { return None };
        let body = StatementBody::Commit(quorate_crypto::statement::Ballot { digest: Digest([0xee; 32]), ..ballot });
        let statement = Statement { body, ..signed.statement };
        Some(statement.sign(self.setup.committee.cluster(), self.setup.signer.as_ref()))
    }
}

impl Engine for TwoFaced {
    fn step(&mut self, now: Now, input: Input) -> Step {
        let mut step = self.honest.step(now, input);
        let lies: Vec<_> = step
            .sends
            .iter()
            .filter_map(|send| {
                let Message::Commit(signed) = &send.message else { return None };
                Some(quorate_protocol::engine::Send { message: Message::Commit(self.lie(signed)?), ..send.clone() })
            })
            .collect();
        step.sends.extend(lies);
        step
    }

    fn wake(&self) -> Option<u64> {
        self.honest.wake()
    }

    fn status(&self) -> EngineStatus {
        self.honest.status()
    }

    fn knows(&self, request: &Digest) -> bool {
        self.honest.knows(request)
    }

    fn wants(&self, request: &Digest) -> bool {
        self.honest.wants(request)
    }

    fn oldest_pending(&self) -> Option<&Verified<Request>> {
        self.honest.oldest_pending()
    }

    fn executed_statement(&self, seq: Seq) -> Option<Signed> {
        self.honest.executed_statement(seq)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_double_vote_is_written_down_and_convicts_offline() {
    let mut cluster = Cluster::new(4, Parameters::default());
    for id in 0..3 {
        cluster.start_one(id).await;
    }
    let wrap =
        |honest: Replica, setup: &Setup| -> Box<dyn Engine> { Box::new(TwoFaced { honest, setup: setup.clone() }) };
    let liar = Node::start_with(cluster.settings[3].clone(), wrap, None).await.unwrap();
    cluster.nodes.insert(3, liar);
    let mut client = cluster.client(0);
    client.put("key", "value").await;

    let directory = cluster.data(0).join(EVIDENCE_DIRECTORY);
    let file = within("evidence", async {
        loop {
            let found = std::fs::read_dir(&directory).ok().and_then(|mut entries| entries.next()?.ok());
            match found {
                Some(entry) if entry.path().extension().is_some_and(|kind| kind == "json") => {
                    return std::fs::read(entry.path()).unwrap();
                }
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    let file: EvidenceFile = serde_json::from_slice(&file).unwrap();
    assert_eq!((file.v, file.accused, file.kind.as_str(), file.seen_by), (1, 3, "two-commits", 0));
    let evidence: Evidence = decode(&hex::decode(&file.bytes).unwrap(), EVIDENCE_BYTES_MAX).unwrap();
    let verifier = Verifier::new(Arc::new(Ed25519));
    let window = cluster.genesis.parameters().window;
    let conviction = evidence.verify(cluster.genesis.committee(), window, &verifier).unwrap();
    assert_eq!((conviction.accused, conviction.kind), (ReplicaId(3), "two-commits"));

    // The cluster goes on, and the liar's own link is not cut: its signatures hold.
    client.put("another", "value").await;
    cluster.stop().await;
}

/// Stands for a bug in the thread that serves clients.
struct Broken;

impl ClientFace for Broken {
    fn outgoing(&mut self, _: PublicKey, _: ReplicaMessage) -> Vec<ReplicaMessage> {
        panic!("made for a test");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_panics_ends_its_node() {
    let mut cluster = Cluster::new(4, Parameters::default());
    for id in 0..3 {
        cluster.start_one(id).await;
    }
    let honest = |replica: Replica, _: &Setup| -> Box<dyn Engine> { Box::new(replica) };
    let mut node = Node::start_with(cluster.settings[3].clone(), honest, Some(Box::new(Broken))).await.unwrap();
    let mut client = cluster.client(0);
    let ended = within("the node ends", async {
        loop {
            client.put("key", "value").await;
            if let Ok(ended) = tokio::time::timeout(Duration::from_millis(100), node.ended()).await {
                return ended;
            }
        }
    })
    .await;
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("the thread clients failed: it panicked"), "{error}");
    assert_eq!(error.exit_code(), 7);
    assert!(node.stop().await.is_err());
    cluster.stop().await;
}
