//! The seam for a testnet: what wraps the replica can lie, and the honest nodes write down who did.

#[macro_use]
mod cluster;

use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, within};
use quorate_crypto::encoding::decode;
use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Digest, Ed25519, PublicKey, ReplicaId, Seq, Signed, Statement, StatementBody, Verified, Verifier,
};
use quorate_keys::{Parameters, Protocol};
use quorate_node::clients::ClientFace;
use quorate_node::evidence_store::EvidenceFile;
use quorate_node::process::{EVIDENCE_DIRECTORY, Node, NodeSettings};
use quorate_protocol::client::message::ReplicaMessage;
use quorate_protocol::engine::{Engine, EngineStatus, Input, Now, Step};
use quorate_protocol::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use quorate_protocol::foundation::Setup;
use quorate_protocol::hotstuff::certificate::Vote;
use quorate_protocol::message::Message;
use quorate_protocol::replica::Replica;
use quorate_protocol::request::Request;

under_both!(async:
    a_double_vote_is_written_down_and_convicts_offline,
    a_thread_that_panics_ends_its_node,
);

/// Those that follow their protocol in the tests here; replica 3 is the other one.
const HONEST: [u16; 3] = [0, 1, 2];

/// Votes twice: each COMMIT, and each vote for a block, is followed by another for a digest of its own.
struct TwoFaced {
    honest: Replica,
    setup: Setup,
}

impl TwoFaced {
    fn lie(&self, message: &Message) -> Option<Message> {
        let made_up = Digest([0xee; 32]);
        match message {
            Message::Commit(signed) => {
                let StatementBody::Commit(ballot) = signed.statement.body else { return None };
                let body = StatementBody::Commit(Ballot { digest: made_up, ..ballot });
                Some(Message::Commit(self.sign(Statement { body, ..signed.statement })))
            }
            Message::BlockVote(signed) => {
                let body = Vote { block: made_up, ..Vote::of(signed.body())? }.body();
                Some(Message::BlockVote(self.sign(Statement { body, ..signed.statement })))
            }
            _ => None,
        }
    }

    fn sign(&self, statement: Statement) -> Signed {
        statement.sign(self.setup.committee.cluster(), self.setup.signer.as_ref())
    }
}

impl Engine for TwoFaced {
    fn step(&mut self, now: Now, input: Input) -> Step {
        let mut step = self.honest.step(now, input);
        let lies: Vec<_> = step
            .sends
            .iter()
            .filter_map(|send| {
                Some(quorate_protocol::engine::Send { message: self.lie(&send.message)?, ..send.clone() })
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

/// The first evidence that an honest replica has written down, and who did.
fn written_down(cluster: &Cluster) -> Option<(u16, EvidenceFile)> {
    HONEST.into_iter().find_map(|id| {
        let entries = std::fs::read_dir(cluster.data(id).join(EVIDENCE_DIRECTORY)).ok()?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let path = paths.find(|path| path.extension().is_some_and(|kind| kind == "json"))?;
        Some((id, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()))
    })
}

async fn a_double_vote_is_written_down_and_convicts_offline(protocol: Protocol) {
    let mut cluster = Cluster::new(protocol, 4, Parameters::default());
    for id in HONEST {
        cluster.start_one(id).await;
    }
    let wrap =
        |honest: Replica, setup: &Setup| -> Box<dyn Engine> { Box::new(TwoFaced { honest, setup: setup.clone() }) };
    let liar = Node::start_with(without_operations(&cluster, 3), wrap, None).await.unwrap();
    cluster.nodes.insert(3, liar);
    let mut client = cluster.client(0);
    // COMMITs go to everybody, so that anybody may find the two. Votes for a block go to the next leader alone, who
    // keeps none of a view that is long over: if the second one comes so late, that of another block is found.
    let (seen_by, file) = within("evidence", async {
        loop {
            client.put("key", "value").await;
            if let Some(found) = written_down(&cluster) {
                return found;
            }
        }
    })
    .await;
    let offence = match protocol {
        Protocol::Pbft => "two-commits",
        Protocol::HotStuff => "two-block-votes",
    };
    assert_eq!((file.v, file.accused, file.kind.as_str(), file.seen_by), (1, 3, offence, seen_by));
    let evidence: Evidence = decode(&hex::decode(&file.bytes).unwrap(), EVIDENCE_BYTES_MAX).unwrap();
    let verifier = Verifier::new(Arc::new(Ed25519));
    let window = cluster.genesis.parameters().window;
    let conviction = evidence.verify(cluster.genesis.committee(), window, &verifier).unwrap();
    assert_eq!((conviction.accused, conviction.kind), (ReplicaId(3), offence));

    // The cluster goes on, and the liar's own link is not cut: its signatures hold.
    client.put("another", "value").await;
    cluster.stop().await;
}

/// Stands for a bug in the thread that serves clients.
struct Broken;

/// Nobody asks the liar how it is, and somebody else may have taken the port that was found free for it.
fn without_operations(cluster: &Cluster, id: usize) -> NodeSettings {
    let mut settings = cluster.settings[id].clone();
    settings.listen.operations = None;
    settings
}

impl ClientFace for Broken {
    fn outgoing(&mut self, _: PublicKey, _: ReplicaMessage) -> Vec<ReplicaMessage> {
        panic!("made for a test");
    }
}

async fn a_thread_that_panics_ends_its_node(protocol: Protocol) {
    let mut cluster = Cluster::new(protocol, 4, Parameters::default());
    for id in HONEST {
        cluster.start_one(id).await;
    }
    let honest = |replica: Replica, _: &Setup| -> Box<dyn Engine> { Box::new(replica) };
    let mut node = Node::start_with(without_operations(&cluster, 3), honest, Some(Box::new(Broken))).await.unwrap();
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
