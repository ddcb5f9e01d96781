//! Four nodes in one process: they commit, restart, catch up, and survive a kill of all.

#[macro_use]
mod cluster;

use std::time::{Duration, Instant};

use cluster::{Client, Cluster, http_get, other_than, put, within};
use quorate_crypto::{ReplicaId, Seq};
use quorate_keys::{Genesis, GenesisContents, Parameters, Protocol};
use quorate_node::log::Trust;
use quorate_node::process::{Node, initialise};
use quorate_protocol::reply::Outcome;
use quorate_transport::{LinkError, ReplicaEvent};
use serde_json::Value;

/// Checkpoints often, so that few requests pass several of them.
fn short_window() -> Parameters {
    Parameters { window: 16, checkpoint_interval: 4, ..Parameters::default() }
}

async fn status(cluster: &Cluster, id: u16) -> Value {
    let address = cluster.nodes[&id].operations_address().unwrap();
    let (code, body) = http_get(address, "/v1/status").await;
    assert_eq!(code, 200);
    serde_json::from_str(&body).unwrap()
}

/// Waits until the given replicas have executed the same number with the same state root.
async fn agree(cluster: &Cluster, ids: &[u16]) -> Value {
    within("equal states", async {
        loop {
            let mut states = Vec::new();
            for id in ids {
                let status = status(cluster, *id).await;
                states.push((status["state_seq"].clone(), status["state_digest"].clone()));
            }
            if states.windows(2).all(|pair| pair[0] == pair[1]) {
                return states[0].1.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn puts(client: &mut Client, count: usize) {
    for number in 0..count {
        client.put(&format!("key{number}"), "value").await;
    }
}

under_both!(async:
    four_nodes_commit_a_put,
    a_replica_that_was_away_catches_up,
    a_replica_that_was_away_for_long_fetches_the_state,
    what_was_acknowledged_survives_a_kill_of_all,
    a_killed_primary_is_replaced,
    damaged_snapshots_are_given_up_and_the_state_is_fetched,
    snapshots_that_were_removed_are_fetched_again,
    an_unresolvable_peer_does_not_stop_the_start,
    a_node_that_lost_its_disk_rejoins_and_remembers_it,
    more_than_f_lost_disks_are_said_and_waited_for,
    a_node_of_the_other_protocol_is_refused_by_its_disk_and_by_its_peers,
);

async fn four_nodes_commit_a_put(protocol: Protocol) {
    let cluster = Cluster::start(protocol, 4, Parameters::default()).await;
    let mut client = cluster.client(0);
    let reply = client.submit(vec![put("greeting", "hello")], 4).await;
    assert_eq!(reply.revision, 2);
    assert!(reply.seq >= Seq(1));
    assert!(matches!(&reply.outcome, Outcome::Results(results) if results.len() == 1));
    agree(&cluster, &[0, 1, 2, 3]).await;
    cluster.stop().await;
}

async fn a_replica_that_was_away_catches_up(protocol: Protocol) {
    let mut cluster = Cluster::start(protocol, 4, Parameters::default()).await;
    let mut client = cluster.client(0);
    puts(&mut client, 3).await;
    cluster.stop_one(3).await;
    puts(&mut client, 5).await;
    cluster.start_one(3).await;
    let executed = cluster.nodes[&0].standing().status.executed;
    cluster.until(3, "catches up", |node| node.standing().status.executed >= executed).await;
    agree(&cluster, &[0, 3]).await;
    if protocol == Protocol::Pbft {
        assert_eq!(cluster.nodes[&0].standing().status.view_changes, 0, "a backup's restart costs nobody the view");
    }
    cluster.stop().await;
}

async fn a_replica_that_was_away_for_long_fetches_the_state(protocol: Protocol) {
    let mut cluster = Cluster::start(protocol, 4, short_window()).await;
    let mut client = cluster.client(0);
    cluster.kill_one(3).await;
    puts(&mut client, 60).await;
    cluster.start_one(3).await;
    let executed = cluster.nodes[&0].standing().status.executed;
    cluster.until(3, "fetches the state", |node| node.standing().status.executed >= executed).await;
    agree(&cluster, &[0, 1, 2, 3]).await;
    // What it fetched is durable and part of its log: it comes back from there.
    cluster.kill_one(3).await;
    cluster.start_one(3).await;
    let reply = client.put("after", "restart").await;
    cluster.until(3, "goes on", |node| node.standing().status.executed >= reply.seq).await;
    agree(&cluster, &[0, 1, 2, 3]).await;
    cluster.stop().await;
}

async fn what_was_acknowledged_survives_a_kill_of_all(protocol: Protocol) {
    let mut cluster = Cluster::start(protocol, 4, short_window()).await;
    let mut client = cluster.client(0);
    puts(&mut client, 20).await;
    let request = client.request(vec![put("last", "before the kill")]);
    let reply = client.submit_request(&request, 3).await;
    for id in 0..4 {
        cluster.kill_one(id).await;
    }
    for id in 0..4 {
        cluster.start_one(id).await;
    }
    let mut again = cluster.client(0);
    let repeated = again.submit_request(&request, 3).await;
    assert_eq!(repeated.seq, reply.seq, "executed once, answered from memory");
    assert_eq!(repeated.outcome, reply.outcome);
    let next = again.put("first", "after the kill").await;
    assert_eq!(next.revision, reply.revision + 1);
    agree(&cluster, &[0, 1, 2, 3]).await;
    cluster.stop().await;
}

async fn a_killed_primary_is_replaced(protocol: Protocol) {
    let mut cluster = Cluster::start(protocol, 4, Parameters::default()).await;
    let mut client = cluster.client(0);
    puts(&mut client, 3).await;
    cluster.kill_one(0).await;
    let began = Instant::now();
    client.put("after", "the primary").await;
    println!("gap after a kill of the primary: {:?}", began.elapsed());
    assert!(cluster.nodes[&1].standing().status.view.0 >= 1);
    cluster.start_one(0).await;
    let reply = client.put("with", "everyone").await;
    cluster.until(0, "joins the view", |node| node.standing().status.executed >= reply.seq).await;
    agree(&cluster, &[0, 1, 2, 3]).await;
    cluster.stop().await;
}

async fn damaged_snapshots_are_given_up_and_the_state_is_fetched(protocol: Protocol) {
    let mut cluster = Cluster::start(protocol, 4, short_window()).await;
    let mut client = cluster.client(0);
    puts(&mut client, 30).await;
    cluster.until(3, "has a checkpoint", |node| node.standing().status.stable >= Seq(20)).await;
    cluster.stop_one(3).await;
    let superblock = cluster.data(3).join("snapshots/snapshot-superblock");
    let bytes = std::fs::read(&superblock).unwrap();
    std::fs::write(&superblock, bytes.iter().map(|byte| byte ^ 0x55).collect::<Vec<_>>()).unwrap();
    puts(&mut client, 3).await;
    cluster.start_one(3).await;
    let reply = client.put("after", "the loss").await;
    cluster.until(3, "has the state again", |node| node.standing().status.executed >= reply.seq).await;
    agree(&cluster, &[0, 1, 2, 3]).await;
    cluster.stop().await;
}

async fn snapshots_that_were_removed_are_fetched_again(protocol: Protocol) {
    let mut cluster = Cluster::start(protocol, 4, short_window()).await;
    let mut client = cluster.client(0);
    puts(&mut client, 30).await;
    cluster.until(3, "has a checkpoint", |node| node.standing().status.stable >= Seq(20)).await;
    cluster.stop_one(3).await;
    std::fs::remove_dir_all(cluster.data(3).join("snapshots")).unwrap();
    puts(&mut client, 3).await;
    cluster.start_one(3).await;
    let reply = client.put("after", "the loss").await;
    cluster.until(3, "has the state again", |node| node.standing().status.executed >= reply.seq).await;
    assert!(!cluster.nodes[&3].standing().status.rejoining, "its log is as good as ever");
    agree(&cluster, &[0, 1, 2, 3]).await;
    cluster.stop().await;
}

async fn an_unresolvable_peer_does_not_stop_the_start(protocol: Protocol) {
    let mut cluster = Cluster::new(protocol, 4, Parameters::default());
    for id in 0..3 {
        // The top-level domain "invalid" never resolves (RFC 2606).
        cluster.settings[id].addresses.insert(ReplicaId(3), "replica-3.invalid:7400".parse().unwrap());
    }
    for id in 0..4 {
        cluster.start_one(id).await;
    }
    for id in 0..3 {
        cluster.until(id, "is dialled by replica 3", |node| node.linked().contains(&ReplicaId(3))).await;
    }
    let mut client = cluster.client(0);
    client.submit(vec![put("key", "value")], 4).await;
    agree(&cluster, &[0, 1, 2, 3]).await;
    cluster.stop().await;
}

/// Takes a node's disk away; what plain `init` makes is put in its place.
fn lose_disk(cluster: &Cluster, id: u16) {
    std::fs::remove_dir_all(cluster.data(id)).unwrap();
    initialise(&cluster.settings[usize::from(id)], Trust::MustRejoin).unwrap();
}

async fn a_node_that_lost_its_disk_rejoins_and_remembers_it(protocol: Protocol) {
    let mut cluster = Cluster::start(protocol, 4, short_window()).await;
    let mut client = cluster.client(0);
    puts(&mut client, 3).await;
    cluster.kill_one(3).await;
    lose_disk(&cluster, 3);
    cluster.start_one(3).await;
    cluster.until(3, "rejoins", |node| !node.standing().status.rejoining).await;
    let told = status(&cluster, 3).await;
    assert_eq!((told["incarnation"].as_u64(), told["rejoining"].as_bool()), (Some(1), Some(false)));
    // PBFT waits for L further numbers, HotStuff for a checkpoint that shows the Rejoin.
    let least = if protocol == Protocol::Pbft { 16 } else { 4 };
    assert!(told["checkpoint_seq"].as_u64().is_some_and(|seq| seq >= least), "{told}");

    // Its log is trusted from now on, whatever becomes of the process.
    cluster.kill_one(3).await;
    cluster.start_one(3).await;
    let told = status(&cluster, 3).await;
    assert_eq!((told["incarnation"].as_u64(), told["rejoining"].as_bool()), (Some(1), Some(false)));

    // And its vote counts: without it there is no quorum any more.
    cluster.kill_one(2).await;
    client.put("after", "the loss").await;
    agree(&cluster, &[0, 1, 3]).await;
    cluster.stop().await;
}

async fn more_than_f_lost_disks_are_said_and_waited_for(protocol: Protocol) {
    let mut cluster = Cluster::start(protocol, 4, short_window()).await;
    let mut client = cluster.client(0);
    puts(&mut client, 3).await;
    for id in [2, 3] {
        cluster.kill_one(id).await;
        lose_disk(&cluster, id);
    }
    for id in [2, 3] {
        cluster.start_one(id).await;
    }
    for id in [0, 2, 3] {
        cluster.until(id, "says so", |node| node.standing().status.too_many_without_log).await;
        let address = cluster.nodes[&id].operations_address().unwrap();
        let (code, reason) = http_get(address, "/readyz").await;
        assert_eq!(
            (code, reason.as_str()),
            (503, "more than f replicas have no trusted log: bring back data directories\n")
        );
        let told = status(&cluster, id).await;
        assert_eq!(told["without_log"], serde_json::json!([2, 3]));
    }
    cluster.stop().await;
}

/// The cluster id covers the protocol: a node whose genesis names another one is a stranger to links and disks alike.
async fn a_node_of_the_other_protocol_is_refused_by_its_disk_and_by_its_peers(protocol: Protocol) {
    let mut cluster = Cluster::new(protocol, 4, Parameters::default());
    let other = other_than(protocol);
    let strange = Genesis::new(GenesisContents { protocol: other, ..cluster.contents.clone() }).unwrap();
    cluster.settings[3].genesis = strange.clone();
    let Err(refused) = Node::start(cluster.settings[3].clone()).await else {
        panic!("it opened the data of another cluster");
    };
    let says = format!("belongs to a cluster that runs {protocol}, but the genesis file says {other}");
    assert!(refused.to_string().contains(&says), "{refused}");
    assert_eq!((refused.to_string().lines().count(), refused.exit_code()), (1, 6));

    // With data of its own it starts, and nobody speaks to it.
    std::fs::remove_dir_all(cluster.data(3)).unwrap();
    initialise(&cluster.settings[3], Trust::NewCluster).unwrap();
    for id in 0..4 {
        cluster.start_one(id).await;
    }
    let mut client = cluster.client(0);
    client.submit(vec![put("key", "value")], 3).await;
    agree(&cluster, &[0, 1, 2]).await;
    assert!(cluster.nodes[&3].linked().is_empty(), "{:?}", cluster.nodes[&3].linked());
    for id in 0..3 {
        assert!(!cluster.nodes[&id].linked().contains(&ReplicaId(3)));
    }
    assert_eq!(cluster.nodes[&3].standing().status.executed, Seq(0));

    // The handshake says no more than that the clusters are two; the sentence says what makes them so.
    cluster.genesis = strange;
    let mut stranger = cluster.client(1);
    let refusal = within("a refusal", async {
        loop {
            let event = stranger.events.recv().await.expect("links are open");
            if let ReplicaEvent::Down(ReplicaId(0), reason @ LinkError::ClusterMismatch { .. }) = event {
                return reason;
            }
        }
    })
    .await;
    assert!(refusal.to_string().contains("another agreement protocol"), "{refusal}");
    cluster.stop().await;
}
