//! What clients get: reads, watches, receipts, refusals, and who gets nothing.

#[macro_use]
mod cluster;

use cluster::{Client, Cluster, admin_key, client_key, http_get, operation, put, within};
use quorate_crypto::encoding::decode;
use quorate_crypto::{Digest, ReplicaId, Seq, Signature, Signer};
use quorate_keys::{Parameters, Protocol};
use quorate_kv::{EventList, KeyRange, OperationResult, Outcome, RangeRequest};
use quorate_protocol::client::message::{ClientMessage, ReplicaMessage, WatchUpdate};
use quorate_protocol::execution::{CONFIGURATION_SERVICE, ConfigurationOperation, Permission};
use quorate_protocol::reply::Refusal;
use quorate_protocol::request::{Operation, Request};
use quorate_transport::{LinkError, LinkState, ReplicaEvent};

const R1: ReplicaId = ReplicaId(1);

under_both!(async:
    reads_watches_and_receipts,
    a_watch_of_compacted_history_is_told_so,
    who_breaks_the_rules_is_disconnected_with_the_reason,
    a_key_is_served_from_when_an_admin_registers_it_until_it_is_removed,
    operations_over_http,
);

fn range(range: KeyRange) -> Operation {
    operation(&quorate_kv::Operation::Range(RangeRequest {
        range,
        limit: 0,
        revision: 0,
        sort_order: quorate_kv::SortOrder::Unsorted,
        sort_target: quorate_kv::SortTarget::Key,
        keys_only: false,
        count_only: false,
        min_mod_revision: 0,
        max_mod_revision: 0,
        min_create_revision: 0,
        max_create_revision: 0,
    }))
}

/// Waits for an answer of replica 1 that `pick` takes.
async fn answer<T>(client: &mut Client, what: &str, pick: impl Fn(&ReplicaMessage) -> Option<T>) -> T {
    within(what, async {
        loop {
            let (from, message) = client.next().await;
            if from == R1
                && let Some(found) = pick(&message)
            {
                return found;
            }
        }
    })
    .await
}

/// Waits until replica 1 has closed the link, and says why.
async fn closed(client: &mut Client) -> LinkError {
    within("the end of the link", async {
        loop {
            match client.events.recv().await {
                Some(ReplicaEvent::Down(R1, reason)) => return reason,
                Some(_) => {}
                None => panic!("links ended"),
            }
        }
    })
    .await
}

async fn reads_watches_and_receipts(protocol: Protocol) {
    let cluster = Cluster::start(protocol, 4, Parameters::default()).await;
    let mut client = cluster.client(0);
    client.submit(vec![put("a/1", "one")], 4).await;
    let second = client.submit(vec![put("b/1", "two")], 4).await;
    let third = client.submit(vec![put("a/2", "three")], 4).await;
    assert_eq!(third.revision, 4);

    // A read of the newest state, one of the past, one of a revision that never comes.
    for (id, revision, expect) in [(1, None, Some(2)), (2, Some(2), Some(1)), (3, Some(99), None)] {
        client.send(R1, &ClientMessage::Read { id, operation: range(KeyRange::prefix("a/")), revision });
        let result = answer(&mut client, "a read", |message| match message {
            ReplicaMessage::Read { id: answered, result, .. } if *answered == id => Some(result.clone()),
            _ => None,
        })
        .await;
        let result: OperationResult = decode(&result, 4 << 20).unwrap();
        match (result.outcome, expect) {
            (Outcome::Range(found), Some(count)) => assert_eq!(found.kvs.len(), count),
            (Outcome::Refused(_), None) => {}
            (other, _) => panic!("{other:?}"),
        }
    }

    // A watch from the beginning, which goes on with what is written later.
    client.send(R1, &ClientMessage::Watch { id: 7, range: range(KeyRange::prefix("a/")), from_revision: 2 });
    let mut revisions = Vec::new();
    while revisions.len() < 3 {
        if revisions.len() == 2 {
            // By another client: events would be lost among replies on this one's links.
            let mut writer = cluster.client(1);
            writer.put("b/2", "not watched").await;
            writer.put("a/3", "watched").await;
        }
        let (revision, events) = answer(&mut client, "an event", |message| match message {
            ReplicaMessage::Watch { id: 7, update: WatchUpdate::Events { revision, events } } => {
                Some((*revision, events.clone()))
            }
            _ => None,
        })
        .await;
        let list: EventList = decode(&events, 4 << 20).unwrap();
        assert_eq!(list.revision, revision);
        assert!(list.events.iter().all(|event| event.kv.key.starts_with(b"a/")));
        revisions.push(revision);
    }
    assert_eq!(revisions, [2, 4, 6]);

    // EXECUTED and the path to a reply.
    client.send(R1, &ClientMessage::Receipt { id: 9, seq: second.seq, index: second.index });
    let (signed, path) = answer(&mut client, "a receipt", |message| match message {
        ReplicaMessage::Receipt { id: 9, receipt } => Some(receipt.clone()),
        _ => None,
    })
    .await
    .expect("the batch is remembered");
    let quorate_crypto::StatementBody::Executed { seq, results } = *signed.body() else { panic!("{signed:?}") };
    assert_eq!((signed.signer(), seq), (R1, second.seq));
    path.verify(results, &second.leaf()).unwrap();
    client.send(R1, &ClientMessage::Receipt { id: 10, seq: Seq(9999), index: 0 });
    let unknown = answer(&mut client, "a refusal", |message| match message {
        ReplicaMessage::Receipt { id: 10, receipt } => Some(receipt.is_none()),
        _ => None,
    });
    assert!(unknown.await);

    client.send(R1, &ClientMessage::Status { id: 11 });
    let status = answer(&mut client, "a status", |message| match message {
        ReplicaMessage::Status { id: 11, status } => Some(status.clone()),
        _ => None,
    })
    .await;
    assert_eq!(status.replica, R1);
    assert!(status.revision >= 5);
    cluster.stop().await;
}

