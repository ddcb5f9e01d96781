//! kill -9 of some or all while clients write: nothing acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_client::Client;
use quorate_crypto::Protocol;

use crate::harness::{Testnet, in_runtime};

under_both!(
    what_was_acknowledged_outlives_a_kill_of_all_replicas_under_load,
    a_backup_that_was_down_for_more_than_a_window_catches_up,
);

fn what_was_acknowledged_outlives_a_kill_of_all_replicas_under_load(protocol: Protocol) {
    let testnet = Testnet::started_with(protocol);
    for round in 0..2 {
        let prefix = format!("round-{round}/");
        let cluster = testnet.cluster();
        let over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&over);
        let (begins, prefix_of_writers) = (format!("{prefix}w"), prefix.clone());
        let writers = std::thread::spawn(move || {
            in_runtime(async {
                let mut tasks = tokio::task::JoinSet::new();
                for number in 0..8 {
                    let client = Client::connect(cluster.clone()).await.expect("connected");
                    let client = client.with_patience(Duration::from_millis(1500));
                    let (over, prefix) = (Arc::clone(&over), begins.clone());
                    tasks.spawn(async move {
                        let mut acknowledged = Vec::new();
                        for index in 0.. {
                            let (key, value) = (format!("{prefix}{number}/{index}"), format!("{number}-{index}"));
                            match client.put(key.as_str(), value.as_str()).await {
                                Ok(_) => acknowledged.push((key, value)),
                                Err(_) if over.load(Ordering::Relaxed) => break,
                                Err(error) => panic!("before the kill: {error}"),
                            }
                        }
                        acknowledged
                    });
                }
                tasks.join_all().await.into_iter().flatten().collect::<Vec<_>>()
            })
        });
        std::thread::sleep(Duration::from_millis(700));
        asked.store(true, Ordering::Relaxed);
        testnet.testnet(&["down", "--kill"]).well();
        let acknowledged = writers.join().expect("no writer failed before the kill");
        assert!(acknowledged.len() > 20, "only {} puts before the kill", acknowledged.len());
        testnet.up(&[]).well();
        testnet.assert_all_there(&prefix_of_writers, &acknowledged);
        testnet.assert_agreement(&[0, 1, 2, 3]);
        assert!(testnet.evidence().is_empty(), "an honest replica contradicted itself after a crash");
    }
}

fn a_backup_that_was_down_for_more_than_a_window_catches_up(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    // A small window makes state transfer necessary soon.
    testnet.up(&["--parameter", "window=16", "--parameter", "checkpoint_interval=8"]).well();
    testnet.testnet(&["kill", "3"]).well();
    let written = testnet.put_all("missed", 4, 30);
    testnet.testnet(&["restart", "3"]).well();
    testnet.put_all("after", 2, 5);
    testnet.assert_agreement(&[0, 1, 2, 3]);
    testnet.assert_all_there("missed", &written);
}