async fn a_watch_of_compacted_history_is_told_so(protocol: Protocol) {
    let cluster =
        Cluster::start(protocol, 4, Parameters { auto_compaction_retention: 2, ..Parameters::default() }).await;
    let mut client = cluster.client(0);
    for number in 0..6 {
        client.submit(vec![put("key", &number.to_string())], 4).await;
    }
    client.send(R1, &ClientMessage::Watch { id: 1, range: range(KeyRange::all()), from_revision: 2 });
    let compacted = answer(&mut client, "compacted", |message| match message {
        ReplicaMessage::Watch { id: 1, update: WatchUpdate::Compacted { revision } } => Some(*revision),
        _ => None,
    })
    .await;
    assert_eq!(compacted, 5);
    // From now on: quiet revisions are told of as progress.
    client.send(R1, &ClientMessage::Watch { id: 2, range: range(KeyRange::single("other")), from_revision: 8 });
    let mut writer = cluster.client(1);
    let written = writer.submit(vec![put("key", "more")], 4).await.revision;
    let quiet = answer(&mut client, "progress", |message| match message {
        ReplicaMessage::Watch { id: 2, update: WatchUpdate::Progress { revision } } => Some(*revision),
        _ => None,
    })
    .await;
    assert_eq!(quiet, written);
    cluster.stop().await;
}

async fn who_breaks_the_rules_is_disconnected_with_the_reason(protocol: Protocol) {
    let cluster = Cluster::start(protocol, 4, Parameters { request_bytes_max: 4096, ..Parameters::default() }).await;

    let mut client = cluster.client(0);
    let request = client.request(vec![put("key", "value")]);
    let forged = Request::from_parts(request.content().clone(), Signature([9; 64]));
    client.send(R1, &ClientMessage::Submit(forged));
    assert!(matches!(closed(&mut client).await, LinkError::Violation(reason) if reason.contains("signature")));

    let mut client = cluster.client(1);
    let empty = quorate_crypto::encoding::encode(&client.request(vec![put("key", "")])).len();
    let largest = client.request(vec![put("key", &"v".repeat(4096 - empty))]);
    client.submit_request(&largest, 2).await;
    let beyond = client.request(vec![put("key", &"v".repeat(4096 - empty + 1))]);
    client.send(R1, &ClientMessage::Submit(beyond));
    let reason = closed(&mut client).await;
    assert!(matches!(&reason, LinkError::Violation(text) if text.contains("4097 bytes exceeds")), "{reason}");

    let mut client = cluster.client(2);
    let mut other = cluster.client(3);
    let foreign = other.request(vec![put("key", "value")]);
    // A gateway's way: signed by one registered key, carried over the links of another.
    client.submit_request(&foreign, 2).await;

    let mut client = cluster.client(4);
    let _ = client.links.send(R1, bytes::Bytes::from_static(&[0xff; 40]));
    assert!(matches!(closed(&mut client).await, LinkError::Violation(reason) if reason.contains("decode")));
    assert_eq!(cluster.nodes[&1].metrics().invalid_from_clients.get(), 3);

    // The honest go on.
    other.put("key", "value").await;
    cluster.stop().await;
}

async fn a_key_is_served_from_when_an_admin_registers_it_until_it_is_removed(protocol: Protocol) {
    let cluster = Cluster::start(protocol, 4, Parameters::default()).await;
    let key = client_key(100);
    let mut stranger = Client::connect(&cluster, key.clone());
    assert_eq!(closed(&mut stranger).await, LinkError::UnknownClientKey);

    let configure =
        |operation: ConfigurationOperation| Operation { service: CONFIGURATION_SERVICE, bytes: operation.to_bytes() };
    let add = configure(ConfigurationOperation::AddClient { key: key.public_key(), permission: Permission::Write });
    let remove = configure(ConfigurationOperation::RemoveClient { key: key.public_key() });
    let mut admin = Client::connect(&cluster, admin_key());
    admin.submit(vec![add], 4).await;
    stranger.put("now", "known").await;
    admin.submit(vec![remove], 4).await;
    let reason = closed(&mut stranger).await;
    assert!(matches!(reason, LinkError::KeyRemoved | LinkError::UnknownClientKey), "{reason}");

    // An ordinary client may not do what an admin may.
    let mut client = cluster.client(0);
    let request = client.request(vec![configure(ConfigurationOperation::RemoveClient { key: key.public_key() })]);
    client.send(R1, &ClientMessage::Submit(request));
    let refused = answer(&mut client, "a refusal", |message| match message {
        ReplicaMessage::Refused { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(refused.await, Refusal::NotPermitted);
    cluster.stop().await;
}

async fn operations_over_http(protocol: Protocol) {
    let mut cluster = Cluster::new(protocol, 4, Parameters::default());
    cluster.start_one(0).await;
    let address = cluster.nodes[&0].operations_address().unwrap();
    assert_eq!(http_get(address, "/livez").await.0, 200);
    let (code, reason) = http_get(address, "/readyz").await;
    assert_eq!((code, reason.trim()), (503, "no links to a quorum"));
    for id in 1..4 {
        cluster.start_one(id).await;
    }
    let mut client = cluster.client(0);
    let executed = client.submit(vec![put("key", "value")], 4).await.seq.0;
    assert_eq!(http_get(address, "/readyz").await.0, 200);

    let (_, metrics) = http_get(address, "/metrics").await;
    for name in [
        "quorate_turns_total",
        "quorate_syncs_total",
        "quorate_executed ",
        "quorate_sync_seconds_bucket",
        "quorate_peers_bytes_sent_total",
    ] {
        assert!(metrics.contains(name), "{name} in:\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    // Under HotStuff a request whose view failed may be ordered twice, and is executed once.
    let counted = metrics.lines().find_map(|line| line.strip_prefix("quorate_executed ")).unwrap();
    assert!(counted.parse::<u64>().unwrap() >= executed, "{counted}");
    let status: serde_json::Value = serde_json::from_str(&http_get(address, "/v1/status").await.1).unwrap();
    assert_eq!(status["v"], 1);
    // It leads the first view of PBFT for as long as nothing fails; under HotStuff each view has another leader.
    let leads = status["primary"] == 0;
    assert!(leads || protocol == Protocol::HotStuff);
    assert_eq!(status["role"], if leads { "primary" } else { "backup" });
    assert!(status["executed"].as_u64().unwrap() >= executed);
    assert_eq!(status["revision"], 2);
    assert_eq!(status["links"].as_array().unwrap().len(), 3);
    assert_ne!(status["state_digest"], Digest::ZERO.to_hex());
    assert!(status["cpu_seconds"].as_f64().unwrap() > 0.0 && status["rss_bytes"].as_u64().unwrap() > 0);
    assert!(status["wire_bytes"].as_u64().unwrap() > 0 && status["syncs"].as_u64().unwrap() > 0);
    let (code, evidence) = http_get(address, "/v1/evidence").await;
    assert_eq!((code, evidence.as_str()), (200, r#"{"evidence":[],"v":1}"#));
    assert_eq!(http_get(address, "/nothing").await.0, 404);
    assert_eq!(client.links.state(ReplicaId(0)), Some(LinkState::Up));
    cluster.stop().await;
}
